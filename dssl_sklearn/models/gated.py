"""Edge-gated convolutions: the fast backbone for small data."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dssl_sklearn._checks import check_integer
from dssl_sklearn.crystals.batch import CrystalBatch
from dssl_sklearn.crystals.graph import DEFAULT_CUTOFF
from dssl_sklearn.models.backbone import Backbone
from dssl_sklearn.models.gated_sum import gated_sum
from dssl_sklearn.models.layers import DistanceExpansion, SiteEncoder, SiteFeatures
from dssl_sklearn.models.segments import segment_count, segment_sum


@dataclass(frozen=True, eq=False)
class GatedEdges:
    """Edges of a batch by what they share.

    Attributes
    ----------
    index : Tensor of shape (2, n_edges), int64
        Sources and targets.
    distance : Tensor of shape (n_levels,)
        Different distances in angstrom: in a crystal of the shipped elastic set 165 edges have 10.
    level : Tensor of shape (n_edges,), int64
        Which of them each edge has.
    count : Tensor of shape (n_sites, 1)
        Numbers of neighbors, at least 1.
    """

    index: Tensor
    distance: Tensor
    level: Tensor
    count: Tensor

    @cached_property
    def rows(self) -> Tensor:
        """Rows of each edge where targets, sources and levels are stacked, shape (n_edges, 3)."""
        source, target = self.index
        n_sites = len(self.count)
        return torch.stack([target, n_sites + source, 2 * n_sites + self.level], dim=1)


def gated_edges(batch: CrystalBatch) -> GatedEdges:
    """Find what the edges of a batch share.

    Parameters
    ----------
    batch : CrystalBatch
        Crystal graphs. Where the distances need a gradient, and on a GPU, where their number would
        have to be waited for, every edge has a distance of its own.

    Returns
    -------
    GatedEdges
        The edges.
    """
    distance = batch.edge_distance
    if distance.requires_grad or distance.is_cuda:
        level = torch.arange(len(distance), device=distance.device)
    else:
        distance, level = torch.unique(distance, return_inverse=True)
    count = segment_count(batch.edge_index[1], batch.n_sites)
    return GatedEdges(batch.edge_index, distance, level, count)


class GatedConvolution(nn.Module):
    r"""One edge-gated convolution with a residual update.

    .. math::
        z_{ij} &= W_t x_i + W_s x_j + W_e g(d_{ij}) + b = [c_{ij} \,\Vert\, a_{ij}] \\
        m_i &= \frac{1}{|N(i)|} \sum_{j \in N(i)} c_{ij} \odot \sigma(a_{ij}) \\
        x_i' &= x_i + U\, \mathrm{SiLU}(\mathrm{LayerNorm}(m_i)) + u

    Compared with CGCNN [1]_, the core :math:`c` has no activation of its own, the mean replaces the
    sum (shells are kept whole, so numbers of neighbors differ), and a layer normalization replaces
    the two batch normalizations: a batch of one atom trains, and a crystal's embedding does not
    depend on the others of its batch.

    Parameters
    ----------
    width : int
        Length of a site embedding.
    n_basis : int
        Length of the expansion of a distance.

    References
    ----------
    .. [1] Xie and Grossman, Phys. Rev. Lett. 120, 145301 (2018), equation 5.
    """

    def __init__(self, width: int, n_basis: int) -> None:
        super().__init__()
        self.from_target = nn.Linear(width, 2 * width)
        self.from_source = nn.Linear(width, 2 * width, bias=False)
        self.from_edge = nn.Linear(n_basis, 2 * width, bias=False)
        self.norm = nn.LayerNorm(width)
        self.update = nn.Linear(width, width)

    def forward(self, sites: Tensor, expanded: Tensor, edges: GatedEdges) -> Tensor:
        """Update the site embeddings.

        Parameters
        ----------
        sites : Tensor of shape (n_sites, width)
            Embeddings.
        expanded : Tensor of shape (n_levels, n_basis)
            Expanded distances of `edges`.
        edges : GatedEdges
            The edges.

        Returns
        -------
        Tensor of shape (n_sites, width)
            New embeddings.
        """
        # The linear map of [x_i, x_j, g] is split: its parts are computed once a site and once a
        # distance.
        parts = self.from_target(sites), self.from_source(sites), self.from_edge(expanded)
        # Blocks only add calls on a GPU; under autocast the products choose their precision.
        if sites.is_cuda or torch.is_autocast_enabled(sites.device.type):
            source, target = edges.index
            mixed = parts[2].index_select(0, edges.level) + parts[0].index_select(0, target)
            mixed = mixed + parts[1].index_select(0, source)
            message = segment_sum(F.glu(mixed, dim=1), target, len(sites))
        else:
            message = gated_sum(torch.cat(parts), edges.rows, edges.index[1], len(sites))
        message = message / edges.count
        update: Tensor = self.update(F.silu(self.norm(message)))
        return sites + update


class GatedBackbone(Backbone):
    """Edge-gated convolutions over the neighbors, on element features and distances.

    Parameters
    ----------
    width : int, default=64
        Length of a site embedding.
    n_layers : int, default=3
        Number of convolutions.
    n_basis : int, default=40
        Gaussians that expand a distance.
    cutoff : float, default=8.0
        Largest distance resolved, in angstrom; that of the graphs.
    site_features : {"physical", "onehot"}, default="physical"
        What the network knows of an element, see `SiteEncoder`.

    Attributes
    ----------
    width : int
        Length of a site embedding.

    Raises
    ------
    InvalidInputError
        If a parameter is out of range.
    """

    def __init__(
        self,
        *,
        width: int = 64,
        n_layers: int = 3,
        n_basis: int = 40,
        cutoff: float = DEFAULT_CUTOFF,
        site_features: SiteFeatures = "physical",
    ) -> None:
        super().__init__()
        check_integer("n_layers", n_layers)
        self.width = width
        self.sites = SiteEncoder(width, site_features)
        self.distances = DistanceExpansion(n_basis, cutoff)
        self.layers = nn.ModuleList(GatedConvolution(width, n_basis) for _ in range(n_layers))

    def forward(self, batch: CrystalBatch) -> Tensor:
        """Embed the sites, shape (n_sites, width)."""
        sites: Tensor = self.sites(batch.numbers)
        edges = gated_edges(batch)
        expanded = self.distances(edges.distance)
        for layer in self.layers:
            sites = layer(sites, expanded, edges)
        return sites
