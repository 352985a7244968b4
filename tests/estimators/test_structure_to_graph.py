import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.validation import check_is_fitted

from dssl_sklearn import StructureToGraph
from dssl_sklearn.crystals.graph import DEFAULT_CUTOFF, DEFAULT_MAX_NEIGHBORS, CrystalGraph
from dssl_sklearn.datasets import load_elasticity
from dssl_sklearn.exceptions import InvalidInputError, InvalidStructureError


@pytest.fixture(scope="module")
def structures():
    return load_elasticity(return_X_y=True)[0][::120]


def test_the_result_is_an_object_array_of_graphs(structures):
    graphs = StructureToGraph().fit_transform(structures)
    assert isinstance(graphs, np.ndarray)
    assert (graphs.shape, graphs.dtype) == ((len(structures),), object)
    assert all(isinstance(graph, CrystalGraph) for graph in graphs)
    assert [graph.n_sites for graph in graphs] == [len(s) for s in structures]
    assert StructureToGraph().transform(structures[:1]).shape == (1,)


def test_the_defaults_are_those_of_the_networks():
    transformer = StructureToGraph()
    assert transformer.cutoff == DEFAULT_CUTOFF
    assert transformer.max_neighbors == DEFAULT_MAX_NEIGHBORS


@pytest.mark.parametrize(
    "params",
    [{"cutoff": 5.0}, {"cutoff": 6}, {"max_neighbors": 3}, {"site_properties": ["charge"]}],
    ids=str,
)
def test_parameters_reach_the_graphs(structures, params):
    graph = StructureToGraph(**params).transform(structures)[0]
    assert graph.cutoff == params.get("cutoff", 8.0)
    assert graph.max_neighbors == params.get("max_neighbors", 12)
    assert list(graph.crystal.site_properties) == params.get("site_properties", [])


def test_the_cache_can_be_left_out(structures):
    kept = [StructureToGraph().transform(structures)[0] for _ in range(2)]
    fresh = [StructureToGraph(cache=False).transform(structures)[0] for _ in range(2)]
    assert kept[0] is kept[1]
    assert fresh[0] is not fresh[1]
    np.testing.assert_array_equal(fresh[0].distance, kept[0].distance)


def test_graphs_pass_through(structures):
    graphs = StructureToGraph().fit_transform(structures)
    assert all(StructureToGraph().transform(graphs) == graphs)
    with pytest.raises(InvalidInputError, match=r"cutoff=8\.0"):
        StructureToGraph(cutoff=5.0).transform(graphs)


def test_pandas_output(structures):
    transformer = StructureToGraph().set_output(transform="pandas")
    frame = transformer.fit_transform(structures)
    assert isinstance(frame, pd.DataFrame)
    assert list(frame.columns) == ["graph"] == list(transformer.get_feature_names_out())
    assert all(isinstance(graph, CrystalGraph) for graph in frame["graph"])
    index = [f"mp-{i}" for i in range(len(structures))]
    table = pd.DataFrame({"structure": structures}, index=index)
    assert list(transformer.transform(table).index) == index
    assert all(StructureToGraph().transform(frame) == frame["graph"])


def test_graphs_can_be_pickled(structures):
    graph = StructureToGraph().transform(structures)[0]
    copy = pickle.loads(pickle.dumps(graph))
    np.testing.assert_array_equal(copy.distance, graph.distance)
    np.testing.assert_array_equal(copy.crystal.lattice, graph.crystal.lattice)


def test_there_is_nothing_to_fit(structures):
    transformer = StructureToGraph()
    check_is_fitted(transformer)
    assert transformer.fit(structures) is transformer
    assert transformer.fit(None) is transformer
    assert vars(transformer) == transformer.get_params()


def test_unusable_crystals_are_named(structures):
    with pytest.raises(InvalidStructureError) as caught:
        StructureToGraph().fit_transform([*structures, None, "nowhere.cif"])
    assert set(caught.value.reasons) == {len(structures), len(structures) + 1}


def coordination(graphs):
    """Features of the graphs: mean distance and edges per site."""
    return np.array([[g.distance.mean(), g.n_edges / g.n_sites] for g in graphs])


def test_in_a_pipeline(structures):
    pipeline = make_pipeline(StructureToGraph(), FunctionTransformer(coordination), Ridge())
    y = np.array([structure.density for structure in structures])
    expected = coordination(StructureToGraph().transform(structures))
    pipeline.fit(structures, y)
    np.testing.assert_array_equal(pipeline[:-1].transform(structures), expected)
    assert all(pipeline[:1].transform(structures) == pipeline[0].transform(structures))
    np.testing.assert_allclose(
        pipeline.predict(structures), Ridge().fit(expected, y).predict(expected)
    )
    np.testing.assert_allclose(
        cross_val_predict(pipeline, structures, y, cv=3),
        cross_val_predict(Ridge(), expected, y, cv=3),
    )
    assert pipeline.set_params(structuretograph__cutoff=6.0)[0].cutoff == 6.0
