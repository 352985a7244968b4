"""The search for all crystals at once against a plain one, and its two forms against each other."""

import itertools

import numpy as np
import pytest

from dssl_sklearn.crystals import neighbors, search
from dssl_sklearn.crystals.edges import SortedEdges, _sorted
from dssl_sklearn.crystals.graph import Crystal
from dssl_sklearn.crystals.neighbors import build_graphs
from dssl_sklearn.crystals.search import Cells, find_pairs
from dssl_sklearn.crystals.table import CrystalTable


def plain_edges(crystal, radius):
    """Every (center, neighbor, shift) within the radius and its length, over all images."""
    spacing = 1 / np.linalg.norm(np.linalg.inv(crystal.lattice), axis=0)
    found = {}
    for center, neighbor in itertools.product(range(len(crystal)), repeat=2):
        apart = crystal.frac_coords[neighbor] - crystal.frac_coords[center]
        reach = np.ceil(radius / spacing + np.abs(apart)).astype(int)
        shift = np.array(list(itertools.product(*(range(-n, n + 1) for n in reach))))
        length = np.linalg.norm((apart + shift) @ crystal.lattice, axis=1)
        for image, distance in zip(shift[length <= radius], length[length <= radius], strict=True):
            if center != neighbor or image.any():
                found[center, neighbor, *image.tolist()] = distance
    return found


def random_crystals(n_crystals, seed=0):
    """Cells of one to six sites, oblique and left-handed ones among them, sites in other cells."""
    rng = np.random.default_rng(seed)
    crystals = []
    while len(crystals) < n_crystals:
        shear = np.eye(3) + np.tril(rng.integers(-2, 3, (3, 3)), -1)
        lattice = shear @ (rng.uniform(2, 7) * np.eye(3) + rng.normal(scale=0.6, size=(3, 3)))
        if abs(np.linalg.det(lattice)) > 12:
            n_sites = rng.integers(1, 7)
            frac_coords = rng.uniform(-2, 3, (n_sites, 3))
            crystals.append(Crystal(np.full(n_sites, 6), frac_coords, lattice[rng.permutation(3)]))
    return crystals


@pytest.fixture(params=[0, 50], ids=["bins", "enumeration"])
def large_cell(request, monkeypatch):
    monkeypatch.setattr(search, "LARGE_CELL", request.param)
    monkeypatch.setattr(neighbors, "LARGE_CELL", request.param)


@pytest.mark.usefixtures("large_cell")
def test_every_edge_is_found_once():
    crystals = random_crystals(60)
    table = CrystalTable.of(crystals)
    radius = np.random.default_rng(1).uniform(2, 5, len(crystals))
    pending = np.ones(table.ptr[-1], dtype=bool)
    cells = Cells.of(table)
    assert 0 < len(cells.transforms) < len(crystals)
    edges = SortedEdges.of(find_pairs(cells, radius, pending), pending)
    edges = edges.first(np.diff(edges.ptr))
    crystal_of_site = np.repeat(np.arange(len(table)), table.n_sites)
    for row, crystal in enumerate(crystals):
        mine = np.flatnonzero(crystal_of_site[edges.center] == row)
        shift = edges.shift[mine] @ cells.transforms.get(row, np.eye(3, dtype=int))
        first = table.ptr[row]
        keys = np.column_stack([edges.center[mine] - first, edges.neighbor[mine] - first, shift])
        expected = plain_edges(crystal, radius[row])
        found = dict(zip(map(tuple, keys.tolist()), edges.distance[mine].tolist(), strict=True))
        assert len(found) == len(mine)
        assert set(found) == set(expected)
        for key, distance in expected.items():
            assert found[key] == pytest.approx(distance, abs=2e-9)


def test_only_pending_sites_are_centers_of_sorted_edges():
    table = CrystalTable.of(random_crystals(12))
    pending = np.random.default_rng(0).random(table.ptr[-1]) < 0.5
    cells, radius = Cells.of(table), np.full(len(table), 4.0)
    everywhere = np.ones_like(pending)
    every = SortedEdges.of(find_pairs(cells, radius, everywhere), everywhere)
    some = SortedEdges.of(find_pairs(cells, radius, pending), pending)
    assert (np.diff(some.ptr) == np.where(pending, np.diff(every.ptr), 0)).all()


def test_both_searches_give_the_same_graphs(real_crystals, monkeypatch, assert_same_graph):
    crystals = [*real_crystals, *random_crystals(40, seed=2)]
    tables = []
    for limit in (0, 10**6):
        monkeypatch.setattr(search, "LARGE_CELL", limit)
        tables.append(build_graphs(CrystalTable.of(crystals), 8.0, 12)[0])
    for row in range(len(crystals)):
        assert_same_graph(*(table.graph(row) for table in tables), atol=1e-6)


def test_the_size_of_blocks_does_not_show(real_crystals, monkeypatch):
    crystals = CrystalTable.of(real_crystals)
    expected, _ = build_graphs(crystals, 8.0, 12)
    for size in (1, 300, 10**9):
        monkeypatch.setattr(neighbors, "_PAIRS_PER_BLOCK", size)
        found, _ = build_graphs(crystals, 8.0, 12)
        for left, right in zip(expected.arrays(), found.arrays(), strict=True):
            np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("largest", [10, 2**55], ids=["one key", "three keys"])
def test_sorting_by_three_keys(largest):
    rng = np.random.default_rng(0)
    center, steps = rng.integers(0, 10, (2, 500))
    steps, edge = steps * largest, rng.permutation(500)
    expected = sorted(zip(center.tolist(), steps.tolist(), edge.tolist(), strict=True))
    found_edge, found_steps = _sorted(center, steps, edge)
    assert found_edge.tolist() == [e for _, _, e in expected]
    assert found_steps.tolist() == [s for _, s, _ in expected]


def test_sorting_nothing():
    empty = np.empty(0, dtype=np.int64)
    assert [len(part) for part in _sorted(empty, empty, empty)] == [0, 0]
