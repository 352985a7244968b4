"""DeeperGATGNN, the backbone of the paper."""

from __future__ import annotations

from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dssl_sklearn._checks import check_integer
from dssl_sklearn.crystals.batch import CrystalBatch
from dssl_sklearn.crystals.graph import DEFAULT_CUTOFF
from dssl_sklearn.models.attention import GraphAttention
from dssl_sklearn.models.backbone import Backbone
from dssl_sklearn.models.ends import edge_ends
from dssl_sklearn.models.layers import DistanceExpansion, SiteEncoder, SiteFeatures
from dssl_sklearn.models.normalization import DiffGroupNorm
from dssl_sklearn.models.workspace import Workspace

#: Slope of the leaky ReLU on the embedded sites and edges.
_SLOPE = 0.2


class DeeperGATGNN(Backbone):
    """Deep graph attention network with group normalization and skip connections.

    Per layer, ``x = DiffGroupNorm(GraphAttention(x, e)) + x``. The published network [1]_ has
    these sizes (1.7 million weights); its global attention is `AttentionReadout`.

    Parameters
    ----------
    width : int, default=115
        Length of a site embedding, and of an edge embedding.
    n_layers : int, default=15
        Number of attention layers.
    n_heads : int, default=4
        Heads of each layer, every one `width` wide.
    n_basis : int, default=50
        Gaussians that expand a distance.
    cutoff : float, default=8.0
        Largest distance resolved, in angstrom; that of the graphs.
    n_groups : int, default=10
        Groups of the normalization.
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

    References
    ----------
    .. [1] Omee et al., "Scalable deeper graph neural networks for high-performance materials
       property prediction", Patterns 3, 100491 (2022).
    """

    def __init__(
        self,
        *,
        width: int = 115,
        n_layers: int = 15,
        n_heads: int = 4,
        n_basis: int = 50,
        cutoff: float = DEFAULT_CUTOFF,
        n_groups: int = 10,
        site_features: SiteFeatures = "physical",
    ) -> None:
        super().__init__()
        check_integer("n_layers", n_layers)
        check_integer("n_heads", n_heads)
        self.width = width
        self.sites = SiteEncoder(width, site_features)
        self.distances = DistanceExpansion(n_basis, cutoff)
        self.edges = nn.Linear(n_basis, width)
        self.layers = nn.ModuleList(GraphAttention(width, n_heads) for _ in range(n_layers))
        self.norms = nn.ModuleList(DiffGroupNorm(width, n_groups) for _ in range(n_layers))
        self._workspace = Workspace()

    def train(self, mode: bool = True) -> Self:  # noqa: FBT001, FBT002 - torch's signature
        """Switch between training and evaluation; evaluation frees the memory of training."""
        if not mode:
            self._workspace.release()
        return super().train(mode)

    def forward(self, batch: CrystalBatch) -> Tensor:
        """Embed the sites, shape (n_sites, width)."""
        sites: Tensor = F.leaky_relu(self.sites(batch.numbers), _SLOPE)
        ends = edge_ends(batch)
        if self.training and torch.is_grad_enabled():
            # Not for predictions, which several threads may make at once.
            self._workspace.begin()
            ends.workspace = self._workspace
        edges: Tensor = self.distances(ends.distance)
        with torch.autocast(edges.device.type, enabled=False):
            edges = F.leaky_relu(self.edges(edges), _SLOPE)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            sites = norm(layer(sites, edges, ends)) + sites
        return sites
