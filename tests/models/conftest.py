import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from dssl_sklearn.crystals.batch import CrystalBatch


def _periodic_graph(rng, n_sites, radius):
    """A crystal, and all its edges up to a radius: every one has its edge back."""
    lattice = 3.2 * np.eye(3) + rng.normal(scale=0.3, size=(3, 3))
    frac = rng.random((n_sites, 3))
    edges = []
    for target, source in itertools.product(range(n_sites), repeat=2):
        for shift in itertools.product((-1, 0, 1), repeat=3):
            length = np.linalg.norm((frac[source] + shift - frac[target]) @ lattice)
            if 0 < length < radius:
                edges.append((length, source, target, shift))
    edges.sort(key=lambda edge: (edge[2], edge[0]))
    return lattice, frac @ lattice, edges


def join(crystals, dtype):
    """Make a batch of (lattice, positions, edges, numbers)."""
    sizes = [len(numbers) for *_, numbers in crystals]
    first = np.cumsum([0, *sizes])
    edges = [
        (length, source + start, target + start, shift)
        for start, (_, _, near, _) in zip(first, crystals, strict=False)
        for length, source, target, shift in near
    ]
    return CrystalBatch(
        numbers=torch.tensor(np.concatenate([numbers for *_, numbers in crystals])),
        positions=torch.tensor(np.concatenate([c[1] for c in crystals]), dtype=dtype),
        lattice=torch.tensor(np.stack([c[0] for c in crystals]), dtype=dtype),
        batch=torch.tensor(np.repeat(np.arange(len(sizes)), sizes)),
        edge_index=torch.tensor([[e[1] for e in edges], [e[2] for e in edges]]),
        edge_shift=torch.tensor(np.array([e[3] for e in edges]), dtype=dtype),
        edge_distance=torch.tensor([e[0] for e in edges], dtype=dtype),
        n_crystals=len(crystals),
    )


@pytest.fixture
def make_crystals():
    """Small crystals with complete or cut neighbor lists, as arguments of `join`."""

    def make(n_sites=(4, 1, 6, 2), seed=0, radius=4.0, drop=0.2):
        rng = np.random.default_rng(seed)
        made = []
        for n in n_sites:
            lattice, positions, edges = _periodic_graph(rng, n, radius)
            # Some edges lose their partner, as where the last shell of a site is cut.
            kept = [edge for edge in edges if rng.random() >= drop]
            made.append((lattice, positions, kept, rng.integers(1, 104, size=n)))
        return made

    return make


@pytest.fixture
def make_batch(make_crystals):
    """A batch of small crystals, in float64 if not told otherwise."""

    def make(n_sites=(4, 1, 6, 2), *, dtype=torch.float64, **kwargs):
        return join(make_crystals(n_sites, **kwargs), dtype)

    return make


@pytest.fixture
def symmetric_batch():
    """Face-centered cubic crystals, conventional and primitive cells, with all 12 neighbors."""

    def make(dtype=torch.float64):
        made = []
        # Quarters of the lattice constant, so that equal distances are equal to the last bit.
        for edge, cell, sites in (
            (4.0, np.eye(3), [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]),
            (5.0, np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]) / 2, [[0, 0, 0]]),
        ):
            lattice, frac = edge * cell, np.array(sites)
            edges = []
            for target, source in itertools.product(range(len(frac)), repeat=2):
                for shift in itertools.product((-1, 0, 1), repeat=3):
                    length = np.linalg.norm((frac[source] + shift - frac[target]) @ lattice)
                    if 0 < length < 0.8 * edge:
                        edges.append((length, source, target, shift))
            edges.sort(key=lambda e: (e[2], e[0]))
            made.append((lattice, frac @ lattice, edges, np.arange(1, len(frac) + 1)))
        return join(made, dtype)

    return make


@pytest.fixture
def make_singles(make_crystals):
    """The crystals of `make_batch`, each as a batch of its own."""

    def make(n_sites=(4, 1, 6, 2), *, dtype=torch.float64, **kwargs):
        return [join([crystal], dtype) for crystal in make_crystals(n_sites, **kwargs)]

    return make


@pytest.fixture
def permute():
    """Renumber the sites of a batch within their crystals, and shuffle the edges of each target."""

    def apply(batch, seed=0):
        generator = torch.Generator().manual_seed(seed)
        noise = torch.rand(batch.n_sites, generator=generator)
        order = torch.from_numpy(np.lexsort((noise.numpy(), batch.batch.numpy())))
        new_index = order.argsort()
        source, target = new_index[batch.edge_index]
        noise = torch.rand(len(source), generator=generator)
        edges = torch.from_numpy(np.lexsort((noise.numpy(), target.numpy())))
        permuted = replace(
            batch,
            numbers=batch.numbers[order],
            positions=batch.positions[order],
            edge_index=torch.stack([source, target])[:, edges],
            edge_shift=batch.edge_shift[edges],
            edge_distance=batch.edge_distance[edges],
        )
        return permuted, order

    return apply


@pytest.fixture
def fill_statistics():
    """Give the running statistics of normalizations values that are not the initial ones."""

    def apply(module, seed=1):
        generator = torch.Generator().manual_seed(seed)
        for name, buffer in module.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(torch.randn(buffer.shape, generator=generator) * 0.3)
            elif name.endswith("running_var"):
                buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
        return module

    return apply


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)
