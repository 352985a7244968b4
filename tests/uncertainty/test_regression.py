import pickle
import re
import sys

import numpy as np
import pandas as pd
import pytest
from mapie.regression import CrossConformalRegressor, SplitConformalRegressor
from scipy import sparse
from scipy.stats import betabinom
from sklearn import config_context
from sklearn.base import BaseEstimator, RegressorMixin, clone, is_regressor
from sklearn.compose import make_column_transformer
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import StackingRegressor
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    LeaveOneOut,
    ShuffleSplit,
    cross_val_score,
)
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.svm import SVC, SVR
from sklearn.utils import _safe_indexing, get_tags

from dssl_sklearn import DSSLPretrainer, DSSLRegressor
from dssl_sklearn.exceptions import (
    InvalidInputError,
    InvalidStructureError,
    MissingDependencyError,
    SkippedStructuresWarning,
)
from dssl_sklearn.uncertainty import ConformalRegressor

METHODS = ["split", "cv+"]


def svr():
    return make_pipeline(StandardScaler(), SVR(C=10))


class Ensemble(RegressorMixin, BaseEstimator):
    """Ridge regressions on random halves, with their spread."""

    def fit(self, X, y):
        rng = np.random.default_rng(0)
        halves = [rng.choice(len(X), len(X) // 2, replace=False) for _ in range(8)]
        self.models_ = [Ridge(10).fit(X[rows], y[rows]) for rows in halves]
        return self

    def predict(self, X, return_std=False):  # noqa: FBT002 - as in scikit-learn
        each = np.array([model.predict(X) for model in self.models_])
        return (each.mean(axis=0), each.std(axis=0)) if return_std else each.mean(axis=0)


def coverage(make, X, y, n_train, n_splits):
    """Share of crystals in their intervals, and in half of them, and crystals per test part.

    Means over random splits; those that are not trained on are tested.
    """
    shares = []
    splitter = ShuffleSplit(n_splits, train_size=n_train, random_state=0)
    for seed, (train, test) in enumerate(splitter.split(X)):
        model = make(seed).fit(_safe_indexing(X, train), y[train])
        _, intervals = model.predict_interval(_safe_indexing(X, test))
        off_middle = np.abs(y[test] - intervals.mean(axis=1))
        half_width = np.diff(intervals)[:, 0] / 2
        shares.append([(off_middle <= shrink * half_width).mean() for shrink in (1, 0.5)])
    full, halved = np.mean(shares, axis=0)
    return full, halved, len(test)


def bounds(level, n_calibration, n_test, n_splits):
    """Coverage that exact split conformal prediction may show: 4 standard errors of the mean.

    Given the calibration crystals, the coverage is a Beta variable, the hits are beta-binomial.
    """
    rank = int(np.ceil((n_calibration + 1) * level))
    law = betabinom(n_test, rank, n_calibration + 1 - rank)
    margin = 4 * law.std() / np.sqrt(n_splits)
    return (law.mean() - margin) / n_test, (law.mean() + margin) / n_test


class TestCoverage:
    @pytest.mark.parametrize("level", [0.8, 0.9, 0.95])
    @pytest.mark.parametrize("n_calibration", [20, 99, 100])
    def test_width_is_the_rank_that_the_guarantee_names(self, elastic_table, level, n_calibration):
        X, y = (part[:n_calibration] for part in elastic_table)
        fitted = DummyRegressor().fit(X, y)
        model = ConformalRegressor(fitted, confidence_level=level, method="prefit").fit(X, y)
        _, intervals = model.predict_interval(X[:1])
        rank = int(np.ceil((n_calibration + 1) * level - 1e-9))
        errors = np.sort(np.abs(y - y.mean()))
        assert np.diff(intervals)[0, 0] / 2 == pytest.approx(errors[rank - 1])

    def test_cv_plus_takes_ranks_among_the_models_of_the_folds(self, elastic_table):
        X, y, new = elastic_table[0][:39], elastic_table[1][:39], elastic_table[0][39:44]
        cv = KFold(3)
        model = ConformalRegressor(Ridge(), method="cv+", confidence_level=0.8, cv=cv).fit(X, y)
        low, high = [], []
        for train, test in cv.split(X):
            fold = Ridge().fit(X[train], y[train])
            error = np.abs(y[test] - fold.predict(X[test]))
            low.append(fold.predict(new)[:, None] - error)
            high.append(fold.predict(new)[:, None] + error)
        rank = int(np.ceil(0.8 * 40))
        low, high = (np.sort(np.hstack(ends), axis=1) for ends in (low, high))
        expected = np.column_stack([low[:, 39 - rank], high[:, rank - 1]])
        np.testing.assert_allclose(model.predict_interval(new)[1], expected)

    @pytest.mark.parametrize("table", ["elastic_table", "dielectric_table"])
    @pytest.mark.parametrize("level", [0.8, 0.9, 0.95])
    def test_of_split_is_as_stated(self, table, level, request):
        def make(seed):
            return ConformalRegressor(svr(), confidence_level=level, random_state=seed)

        full, halved, n_test = coverage(make, *request.getfixturevalue(table), 200, 20)
        low, high = bounds(level, 40, n_test, 20)
        assert low <= full <= high
        assert halved < low

    @pytest.mark.parametrize("level", [0.8, 0.9])
    def test_of_cv_plus_is_about_as_stated(self, elastic_table, level):
        def make(seed):
            model = ConformalRegressor(svr(), confidence_level=level, random_state=seed)
            return model.set_params(method="cv+")

        full, halved, n_test = coverage(make, *elastic_table, 150, 5)
        low, high = bounds(level, 150, n_test, 5)
        # The models of the folds know a fifth less than that of all: rather too wide.
        assert low <= full <= high + 0.03
        assert halved < low

    def test_of_a_network_on_structures(self, elastic, tiny):
        def make(seed):
            return ConformalRegressor(DSSLRegressor(**tiny), cv=2, random_state=seed)

        full, halved, n_test = coverage(make, elastic[0][:240], elastic[1][:240], 80, 6)
        low, high = bounds(0.9, 40, n_test, 6)
        assert low <= full <= high
        assert halved < low

    def test_of_normalized_widths_is_as_stated(self, elastic_table):
        def make(seed):
            model = Ensemble()
            return ConformalRegressor(model, normalize=True, random_state=seed)

        full, halved, n_test = coverage(make, *elastic_table, 200, 20)
        low, high = bounds(0.9, 40, n_test, 20)
        assert low <= full <= high
        assert halved < low


class TestStructures:
    @pytest.mark.parametrize("method", METHODS)
    def test_every_container(self, method, elastic, tiny):
        structures, y = elastic[0][:30], elastic[1][:30]
        model = ConformalRegressor(DSSLRegressor(**tiny), method=method, random_state=0)
        model.set_params(confidence_level=0.75, cv=3)
        y_pred, intervals = clone(model).fit(structures, y).predict_interval(structures[:3])
        assert y_pred.shape == (3,)
        assert intervals.shape == (3, 2)
        assert (intervals[:, 0] < intervals[:, 1]).all()
        containers = [tuple, pd.Series, lambda x: pd.DataFrame({"structure": pd.Series(x)})]
        for container in containers:
            found = clone(model).fit(container(structures), list(y))
            again = found.predict_interval(container(structures[:3]))
            np.testing.assert_allclose(again[0], y_pred)
            np.testing.assert_allclose(again[1], intervals)

    def test_crystals_of_equal_size_stay_crystals(self, elastic, tiny):
        rows = [row for row, structure in enumerate(elastic[0]) if len(structure) == 4][:24]
        structures = [elastic[0][row] for row in rows]
        model = ConformalRegressor(DSSLRegressor(**tiny), confidence_level=0.7, method="cv+", cv=3)
        y_pred, _ = model.fit(structures, elastic[1][rows]).predict_interval(structures[:5])
        assert y_pred.shape == (5,)

    def test_a_pipeline_that_ends_in_an_array_model(self, elastic):
        structures, y = elastic[0][:60], elastic[1][:60]
        embed = DSSLPretrainer(pretrained="mp", max_epochs=0)
        model = ConformalRegressor(make_pipeline(embed, StandardScaler(), SVR()), random_state=0)
        assert model.fit(structures, y).predict_interval(structures)[1].shape == (60, 2)

    def test_a_search_over_a_model_that_reports_a_number_of_features(self, elastic):
        # MAPIE would try such a model on a row of zeros.
        size = make_pipeline(
            FunctionTransformer(lambda X: np.array([[s.volume / len(s)] for s in X])), Ridge()
        )
        search = GridSearchCV(size, {"ridge__alpha": [0.1, 1.0]}, cv=2)
        structures, y = np.empty(60, dtype=object), elastic[1][:60]
        structures[:] = elastic[0][:60]
        for estimator in (search, FrozenEstimator(clone(search).fit(structures, y))):
            model = ConformalRegressor(estimator, random_state=0).fit(structures, y)
            assert model.predict_interval(structures)[1].shape == (60, 2)

    @pytest.mark.filterwarnings("ignore::UserWarning")
    @pytest.mark.parametrize("method", METHODS)
    def test_crystals_that_the_estimator_leaves_out(self, method, elastic, tiny):
        structures, y = [*elastic[0][:40]], elastic[1][:40]
        structures[30] = "no_such.cif"
        network = DSSLRegressor(**tiny, on_error="skip")
        model = ConformalRegressor(network, confidence_level=0.7, method=method, cv=KFold(2))
        model.fit(structures, y)
        y_pred, intervals = model.predict_interval([structures[0], "no_such.cif", structures[1]])
        assert np.isnan(y_pred).tolist() == [False, True, False]
        assert np.isnan(intervals).all(axis=1).tolist() == [False, True, False]
        assert np.isfinite(intervals[[0, 2]]).all()
        # Of 20 in the first calibration part, or of all.
        structures[5] = "no_such.cif"
        assert model.fit(structures, y).n_calibration_ == {"split": 19, "cv+": 38}[method]

    @pytest.mark.parametrize("method", [*METHODS, "prefit"])
    def test_one_warning_names_what_is_left_out_by_its_position_in_x(self, method, elastic, tiny):
        structures = [*elastic[0][:40], None]
        structures[3] = "no_such.cif"
        y = [*elastic[1][:40], 1.0]
        network = DSSLRegressor(**tiny, on_error="skip")
        if method == "prefit":
            network.fit(elastic[0][40:60], elastic[1][40:60])
        folds = [(np.r_[0:10, 20:41], np.arange(10, 20)), (np.arange(10, 20), np.r_[0:10, 20:41])]
        for cv in (folds, folds[::-1]):
            model = ConformalRegressor(network, confidence_level=0.7, method=method, cv=cv)
            with pytest.warns(SkippedStructuresWarning, match="2 unusable.* of 41 in X") as caught:
                model.fit(structures, y)
            assert len(caught) == 1
            assert re.findall(r"structure (\d+):", str(caught[0].message)) == ["3", "40"]

    def test_what_parts_of_a_part_leave_out_is_told_as_it_is(self, elastic, tiny):
        class FitOnHalf(DSSLRegressor):
            def fit(self, X, y):
                return super().fit(X[1::2], y[1::2])

        structures = [*elastic[0][:40]]
        structures[3] = None
        model = ConformalRegressor(FitOnHalf(**tiny, on_error="skip"), confidence_level=0.7)
        model.set_params(cv=[(np.arange(30), np.arange(30, 40))])
        with pytest.warns(SkippedStructuresWarning, match="1 unusable.* of 15 in X") as caught:
            model.fit(structures, elastic[1][:40])
        assert len(caught) == 1

    @pytest.mark.filterwarnings("ignore::UserWarning")
    def test_crystals_left_out_do_not_carry_a_level(self, elastic, tiny):
        structures, y = [*elastic[0][:30]], elastic[1][:30]
        model = ConformalRegressor(DSSLRegressor(**tiny, on_error="skip"), confidence_level=0.75)
        model.set_params(cv=[(np.arange(20), np.arange(20, 30))])
        model.fit(structures, y)
        before = model.mapie_
        structures[20:27] = ["no_such.cif"] * 7
        with pytest.raises(InvalidInputError, match="at least 4 structures for calibration, got 3"):
            model.fit(structures, y)
        assert model.mapie_ is before
        assert model.n_calibration_ == 10

    @pytest.mark.parametrize("method", METHODS)
    def test_several_heads_give_widths_of_their_own(self, method, elastic, tiny):
        network = DSSLRegressor(**tiny, n_members=3)
        model = ConformalRegressor(network, confidence_level=0.7, method=method, normalize=True)
        model.set_params(cv=2, random_state=0).fit(elastic[0][:40], elastic[1][:40])
        _, intervals = model.predict_interval(elastic[0][40:50])
        assert np.ptp(np.diff(intervals)) > 1e-3

    def test_bad_crystals_are_named_by_their_position_in_x(self, elastic, tiny):
        structures = [*elastic[0][:30]]
        structures[7] = structures[21] = "no_such.cif"
        model = ConformalRegressor(DSSLRegressor(**tiny), confidence_level=0.5)
        folds = {"train": [(np.arange(30)[:22], np.arange(22, 30))]}
        folds["calibration"] = [(np.r_[0:7, 8:21], np.r_[7, 21:30])]
        for cv in folds.values():
            with pytest.raises(InvalidStructureError) as error:
                model.set_params(cv=cv).fit(structures, elastic[1][:30])
            assert set(error.value.reasons) == {7, 21}
            assert error.value.n_structures == 30
        with pytest.raises(InvalidStructureError) as error:
            model.set_params(method="cv+", cv=3).fit(structures, elastic[1][:30])
        assert set(error.value.reasons) == {7, 21}

    @pytest.mark.parametrize("method", METHODS)
    def test_bad_crystals_beside_x_keep_their_positions(self, method, elastic_table):
        class WithUnlabeled(Ridge):
            def fit(self, X, y):
                raise InvalidStructureError({50: "no crystal"}, 60)

        model = ConformalRegressor(WithUnlabeled(), confidence_level=0.5, method=method)
        with pytest.raises(InvalidStructureError) as error:
            model.fit(elastic_table[0][:40], elastic_table[1][:40])
        assert set(error.value.reasons) == {50}


class TestTables:
    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize(
        "container",
        [
            lambda X: pd.DataFrame(X).add_prefix("feature_"),
            np.ndarray.tolist,
            sparse.csr_array,
            sparse.coo_matrix,
        ],
    )
    def test_any_table_that_the_estimator_takes(self, container, method, elastic_table):
        X, y = elastic_table[0][:60], elastic_table[1][:60]
        model = ConformalRegressor(Ridge(), confidence_level=0.8, method=method, random_state=0)
        expected = clone(model).fit(X[:50], y[:50]).predict_interval(X[50:])
        found = model.fit(container(X[:50]), y[:50]).predict_interval(container(X[50:]))
        # Ridge solves sparse systems in another way, in single precision.
        np.testing.assert_allclose(found[0], expected[0], rtol=1e-3)
        np.testing.assert_allclose(found[1], expected[1], rtol=1e-3)

    @pytest.mark.parametrize("method", [*METHODS, "prefit"])
    def test_columns_are_found_by_their_names(self, method, elastic_table):
        table = pd.DataFrame({"size": elastic_table[0][:60, 0], "kind": ["a", "b", "c"] * 20})
        y = elastic_table[1][:60]
        encode = make_column_transformer((OneHotEncoder(), ["kind"]), remainder="passthrough")
        estimator = make_pipeline(encode, Ridge()).fit(table, y)
        model = ConformalRegressor(estimator, confidence_level=0.8, method=method, random_state=0)
        assert model.fit(table, y).predict_interval(table[:5])[1].shape == (5, 2)

    def test_an_empty_table_is_refused(self):
        for empty in (pd.DataFrame({"a": []}), sparse.csr_array((0, 2)), np.ones((0, 2))):
            with pytest.raises(InvalidInputError, match="empty"):
                ConformalRegressor(Ridge()).fit(empty, [])


class TestInterface:
    def test_is_a_regressor_that_takes_what_the_estimator_takes(self, tiny):
        on_structures = ConformalRegressor(DSSLRegressor(**tiny))
        assert is_regressor(on_structures)
        assert not get_tags(on_structures).input_tags.two_d_array
        assert get_tags(ConformalRegressor(Ridge())).input_tags.two_d_array

    def test_nested_parameters_and_clone(self, tiny, elastic):
        model = ConformalRegressor(DSSLRegressor(**tiny), confidence_level=0.5)
        model.set_params(estimator__max_epochs=1)
        copy = clone(model).fit(elastic[0][:12], elastic[1][:12])
        assert copy.estimator_.max_epochs == 1
        assert copy.estimator is not copy.estimator_
        assert not hasattr(copy.estimator, "net_")
        assert not hasattr(clone(copy), "mapie_")

    @pytest.mark.parametrize("method", METHODS)
    def test_random_state_repeats(self, method, elastic_table):
        X, y = elastic_table

        def intervals(seed):
            model = ConformalRegressor(svr(), method=method, random_state=seed)
            return model.fit(X[:80], y[:80]).predict_interval(X[80:90])[1]

        np.testing.assert_array_equal(intervals(3), intervals(3))
        same_state = [intervals(np.random.RandomState(3)) for _ in range(2)]
        np.testing.assert_array_equal(*same_state)
        assert not np.array_equal(intervals(3), intervals(4))

    @pytest.mark.parametrize("method", METHODS)
    def test_prediction_is_that_of_the_wrapped_model(self, method, elastic_table):
        X, y = elastic_table
        model = ConformalRegressor(svr(), method=method, random_state=0).fit(X[:80], y[:80])
        y_pred, _ = model.predict_interval(X[80:])
        np.testing.assert_array_equal(model.predict(X[80:]), y_pred)
        if method == "split":
            expected = model.estimator_
            assert isinstance(model.mapie_, SplitConformalRegressor)
            assert model.n_calibration_ == 16
        else:
            expected = svr().fit(X[:80], y[:80])
            assert isinstance(model.mapie_, CrossConformalRegressor)
            assert model.n_calibration_ == 80
        np.testing.assert_allclose(y_pred, expected.predict(X[80:]))

    def test_a_refit_with_another_method_leaves_nothing_behind(self, elastic_table):
        X, y = elastic_table
        model = ConformalRegressor(svr(), random_state=0).fit(X[:80], y[:80])
        whole = model.set_params(method="cv+").fit(X[:80], y[:80]).predict(X[80:])
        np.testing.assert_allclose(whole, svr().fit(X[:80], y[:80]).predict(X[80:]))

    def test_several_levels_are_nested(self, elastic_table):
        X, y = elastic_table
        model = ConformalRegressor(svr(), confidence_level=[0.5, 0.8, 0.9], random_state=0)
        _, intervals = model.fit(X[:150], y[:150]).predict_interval(X[150:160])
        assert intervals.shape == (10, 2, 3)
        assert (np.diff(intervals[:, 0]) <= 0).all()
        assert (np.diff(intervals[:, 1]) >= 0).all()

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("fitted, set_later", [([0.6, 0.8], 0.8), (0.6, [0.6, 0.8])])
    def test_levels_are_those_of_the_fit(self, fitted, set_later, method, elastic_table):
        X, y = elastic_table
        model = ConformalRegressor(svr(), confidence_level=fitted, method=method, random_state=0)
        expected = model.fit(X[:80], y[:80]).predict_interval(X[80:])[1]
        found = model.set_params(confidence_level=set_later).predict_interval(X[80:])[1]
        np.testing.assert_array_equal(found, expected)

    def test_in_cross_validation_and_pickle(self, elastic_table):
        X, y = elastic_table
        model = ConformalRegressor(svr(), random_state=0)
        assert cross_val_score(model, X[:150], y[:150], cv=3).mean() > 0.5
        fitted = model.fit(X[:80], y[:80])
        again = pickle.loads(pickle.dumps(fitted))
        np.testing.assert_array_equal(
            again.predict_interval(X[80:])[1], fitted.predict_interval(X[80:])[1]
        )

    def test_splitters_and_groups(self, elastic_table):
        X, y = elastic_table[0][:40], elastic_table[1][:40]
        model = ConformalRegressor(Ridge(), confidence_level=0.75)
        model.set_params(cv=KFold(4)).fit(X, y)
        assert model.n_calibration_ == 10
        np.testing.assert_allclose(model.predict(X), Ridge().fit(X[10:], y[10:]).predict(X))
        groups = np.repeat([0, 1], [30, 10])
        model.set_params(cv=GroupKFold(2), method="cv+").fit(X, y, groups=groups)
        model.set_params(cv=LeaveOneOut()).fit(X, y)
        assert len(model.predict_interval(X)[1]) == 40

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("column", [pd.DataFrame, lambda y: y[:, None]])
    def test_targets_may_be_one_column(self, column, method, elastic_table):
        X, y = elastic_table[0][:40], elastic_table[1][:40]
        model = ConformalRegressor(Ridge(), confidence_level=0.8, method=method, random_state=0)
        expected = clone(model).fit(X, y).predict_interval(X)
        y_pred, intervals = model.fit(X, column(y)).predict_interval(X)
        np.testing.assert_array_equal(y_pred, expected[0])
        np.testing.assert_array_equal(intervals, expected[1])

    @pytest.mark.parametrize("make", [Ridge, lambda: make_pipeline(StandardScaler(), Ridge())])
    def test_weights_reach_the_fits_inside(self, make, elastic_table):
        X, y = elastic_table[0][:40], elastic_table[1][:40]
        weight = np.linspace(0.1, 5, 40)
        folds = [(np.arange(20, 40), np.arange(20)), (np.arange(20), np.arange(20, 40))]
        model = ConformalRegressor(make(), confidence_level=0.75, cv=folds)

        def weighted(rows):
            last = "ridge__" if "steps" in make().get_params() else ""
            return make().fit(X[rows], y[rows], **{f"{last}sample_weight": weight[rows]})

        model.fit(X, y, sample_weight=weight)
        halves = [weighted(train).predict(X) for train, _ in folds]
        np.testing.assert_allclose(model.predict(X), halves[0])
        model.set_params(method="cv+").fit(X, y, sample_weight=weight)
        np.testing.assert_allclose(model.predict(X), weighted(np.arange(40)).predict(X))
        left_out = np.where(np.arange(40) < 20, *halves)
        np.testing.assert_allclose(model.mapie_.conformity_scores, np.abs(y - left_out))

    @pytest.mark.parametrize("method", METHODS)
    def test_weights_under_metadata_routing(self, method, elastic_table):
        X, y = elastic_table[0][:40], elastic_table[1][:40]
        weight = np.linspace(0.1, 5, 40)
        folds = [(np.arange(20), np.arange(20, 40)), (np.arange(20, 40), np.arange(20))]
        by_name = ConformalRegressor(svr(), confidence_level=0.75, cv=folds, method=method)
        expected = by_name.fit(X, y, sample_weight=weight).predict_interval(X)
        with config_context(enable_metadata_routing=True):
            asked = SVR(C=10).set_fit_request(sample_weight=True)
            pipeline = make_pipeline(StandardScaler().set_fit_request(sample_weight=False), asked)
            model = clone(by_name).set_params(estimator=pipeline)
            found = model.fit(X, y, sample_weight=weight).predict_interval(X)
        np.testing.assert_allclose(found[0], expected[0])
        np.testing.assert_allclose(found[1], expected[1])

    @pytest.mark.parametrize("method", [*METHODS, "prefit"])
    def test_a_stack_that_predicts_only_once_fitted(self, method, elastic_table):
        X, y = elastic_table[0][:40], elastic_table[1][:40]
        stack = StackingRegressor([("ridge", Ridge()), ("mean", DummyRegressor())], cv=2)
        if method == "prefit":
            stack.fit(X, y)
        model = ConformalRegressor(stack, confidence_level=0.75, method=method, random_state=0)
        assert model.fit(X, y).predict_interval(X[:3])[1].shape == (3, 2)

    @pytest.mark.parametrize(
        "method, weight, match",
        [
            ("split", np.ones(39), "inconsistent lengths"),
            ("split", -np.ones(40), ">= 0"),
            ("cv+", np.arange(40), "first at position 0"),
            ("prefit", np.ones(40), "trains nothing"),
        ],
    )
    def test_weights_without_use_are_refused(self, method, weight, match, elastic_table):
        X, y = elastic_table[0][:40], elastic_table[1][:40]
        model = ConformalRegressor(Ridge().fit(X, y), confidence_level=0.75, method=method)
        with pytest.raises(InvalidInputError, match=match):
            model.fit(X, y, sample_weight=weight)

    def test_parts_of_folds_may_be_masks(self, elastic_table):
        X, y = elastic_table[0][:40], elastic_table[1][:40]
        rows = np.arange(40)
        model = ConformalRegressor(Ridge(), confidence_level=0.75, cv=[(rows < 32, rows >= 32)])
        assert model.fit(X, y).n_calibration_ == 8

    def test_folds_of_cv_plus_test_every_crystal(self, elastic_table):
        X, y = elastic_table[0][:40], elastic_table[1][:40]
        model = ConformalRegressor(Ridge(), method="cv+", confidence_level=0.75)
        with pytest.raises(InvalidInputError, match=r"32 of 40 structure\(s\) in no test part"):
            model.set_params(cv=ShuffleSplit(1, test_size=8, random_state=0)).fit(X, y)

    def test_folds_are_drawn_once(self, elastic_table):
        # A splitter that draws anew each time would calibrate on crystals of the training part,
        # which the nearest neighbor knows by heart.
        X, y = elastic_table[0][:100], elastic_table[1][:100]
        model = ConformalRegressor(KNeighborsRegressor(1), method="cv+")
        model.set_params(cv=KFold(5, shuffle=True)).fit(X, y)
        assert np.median(model.mapie_.conformity_scores) > 0

    def test_before_fit(self):
        for method in ("predict", "predict_interval"):
            with pytest.raises(NotFittedError):
                getattr(ConformalRegressor(Ridge()), method)(np.ones((3, 2)))


class TestPrefit:
    def test_only_calibrates(self, elastic_table):
        X, y = elastic_table
        fitted = svr().fit(X[:100], y[:100])
        model = ConformalRegressor(fitted, method="prefit").fit(X[100:150], y[100:150])
        assert model.estimator_ is fitted
        assert model.n_calibration_ == 50
        np.testing.assert_array_equal(model.predict(X[150:]), fitted.predict(X[150:]))

    def test_a_network(self, elastic, tiny):
        fitted = DSSLRegressor(**tiny).fit(elastic[0][:20], elastic[1][:20])
        model = ConformalRegressor(fitted, method="prefit", confidence_level=0.8)
        y_pred, _ = model.fit(elastic[0][20:40], elastic[1][20:40]).predict_interval(
            elastic[0][40:43]
        )
        np.testing.assert_allclose(y_pred, fitted.predict(elastic[0][40:43]))

    def test_unfitted_or_cloned_is_refused(self, elastic_table):
        X, y = elastic_table
        fitted = svr().fit(X[:100], y[:100])
        with pytest.raises(NotFittedError, match="FrozenEstimator"):
            clone(ConformalRegressor(fitted, method="prefit")).fit(X, y)
        frozen = ConformalRegressor(FrozenEstimator(fitted), method="prefit")
        clone(frozen).fit(X[100:], y[100:])


class TestNormalize:
    @pytest.mark.parametrize("method", METHODS)
    def test_widths_follow_the_spread(self, method, elastic_table):
        X, y = elastic_table
        model = ConformalRegressor(Ensemble(), normalize=True, method=method, random_state=0)
        _, intervals = model.fit(X[:150], y[:150]).predict_interval(X[150:])
        width = np.diff(intervals)[:, 0]
        spread = Ensemble().fit(X[:150], y[:150]).predict(X[150:], return_std=True)[1]
        assert np.corrcoef(width, spread)[0, 1] > 0.7
        plain = model.set_params(normalize=False, method="split").fit(X[:150], y[:150])
        np.testing.assert_allclose(
            np.ptp(np.diff(plain.predict_interval(X[150:])[1])), 0, atol=1e-9
        )

    @pytest.mark.parametrize(
        "estimator",
        [
            GaussianProcessRegressor(alpha=0.1),
            make_pipeline(StandardScaler(), GaussianProcessRegressor(alpha=0.1)),
        ],
    )
    def test_any_model_with_a_standard_deviation(self, estimator, elastic_table):
        X, y = elastic_table
        model = ConformalRegressor(estimator, normalize=True, random_state=0)
        assert model.fit(X[:80], y[:80]).predict_interval(X[80:90])[1].shape == (10, 2)
        frozen = FrozenEstimator(clone(estimator).fit(X[:80], y[:80]))
        model = ConformalRegressor(frozen, normalize=True, method="prefit")
        assert model.fit(X[80:120], y[80:120]).predict_interval(X[:5])[1].shape == (5, 2)

    def test_a_model_without_is_refused(self, elastic_table):
        for estimator in (Ridge(), svr(), FrozenEstimator(Ridge().fit([[1.0]], [1.0]))):
            with pytest.raises(InvalidInputError, match="return_std=True"):
                ConformalRegressor(estimator, normalize=True).fit(*elastic_table)


class TestBadInput:
    @pytest.mark.parametrize(
        "params, match",
        [
            ({"confidence_level": 1.0}, "confidence_level"),
            ({"confidence_level": [0.9, 1.2]}, "got 1.2"),
            ({"method": "jackknife"}, "method"),
            ({"estimator": object()}, "estimator"),
            ({"cv": 1}, "cv"),
            ({"cv": 100}, "cv=100 folds of 40"),
            ({"normalize": "yes"}, "normalize"),
            ({"confidence_level": 0.95}, "needs at least 20 structures for calibration, got 8"),
            ({"confidence_level": 0.05}, "needs at least 20 structures for calibration, got 8"),
        ],
    )
    def test_parameters(self, params, match, elastic_table):
        model = ConformalRegressor(Ridge(), confidence_level=0.8).set_params(**params)
        with pytest.raises(ValueError, match=match):
            model.fit(elastic_table[0][:40], elastic_table[1][:40])
        assert not hasattr(model, "mapie_")

    @pytest.mark.parametrize("method, n_structures", [("split", 50), ("cv+", 10)])
    def test_as_few_crystals_as_the_level_allows(self, elastic_table, method, n_structures):
        X, y = elastic_table
        model = ConformalRegressor(Ridge(), confidence_level=0.9, method=method, random_state=0)
        assert model.fit(X[:n_structures], y[:n_structures]).n_calibration_ == 10
        assert np.isfinite(model.predict_interval(X[50:60])[1]).all()
        with pytest.raises(InvalidInputError, match="needs at least 10 structures") as caught:
            model.fit(X[: n_structures - 5], y[: n_structures - 5])
        assert ("method='cv+'" in str(caught.value)) == (method == "split")

    def test_just_enough_for_the_level(self, elastic_table):
        X, y = elastic_table
        model = ConformalRegressor(Ridge(), confidence_level=0.75, cv=2)
        assert len(model.fit(X[:8], y[:8]).predict_interval(X[:2])[1]) == 2
        with pytest.raises(InvalidInputError, match="at least 4 structures"):
            model.fit(X[:6], y[:6])

    @pytest.mark.parametrize(
        "y, match",
        [
            (np.ones((40, 2)), "one target per structure"),
            (np.where(np.arange(40) == 5, np.nan, 1.0), "the first at position 5"),
            (np.ones(39), "inconsistent lengths"),
            (None, "y is None"),
            (["a"] * 40, "must hold numbers.*for classes use ConformalClassifier"),
        ],
    )
    def test_targets(self, y, match, elastic_table):
        with pytest.raises(InvalidInputError, match=match):
            ConformalRegressor(Ridge()).fit(elastic_table[0][:40], y)

    def test_a_classifier_is_refused(self, elastic_table):
        X, y = elastic_table[0][:40], np.digitize(elastic_table[1][:40], [2.0])
        for estimator in (LogisticRegression(), make_pipeline(StandardScaler(), SVC())):
            with pytest.raises(InvalidInputError, match="take ConformalClassifier"):
                ConformalRegressor(estimator).fit(X, y)

    @pytest.mark.parametrize("method", METHODS)
    def test_an_estimator_that_never_predicts(self, method, elastic_table):
        X, y = elastic_table[0][:40], elastic_table[1][:40]
        model = ConformalRegressor(StandardScaler(), confidence_level=0.75, method=method)
        with pytest.raises(InvalidInputError, match="StandardScaler has no predict"):
            model.fit(X, y)

    def test_crystals(self, elastic, tiny):
        model = ConformalRegressor(DSSLRegressor(**tiny))
        with pytest.raises(InvalidInputError, match="single Structure"):
            model.fit(elastic[0][0], [1.0])
        with pytest.raises(InvalidInputError, match="empty"):
            model.fit([], [])

    def test_without_mapie(self, elastic_table, monkeypatch):
        monkeypatch.setitem(sys.modules, "mapie.regression", None)
        with pytest.raises(MissingDependencyError, match=r"dssl_sklearn\[conformal\]"):
            ConformalRegressor(Ridge()).fit(*elastic_table)
