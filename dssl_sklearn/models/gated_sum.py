"""Sum of gated messages with its own backward pass, in blocks of edges that fit the cache."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

#: Edges worked on at a time: few enough for the cache, enough to outweigh the cost of a call.
_BLOCK = 4096


def gated_sum(table: Tensor, rows: Tensor, target: Tensor, n_sites: int) -> Tensor:
    r"""Add up the gated messages of the neighbors of every site.

    .. math:: m_i = \sum_j c_{ij} \odot \sigma(a_{ij}), \qquad
              [c_{ij} \,\Vert\, a_{ij}] = \sum_k T_{r_k(ij)}

    Every edge adds up some rows of a table: what its two sites and its length contribute. Blocks of
    edges go through the cache, and one tensor per edge is kept for the backward pass.

    Parameters
    ----------
    table : Tensor of shape (n_rows, 2 * width)
        Contributions T.
    rows : Tensor of shape (n_edges, n_parts), int64
        Rows r that each edge adds up.
    target : Tensor of shape (n_edges,), int64
        Site that each edge leads to.
    n_sites : int
        Number of sites.

    Returns
    -------
    Tensor of shape (n_sites, width)
        Sums of messages.
    """
    message: Tensor = _GatedSum.apply(table, rows, target, n_sites)  # type: ignore[no-untyped-call]
    return message


class _GatedSum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch leaves it untyped
        table: Tensor,
        rows: Tensor,
        target: Tensor,
        n_sites: int,
    ) -> Tensor:
        width = table.shape[1] // 2
        message = table.new_zeros(n_sites, width)
        kept = []
        for of_block, targets in zip(
            torch.split(rows, _BLOCK), torch.split(target, _BLOCK), strict=True
        ):
            # Sums of gathered rows are what this computes, and faster than gathering them.
            mixed = F.embedding_bag(of_block, table, mode="sum")
            core, gate = mixed[:, :width], mixed[:, width:].sigmoid_()
            message.index_add_(0, targets, core * gate)
            if ctx.needs_input_grad[0]:
                kept.append(mixed)
        ctx.save_for_backward(rows, target, *kept)
        ctx.n_rows = len(table)
        return message

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        rows, target, *kept = ctx.saved_tensors
        width = grad.shape[1]
        grad_table = grad.new_zeros(ctx.n_rows, 2 * width)
        step = grad.new_empty(_BLOCK, 2 * width)
        for of_block, targets, mixed in zip(
            torch.split(rows, _BLOCK), torch.split(target, _BLOCK), kept, strict=True
        ):
            out, core, gate = step[: len(targets)], mixed[:, :width], mixed[:, width:]
            by_core = torch.mul(grad.index_select(0, targets), gate, out=out[:, :width])
            # The derivative of the sigmoid is gate - gate^2.
            by_gate = torch.mul(by_core, core, out=out[:, width:])
            by_gate.addcmul_(by_gate, gate, value=-1)
            for part in of_block.unbind(1):
                grad_table.index_add_(0, part, out)
        return grad_table, None, None, None
