"""What the edges of a batch share: ends of edges that coincide in site and distance."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor

from dssl_sklearn.crystals.batch import CrystalBatch
from dssl_sklearn.models.pairs import pair_edges
from dssl_sklearn.models.workspace import Workspace

#: Ends worked on at a time on the CPU, so that their tensors of some 500 columns stay in cache.
BLOCK = 512


@dataclass(frozen=True, eq=False)
class EndBlock:
    """Some of the ends, next to each other.

    Attributes
    ----------
    ends, levels : slice
        The ends, and the distances that occur in them.
    site : Tensor of shape (n_ends_of_block,), int64
        Site of each end.
    level : Tensor of shape (n_ends_of_block,), int64
        Distance of each end, counted within `levels`.
    level_offsets : Tensor of shape (n_levels_of_block,), int64
        First end of each distance.
    """

    ends: slice
    levels: slice
    site: Tensor
    level: Tensor
    level_offsets: Tensor


@dataclass(frozen=True, eq=False)
class Receipts:
    """What every end receives in the backward pass, head by head: bags of rows of a table.

    The table is the gradient at the sites, then the vectors a and b of every head. An end gets the
    gradient of the sites that attend to it, times the attention, and the scores, times the
    gradient of its products with them.

    Attributes
    ----------
    row : Tensor of shape (n_edges * n_heads + 2 * n_ends * n_heads,), int64
        Rows of the table.
    weight : Tensor of the same shape, int64
        Where the factor of each row is: in the attention of shape (n_edges, n_heads), flattened,
        followed by the gradient of the products, (n_ends, 2 * n_heads), flattened.
    offset : Tensor of shape (n_ends * n_heads,), int64
        Where the rows of each head of each end begin.
    """

    row: Tensor
    weight: Tensor
    offset: Tensor


@dataclass(eq=False)
class EdgeEnds:
    """Distinct ends of edges: what a site and a distance decide together is computed once.

    The graph attention transforms [x_i || e_ij] for both ends of each edge. That depends on a site
    and a distance alone. The edge back has the same two ends, and in a symmetric crystal many
    edges of a site are equally long: of the 328 ends of the edges of a crystal of the shipped
    elastic set 77 are distinct, and 11 distances.

    Attributes
    ----------
    distance : Tensor of shape (n_levels,)
        Distances in angstrom that occur in a crystal, crystal by crystal.
    site : Tensor of shape (n_ends,), int64
        Site of each end.
    level : Tensor of shape (n_ends,), int64, ascending
        Which distance each end has.
    at_target, at_source : Tensor of shape (n_edges,), int64
        The two ends of each edge.
    target : Tensor of shape (n_edges,), int64, ascending
        Target of each edge.
    n_sites : int
        Number of sites.
    workspace : Workspace
        Memory for tensors of the size of the ends.
    """

    distance: Tensor
    site: Tensor
    level: Tensor
    at_target: Tensor
    at_source: Tensor
    target: Tensor
    n_sites: int
    workspace: Workspace = field(default_factory=Workspace, repr=False)
    _receipts: tuple[int, list[Receipts]] | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.site)

    @cached_property
    def target_offsets(self) -> Tensor:
        """First edge of each site, shape (n_sites,)."""
        return _offsets(self.target, self.n_sites)

    @cached_property
    def by_target(self) -> tuple[Tensor, Tensor]:
        """Edges in the order of their target ends, and where each end begins."""
        return _order(self.at_target, len(self))

    @cached_property
    def by_source(self) -> tuple[Tensor, Tensor]:
        """Edges in the order of their source ends, and where each end begins."""
        return _order(self.at_source, len(self))

    @cached_property
    def blocks(self) -> list[EndBlock]:
        """The ends in blocks; all in one on a GPU."""
        if self.site.is_cuda:
            return [self._block(slice(0, len(self)), slice(0, len(self.distance)))]
        slices = list(block_slices(self.site))
        first = self.level[::BLOCK].tolist()
        last = [int(self.level[ends.stop - 1]) for ends in slices]
        return [
            self._block(ends, slice(low, high + 1))
            for ends, low, high in zip(slices, first, last, strict=True)
        ]

    def _block(self, ends: slice, levels: slice) -> EndBlock:
        level = self.level[ends] - levels.start
        offsets = _offsets(level, levels.stop - levels.start)
        return EndBlock(ends, levels, self.site[ends], level, offsets)

    def receipts(self, n_heads: int) -> list[Receipts]:
        """What every end receives in the backward pass, block by block."""
        if self._receipts is None or self._receipts[0] != n_heads:
            whole = self._make_receipts(n_heads)
            limits = [*whole.offset[:: BLOCK * n_heads].tolist(), len(whole.row)]
            if self.site.is_cuda:
                limits = [0, len(whole.row)]
            blocks = [
                Receipts(
                    whole.row[start:stop],
                    whole.weight[start:stop],
                    whole.offset[block.ends.start * n_heads : block.ends.stop * n_heads] - start,
                )
                for block, (start, stop) in zip(self.blocks, pairwise(limits), strict=True)
            ]
            self._receipts = n_heads, blocks
        return self._receipts[1]

    def _make_receipts(self, n_heads: int) -> Receipts:
        order, first = self.by_source
        n_ends, n_edges = len(self), len(order)
        end = self.at_source[order]
        # Rows of a head of an end: its edges, and two for the scores.
        size = torch.diff(first, append=first.new_tensor([n_edges])) + 2
        head = torch.arange(n_heads, device=order.device)
        number = torch.arange(n_ends, device=order.device).unsqueeze(1)
        offset = (first.unsqueeze(1) + 2 * number) * n_heads + head * size.unsqueeze(1)
        rank = torch.arange(n_edges, device=order.device) - first[end]
        at_edge = offset[end] + rank.unsqueeze(1)
        at_a = offset + size.unsqueeze(1) - 2
        row = order.new_empty((n_edges + 2 * n_ends) * n_heads)
        weight = torch.empty_like(row)
        row[at_edge] = self.target[order].unsqueeze(1).expand(-1, n_heads)
        weight[at_edge] = order.unsqueeze(1) * n_heads + head
        for k in range(2):
            row[at_a + k] = (self.n_sites + k * n_heads + head).expand(n_ends, -1)
            weight[at_a + k] = n_edges * n_heads + (2 * number + k) * n_heads + head
        return Receipts(row, weight, offset.flatten())


def block_slices(rows: Tensor) -> Iterator[slice]:
    """Cut rows into blocks that fit the cache; a GPU takes them all at once."""
    size = max(len(rows), 1) if rows.is_cuda else BLOCK
    for start in range(0, len(rows), size):
        yield slice(start, min(start + size, len(rows)))


def edge_ends(batch: CrystalBatch) -> EdgeEnds:
    """Find the distinct ends of the edges of a batch.

    Parameters
    ----------
    batch : CrystalBatch
        Crystal graphs. On a GPU, where their number would have to be waited for, all ends count
        as distinct.

    Returns
    -------
    EdgeEnds
        Ends. Where the distances need a gradient, every pair of edges keeps its own.
    """
    source, target = batch.edge_index
    if batch.edge_index.is_cuda:
        number = torch.arange(2 * len(source), device=source.device)
        return EdgeEnds(
            distance=batch.edge_distance,
            site=batch.edge_index.flip(0).t().flatten(),
            level=number // 2,
            at_target=number[::2],
            at_source=number[1::2],
            target=target,
            n_sites=batch.n_sites,
        )
    pair, distance = pair_edges(batch)
    level = pair
    if not distance.requires_grad:
        # Equal to the last bit, so that nothing is approximated. Crystal by crystal, so that what
        # belongs to a crystal stays together in memory.
        lengths, rank = _distinct(distance)
        key = batch.batch[target] * len(lengths) + rank[pair]
        key, level = _distinct(key)
        distance = lengths[key % max(len(lengths), 1)]
    key = torch.cat([level * batch.n_sites + target, level * batch.n_sites + source])
    key, end = _distinct(key)
    return EdgeEnds(
        distance=distance,
        site=key % batch.n_sites,
        level=key // batch.n_sites,
        at_target=end[: len(target)],
        at_source=end[len(target) :],
        target=target,
        n_sites=batch.n_sites,
    )


def _distinct(values: Tensor) -> tuple[Tensor, Tensor]:
    """Distinct values in ascending order, and where each value is among them."""
    ascending, order = values.sort()
    is_first = torch.ones_like(values, dtype=torch.bool)
    is_first[1:] = ascending[1:] != ascending[:-1]
    number = torch.empty_like(order)
    number[order] = is_first.cumsum(0) - 1
    return ascending[is_first], number


def _offsets(index: Tensor, n_segments: int) -> Tensor:
    """Where each segment of an ascending index begins, shape (n_segments,)."""
    return torch.searchsorted(index, torch.arange(n_segments, device=index.device))


def _order(index: Tensor, n_segments: int) -> tuple[Tensor, Tensor]:
    ascending, order = index.sort(stable=True)
    return order, _offsets(ascending, n_segments)
