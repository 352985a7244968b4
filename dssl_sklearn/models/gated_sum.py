"""Sum of gated messages with its own backward pass, in blocks of edges that fit the cache."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

#: Edges worked on at a time: few enough for the cache, enough to outweigh the cost of a call.
_BLOCK = 4096


def gated_sum(
    of_target: Tensor, of_source: Tensor, edges: Tensor, weight: Tensor, edge_index: Tensor
) -> Tensor:
    r"""Add up the gated messages of the neighbors of every site.

    .. math:: m_i = \sum_j c_{ij} \odot \sigma(a_{ij}), \qquad
              [c_{ij} \,\Vert\, a_{ij}] = t_i + s_j + W g_{ij}

    The same as ``segment_sum(F.glu(...), ...)``, in half the memory and a sixth to a half faster on
    the CPU: blocks of edges go through the cache, and one tensor per edge is kept for the backward
    pass.

    Parameters
    ----------
    of_target, of_source : Tensor of shape (n_sites, 2 * width)
        What the sites contribute as targets (t) and as sources (s).
    edges : Tensor of shape (n_edges, n_features)
        Features of the edges (g).
    weight : Tensor of shape (2 * width, n_features)
        Weights of these features (W).
    edge_index : Tensor of shape (2, n_edges), int64
        Sources and targets.

    Returns
    -------
    Tensor of shape (n_sites, width)
        Sums of messages.
    """
    message: Tensor = _GatedSum.apply(  # type: ignore[no-untyped-call]
        of_target, of_source, edges, weight, edge_index
    )
    return message


def _blocks(n_edges: int) -> Iterator[slice]:
    return (slice(start, start + _BLOCK) for start in range(0, n_edges, _BLOCK))


class _GatedSum(torch.autograd.Function):
    @staticmethod
    def forward(  # noqa: PLR0917 - what autograd hands in
        ctx: Any,  # noqa: ANN401 - torch leaves it untyped
        of_target: Tensor,
        of_source: Tensor,
        edges: Tensor,
        weight: Tensor,
        edge_index: Tensor,
    ) -> Tensor:
        width = of_target.shape[1] // 2
        recorded = any(ctx.needs_input_grad)
        # Cores, and the sigmoids of the gates.
        mixed = of_target.new_empty(len(edges) if recorded else _BLOCK, 2 * width)
        gathered = of_target.new_empty(_BLOCK, 2 * width)
        message = of_target.new_zeros(len(of_target), width)
        # Products with a transposed matrix are slower.
        weight_t = weight.t().contiguous()
        for rows in _blocks(len(edges)):
            source, target = edge_index[:, rows]
            n_rows = len(source)
            block = mixed[rows] if recorded else mixed[:n_rows]
            part = gathered[:n_rows]
            torch.mm(edges[rows], weight_t, out=block)
            block += torch.index_select(of_target, 0, target, out=part)
            block += torch.index_select(of_source, 0, source, out=part)
            core, gate = block[:, :width], block[:, width:].sigmoid_()
            message.index_add_(0, target, core * gate)
        ctx.save_for_backward(edges, weight, edge_index, mixed)
        ctx.n_sites = len(of_target)
        return message

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        edges, weight, edge_index, mixed = ctx.saved_tensors
        width = grad.shape[1]
        grad_target = grad.new_zeros(ctx.n_sites, 2 * width)
        grad_source = torch.zeros_like(grad_target)
        grad_weight = weight.new_zeros(weight.shape[1], 2 * width)
        grad_edges = torch.empty_like(edges) if ctx.needs_input_grad[2] else None
        step = grad.new_empty(_BLOCK, 2 * width)
        for rows in _blocks(len(edges)):
            source, target = edge_index[:, rows]
            block, out = mixed[rows], step[: len(source)]
            core, gate = block[:, :width], block[:, width:]
            by_core = torch.mul(grad.index_select(0, target), gate, out=out[:, :width])
            # The derivative of the sigmoid is gate - gate^2.
            by_gate = torch.mul(by_core, core, out=out[:, width:])
            by_gate.addcmul_(by_gate, gate, value=-1)
            grad_target.index_add_(0, target, out)
            grad_source.index_add_(0, source, out)
            grad_weight.addmm_(edges[rows].t(), out)
            if grad_edges is not None:
                torch.mm(out, weight, out=grad_edges[rows])
        return grad_target, grad_source, grad_edges, grad_weight.t(), None
