import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from dssl_sklearn.crystals.builder import GraphBuilder
from dssl_sklearn.crystals.graph import Crystal
from dssl_sklearn.crystals.graph_table import GraphTable
from dssl_sklearn.crystals.inputs import read_crystals
from dssl_sklearn.crystals.neighbors import build_graphs
from dssl_sklearn.crystals.reading import _KNOWN, _MOST_KNOWN
from dssl_sklearn.crystals.table import CrystalTable

BUILDER = GraphBuilder(8.0, 12, use_cache=False)


def with_properties(crystals):
    """Copies with quantities of sites and crystals, and coordinates in other cells."""
    rng = np.random.default_rng(0)
    return [
        Crystal(
            c.numbers,
            c.frac_coords + rng.integers(-2, 3, (len(c), 3)) * (row % 2),
            c.lattice,
            {"force": rng.normal(size=(len(c), 3)), "charge": rng.normal(size=len(c))},
            {"energy": rng.normal(size=()), "stress": rng.normal(size=6)},
        )
        for row, c in enumerate(crystals)
    ]


@pytest.fixture
def crystals(real_crystals):
    return with_properties(real_crystals)


@pytest.fixture
def table(crystals):
    return build_graphs(CrystalTable.of(crystals), 8.0, 12)[0]


def assert_same_crystal(left, right):
    for name in ("numbers", "frac_coords", "lattice"):
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name))
    for name in ("site_properties", "crystal_properties"):
        mine, other = getattr(left, name), getattr(right, name)
        assert set(mine) == set(other)
        for key, values in mine.items():
            assert np.shape(values) == np.shape(other[key])
            np.testing.assert_array_equal(values, other[key])


def assert_same(left, right):
    for a, b in zip(left.arrays(), right.arrays(), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def test_crystals_come_back_as_they_went_in(crystals):
    table = CrystalTable.of(crystals)
    for row, crystal in enumerate(crystals):
        assert_same_crystal(table[row], crystal)
        assert not np.shares_memory(table.frac_coords, crystal.frac_coords)


def test_parts_rows_and_joins(crystals):
    table = CrystalTable.of(crystals)
    assert_same(table.crystal_table(2, 5), CrystalTable.of(crystals[2:5]))
    rows = np.array([4, 0, 0, 7])
    assert_same(table.take(rows), CrystalTable.of([crystals[row] for row in rows]))
    assert_same(
        CrystalTable.concatenate([table.crystal_table(0, 3), table.crystal_table(3, len(table))]),
        table,
    )
    assert len(table.take(np.array([], dtype=np.int64))) == 0
    assert len(CrystalTable.of([])) == 0


def test_positions_count_from_the_end_too(crystals):
    table = CrystalTable.of(crystals)
    assert table[-1].numbers.tolist() == crystals[-1].numbers.tolist()
    with pytest.raises(IndexError):
        table[len(table)]


def test_graphs_are_gathered_in_order(table):
    first, second = table.take(np.array([3, 1])), table.take(np.array([0, 2, 4]))
    gathered = GraphTable.gather([(second, 0), (first, 1), (second, 1), (first, 0), (second, 2)])
    assert_same(gathered, table.take(np.arange(5)))
    assert GraphTable.gather([(first, 0), (first, 1)]) is first


def test_a_table_of_the_graphs_of_a_table_is_the_same(table):
    graphs = [table.graph(row) for row in range(len(table))]
    assert all(table.graph(row) is graph for row, graph in enumerate(graphs))
    assert_same(GraphTable.of(graphs), table)
    assert (table.dataset().frac_coords >= 0).all()


def test_a_corpus_gives_the_data_set_of_its_crystals(real_corpus):
    assert_same(real_corpus.crystal_table(2, 6), CrystalTable.of(list(real_corpus)[2:6]))
    builder = GraphBuilder(8.0, 12, site_properties=("charge",), use_cache=False)
    expected, found = builder.dataset(list(real_corpus)), builder.dataset(real_corpus)
    for name in ("numbers", "frac_coords", "lattice", "source", "target", "shift", "distance"):
        np.testing.assert_array_equal(getattr(expected, name), getattr(found, name))
    assert np.isnan(found.site_properties["charge"]).all()


def test_ready_graphs_keep_the_properties_of_their_crystals(table, real_structures):
    graphs = [table.graph(row) for row in range(3)]
    kept = BUILDER.dataset(graphs)
    assert set(kept.crystal_properties) == {"energy", "stress"}
    assert set(kept.site_properties) == {"force", "charge"}
    mixed = BUILDER.dataset([graphs[0], real_structures[5], graphs[1]])
    assert not mixed.crystal_properties
    assert mixed.n_sites.tolist() == [
        len(c) for c in (graphs[0].crystal, real_structures[5], graphs[1].crystal)
    ]


def test_elements_are_not_mixed_up_when_objects_come_and_go():
    """Contents of sites are remembered by identity, which Python gives out again."""
    elements = ["Fe", "O", "Si", "Mg", "D"]
    expected = [26, 8, 14, 12, 1]
    for turn in range(2 * _MOST_KNOWN // len(elements)):
        shift = turn % len(elements)
        order = elements[shift:] + elements[:shift]
        frac_coords = np.arange(5)[:, None] / 5 * np.ones(3)
        structure = Structure(Lattice.cubic(9), order, frac_coords)
        assert read_crystals([structure])[0].numbers.tolist() == expected[shift:] + expected[:shift]
    assert len(_KNOWN) <= _MOST_KNOWN + len(elements)
