"""A network in the manner of CGCNN (Xie and Grossman 2018), to be trained from scratch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dssl_sklearn.crystals.batch import CrystalBatch
from dssl_sklearn.models import Backbone
from dssl_sklearn.models.layers import DistanceExpansion, SiteEncoder
from dssl_sklearn.models.segments import segment_sum


class CGCNNConvolution(nn.Module):
    r"""The gated convolution of CGCNN, with its batch normalizations and its sum.

    .. math::
        z_{ij} &= \mathrm{BN}(W [x_i \,\Vert\, x_j \,\Vert\, g_{ij}] + b)
                = [a_{ij} \,\Vert\, c_{ij}] \\
        x_i' &= \mathrm{softplus}\Big(x_i +
                \mathrm{BN}\big(\textstyle\sum_j \sigma(a_{ij}) \odot
                \mathrm{softplus}(c_{ij})\big)\Big)

    Parameters
    ----------
    width : int
        Length of a site embedding.
    n_basis : int
        Length of the expansion of a distance.

    References
    ----------
    Xie and Grossman, Phys. Rev. Lett. 120, 145301 (2018), equation 5.
    """

    def __init__(self, width: int, n_basis: int) -> None:
        super().__init__()
        self.linear = nn.Linear(2 * width + n_basis, 2 * width)
        self.norm_edges = nn.BatchNorm1d(2 * width)
        self.norm_sites = nn.BatchNorm1d(width)

    def forward(self, sites: Tensor, expanded: Tensor, edge_index: Tensor) -> Tensor:
        """Update the site embeddings.

        Parameters
        ----------
        sites : Tensor of shape (n_sites, width)
            Embeddings.
        expanded : Tensor of shape (n_edges, n_basis)
            Expanded distances.
        edge_index : Tensor of shape (2, n_edges), int64
            Sources and targets.

        Returns
        -------
        Tensor of shape (n_sites, width)
            New embeddings.
        """
        source, target = edge_index
        ends = (sites.index_select(0, target), sites.index_select(0, source))
        mixed = self.norm_edges(self.linear(torch.cat([*ends, expanded], dim=1)))
        gate, core = mixed.chunk(2, dim=1)
        message = segment_sum(gate.sigmoid() * F.softplus(core), target, len(sites))
        return F.softplus(sites + self.norm_sites(message))


class CGCNNBackbone(Backbone):
    """Three such convolutions on the element features and distances that our network gets, too.

    The original reads one-hot bins of nine properties of the element; the same table of physical
    properties as for our own network keeps the comparison to the convolution.

    Parameters
    ----------
    width : int, default=64
        Length of a site embedding.
    n_layers : int, default=3
        Number of convolutions.
    n_basis : int, default=41
        Gaussians that expand a distance, every 0.2 angstrom.
    cutoff : float, default=8.0
        Largest distance resolved, in angstrom.
    """

    def __init__(
        self, *, width: int = 64, n_layers: int = 3, n_basis: int = 41, cutoff: float = 8.0
    ) -> None:
        super().__init__()
        self.width = width
        self.sites = SiteEncoder(width)
        self.distances = DistanceExpansion(n_basis, cutoff)
        self.layers = nn.ModuleList(CGCNNConvolution(width, n_basis) for _ in range(n_layers))

    def forward(self, batch: CrystalBatch) -> Tensor:
        """Embed the sites, shape (n_sites, width)."""
        sites: Tensor = self.sites(batch.numbers)
        expanded = self.distances(batch.edge_distance)
        for layer in self.layers:
            sites = layer(sites, expanded, batch.edge_index)
        return sites
