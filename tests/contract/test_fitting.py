"""What `fit` promises: repeatable, without side effects, and kept through pickling."""

import copy
import io
import pickle

import joblib
import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from dssl_sklearn import DSSLClassifier, DSSLPretrainer, DSSLRegressor
from dssl_sklearn.exceptions import DSSLError, InvalidStructureError, TrainingError


def snapshot(structures):
    # Hashes, since pytest would take minutes to show where two of these differ.
    return [(id(s), joblib.hash(s.as_dict())) for s in structures]


class TestNotFitted:
    METHODS = (
        "predict",
        "predict_proba",
        "transform",
        "transform_sites",
        "score",
        "save",
        "get_feature_names_out",
    )

    def test_every_method_says_so(self, trained, new):
        estimator = trained.estimator
        with pytest.raises(NotFittedError):
            check_is_fitted(estimator)
        found = [name for name in self.METHODS if hasattr(estimator, name)]
        assert len(found) >= 3
        for name in found:
            arguments = {"get_feature_names_out": (), "score": (new, np.zeros(len(new)))}
            with pytest.raises(NotFittedError):
                getattr(estimator, name)(*arguments.get(name, (new,)))

    def test_fitted_attributes_are_missing(self, trained):
        for name in ("net_", "history_", "architecture_", "encoder_"):
            assert not hasattr(trained.estimator, name)

    def test_fit_returns_the_estimator_itself(self, case, train):
        estimator = case.estimator
        assert case.fit(estimator, *train) is estimator
        check_is_fitted(estimator)


class TestRepetition:
    def test_same_seed_same_result(self, case, train, new):
        first = case.output(case.fit(case.estimator, *train), new)
        second = case.output(case.fit(case.estimator, *train), new)
        np.testing.assert_array_equal(first, second)

    def test_a_fit_forgets_earlier_ones(self, case, train, new, elastic):
        fresh = case.output(case.fit(case.estimator, *train), new)
        used = case.fit(case.estimator, elastic[0][80:90], elastic[1][80:90])
        np.testing.assert_array_equal(case.output(case.fit(used, *train), new), fresh)

    def test_another_seed_another_result(self, trained, train, new):
        estimator = trained.fit(trained.estimator, *train)
        other = trained.fit(trained.estimator.set_params(random_state=1), *train)
        assert not np.allclose(trained.output(estimator, new), trained.output(other, new))

    def test_a_random_state_is_used_up_like_in_scikit_learn(self, trained, train, new):
        def outputs():
            rng = np.random.RandomState(5)
            estimator = trained.estimator.set_params(random_state=rng)
            return [trained.output(trained.fit(estimator, *train), new) for _ in range(2)]

        first, second = outputs(), outputs()
        np.testing.assert_array_equal(first, second)
        assert not np.allclose(*first)

    def test_without_a_seed_runs_differ(self, trained, train, new):
        estimator = trained.estimator.set_params(random_state=None)
        first = trained.output(trained.fit(estimator, *train), new)
        assert not np.allclose(first, trained.output(trained.fit(estimator, *train), new))

    def test_numpys_seed_decides_where_there_is_none(self, trained, train, new):
        estimator = trained.estimator.set_params(random_state=None)
        state = np.random.get_state()  # noqa: NPY002 - the global state is what is tested
        try:
            outputs = []
            for _ in range(2):
                np.random.seed(0)  # noqa: NPY002
                outputs.append(trained.output(trained.fit(estimator, *train), new))
        finally:
            np.random.set_state(state)  # noqa: NPY002
        np.testing.assert_array_equal(*outputs)

    def test_output_repeats(self, case, train, new):
        estimator = case.fit(case.estimator, *train)
        np.testing.assert_array_equal(case.output(estimator, new), case.output(estimator, new))

    def test_default_dtype_is_left_alone(self, case, train, new):
        case.output(case.fit(case.estimator, *train), new)
        assert torch.get_default_dtype() is torch.float32


class TestSideEffects:
    def test_global_generators_stay_as_they_are(self, case, train, new):
        torch.manual_seed(17)
        torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
        estimator = case.fit(case.estimator, *train)
        case.output(estimator, new)
        if isinstance(estimator, DSSLPretrainer):
            estimator.score(new)
            estimator.transform_sites(new)
        assert torch.equal(torch.get_rng_state(), torch_state)
        now = np.random.get_state()  # noqa: NPY002
        assert all(np.array_equal(a, b) for a, b in zip(now, numpy_state, strict=True))

    def test_the_input_stays_as_it_is(self, case, train, new):
        X, values = list(train[0]), train[1].copy()
        before, before_new = snapshot(X), snapshot(new)
        weight = np.ones(len(X))
        kwargs = {"sample_weight": weight} if case.is_predictor else {}
        estimator = case.fit(case.estimator, X, values, **kwargs)
        case.output(estimator, new)
        assert snapshot(X) == before
        assert snapshot(new) == before_new
        np.testing.assert_array_equal(values, train[1])
        np.testing.assert_array_equal(weight, 1)

    def test_parameters_stay_as_they_are(self, case, train):
        estimator = case.estimator
        before = dict(vars(estimator))
        contents = joblib.hash(estimator.get_params(deep=False))
        case.fit(estimator, *train)
        assert all(getattr(estimator, name) is value for name, value in before.items())
        assert joblib.hash(estimator.get_params(deep=False)) == contents

    def test_fit_adds_only_attributes_with_a_trailing_underscore(self, case, train):
        estimator = case.estimator
        before = set(vars(estimator))
        added = set(vars(case.fit(estimator, *train))) - before
        assert all(name.endswith("_") and not name.startswith("_") for name in added)

    def test_the_pretrainer_to_start_from_stays_as_it_is(self, trained_class, elastic, tiny, new):
        pretrainer = DSSLPretrainer(**tiny).fit(elastic[0][40:56])
        before = copy.deepcopy(pretrainer.encoder_.state_dict())
        heads = copy.deepcopy(pretrainer.net_.criterion_.state_dict())
        embeddings, score = pretrainer.transform(new), pretrainer.score(new)
        estimator = trained_class(pretrained=pretrainer, max_epochs=2, lr=0.1, random_state=0)
        estimator.fit(elastic[0][:16], elastic[1][:16] > 2)
        assert estimator.pretrained is pretrainer
        assert not torch.equal(
            next(estimator.net_.module_.parameters()), next(pretrainer.encoder_.parameters())
        )
        for state, now in (
            (before, pretrainer.encoder_.state_dict()),
            (heads, pretrainer.net_.criterion_.state_dict()),
        ):
            assert all(torch.equal(now[name], tensor) for name, tensor in state.items())
        np.testing.assert_array_equal(pretrainer.transform(new), embeddings)
        assert pretrainer.score(new) == score

    def test_an_unfitted_pretrainer_stays_unfitted(self, predictor_class, tiny, train):
        pretrainer = DSSLPretrainer(**tiny)
        estimator = predictor_class(pretrained=pretrainer, max_epochs=1)
        estimator.fit(train[0], train[1] > 2)
        assert not hasattr(pretrainer, "net_")
        assert hasattr(estimator.pretrainer_, "net_")

    def test_a_failing_fit_leaves_the_last_one_whole(self, trained, train, new):
        estimator = trained.fit(trained.estimator, *train)
        before = trained.output(estimator, new)
        with pytest.raises(InvalidStructureError):
            trained.fit(estimator, [*train[0][:7], "no such file"], np.linspace(-90, 90, 8))
        with pytest.raises(TrainingError):
            trained.fit(estimator.set_params(lr=1e30, max_epochs=5), train[0], 4 - train[1])
        np.testing.assert_array_equal(trained.output(estimator, new), before)

    def test_the_pretrainer_of_an_earlier_fit_goes(self, tiny, train):
        estimator = DSSLRegressor(pretrained=DSSLPretrainer(**tiny), max_epochs=1).fit(*train)
        estimator.set_params(pretrained=None).fit(*train)
        assert not hasattr(estimator, "pretrainer_")


def via_joblib(estimator):
    stream = io.BytesIO()
    joblib.dump(estimator, stream)
    stream.seek(0)
    return joblib.load(stream)


def via_pickle(estimator):
    return pickle.loads(pickle.dumps(estimator))


@pytest.mark.parametrize("travel", [via_pickle, via_joblib, copy.deepcopy])
class TestPickle:
    def test_of_a_fitted_estimator(self, case, travel, train, new):
        estimator = case.fit(case.estimator, *train)
        before = case.output(estimator, new)
        back = travel(estimator)
        np.testing.assert_array_equal(case.output(back, new), before)
        # And it learns anew, as the one it was made from.
        np.testing.assert_array_equal(case.output(case.fit(back, *train), new), before)

    def test_of_an_unfitted_estimator(self, case, travel, train, new):
        back = travel(case.estimator)
        expected = case.output(case.fit(case.estimator, *train), new)
        np.testing.assert_array_equal(case.output(case.fit(back, *train), new), expected)


def test_a_verbose_estimator_can_be_pickled(trained, train, new, capsys):
    estimator = trained.fit(trained.estimator.set_params(verbose=1), *train)
    back = pickle.loads(pickle.dumps(estimator))
    np.testing.assert_array_equal(trained.output(back, new), trained.output(estimator, new))
    capsys.readouterr()


def test_every_error_of_ours_is_also_a_builtin_one():
    for cls in (DSSLRegressor, DSSLClassifier):
        with pytest.raises(ValueError, match="X is empty") as caught:
            cls().fit([], [])
        assert isinstance(caught.value, DSSLError)
