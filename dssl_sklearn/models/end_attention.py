"""Forward and backward pass of the graph attention, in blocks of ends that fit the cache.

The softplus is taken to base 2 throughout, s(z) = log2(1 + 2^z): powers of two cost half of those
of e. Its derivative is 1 - 2^-s(z), so that z need not be kept.

Weighted sums of rows gathered from a table are what ``embedding_bag`` computes; on the CPU it is
several times faster than products and sums of the gathered rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from dssl_sklearn.models.end_activation import EndActivation
from dssl_sklearn.models.ends import EdgeEnds, EndBlock


def end_attention(
    site_part: Tensor,
    edges: Tensor,
    edge_weight: Tensor,
    scores: Tensor,
    *,
    ends: EdgeEnds,
    weigh: Callable[[Tensor, Tensor, Tensor], Tensor],
    norm: tuple[Tensor, Tensor],
) -> Tensor:
    r"""Messages of the neighbors to every site, summed over the heads.

    .. math:: m_i = \sum_h \frac{\sum_j w^h_{ij}\, s(p_j + q_{ij})^h}{\sum_j w^h_{ij}}, \qquad
              \mathrm{logit}^h_{ij} = a_h \cdot s(p_i + q_{ij})^h + b_h \cdot s(p_j + q_{ij})^h

    with p the site part and q the product of edge features and weights.

    Parameters
    ----------
    site_part : Tensor of shape (n_sites, n_heads * width)
        What the sites contribute.
    edges : Tensor of shape (n_levels, n_features)
        Features of the distances.
    edge_weight : Tensor of shape (n_features, n_heads * width)
        Their weights.
    scores : Tensor of shape (2, n_heads, width)
        The vectors a and b.
    ends : EdgeEnds
        The edges.
    weigh : callable
        Positive weights w of shape (n_heads, n_edges) from the logits and the two tensors of
        `norm`. Recorded by autograd as usual, and called once.
    norm : tuple of two Tensors
        Trainable parameters that `weigh` uses.

    Returns
    -------
    Tensor of shape (n_sites, width)
        Messages.
    """
    message: Tensor = _EndAttention.apply(  # type: ignore[no-untyped-call]
        site_part, edges, edge_weight, scores, *norm, ends, weigh
    )
    return message


class _EndAttention(torch.autograd.Function):
    @staticmethod
    def forward(  # noqa: PLR0917 - what autograd hands in
        ctx: Any,  # noqa: ANN401 - torch leaves it untyped
        site_part: Tensor,
        edges: Tensor,
        edge_weight: Tensor,
        scores: Tensor,
        norm_weight: Tensor,
        norm_bias: Tensor,
        ends: EdgeEnds,
        weigh: Callable[[Tensor, Tensor, Tensor], Tensor],
    ) -> Tensor:
        trained = any(ctx.needs_input_grad)
        ctx.owner = object()
        shape = len(ends), site_part.shape[1]
        softplus = ends.workspace.claim(ctx.owner, shape, site_part, keep=trained)
        products = site_part.new_empty(2 * scores.shape[1], len(ends))
        activation, stacked = EndActivation(site_part, edges, edge_weight), _by_column(scores)
        for block in ends.blocks:
            products[:, block.ends] = stacked @ activation.write(block, softplus).t()
        recorded = [_logits(products, ends), norm_weight.detach(), norm_bias.detach()]
        with torch.set_grad_enabled(trained):
            for tensor in recorded:
                tensor.requires_grad_(trained)
            weights = weigh(*recorded)
        attention, total = _normalize(weights.detach(), ends)
        if trained:
            ctx.save_for_backward(site_part, edges, edge_weight, scores)
            ctx.ends, ctx.recorded, ctx.weights = ends, recorded, weights
            ctx.attention, ctx.total = attention, total
        return _messages(softplus, attention, ends)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        ends, attention = ctx.ends, ctx.attention
        *inputs, _ = ctx.saved_tensors
        shape = len(ends), inputs[0].shape[1]
        softplus, activation = ends.workspace.recall(ctx.owner, shape), None
        if softplus is None:
            softplus = ends.workspace.claim(ctx.owner, shape, grad, keep=False)
            activation = EndActivation(*inputs)
        grad = grad.contiguous()
        by_attention = _grad_attention(grad, softplus, ends, attention.shape[1], activation)
        mean = _sum_edges(by_attention * attention, ends)
        by_weight = by_attention.sub_(mean.index_select(0, ends.target)).div_(
            ctx.total.index_select(0, ends.target)
        )
        grad_logits, *grad_norm = torch.autograd.grad(
            ctx.weights, ctx.recorded, by_weight.t().contiguous(), retain_graph=True
        )
        grad_inputs = _grad_inputs(
            ctx.saved_tensors,
            softplus,
            ends,
            grad=grad,
            grad_logits=grad_logits.t().contiguous(),
            attention=attention,
            edges_need_grad=ctx.needs_input_grad[1],
        )
        return (*grad_inputs, *grad_norm, None, None)


def _by_column(scores: Tensor) -> Tensor:
    """Stack the vectors into one matrix (2 n_heads, n_heads * width), each in its head's columns.

    A matrix product over all heads at once is faster than one for each.
    """
    n_heads = scores.shape[1]
    own_head = torch.eye(n_heads, dtype=scores.dtype, device=scores.device).unsqueeze(2)
    return (scores.unsqueeze(2) * own_head).reshape(2 * n_heads, -1)


def _logits(products: Tensor, ends: EdgeEnds) -> Tensor:
    """Logits of all edges, shape (n_heads, n_edges)."""
    of_target, of_source = products.chunk(2)
    logits = of_target.index_select(1, ends.at_target)
    logits += of_source.index_select(1, ends.at_source)
    return logits


def _sum_edges(values: Tensor, ends: EdgeEnds) -> Tensor:
    """Sum over the edges of each site, (n_edges, n_columns) -> (n_sites, n_columns)."""
    every = torch.arange(len(values), device=values.device)
    return F.embedding_bag(every, values, ends.target_offsets, mode="sum")


def _normalize(weights: Tensor, ends: EdgeEnds) -> tuple[Tensor, Tensor]:
    """Attention of shape (n_edges, n_heads), and the sums of the weights at each site."""
    attention = weights.t().contiguous()
    total = _sum_edges(attention, ends)
    return attention.div_(total.index_select(0, ends.target)), total


def _messages(softplus: Tensor, attention: Tensor, ends: EdgeEnds) -> Tensor:
    """Sum of the attended neighbors at every site."""
    n_heads = attention.shape[1]
    heads = torch.arange(n_heads, device=attention.device)
    rows = (ends.at_source.unsqueeze(1) * n_heads + heads).flatten()
    return F.embedding_bag(
        rows,
        softplus.view(-1, softplus.shape[1] // n_heads),
        ends.target_offsets * n_heads,
        mode="sum",
        per_sample_weights=attention.flatten(),
    )


def _grad_attention(
    grad: Tensor,
    softplus: Tensor,
    ends: EdgeEnds,
    n_heads: int,
    activation: EndActivation | None,
) -> Tensor:
    """Gradient with respect to the attention, (n_edges, n_heads); fills in the softplus first."""
    width = grad.shape[1]
    result = grad.new_empty(len(ends.target), n_heads)
    ones = grad.new_ones(width)
    for block, received in zip(ends.blocks, ends.receipts(n_heads), strict=True):
        # While the block is in cache.
        rows = activation.write(block, softplus) if activation else softplus[block.ends]
        neighbors = rows.index_select(0, received.end)
        at_site = grad.index_select(0, received.site)
        neighbors.view(-1, n_heads, width).mul_(at_site.unsqueeze(1))
        torch.mv(neighbors.view(-1, width), ones, out=result[received.edges].view(-1))
    return result.index_select(0, ends.source_rank)


def _grad_inputs(
    inputs: tuple[Tensor, Tensor, Tensor, Tensor],
    softplus: Tensor,
    ends: EdgeEnds,
    *,
    grad: Tensor,
    grad_logits: Tensor,
    attention: Tensor,
    edges_need_grad: bool,
) -> tuple[Tensor | None, ...]:
    """Gradients with respect to site part, edge features, edge weights and scores."""
    site_part, edges, edge_weight, scores = inputs
    n_heads, width = attention.shape[1], grad.shape[1]
    grad_site, grad_weight = torch.zeros_like(site_part), torch.zeros_like(edge_weight)
    grad_columns = site_part.new_zeros(2 * n_heads, site_part.shape[1])
    # Transposed, as that product is a quarter faster.
    grad_edges = edges.new_zeros(edges.shape[::-1]) if edges_need_grad else None
    grad_products = torch.cat(
        [
            F.embedding_bag(order, grad_logits, offsets, mode="sum")
            for order, offsets in (ends.by_target, ends.by_source)
        ],
        1,
    )
    table = torch.cat([grad, scores.view(-1, width)])
    factors = torch.cat([attention.flatten(), grad_products.flatten()])
    for block, received in zip(ends.blocks, ends.receipts(n_heads), strict=True):
        value = softplus[block.ends]
        grad_columns.addmm_(grad_products[block.ends].t(), value)
        step = F.embedding_bag(
            received.row,
            table,
            received.offset,
            mode="sum",
            per_sample_weights=factors.index_select(0, received.weight),
        ).view_as(value)
        step.addcdiv_(step, value.exp2(), value=-1)
        grad_site.index_add_(0, block.site, step)
        step = _sum_levels(step, block)
        grad_weight.addmm_(edges[block.levels].t(), step)
        if grad_edges is not None:
            grad_edges[:, block.levels].addmm_(edge_weight, step.t())
    own = grad_columns.view(2, n_heads, n_heads, width).diagonal(dim1=1, dim2=2)
    if grad_edges is not None:
        grad_edges = grad_edges.t()
    return grad_site, grad_edges, grad_weight, own.transpose(1, 2).contiguous()


def _sum_levels(rows: Tensor, block: EndBlock) -> Tensor:
    """Sum over the ends of every distance of a block."""
    if block.twins:
        first, second = rows.view(-1, 2, rows.shape[1]).unbind(1)
        return first + second
    every = torch.arange(len(rows), device=rows.device)
    return F.embedding_bag(every, rows, block.level_offsets, mode="sum")
