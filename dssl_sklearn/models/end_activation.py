"""The softplus of the ends of edges, a block at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from dssl_sklearn.models.ends import EndBlock

#: Powers of two are taken up to this exponent, below the infinity of float32.
_LARGEST_EXPONENT = 126.0
#: Up to here each factor of a product of two powers may go.
_LARGEST_FACTOR = _LARGEST_EXPONENT / 2


class EndActivation:
    """Softplus to base 2, s(z) = log2(1 + 2^z), of what a site and a distance contribute.

    As 2^(p + q) = 2^p 2^q, the powers are taken once per site and once per distance, and only the
    logarithm for every end, unless a number is too large for that.

    Parameters
    ----------
    site_part : Tensor of shape (n_sites, n_columns)
        Contributions p of the sites.
    edges : Tensor of shape (n_levels, n_features)
        Features of the distances.
    edge_weight : Tensor of shape (n_features, n_columns)
        Weights; the contributions q of the distances are features times weights.
    """

    def __init__(self, site_part: Tensor, edges: Tensor, edge_weight: Tensor) -> None:
        self._edges = edges
        self._edge_weight = edge_weight
        self._as_powers = _powers_are_finite(site_part, edges, edge_weight)
        self._site_part = site_part.exp2() if self._as_powers else site_part
        self._one = site_part.new_ones(())

    def write(self, block: EndBlock, softplus: Tensor) -> Tensor:
        """Write the softplus of a block into its rows of (n_ends, n_columns), and return these."""
        edge_part = self._edges[block.levels] @ self._edge_weight
        rows = torch.index_select(self._site_part, 0, block.site, out=softplus[block.ends])
        if self._as_powers:
            z, of_edge = _aligned(rows, edge_part.exp2_(), block)
            torch.addcmul(self._one, z, of_edge, out=z).log2_()
        else:
            z, of_edge = _aligned(rows, edge_part, block)
            z += of_edge
            power = z.clamp(max=_LARGEST_EXPONENT).exp2_()
            power += 1
            # The softplus is at least z; this puts right those above the largest exponent.
            torch.maximum(power.log2_(), z, out=z)
        return rows


def _aligned(rows: Tensor, of_levels: Tensor, block: EndBlock) -> tuple[Tensor, Tensor]:
    """Views of rows of the ends and of the distances that combine elementwise."""
    if block.twins:
        return rows.view(-1, 2, rows.shape[1]), of_levels.unsqueeze(1)
    return rows, of_levels.index_select(0, block.level)


def _powers_are_finite(site_part: Tensor, edges: Tensor, edge_weight: Tensor) -> bool:
    """Whether powers of two of both parts, and their products, are finite numbers."""
    if site_part.is_cuda or not len(edges):
        return False  # On a GPU nobody waits for the answer.
    # No product of rows and columns is larger than that of their norms.
    largest = edges.norm(dim=1).max() * edge_weight.norm(dim=0).max()
    lowest, highest = site_part.aminmax()
    return bool(torch.stack([largest, highest, -lowest]).max() <= _LARGEST_FACTOR)
