"""`predict_iter` and `transform_iter`: what `predict` gives, piece by piece."""

import inspect
from itertools import count, islice

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError

from dssl_sklearn import DSSLClassifier, DSSLPretrainer, DSSLRegressor
from dssl_sklearn.crystals.builder import GraphBuilder
from dssl_sklearn.crystals.cache import GRAPH_CACHE
from dssl_sklearn.exceptions import (
    InvalidInputError,
    InvalidStructureError,
    SkippedStructuresWarning,
)

N = 20


@pytest.fixture(scope="module")
def regressor(tiny, elastic):
    return DSSLRegressor(**tiny).fit(elastic[0][:N], elastic[1][:N])


@pytest.fixture(scope="module")
def classifier(tiny, elastic):
    return DSSLClassifier(**tiny).fit(elastic[0][:N], elastic[1][:N] > 2)


@pytest.fixture
def estimators(regressor, classifier, fitted_pretrainer):
    return {
        "transform": fitted_pretrainer,
        "predict": regressor,
        "predict_proba": classifier,
        "predict_class": classifier,
    }


METHODS = ["transform", "predict", "predict_proba", "predict_class"]


def bound(estimators, method):
    """A method for sequences and its twin for streams."""
    name = "predict" if method == "predict_class" else method
    return getattr(estimators[method], name), getattr(estimators[method], f"{name}_iter")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("chunk_size", [7, 20, 1000])
def test_pieces_in_order(estimators, method, chunk_size, elastic):
    whole, pieces = bound(estimators, method)
    X = elastic[0][20 : 20 + N]
    found = list(pieces((structure for structure in X), chunk_size=chunk_size))
    assert [len(piece) for piece in found] == [
        min(chunk_size, N - start) for start in range(0, N, chunk_size)
    ]
    expected = whole(X)
    if expected.dtype.kind == "f":
        # Batches are others, and sums in float32 are taken in another order.
        np.testing.assert_allclose(np.concatenate(found), expected, rtol=2e-5, atol=2e-5)
    else:
        np.testing.assert_array_equal(np.concatenate(found), expected)


@pytest.mark.parametrize("kind", ["list", "array", "graphs", "dataset"])
def test_other_inputs(regressor, elastic, kind):
    X = elastic[0][:N]
    builder = GraphBuilder(8.0, 12)
    given = {
        "list": lambda: X,
        "array": lambda: np.fromiter(X, dtype=object),
        "graphs": lambda: builder.usable_graphs(X, skip=False)[0],
        "dataset": lambda: builder.dataset(X),
    }[kind]()
    found = np.concatenate(list(regressor.predict_iter(given, chunk_size=8)))
    np.testing.assert_allclose(found, regressor.predict(X), rtol=1e-5)


def test_the_spread_comes_along(regressor, elastic):
    X = elastic[0][:N]
    pieces = list(regressor.predict_iter(iter(X), chunk_size=6, return_std=True))
    mean, std = (np.concatenate(parts) for parts in zip(*pieces, strict=True))
    for found, expected in zip((mean, std), regressor.predict(X, return_std=True), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


def test_an_endless_stream(regressor, elastic):
    drawn = count()
    endless = (elastic[0][next(drawn) % N] for _ in count())
    first = list(islice(regressor.predict_iter(endless, chunk_size=5), 3))
    assert [len(piece) for piece in first] == [5, 5, 5]
    assert next(drawn) == 15


def test_a_stream_does_not_flood_the_cache(regressor, elastic):
    GRAPH_CACHE.clear()
    list(regressor.predict_iter(elastic[0][:N]))
    assert len(GRAPH_CACHE) == 0


def test_no_crystals_no_pieces(regressor):
    assert list(regressor.predict_iter(iter([]))) == []


def test_skipped_structures_keep_their_rows(tiny, elastic):
    model = DSSLRegressor(**tiny, on_error="skip").fit(elastic[0][:N], elastic[1][:N])
    mixed = list(elastic[0][:N])
    for row in (4, 9, 10, 11):
        mixed.insert(row, None)
    with pytest.warns(SkippedStructuresWarning) as caught:
        found = list(model.predict_iter(iter(mixed), chunk_size=4))
    # Positions are those of the whole stream; of the third piece nothing is left but one.
    said = "\n".join(str(warning.message) for warning in caught)
    assert "\n  structure 4: " in said
    assert "\n  structures 9, 10, 11: " in said
    assert said.count("\n  structure") == 2
    together = np.concatenate(found)
    assert np.flatnonzero(np.isnan(together)).tolist() == [4, 9, 10, 11]
    np.testing.assert_allclose(
        together[~np.isnan(together)], model.predict(elastic[0][:N]), rtol=1e-5
    )


def test_a_piece_of_unusable_structures_only(tiny, elastic):
    model = DSSLRegressor(**tiny, on_error="skip").fit(elastic[0][:N], elastic[1][:N])
    with pytest.warns(SkippedStructuresWarning):
        found = list(model.predict_iter(iter([None, None, elastic[0][0]]), chunk_size=2))
    assert np.isnan(found[0]).tolist() == [True, True]
    assert np.isfinite(found[1]).all()


def test_positions_in_errors_are_those_of_the_stream(regressor, elastic):
    stream = regressor.predict_iter(iter([*elastic[0][:9], None]), chunk_size=4)
    assert [len(next(stream)), len(next(stream))] == [4, 4]
    with pytest.raises(InvalidStructureError) as caught:
        next(stream)
    assert list(caught.value.reasons) == [9]


def test_errors_of_a_stream_name_the_index(regressor, elastic):
    items = [*elastic[0][:4], None]
    X = pd.Series(items, index=[f"mp-{row}" for row in range(5)])
    with pytest.raises(InvalidStructureError, match=r"structure 4 \(index mp-4\)"):
        list(regressor.predict_iter(X, chunk_size=3))


@pytest.mark.parametrize("method", METHODS)
def test_mistakes_show_at_once(estimators, method, elastic):
    _, pieces = bound(estimators, method)
    with pytest.raises(InvalidInputError, match="chunk_size must be an integer >= 1"):
        pieces(elastic[0], chunk_size=0)
    with pytest.raises(InvalidInputError, match="single Structure"):
        pieces(elastic[0][0])
    with pytest.raises(InvalidInputError, match="expected a sequence"):
        pieces(3)


@pytest.mark.parametrize(
    "start",
    [
        lambda: DSSLPretrainer().transform_iter,
        lambda: DSSLRegressor().predict_iter,
        lambda: DSSLClassifier().predict_iter,
        lambda: DSSLClassifier().predict_proba_iter,
    ],
)
def test_unfitted_estimators_say_so(start, elastic):
    with pytest.raises(NotFittedError):
        start()(elastic[0])


def test_streams_are_generators(regressor, elastic):
    assert inspect.isgenerator(regressor.predict_iter(elastic[0][:2]))
