import numpy as np
import pytest
import torch

from dssl_sklearn.crystals.inputs import read_crystals
from dssl_sklearn.datasets import Corpus, load_elasticity, load_piezoelectricity

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def real_structures():
    """A dozen shipped crystals: smallest, largest, most oblique, and some in between."""
    elastic, _ = load_elasticity(return_X_y=True)
    piezo, _ = load_piezoelectricity(return_X_y=True)
    every = elastic + piezo
    lattices = np.array([s.lattice.matrix for s in every])
    fill = np.abs(np.linalg.det(lattices)) / np.linalg.norm(lattices, axis=2).prod(axis=1)
    sizes = np.array([len(s) for s in every])
    chosen = [sizes.argmin(), sizes.argmax(), *fill.argsort()[:3], *range(5, len(every), 250)]
    return [every[i].copy() for i in chosen]


@pytest.fixture(scope="session")
def real_crystals(real_structures):
    """The same as plain arrays."""
    return list(read_crystals(real_structures))


@pytest.fixture(scope="session")
def real_corpus(real_crystals):
    """The same as a collection that hands out tables."""
    return Corpus(
        ids=[str(i) for i in range(len(real_crystals))],
        numbers=np.concatenate([c.numbers for c in real_crystals]),
        frac_coords=np.concatenate([c.frac_coords for c in real_crystals]),
        lattices=[c.lattice for c in real_crystals],
        ptr=np.cumsum([0, *map(len, real_crystals)]),
    )


@pytest.fixture
def assert_same_graph():
    """Compare two graphs of one crystal edge by edge, whatever the order within a shell."""

    def edges(graph):
        rows = np.column_stack([graph.target, graph.source, graph.shift])
        order = np.lexsort(rows.T[::-1])
        return rows[order], graph.distance[order]

    def check(left, right, atol=2e-5):
        np.testing.assert_array_equal(left.crystal.numbers, right.crystal.numbers)
        for a, b in zip(edges(left), edges(right), strict=True):
            np.testing.assert_allclose(a, b, atol=atol, rtol=0)

    return check
