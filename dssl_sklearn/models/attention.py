"""The augmented graph attention layer of DeeperGATGNN."""

from __future__ import annotations

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dssl_sklearn.models.end_attention import end_attention
from dssl_sklearn.models.ends import EdgeEnds
from dssl_sklearn.models.normalization import SmallBatchNorm
from dssl_sklearn.models.segments import softplus_weights

_LN2 = math.log(2)


class GraphAttention(nn.Module):
    r"""Augmented graph attention over the neighbors of a site.

    .. math::
        u_{ij} &= \mathrm{sp}([x_i \,\Vert\, e_{ij}] W), \qquad
        v_{ij} = \mathrm{sp}([x_j \,\Vert\, e_{ij}] W) \\
        \alpha_{ij} &= \mathrm{softmax}_j\, \mathrm{sp}\big(\mathrm{BatchNorm}\,
                       \mathrm{sp}(a \cdot u_{ij} + b \cdot v_{ij})\big) \\
        x_i' &= \frac{1}{H} \sum_{h=1}^{H} \sum_j \alpha^h_{ij} v^h_{ij} + c

    with sp the softplus, in H heads, as published [1]_ [2]_. It is computed exactly, but

    - ``[x || e] W`` is ``x W_x + e W_e``, the first part once per site, the second once per
      distance that occurs in a crystal;
    - u and v depend on a site and a distance alone: they are computed once for the two edges of a
      pair, and for all edges of a site that are equally long, see `EdgeEnds`;
    - what a layer has of the size (n_ends, n_heads * width) lies in memory that the layers and
      batches share, and most layers make it anew in the backward pass.

    Parameters
    ----------
    width : int
        Length of a site embedding and of an edge embedding.
    n_heads : int
        Number of heads, each `width` wide.

    References
    ----------
    .. [1] Louis et al., Phys. Chem. Chem. Phys. 22, 18141 (2020).
    .. [2] Omee et al., Patterns 3, 100491 (2022).
    """

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.width = width
        self.n_heads = n_heads
        self.weight = nn.Parameter(torch.empty(2 * width, n_heads * width))
        self.attention = nn.Parameter(torch.empty(2, n_heads, width))
        self.norm = SmallBatchNorm(n_heads)
        self.bias = nn.Parameter(torch.zeros(width))
        nn.init.xavier_uniform_(self.weight)
        # Glorot's bound for the vector [a, b] of each head.
        bound = math.sqrt(6 / (n_heads + 2 * width))
        nn.init.uniform_(self.attention, -bound, bound)

    def forward(self, sites: Tensor, edges: Tensor, ends: EdgeEnds) -> Tensor:
        """Attend to the neighbors.

        Parameters
        ----------
        sites : Tensor of shape (n_sites, width)
            Site embeddings.
        edges : Tensor of shape (n_levels, width)
            Edge embeddings, one per distance of `ends`.
        ends : EdgeEnds
            The edges.

        Returns
        -------
        Tensor of shape (n_sites, width)
            Weighted mean of the messages.
        """
        # Exponentials and sums over many edges: in full precision.
        with torch.autocast(sites.device.type, enabled=False):
            # From natural to binary units, and back below.
            of_site, of_edge = torch.split(self.weight / _LN2, self.width)
            message = end_attention(
                sites.to(self.weight.dtype) @ of_site,
                edges,
                of_edge,
                self.attention * _LN2,
                ends=ends,
                weigh=partial(self._weigh, ends),
                norm=(self.norm.weight, self.norm.bias),
            )
            return message * (_LN2 / self.n_heads) + self.bias

    def _weigh(self, ends: EdgeEnds, logits: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Weights of the edges before they are divided by their sum, (n_heads, n_edges)."""
        normalized = self.norm.normalize(F.softplus(logits), weight, bias)
        return softplus_weights(normalized, ends.target, ends.n_sites)
