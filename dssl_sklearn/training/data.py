"""Crystals as torch wants them: data set with targets, batches of a bounded number of edges."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler, Subset

from dssl_sklearn.crystals.batch import CrystalBatch
from dssl_sklearn.crystals.dataset import GraphDataset

Batch = tuple[CrystalBatch, dict[str, Tensor]]

#: Edges of a batch in predictions, some 120 crystals; a hundred megabytes at most.
_PREDICTION_EDGES = 20_000


class CrystalDataset(Dataset[Batch]):
    """Graphs with what belongs to each crystal; whole batches are cut at once.

    Parameters
    ----------
    graphs : GraphDataset
        The crystals.
    **targets : ndarray of shape (n_crystals, ...)
        Targets and weights, handed out with the batch under their names.
    """

    def __init__(self, graphs: GraphDataset, **targets: NDArray[Any]) -> None:
        self.graphs = graphs
        self.targets = {name: torch.as_tensor(values) for name, values in targets.items()}

    def __len__(self) -> int:
        return len(self.graphs)

    def __getitem__(self, index: int) -> Batch:
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Cut out the batch of these crystals (torch calls this with all indices of a batch)."""
        index = np.asarray(indices, dtype=np.int64)
        rows = torch.from_numpy(index)
        return self.graphs.batch(index), {name: t[rows] for name, t in self.targets.items()}


def edge_counts(dataset: Dataset[Batch]) -> NDArray[np.int64]:
    """Edges of each crystal of a `CrystalDataset` or of nested subsets of one."""
    if isinstance(dataset, Subset):
        counts: NDArray[np.int64] = edge_counts(dataset.dataset)[np.asarray(dataset.indices)]
        return counts
    if not isinstance(dataset, CrystalDataset):
        raise TypeError(f"expected a CrystalDataset, got {type(dataset).__name__}")
    return dataset.graphs.n_edges


def prediction_batch_size(n_edges: NDArray[np.int64], batch_size: int) -> int:
    """Crystals of a batch where nothing is kept for a backward pass: small ones many at a time.

    Below some thousand edges, the calls of a batch cost more than their work.

    Parameters
    ----------
    n_edges : ndarray of shape (n_crystals,)
        Edges of each crystal.
    batch_size : int
        Mean number of crystals in a batch of training.

    Returns
    -------
    int
        Mean number of crystals, at least `batch_size`.
    """
    # As if with an edge more, for crystals that have none.
    mean = 1 + np.sum(n_edges) / max(len(n_edges), 1)
    return max(batch_size, int(_PREDICTION_EDGES / mean))


class EdgeBudgetSampler(Sampler[list[int]]):
    """Batches of about equally many edges rather than crystals: steady memory and steps.

    Cells hold from 1 to over 100 sites, so that batches of a fixed number of crystals differ by
    an order of magnitude in size. The order of crystals is drawn anew in every epoch from torch's
    global generator; the number of batches is the same in every epoch.

    Parameters
    ----------
    n_edges : ndarray of shape (n_crystals,)
        Edges of each crystal.
    batch_size : int
        Mean number of crystals in a batch.
    shuffle : bool
        Draw the order, or keep it (for predictions).
    """

    def __init__(self, n_edges: NDArray[np.int64], batch_size: int, *, shuffle: bool) -> None:
        self.n_edges = n_edges
        self.batch_size = batch_size
        self.shuffle = shuffle

    def __len__(self) -> int:
        return max(1, -(-len(self.n_edges) // self.batch_size))

    def __iter__(self) -> Iterator[list[int]]:
        n_crystals, n_batches = len(self.n_edges), min(len(self), len(self.n_edges))
        order = torch.randperm(n_crystals).numpy() if self.shuffle else np.arange(n_crystals)
        cumulative = np.cumsum(self.n_edges[order])
        budget = cumulative[-1] / n_batches
        # The middle of a crystal decides, so that one larger than the budget skews no neighbor.
        middle = cumulative - self.n_edges[order] / 2
        number = np.arange(1, n_batches)
        starts = np.searchsorted(middle, number * budget)
        # A huge crystal fills several budgets: shift the cuts so that no batch is empty.
        starts = np.maximum.accumulate(np.maximum(starts, 1) - number) + number
        starts = np.minimum(starts, n_crystals - n_batches + number)
        for batch in np.split(order, starts):
            yield batch.tolist()


class HoldOut:
    """Validation part drawn once (skorch's ``train_split``).

    Parameters
    ----------
    fraction : float
        Share of the crystals that is held out; without a single crystal, nothing is.
    seed : int
        Seed of the draw.
    """

    def __init__(self, fraction: float, seed: int) -> None:
        self.fraction = fraction
        self.seed = seed

    def n_valid(self, n_crystals: int) -> int:
        """Size of the validation part; at least one crystal stays for training."""
        return min(round(self.fraction * n_crystals), n_crystals - 1)

    def __call__(
        self, dataset: Dataset[Batch], y: object = None, **_: object
    ) -> tuple[Dataset[Batch], Dataset[Batch] | None]:
        """Split into a training and a validation part."""
        n_crystals = len(dataset)  # type: ignore[arg-type]
        n_valid = self.n_valid(n_crystals)
        if n_valid < 1:
            return dataset, None
        order = np.random.default_rng(self.seed).permutation(n_crystals)
        return Subset(dataset, np.sort(order[n_valid:]).tolist()), Subset(
            dataset, np.sort(order[:n_valid]).tolist()
        )
