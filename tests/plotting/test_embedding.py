import copy
import sys
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyRegressor
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline

from dssl_sklearn import DSSLRegressor, StructureToGraph
from dssl_sklearn.exceptions import (
    InvalidInputError,
    MissingDependencyError,
    SkippedStructuresWarning,
)
from dssl_sklearn.plotting import EmbeddingMapDisplay


@pytest.fixture
def embeddings():
    return np.random.default_rng(0).normal(size=(40, 6)) * [9, 5, 1, 1, 1, 1]


def test_the_map_keeps_the_widest_directions(embeddings, texts):
    display = EmbeddingMapDisplay.from_embeddings(embeddings)
    x, y = display.coordinates.T
    assert abs(np.corrcoef(x, embeddings[:, 0])[0, 1]) > 0.95
    assert abs(np.corrcoef(y, embeddings[:, 1])[0, 1]) > 0.95
    share = np.var(x) / embeddings.var(axis=0).sum()
    assert f"PC 1 ({share:.0%} of variance)" in texts(display.figure_)


def test_a_pretrainer_shows_what_it_transforms(fitted_pretrainer, elastic):
    structures, y = elastic[0][:20], elastic[1][:20]
    display = EmbeddingMapDisplay.from_estimator(
        fitted_pretrainer, structures, color=pd.Series(y, name="log10 K")
    )
    direct = EmbeddingMapDisplay.from_embeddings(fitted_pretrainer.transform(structures))
    np.testing.assert_allclose(display.coordinates, direct.coordinates, atol=1e-6)
    assert display.colorbar_.ax.get_ylabel() == "log10 K"


def test_a_predictor_shows_what_its_head_reads(linear_regressor, elastic):
    structures = elastic[0][:20]
    display = EmbeddingMapDisplay.from_estimator(linear_regressor, structures)
    assert display.coordinates.shape == (20, 2)
    # Its head is linear: the predictions are a plane over the embeddings.
    again = EmbeddingMapDisplay.from_estimator(linear_regressor, structures[::-1])
    np.testing.assert_allclose(
        np.abs(again.coordinates[::-1]), np.abs(display.coordinates), 0, 1e-4
    )


@pytest.mark.parametrize("kind", ["pretrainer", "regressor"])
def test_skipped_structures_have_no_place(fitted_pretrainer, linear_regressor, elastic, kind):
    estimator = copy.copy(linear_regressor if kind == "regressor" else fitted_pretrainer)
    estimator.set_params(on_error="skip")
    structures, y = elastic[0][:20], elastic[1][:21]
    expected = EmbeddingMapDisplay.from_estimator(estimator, structures).coordinates
    mixed = [*structures[:7], "nowhere.cif", *structures[7:]]
    with pytest.warns(SkippedStructuresWarning, match="structure 7: no such file"):
        display = EmbeddingMapDisplay.from_estimator(estimator, mixed, color=y)
    assert np.isnan(display.coordinates[7]).all()
    np.testing.assert_allclose(np.delete(display.coordinates, 7, axis=0), expected, atol=1e-6)
    display.figure_.canvas.draw()
    with pytest.warns(SkippedStructuresWarning), pytest.raises(InvalidInputError, match="two"):
        EmbeddingMapDisplay.from_estimator(estimator, [structures[0], None])


def test_unknown_values_are_gray(embeddings):
    color = embeddings[:, 0].copy()
    color[:5] = np.nan
    display = EmbeddingMapDisplay.from_embeddings(embeddings, color=color, color_label="gap (eV)")
    gray, colored = display.ax_.collections
    assert len(gray.get_offsets()) == 5
    assert len(colored.get_offsets()) == 35
    assert display.colorbar_.ax.get_ylabel() == "gap (eV)"


def test_classes_have_a_legend(embeddings):
    names = [f"kind {min(i // 4, 8)}" for i in range(40)]
    display = EmbeddingMapDisplay.from_embeddings(embeddings, color=names)
    legend = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert len(legend) == 8
    assert legend[0] == "other"
    drawn = sum(len(points.get_offsets()) for points in display.ax_.collections)
    assert drawn == 40
    assert display.colorbar_ is None


@pytest.mark.parametrize(
    "embeddings, params, message",
    [
        (np.ones(3), {}, r"shape \(3,\)"),
        (np.ones((1, 5)), {}, "at least two of each"),
        (np.array([[1, 2], [np.nan, 1]]), {}, "infinite entry in row 1"),
        (np.eye(3), {"color": [1, 2]}, "color has 2 entries, expected 3"),
        (np.eye(3), {"method": "tsne"}, "method must be one of 'pca', 'umap'"),
    ],
)
def test_bad_input_is_explained(embeddings, params, message):
    with pytest.raises(InvalidInputError, match=message):
        EmbeddingMapDisplay.from_embeddings(embeddings, **params)


def test_estimators_without_embeddings_are_refused(elastic):
    with pytest.raises(InvalidInputError, match="DummyRegressor has no transform"):
        EmbeddingMapDisplay.from_estimator(DummyRegressor(), elastic[0][:3])
    pipeline = make_pipeline(StructureToGraph(), DSSLRegressor())
    with pytest.raises(InvalidInputError, match=r"give the .*: estimator\['dsslregressor'\]"):
        EmbeddingMapDisplay.from_estimator(pipeline, elastic[0][:3])
    with pytest.raises(NotFittedError):
        EmbeddingMapDisplay.from_estimator(DSSLRegressor(), elastic[0][:3])


def test_umap_is_asked_for_by_name(embeddings, monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "dssl_sklearn\[umap\]"'):
        EmbeddingMapDisplay.from_embeddings(embeddings, method="umap")


def test_umap_gets_seed_and_neighbors(embeddings, monkeypatch):
    # UMAP itself compiles for half a minute: a stand-in that records how it is called.
    asked = {}

    class StandIn:
        def __init__(self, **params):
            asked.update(params)

        def fit_transform(self, table):
            return table[:, 2:4]

    module = ModuleType("umap")
    module.UMAP = StandIn
    monkeypatch.setitem(sys.modules, "umap", module)
    display = EmbeddingMapDisplay.from_embeddings(embeddings[:9], method="umap", random_state=3)
    assert asked == {"n_neighbors": 8, "random_state": 3, "n_jobs": 1, "init": "random"}
    np.testing.assert_array_equal(display.coordinates, embeddings[:9, 2:4])
    assert display.ax_.get_xlabel() == "UMAP 1"
