"""scikit-learn's own tools around our estimators."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import StackingClassifier, StackingRegressor, VotingRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    cross_val_predict,
    cross_val_score,
    learning_curve,
    permutation_test_score,
)
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR

from dssl_sklearn import DSSLClassifier, DSSLPretrainer, DSSLRegressor, StructureToGraph
from dssl_sklearn.exceptions import InvalidInputError

# In worker processes everything is imported anew; one pool of two serves all tests of this module.
N_JOBS = 2
FOLDS = KFold(2, shuffle=True, random_state=0)


@pytest.fixture
def on_fitted(fitted_pretrainer):
    """Arguments of an estimator that starts from a fitted pretrainer."""
    return {
        "pretrained": fitted_pretrainer,
        "max_epochs": 2,
        "batch_size": 8,
        "random_state": 0,
    }


class TestCrossValidation:
    def test_score_by_hand(self, predictor, train):
        X, values = train
        y = predictor.y(values)
        scores = cross_val_score(predictor.estimator, X, y, cv=FOLDS)
        for score, (fit_rows, test_rows) in zip(scores, FOLDS.split(X), strict=True):
            estimator = predictor.estimator.fit([X[k] for k in fit_rows], y[fit_rows])
            assert score == estimator.score([X[k] for k in test_rows], y[test_rows])

    def test_folds_see_only_their_own_structures(self, train, tiny, monkeypatch):
        seen = []
        fit = DSSLPretrainer.fit
        monkeypatch.setattr(
            DSSLPretrainer, "fit", lambda self, X, y=None: seen.append(len(X)) or fit(self, X, y)
        )
        estimator = DSSLRegressor(pretrained=DSSLPretrainer(**tiny), unlabeled=train[0][:3])
        cross_val_score(estimator.set_params(max_epochs=1), *train, cv=KFold(3))
        assert seen == [16 + 3] * 3

    def test_scorers_by_name(self, train, on_fitted):
        X, y = train
        errors = cross_val_score(
            DSSLRegressor(**on_fitted), X, y, cv=FOLDS, scoring="neg_mean_absolute_error"
        )
        assert (errors < 0).all()
        for scoring in ("roc_auc", "neg_log_loss", "balanced_accuracy"):
            scores = cross_val_score(
                DSSLClassifier(**on_fitted), X, y > np.median(y), cv=FOLDS, scoring=scoring
            )
            assert np.isfinite(scores).all()

    @pytest.mark.parametrize("container", [list, tuple, pd.Series])
    def test_predict(self, train, on_fitted, container):
        X, y = train
        found = cross_val_predict(DSSLRegressor(**on_fitted), container(X), y, cv=FOLDS)
        assert found.shape == y.shape
        for fit_rows, test_rows in FOLDS.split(X):
            estimator = DSSLRegressor(**on_fitted).fit([X[k] for k in fit_rows], y[fit_rows])
            np.testing.assert_array_equal(
                found[test_rows], estimator.predict([X[k] for k in test_rows])
            )

    def test_predict_probabilities_by_strata(self, train, on_fitted):
        y = np.where(train[1] > np.median(train[1]), "stiff", "soft")
        found = cross_val_predict(
            DSSLClassifier(**on_fitted), train[0], y, cv=2, method="predict_proba"
        )
        np.testing.assert_allclose(found.sum(axis=1), 1)

    def test_learning_curve(self, train, on_fitted):
        sizes, fitted, held_out = learning_curve(
            DSSLRegressor(**on_fitted), *train, cv=FOLDS, train_sizes=[4, 12]
        )
        assert sizes.tolist() == [4, 12]
        assert np.isfinite([fitted, held_out]).all()

    def test_permutation_test(self, train, on_fitted):
        estimator = DSSLRegressor(**on_fitted).set_params(max_epochs=1)
        score, _, p_value = permutation_test_score(
            estimator, *train, cv=FOLDS, n_permutations=2, random_state=0
        )
        assert np.isfinite(score)
        assert 0 < p_value <= 1


class TestGridSearch:
    def test_in_two_processes_over_a_fitted_pretrainer(self, train, on_fitted, new):
        grid = {"lr": [1e-3, 1e-2], "freeze_epochs": [0, 1]}
        search = GridSearchCV(
            DSSLRegressor(**on_fitted), grid, cv=FOLDS, n_jobs=N_JOBS, error_score="raise"
        )
        search.fit(*train)
        here = GridSearchCV(DSSLRegressor(**on_fitted), grid, cv=FOLDS).fit(*train)
        scores = search.cv_results_["mean_test_score"]
        assert len(np.unique(scores)) == 4
        np.testing.assert_allclose(scores, here.cv_results_["mean_test_score"], rtol=1e-5)
        # The winner still starts from the weights that were handed in.
        expected = on_fitted["pretrained"].transform(new)
        best = search.best_estimator_
        np.testing.assert_array_equal(best.pretrained.transform(new), expected)
        assert best.predict(new).shape == (len(new),)

    def test_in_two_processes_over_the_parameters_of_a_pretrainer(self, train, tiny):
        grid = {"objectives": ["mask", "denoise"], "lr": [1e-3, 1e-2]}
        search = GridSearchCV(
            DSSLPretrainer(**tiny), grid, cv=FOLDS, n_jobs=N_JOBS, error_score="raise"
        ).fit(train[0])
        assert len(np.unique(search.cv_results_["mean_test_score"])) == 4
        assert search.best_estimator_.score(train[0]) < 0

    def test_in_two_processes_over_an_unfitted_pretrainer(self, train, tiny):
        estimator = DSSLClassifier(
            pretrained=DSSLPretrainer(**tiny), unlabeled=train[0][:3], max_epochs=2, random_state=0
        )
        search = GridSearchCV(
            estimator,
            {"pretrained__objectives": ["mask", "denoise"], "pretrained__lr": [1e-3, 1e-2]},
            cv=2,
            n_jobs=N_JOBS,
            scoring="neg_log_loss",
            error_score="raise",
        ).fit(train[0], train[1] > np.median(train[1]))
        assert len(np.unique(search.cv_results_["mean_test_score"])) == 4
        assert search.best_estimator_.pretrainer_.lr == search.best_params_["pretrained__lr"]

    def test_over_a_fitted_pretrainer_s_parameters_is_refused(self, train, on_fitted):
        search = GridSearchCV(DSSLRegressor(**on_fitted), {"pretrained__lr": [1e-3]}, cv=FOLDS)
        with pytest.raises(InvalidInputError, match=r"pretrained__lr.*fitted"):
            search.fit(*train)

    def test_over_whole_pretrainers(self, train, tiny, fitted_pretrainer):
        # The values of a grid are cloned, which a frozen estimator alone survives fitted.
        frozen = FrozenEstimator(fitted_pretrainer)
        grid = {"pretrained": [None, frozen, DSSLPretrainer(**tiny)]}
        estimator = DSSLRegressor(max_epochs=1, random_state=0)
        search = GridSearchCV(estimator, grid, cv=FOLDS, error_score="raise").fit(*train)
        scores = search.cv_results_["mean_test_score"]
        assert len(np.unique(scores)) == 3
        by_hand = clone(estimator).set_params(pretrained=fitted_pretrainer)
        assert scores[1] == cross_val_score(by_hand, *train, cv=FOLDS).mean()

    def test_over_parameters_of_the_net(self, train, on_fitted):
        grid = {
            "optimizer__betas": [(0.9, 0.999), (0.5, 0.9)],
            "module__dropout": [0.0, 0.5],
        }
        search = GridSearchCV(DSSLRegressor(**on_fitted), grid, cv=FOLDS, error_score="raise")
        search.fit(*train)
        assert len(np.unique(search.cv_results_["mean_test_score"])) == 4
        assert search.best_estimator_.net_params == search.best_params_


class TestPipeline:
    def test_embeddings_into_another_model(self, train, new, fitted_pretrainer):
        pipeline = make_pipeline(
            DSSLPretrainer(pretrained=fitted_pretrainer, max_epochs=0), StandardScaler(), SVR()
        ).fit(*train)
        by_hand = make_pipeline(StandardScaler(), SVR())
        by_hand.fit(fitted_pretrainer.transform(train[0]), train[1])
        expected = by_hand.predict(fitted_pretrainer.transform(new))
        np.testing.assert_array_equal(pipeline.predict(new), expected)
        assert len(cross_val_score(pipeline, *train, cv=FOLDS)) == 2
        frozen = make_pipeline(FrozenEstimator(fitted_pretrainer), StandardScaler(), SVR())
        np.testing.assert_array_equal(frozen.fit(*train).predict(new), expected)
        assert np.isfinite(cross_val_score(frozen, *train, cv=FOLDS)).all()
        np.testing.assert_array_equal(clone(frozen).fit(*train).predict(new), expected)

    def test_pretraining_as_a_step(self, train, new, tiny):
        pipeline = make_pipeline(DSSLPretrainer(**tiny), Ridge()).fit(*train)
        embeddings = DSSLPretrainer(**tiny).fit_transform(train[0])
        expected = DSSLPretrainer(**tiny).fit(train[0]).transform(train[0])
        np.testing.assert_array_equal(embeddings, expected)
        np.testing.assert_array_equal(pipeline[0].transform(train[0]), embeddings)
        assert pipeline.predict(new).shape == (len(new),)

    def test_graphs_ahead_of_a_predictor(self, predictor, train, new):
        y = predictor.y(train[1])
        pipeline = make_pipeline(StructureToGraph(), predictor.estimator).fit(train[0], y)
        alone = predictor.estimator.fit(train[0], y)
        np.testing.assert_array_equal(
            predictor.output(alone, new),
            predictor.output(pipeline[-1], pipeline[0].transform(new)),
        )
        assert (pipeline.predict(new) == alone.predict(new)).all()

    def test_nested_parameters_of_a_step(self, tiny):
        pipeline = make_pipeline(StructureToGraph(), DSSLRegressor(pretrained=DSSLPretrainer()))
        pipeline.set_params(dsslregressor__pretrained__lr=0.1, dsslregressor__optimizer__eps=1e-6)
        assert pipeline[-1].pretrained.lr == 0.1
        assert clone(pipeline)[-1].net_params == {"optimizer__eps": 1e-6}

    # joblib's remark where writing takes half a second, on a machine with much to do.
    @pytest.mark.filterwarnings("ignore:Persisting input arguments:UserWarning")
    def test_memory_fits_a_step_once(self, train, new, tiny, tmp_path, monkeypatch):
        fits = []
        fit = DSSLPretrainer.fit
        monkeypatch.setattr(
            DSSLPretrainer, "fit", lambda self, X, y=None: fits.append(1) or fit(self, X, y)
        )
        steps = [("graphs", StructureToGraph()), ("embed", DSSLPretrainer(**tiny))]
        pipeline = Pipeline([*steps, ("ridge", Ridge())], memory=str(tmp_path))
        first = pipeline.fit(*train).predict(new)
        again = clone(pipeline).set_params(ridge__alpha=2.0).fit(*train)
        assert len(fits) == 1
        assert not np.array_equal(again.predict(new), first)
        np.testing.assert_array_equal(clone(pipeline).fit(*train).predict(new), first)
        clone(pipeline).set_params(embed__lr=0.1).fit(*train)
        assert len(fits) == 2

    def test_sample_weight_reaches_the_last_step(self, train, new, on_fitted):
        weight = np.linspace(0.1, 3, len(train[0]))
        pipeline = make_pipeline(StructureToGraph(), DSSLRegressor(**on_fitted))
        pipeline.fit(*train, dsslregressor__sample_weight=weight)
        alone = DSSLRegressor(**on_fitted).fit(*train, sample_weight=weight)
        np.testing.assert_array_equal(pipeline.predict(new), alone.predict(new))

    def test_side_by_side_with_other_features(self, train, new, fitted_pretrainer):
        union = FeatureUnion(
            [
                ("first", DSSLPretrainer(pretrained=fitted_pretrainer, max_epochs=0)),
                ("second", FrozenEstimator(fitted_pretrainer)),
            ]
        ).fit(train[0])
        found = union.transform(new)
        assert found.shape == (len(new), 2 * fitted_pretrainer.n_features_out_)
        np.testing.assert_array_equal(*np.split(found, 2, axis=1))


class TestMetaEstimators:
    def test_transformed_target(self, train, new, on_fitted):
        X, y = train
        model = TransformedTargetRegressor(
            DSSLRegressor(**on_fitted), func=np.exp, inverse_func=np.log
        ).fit(X, y)
        inner = DSSLRegressor(**on_fitted).fit(X, np.exp(y))
        np.testing.assert_allclose(model.predict(new), np.log(inner.predict(new)))
        scaled = TransformedTargetRegressor(
            DSSLRegressor(**on_fitted), transformer=StandardScaler()
        ).fit(X, y)
        np.testing.assert_allclose(
            scaled.predict(new), DSSLRegressor(**on_fitted).fit(X, y).predict(new), rtol=1e-4
        )

    def test_stacking_and_voting(self, train, new, on_fitted, fitted_pretrainer):
        X, y = train
        models = [
            ("network", DSSLRegressor(**on_fitted)),
            ("ridge", make_pipeline(FrozenEstimator(fitted_pretrainer), Ridge())),
        ]
        stack = StackingRegressor(models, final_estimator=Ridge(), cv=FOLDS).fit(X, y)
        assert stack.predict(new).shape == (len(new),)
        assert stack.transform(new).shape == (len(new), 2)
        vote = VotingRegressor(models).fit(X, y)
        np.testing.assert_allclose(vote.predict(new), vote.transform(new).mean(axis=1))

    def test_stacking_of_classifiers(self, train, new, on_fitted, fitted_pretrainer):
        X, y = train[0], np.where(train[1] > np.median(train[1]), "stiff", "soft")
        logistic = make_pipeline(FrozenEstimator(fitted_pretrainer), LogisticRegression())
        stack = StackingClassifier(
            [("network", DSSLClassifier(**on_fitted)), ("logistic", logistic)], cv=2
        ).fit(X, y)
        np.testing.assert_allclose(stack.predict_proba(new).sum(axis=1), 1)
        assert set(stack.predict(new)) <= {"stiff", "soft"}


class TestFrames:
    @pytest.mark.parametrize("container", [list, pd.Series, lambda x: pd.Series(x).to_frame()])
    def test_of_embeddings(self, train, fitted_pretrainer, container):
        pretrainer = DSSLPretrainer(pretrained=fitted_pretrainer, max_epochs=0)
        pretrainer.set_output(transform="pandas").fit(train[0])
        found = pretrainer.transform(container(train[0][:5]))
        assert isinstance(found, pd.DataFrame)
        assert list(found.columns) == list(pretrainer.get_feature_names_out())
        np.testing.assert_array_equal(found, fitted_pretrainer.transform(train[0][:5]))

    def test_keep_the_index_of_a_frame(self, train, fitted_pretrainer):
        ids = [f"mp-{k}" for k in range(5)]
        frame = pd.DataFrame({"structure": pd.Series(train[0][:5], index=ids)})
        pretrainer = DSSLPretrainer(pretrained=fitted_pretrainer, max_epochs=0)
        found = pretrainer.set_output(transform="pandas").fit(frame).transform(frame)
        assert list(found.index) == ids

    def test_through_a_pipeline(self, train, fitted_pretrainer):
        pipeline = make_pipeline(
            StructureToGraph(),
            DSSLPretrainer(pretrained=fitted_pretrainer, max_epochs=0),
            StandardScaler(),
        ).set_output(transform="pandas")
        found = pipeline.fit_transform(train[0])
        assert list(found.columns) == list(pipeline.get_feature_names_out())
        assert found.columns[0] == "dsslpretrainer0"

    def test_of_graphs(self, train):
        found = StructureToGraph().set_output(transform="pandas").fit_transform(train[0])
        assert list(found.columns) == ["graph"]
        assert found.shape == (len(train[0]), 1)


class TestFeatureNames:
    def test_of_the_pretrainer(self, fitted_pretrainer):
        names = fitted_pretrainer.get_feature_names_out()
        assert list(names) == [f"dsslpretrainer{k}" for k in range(8)]
        assert fitted_pretrainer.n_features_out_ == 8

    def test_of_the_graphs(self):
        assert list(StructureToGraph().get_feature_names_out()) == ["graph"]
