"""What the edges of a batch share: ends of edges that coincide in site and distance."""

from __future__ import annotations

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
    twins : bool
        Whether every distance has exactly two ends.
    """

    ends: slice
    levels: slice
    site: Tensor
    level: Tensor
    level_offsets: Tensor
    twins: bool


@dataclass(frozen=True, eq=False)
class Receipts:
    """What every end receives in the backward pass, head by head: bags of rows of a table.

    The table is the gradient at the sites, then the vectors a and b of every head. An end gets the
    gradient of the sites that attend to it, times the attention, and the scores, times the
    gradient of its products with them.

    Attributes
    ----------
    edges : slice
        Edges whose source ends these are, counted in the order of `EdgeEnds.by_source`.
    end, site : Tensor of shape (n_edges_of_block,), int64
        Source end of each of them, counted within the block, and the site that attends to it.
    row : Tensor of shape ((n_edges_of_block + 2 * n_ends_of_block) * n_heads,), int64
        Rows of the table.
    weight : Tensor of the same shape, int64
        Where the factor of each row is: in the attention of shape (n_edges, n_heads), flattened,
        followed by the gradient of the products, (n_ends, 2 * n_heads), flattened.
    offset : Tensor of shape (n_ends_of_block * n_heads,), int64
        Where the rows of each head of each end begin.
    """

    edges: slice
    end: Tensor
    site: Tensor
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
        Distances in angstrom that occur in a crystal: first those with exactly two ends, then
        the others, crystal by crystal.
    site : Tensor of shape (n_ends,), int64
        Site of each end.
    level : Tensor of shape (n_ends,), int64, ascending
        Which distance each end has.
    at_target, at_source : Tensor of shape (n_edges,), int64
        The two ends of each edge.
    target : Tensor of shape (n_edges,), int64, ascending
        Target of each edge.
    n_twins : int
        How many distances have exactly two ends. Where sites have moved, nearly all.
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
    n_twins: int
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
        n_ends, n_levels, n_paired = len(self), len(self.distance), 2 * self.n_twins
        if self.site.is_cuda:
            return [self._block(slice(0, n_ends), slice(0, n_levels))]
        slices = [*_slices(0, n_paired, BLOCK - BLOCK % 2), *_slices(n_paired, n_ends, BLOCK)]
        limits = [end for ends in slices for end in (ends.start, ends.stop - 1)]
        low_high = iter(self.level[limits].tolist())
        levels = [slice(low, high + 1) for low, high in zip(low_high, low_high, strict=True)]
        return [self._block(*of_block) for of_block in zip(slices, levels, strict=True)]

    def _block(self, ends: slice, levels: slice) -> EndBlock:
        level = self.level[ends] - levels.start
        offsets = _offsets(level, levels.stop - levels.start)
        twins = levels.stop <= self.n_twins
        return EndBlock(ends, levels, self.site[ends], level, offsets, twins)

    @cached_property
    def source_rank(self) -> Tensor:
        """Position of each edge in the order of `by_source`, shape (n_edges,)."""
        return self.by_source[0].argsort()

    def receipts(self, n_heads: int) -> list[Receipts]:
        """What every end receives in the backward pass, block by block."""
        if self._receipts is None or self._receipts[0] != n_heads:
            self._receipts = n_heads, self._make_receipts(n_heads)
        return self._receipts[1]

    def _make_receipts(self, n_heads: int) -> list[Receipts]:
        row, weight, offset = self._received_rows(n_heads)
        order, first = self.by_source
        end, site = self.at_source[order], self.target[order]
        starts = [block.ends.start for block in self.blocks]
        first_edge = [*first[starts].tolist(), len(order)]
        first_row = [*offset[starts, 0].tolist(), len(row)]
        receipts = []
        for block, edge, rows in zip(
            self.blocks, pairwise(first_edge), pairwise(first_row), strict=True
        ):
            edges, part = slice(*edge), slice(*rows)
            bags = offset[block.ends].flatten() - part.start
            end_of_block = end[edges] - block.ends.start
            receipts.append(
                Receipts(edges, end_of_block, site[edges], row[part], weight[part], bags)
            )
        return receipts

    def _received_rows(self, n_heads: int) -> tuple[Tensor, Tensor, Tensor]:
        """Fields `row`, `weight` and `offset` of the receipts of all ends together."""
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
        return row, weight, offset


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
            n_twins=len(source),
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
    level = key // batch.n_sites
    has_twins = torch.bincount(level, minlength=len(distance)) == 2
    by_level, by_end = _twins_first(has_twins), _twins_first(has_twins[level])
    level_number, end_number = by_level.argsort(), by_end.argsort()
    return EdgeEnds(
        distance=distance[by_level],
        site=(key % batch.n_sites)[by_end],
        level=level_number[level[by_end]],
        at_target=end_number[end[: len(target)]],
        at_source=end_number[end[len(target) :]],
        target=target,
        n_twins=int(has_twins.sum()),
        n_sites=batch.n_sites,
    )


def _twins_first(is_twin: Tensor) -> Tensor:
    """Order that puts these first and leaves all else as it is."""
    return torch.cat([is_twin.nonzero(), (~is_twin).nonzero()]).squeeze(1)


def _slices(start: int, stop: int, size: int) -> list[slice]:
    """Cut a range into pieces of one size and a rest."""
    return [slice(k, min(k + size, stop)) for k in range(start, stop, size)]


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
