"""Matching every edge with the one that runs back along it."""

from __future__ import annotations

import torch
from torch import Tensor

from dssl_sklearn.crystals.batch import CrystalBatch

#: Radix that packs the three components of an image shift into one integer.
_SHIFT_BASE = 128
#: Distances of two edges that run back and forth agree to this, in angstrom.
_SAME_LENGTH = 1e-4


def pair_edges(batch: CrystalBatch) -> tuple[Tensor, Tensor]:
    """Match the edges that run back and forth between two sites, and give both one distance.

    Most edges have a partner: 98 % in the shipped elastic set. Distances of the two that differ by
    rounding would pass for different ones.

    Parameters
    ----------
    batch : CrystalBatch
        Crystal graphs.

    Returns
    -------
    pair : Tensor of shape (n_edges,), int64
        Pair of each edge. Edges without a partner of opposite shift and the same length are
        alone in theirs.
    distance : Tensor of shape (n_pairs,)
        Distance of each pair in angstrom.
    """
    source, target = batch.edge_index
    distance = batch.edge_distance
    pair = torch.arange(len(source), device=source.device)
    if len(source) < 2:
        return pair, distance
    forth, back = _partners(source, target, batch.edge_shift.to(torch.int64), distance)
    alone = torch.ones(len(source), dtype=torch.bool, device=source.device)
    alone[forth] = False
    alone[back] = False
    alone = alone.nonzero().squeeze(1)
    both = torch.arange(len(forth), device=source.device)
    pair[forth], pair[back] = both, both
    pair[alone] = torch.arange(len(forth), len(forth) + len(alone), device=source.device)
    # Both lengths count, so that the gradient reaches the moves of a site from either side.
    mutual = (distance[forth] + distance[back]) / 2
    return pair, torch.cat([mutual, distance[alone]])


def _partners(
    source: Tensor, target: Tensor, shift: Tensor, distance: Tensor
) -> tuple[Tensor, Tensor]:
    """Positions of the edges that run forth (to the lower site) and of their partners."""
    code = (shift[:, 0] * _SHIFT_BASE + shift[:, 1]) * _SHIFT_BASE + shift[:, 2]
    is_back = (source < target) | ((source == target) & (code < 0))
    low, high = torch.minimum(source, target), torch.maximum(source, target)
    code = torch.where(is_back, -code, code) + _SHIFT_BASE**3 // 2
    key = ((low * (int(high.max()) + 1) + high) * _SHIFT_BASE**3 + code) * 2 + is_back
    order = key.argsort(stable=True)
    forth, back = order[:-1], order[1:]
    # The fields are compared, not the keys: two packed into the same integer do no harm.
    match = (
        ~is_back[forth]
        & is_back[back]
        & (source[forth] == target[back])
        & (target[forth] == source[back])
        & (shift[forth] == -shift[back]).all(dim=1)
        & ((distance[forth] - distance[back]).abs() < _SAME_LENGTH)
    )
    return forth[match], back[match]
