import math

import numpy as np
import pytest
import torch
from torch import nn

from dssl_sklearn import DSSLPretrainer
from dssl_sklearn.crystals.batch import CrystalBatch
from dssl_sklearn.datasets import load_elasticity


def _one_crystal(rng, n_sites, n_neighbors):
    lattice = 4 * np.eye(3) + rng.normal(scale=0.4, size=(3, 3))
    frac = rng.random((n_sites, 3))
    edges = []
    for target in range(n_sites):
        near = []
        while len(near) < n_neighbors:
            source, shift = int(rng.integers(n_sites)), rng.integers(-1, 2, size=3)
            if source != target or shift.any():
                vector = (frac[source] + shift - frac[target]) @ lattice
                near.append((math.sqrt(sum(x * x for x in vector)), source, target, shift))
        edges += sorted(near, key=lambda edge: edge[0])
    return lattice, frac @ lattice, rng.integers(1, 104, size=n_sites), edges


@pytest.fixture
def random_batch():
    """Make batches of random crystals with random edges, sorted by target, then distance."""

    def make(n_sites=(5, 1, 3), n_neighbors=6, seed=0, dtype=torch.float64, properties=()):
        rng = np.random.default_rng(seed)
        made = [_one_crystal(rng, n, n_neighbors) for n in n_sites]
        first = np.cumsum([0, *n_sites])[:-1]
        edges = [
            (distance, source + start, target + start, shift)
            for start, (_, _, _, near) in zip(first, made, strict=True)
            for distance, source, target, shift in near
        ]
        return CrystalBatch(
            numbers=torch.tensor(np.concatenate([m[2] for m in made])),
            positions=torch.tensor(np.concatenate([m[1] for m in made]), dtype=dtype),
            lattice=torch.tensor(np.stack([m[0] for m in made]), dtype=dtype),
            batch=torch.tensor(np.repeat(np.arange(len(n_sites)), n_sites)),
            edge_index=torch.tensor([[e[1] for e in edges], [e[2] for e in edges]]),
            edge_shift=torch.tensor(np.stack([e[3] for e in edges]), dtype=dtype),
            edge_distance=torch.tensor([e[0] for e in edges], dtype=dtype),
            n_crystals=len(n_sites),
            site_properties={
                name: torch.tensor(rng.normal(size=sum(n_sites)), dtype=dtype)
                for name in properties
            },
        )

    return make


@pytest.fixture
def brute_distances():
    """Recompute the edge lengths of a batch one by one."""

    def compute(batch):
        lengths = []
        for edge in range(batch.edge_index.shape[1]):
            source, target = (int(end) for end in batch.edge_index[:, edge])
            lattice = batch.lattice[int(batch.batch[target])]
            vector = batch.positions[source] - batch.positions[target]
            for axis in range(3):
                vector = vector + batch.edge_shift[edge, axis] * lattice[axis]
            lengths.append(math.sqrt(sum(float(x) ** 2 for x in vector)))
        return torch.tensor(lengths, dtype=batch.positions.dtype)

    return compute


class _TinyBackbone(nn.Module):
    """Two rounds of distance-weighted sums over the neighbors, and a mean over the sites."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.embedding = nn.Embedding(104, 8)
            self.mix = nn.Linear(8, 8)

    def forward(self, batch):
        source, target = batch.edge_index
        sites = self.embedding(batch.numbers).to(batch.positions.dtype)
        for _ in range(2):
            messages = self.mix(sites)[source] * torch.exp(-batch.edge_distance)[:, None]
            sites = torch.tanh(sites.index_add(0, target, messages))
        total = sites.new_zeros(batch.n_crystals, 8).index_add(0, batch.batch, sites)
        return sites, total / torch.bincount(batch.batch, minlength=batch.n_crystals)[:, None]


@pytest.fixture
def network():
    """A small network in float64: batch to site embeddings (n_sites, 8) and crystal embeddings."""
    return _TinyBackbone().double()


@pytest.fixture(scope="session")
def tiny():
    """Arguments of an estimator that trains in a blink."""
    return {
        "backbone_params": {"width": 8, "n_layers": 1, "n_basis": 6},
        "max_epochs": 2,
        "batch_size": 8,
        "random_state": 0,
    }


@pytest.fixture(scope="session")
def tiny_paper():
    """Arguments that shrink the recipe of the paper."""
    return {
        "recipe": "paper",
        "backbone_params": {"width": 8, "n_layers": 2, "n_heads": 2},
        "max_epochs": 2,
        "batch_size": 8,
        "random_state": 0,
    }


@pytest.fixture(scope="session")
def elastic():
    """Shipped crystals of at most 8 sites with their log10 of K_VRH: two lists."""
    structures, y = load_elasticity(target="log10_K_VRH", return_X_y=True)
    small = [row for row, structure in enumerate(structures) if len(structure) <= 8]
    return [structures[row] for row in small], y[small]


@pytest.fixture(scope="session")
def fitted_pretrainer(tiny, elastic):
    """Tiny pretrainer that has seen a few crystals; not to be changed."""
    return DSSLPretrainer(**tiny).fit(elastic[0][40:56])
