"""A batch shared out over processes, and what they computed gathered again."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from dssl_sklearn.crystals.batch import CrystalBatch


def share_of_batch(batch: CrystalBatch, rank: int, n_ranks: int) -> tuple[int, int]:
    """Cut a batch into consecutive shares of about equally many edges.

    Parameters
    ----------
    batch : CrystalBatch
        The whole batch.
    rank : int
        Which share, counted from 0.
    n_ranks : int
        Number of shares.

    Returns
    -------
    tuple of int
        First crystal of the share, and the one behind its last. Shares may be empty.
    """
    center = batch.batch[batch.edge_index[1]]
    n_edges = torch.bincount(center, minlength=batch.n_crystals)
    # The middle of a crystal decides where it goes, in integers, so that all processes agree.
    middle = 2 * n_edges.cumsum(0) - n_edges
    total = int(2 * n_edges.sum())
    first, last = (
        int(torch.searchsorted(middle, total * cut // n_ranks)) if 0 < cut < n_ranks else end
        for cut, end in ((rank, 0), (rank + 1, batch.n_crystals))
    )
    return first, last


class _GatherRows(torch.autograd.Function):
    """Rows of all processes, in order, with gradients for those of this one."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, first: int, n_rows: int) -> Tensor:  # noqa: ANN401
        ctx.own = slice(first, first + len(rows))
        # Zeros but for the own rows: their sum is exact, and shares may differ in size.
        everything = rows.new_zeros((n_rows, *rows.shape[1:]), dtype=_summable(rows.dtype))
        everything[ctx.own] = rows
        dist.all_reduce(everything)
        return everything.to(rows.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401
        # Each process has a loss of its own, which depends on these rows.
        total = grad.to(_summable(grad.dtype), memory_format=torch.contiguous_format, copy=True)
        dist.all_reduce(total)
        return total[ctx.own].to(grad.dtype), None, None


def gather_rows(rows: Tensor, first: int, n_rows: int) -> Tensor:
    """Put together the rows that the processes hold, differentiably.

    Parameters
    ----------
    rows : Tensor of shape (n_own_rows, ...)
        Rows of this process.
    first : int
        Place of the first of them.
    n_rows : int
        Rows of all processes together.

    Returns
    -------
    Tensor of shape (n_rows, ...)
        The same in all processes. The gradient at `rows` is that of the sum of the losses of all
        processes.
    """
    gathered: Tensor = _GatherRows.apply(rows, first, n_rows)  # type: ignore[no-untyped-call]
    return gathered


class BatchShare:
    """Part of a batch that is this process's to encode.

    A share without crystals still runs the network, on the first crystal, whose rows it drops: all
    processes have to take part in every exchange.
    """

    def __init__(self, batch: CrystalBatch, rank: int, n_ranks: int) -> None:
        first, last = share_of_batch(batch, rank, n_ranks)
        starts = torch.searchsorted(batch.batch, torch.tensor([first, last]).to(batch.batch))
        self.first_site, last_site = starts.tolist()
        self.first, self.n_own, self.n_own_sites = first, last - first, last_site - self.first_site
        self.n_crystals, self.n_sites = batch.n_crystals, batch.n_sites

    def cut(self, batch: CrystalBatch) -> CrystalBatch:
        """Crystals of this process, of the batch or one of its views."""
        if self.n_own:
            return batch.crystals(self.first, self.first + self.n_own)
        return batch.crystals(0, 1)

    def gather_sites(self, sites: Tensor) -> Tensor:
        """Sites of the whole batch."""
        return gather_rows(sites[: self.n_own_sites], self.first_site, self.n_sites)

    def gather_crystals(self, crystals: Tensor) -> Tensor:
        """Crystals of the whole batch."""
        return gather_rows(crystals[: self.n_own], self.first, self.n_crystals)


def _summable(dtype: torch.dtype) -> torch.dtype:
    """Gloo adds no bfloat16."""
    return torch.float32 if dtype == torch.bfloat16 else dtype
