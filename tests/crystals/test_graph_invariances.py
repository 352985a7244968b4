import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dssl_sklearn.crystals.graph import Crystal
from dssl_sklearn.crystals.neighbors import build_graphs
from dssl_sklearn.crystals.table import CrystalTable


def neighborhoods(crystal):
    """For each site the sorted elements and distances around it."""
    graph = build_graphs(CrystalTable.of([crystal]), 8.0, 12)[0].graph(0)
    elements = graph.crystal.numbers[graph.source]
    order = np.lexsort((graph.distance, elements, graph.target))
    n_edges = np.bincount(graph.target, minlength=graph.n_sites)
    rows = np.column_stack([elements, graph.distance])[order]
    return np.split(rows, np.cumsum(n_edges)[:-1])


def assert_same_neighborhoods(left, right):
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


def random_rotation(rng):
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    return q * np.sign(np.diag(r))


@pytest.mark.parametrize("seed", range(2))
def test_rotation_and_translation(real_crystals, seed):
    rng = np.random.default_rng(seed)
    for crystal in real_crystals:
        moved = Crystal(
            crystal.numbers,
            crystal.frac_coords + rng.uniform(-2, 2, size=3),
            crystal.lattice @ random_rotation(rng),
        )
        assert_same_neighborhoods(
            neighborhoods(crystal),
            neighborhoods(moved),
        )


def test_order_of_the_sites(real_crystals):
    rng = np.random.default_rng(0)
    for crystal in real_crystals:
        order = rng.permutation(len(crystal))
        shuffled = Crystal(crystal.numbers[order], crystal.frac_coords[order], crystal.lattice)
        before = neighborhoods(crystal)
        assert_same_neighborhoods([before[i] for i in order], neighborhoods(shuffled))


@given(shear=st.tuples(*[st.integers(-40, 40)] * 6), swap=st.booleans())
@settings(max_examples=15, deadline=None, derandomize=True)
def test_choice_of_lattice_vectors(real_crystals, shear, swap):
    a, b, c, d, e, f = shear
    change = np.array([[1, 0, 0], [a, 1, 0], [b, c, 1]]) @ np.array(
        [[1, d % 4, e % 4], [0, 1, f % 4], [0, 0, 1]]
    )
    change = change[[1, 0, 2]] if swap else change
    for crystal in real_crystals[2:7]:
        other = Crystal(
            crystal.numbers,
            crystal.frac_coords @ np.linalg.inv(change),
            change @ crystal.lattice,
        )
        assert_same_neighborhoods(neighborhoods(crystal), neighborhoods(other))


@pytest.mark.parametrize("repeats", [(2, 2, 2), (1, 1, 3)])
def test_supercells(real_structures, repeats):
    for structure in real_structures:
        if len(structure) > 20:
            continue
        copies = np.array(list(itertools.product(*map(range, repeats))))
        n_copies, n_sites = len(copies), len(structure)
        frac = (structure.frac_coords[:, None] + copies).reshape(-1, 3) / repeats
        cell = Crystal(
            np.array(structure.atomic_numbers), structure.frac_coords, structure.lattice.matrix
        )
        large = Crystal(
            np.repeat(cell.numbers, n_copies), frac, cell.lattice * np.array(repeats)[:, None]
        )
        before = neighborhoods(cell)
        assert_same_neighborhoods(
            [before[i] for i in np.repeat(np.arange(n_sites), n_copies)],
            neighborhoods(large),
        )
