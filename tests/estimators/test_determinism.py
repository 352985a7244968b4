"""Same seed, same weights: whatever the processes, the kind of input, the workers of the loader."""

import numpy as np
import pytest
import torch
from joblib import Parallel, delayed

from dssl_sklearn import DSSLClassifier, DSSLPretrainer, DSSLRegressor
from dssl_sklearn.crystals import builder as builder_module
from dssl_sklearn.crystals.builder import GraphBuilder
from dssl_sklearn.crystals.store import GraphStore

N = 24


@pytest.fixture(scope="module")
def store(tmp_path_factory, elastic):
    return GraphStore.build(tmp_path_factory.mktemp("determinism") / "s", elastic[0][:N])


@pytest.fixture
def small_chunks(monkeypatch):
    """Several tasks for worker processes from few crystals."""
    monkeypatch.setattr(builder_module, "CHUNK", 5)


def assert_same_weights(left, right):
    for part in ("module_", "criterion_"):
        states = [getattr(e.net_, part).state_dict() for e in (left, right)]
        assert states[0].keys() == states[1].keys()
        for name, tensor in states[0].items():
            assert torch.equal(tensor, states[1][name]), name


def pretrainer(tiny, **kwargs):
    return DSSLPretrainer(**tiny, **kwargs)


def test_another_seed_gives_other_weights(tiny, elastic):
    left = pretrainer(tiny).fit(elastic[0][:N])
    right = pretrainer({**tiny, "random_state": 1}).fit(elastic[0][:N])
    with pytest.raises(AssertionError):
        assert_same_weights(left, right)


def test_threads_take_turns(tiny, elastic):
    def fit(seed):
        return DSSLRegressor(**{**tiny, "random_state": seed}).fit(elastic[0][:N], elastic[1][:N])

    alone = [fit(seed) for seed in range(4)]
    state = torch.get_rng_state()
    beside = Parallel(n_jobs=4, backend="threading")(delayed(fit)(seed) for seed in range(4))
    assert torch.equal(torch.get_rng_state(), state)
    for left, right in zip(alone, beside, strict=True):
        assert_same_weights(left, right)


@pytest.mark.usefixtures("small_chunks")
def test_processes_do_not_matter(tiny, elastic):
    # Crystals that no other test has put into the cache.
    X = [structure.copy().perturb(0.01) for structure in elastic[0][:N]]
    left = pretrainer(tiny, n_jobs=2).fit(X)
    right = pretrainer(tiny, n_jobs=1).fit(X)
    assert_same_weights(left, right)
    np.testing.assert_array_equal(left.transform(X), right.transform(X))


def test_a_store_is_as_good_as_a_list(tiny, elastic, store):
    left = pretrainer(tiny).fit(elastic[0][:N])
    right = pretrainer(tiny).fit(store)
    assert_same_weights(left, right)
    assert left.fit_record_ == right.fit_record_
    np.testing.assert_array_equal(left.transform(elastic[0][:N]), right.transform(store))
    assert left.score(elastic[0][:N]) == right.score(store)


@pytest.mark.parametrize("on_error", ["raise", "skip"])
@pytest.mark.parametrize("all_labeled", [True, False])
def test_fine_tuning_on_a_store(tiny, elastic, store, all_labeled, on_error):
    y = elastic[1][:N].copy()
    if not all_labeled:
        y[::3] = np.nan
    arguments = {**tiny, "on_error": on_error}
    left = DSSLRegressor(**arguments).fit(elastic[0][:N], y)
    right = DSSLRegressor(**arguments).fit(store, y)
    assert_same_weights(left, right)
    np.testing.assert_array_equal(left.predict(elastic[0][:N]), right.predict(store))


def test_a_classifier_and_an_unfitted_pretrainer_on_a_store(tiny, elastic, store):
    y = elastic[1][:N] > np.median(elastic[1][:N])
    left, right = (
        DSSLClassifier(**tiny, pretrained=DSSLPretrainer(**tiny)).fit(X, y)
        for X in (elastic[0][:N], store)
    )
    assert_same_weights(left, right)
    np.testing.assert_array_equal(left.predict(store), right.predict(elastic[0][:N]))


@pytest.mark.parametrize("kind", ["list", "store"])
def test_the_order_in_which_workers_deliver_does_not_matter(tiny, elastic, store, kind):
    X = store if kind == "store" else elastic[0][:N]
    workers = {"iterator_train__num_workers": 2}
    left = pretrainer(tiny, net_params=workers).fit(X)
    right = pretrainer(tiny).fit(X)
    assert_same_weights(left, right)


def test_the_graphs_do_not_depend_on_what_was_built_before(elastic):
    builder = GraphBuilder(8.0, 12)
    left = builder.dataset(elastic[0][:N])
    right = GraphBuilder(8.0, 12, use_cache=False).dataset(elastic[0][:N][::-1])
    for index in range(N):
        one, other = left[index], right[N - 1 - index]
        np.testing.assert_array_equal(one.distance, other.distance)
        np.testing.assert_array_equal(one.source, other.source)


def test_a_default_of_double_precision_changes_nothing(tiny, elastic, tmp_path):
    """Force fields such as MACE set it for the whole process."""
    X, y = elastic[0][:N], elastic[1][:N]
    path = tmp_path / "model.safetensors"
    expected = DSSLRegressor(**tiny, pretrained=pretrainer(tiny).fit(X)).fit(X, y)
    expected.save(path)
    of_teacher = tmp_path / "answers.safetensors"
    distilled = DSSLRegressor(pretrained="mp-distilled", kernel_share=1, max_epochs=0).fit(X, y)
    distilled.save(of_teacher)
    torch.set_default_dtype(torch.float64)
    try:
        found = DSSLRegressor(**tiny, pretrained=pretrainer(tiny).fit(X)).fit(X, y)
        predictions = found.predict(X), DSSLRegressor.load(path).predict(X)
        with_answers = DSSLRegressor.load(of_teacher).predict(X)
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert_same_weights(expected, found)
    for prediction in predictions:
        np.testing.assert_array_equal(prediction, expected.predict(X))
    np.testing.assert_allclose(with_answers, distilled.predict(X), rtol=1e-6)
