"""What the heads are made of: small networks on embeddings, and statistics of the targets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from dssl_sklearn.crystals.batch import CrystalBatch
from dssl_sklearn.models.layers import DistanceExpansion
from dssl_sklearn.models.normalization import SmallBatchNorm
from dssl_sklearn.objectives.base import ObjectiveHead

if TYPE_CHECKING:
    from dssl_sklearn.crystals.dataset import GraphDataset


def site_mlp(site_width: int, n_outputs: int) -> nn.Sequential:
    """Two layers from site embeddings to `n_outputs` numbers per site."""
    return nn.Sequential(
        nn.Linear(site_width, site_width), nn.SiLU(), nn.Linear(site_width, n_outputs)
    )


def projector(width: int, hidden: Sequence[int]) -> nn.Sequential:
    """Fully connected layers of the widths `hidden`, batch-normalized but for the last.

    The layers have no bias: the normalizations, and most losses on the output, cancel it.
    """
    layers: list[nn.Module] = []
    for k, n_outputs in enumerate(hidden):
        layers.append(nn.Linear(width, n_outputs, bias=False))
        if k < len(hidden) - 1:
            layers += [SmallBatchNorm(n_outputs), nn.ReLU()]
        width = n_outputs
    return nn.Sequential(*layers)


class EdgeHead(ObjectiveHead):
    r"""One hidden layer per edge, whose parts from the sites are computed once per site.

    .. math:: s_{ij} = w \cdot \mathrm{SiLU}(W_s x_j + W_t x_i [+ W_e\, g(d_{ij})] + b) + c

    Parameters
    ----------
    site_width : int
        Width of the site embeddings.
    width : int
        Features per edge.
    n_basis : int or None
        Gaussians that expand the length of an edge; None where the head does not see it.
    """

    cutoff: Tensor

    def __init__(self, site_width: int, width: int, n_basis: int | None) -> None:
        super().__init__()
        self.register_buffer("cutoff", torch.tensor(8.0))
        self.from_source = nn.Linear(site_width, width, bias=False)
        self.from_target = nn.Linear(site_width, width)
        self.from_edge: nn.Linear | None = None
        if n_basis is not None:
            # In units of the cutoff, which only the data tell.
            self.expansion = DistanceExpansion(n_basis, 1.0)
            self.from_edge = nn.Linear(n_basis, width, bias=False)
        self.out = nn.Linear(width, 1)

    def fit_statistics(self, dataset: GraphDataset) -> None:
        """Learn the cutoff of the graphs."""
        self.cutoff.fill_(dataset.cutoff)

    def of_edges(self, sites: Tensor, batch: CrystalBatch) -> Tensor:
        """Compute the number of each edge, shape (n_edges, 1)."""
        source, target = batch.edge_index
        # index_select: its gradient is a plain sum, several times faster than that of indexing.
        hidden = self.from_source(sites).index_select(0, source)
        hidden = hidden + self.from_target(sites).index_select(0, target)
        if self.from_edge is not None:
            hidden = hidden + self.from_edge(self.expansion(batch.edge_distance / self.cutoff))
        numbers: Tensor = self.out(F.silu(hidden))
        return numbers


def mean_where(values: Tensor, counted: Tensor) -> Tensor:
    """Mean of the entries of `values` where `counted` is true; 0 where there is none."""
    return (values * counted).sum() / counted.sum().clamp_min(1)


def metric_where(values: Tensor, counted: Tensor) -> Tensor:
    """As `mean_where`; NaN where there is none, which means of an epoch leave out."""
    return (values * counted).sum() / counted.sum()


def scale_of(deviation: ArrayLike, largest: ArrayLike) -> NDArray[np.float64]:
    """Deviation to divide values up to `largest` by; 1 where it comes from rounding alone."""
    return np.where(np.asarray(deviation) <= 1e-6 * np.asarray(largest), 1.0, deviation)
