import numpy as np
import pytest

from dssl_sklearn.crystals.elements import element_features
from dssl_sklearn.crystals.inputs import read_crystals
from dssl_sklearn.evaluation import composition as composition_module
from dssl_sklearn.evaluation.composition import composition_features, feature_source


@pytest.fixture(params=["built-in", "matminer"])
def source(request):
    if request.param == "matminer":
        pytest.importorskip("matminer")
    return request.param


def test_rows_depend_on_their_composition_alone(elastic, source):
    structures = elastic[0][:6]
    table = composition_features(read_crystals(structures), source)
    assert table.shape[0] == 6
    assert np.isfinite(table).all()
    supercells = [structure * [2, 1, 1] for structure in reversed(structures)]
    again = composition_features(read_crystals(supercells), source)
    np.testing.assert_allclose(again[::-1], table, atol=1e-12)
    assert len(np.unique(table, axis=0)) == 6


def test_built_in_statistics(elastic):
    structure = elastic[0][0]
    (row,) = composition_features(read_crystals([structure]), "built-in")
    sites = element_features()[list(structure.atomic_numbers)]
    mean, deviation, low, high, spread = row.reshape(5, -1)
    np.testing.assert_allclose(mean, sites.mean(axis=0))
    np.testing.assert_allclose(deviation, np.abs(sites - sites.mean(axis=0)).mean(axis=0))
    np.testing.assert_allclose(low, sites.min(axis=0))
    np.testing.assert_allclose(spread, high - low)


@pytest.mark.parametrize("installed, source", [(object(), "matminer"), (None, "built-in")])
def test_matminer_is_taken_where_it_is(monkeypatch, installed, source):
    monkeypatch.setattr(composition_module, "find_spec", lambda _: installed)
    assert feature_source() == source
