"""Forward and backward pass of the graph attention, pair by pair, in blocks that fit the cache.

The softplus is taken to base 2 throughout, s(z) = log2(1 + 2^z): powers of two cost half of those
of e. Its derivative is 1 - 2^-s(z), so that z need not be kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from dssl_sklearn.models.pairs import EdgePairs

#: Pairs worked on at a time on the CPU, so that their tensors of some 100 columns stay in cache.
_BLOCK = 512
#: Powers of two are taken up to this exponent, below the infinity of float32.
_LARGEST_EXPONENT = 126.0


def pair_attention(
    site_part: Tensor,
    edges: Tensor,
    edge_weight: Tensor,
    scores: Tensor,
    *,
    pairs: EdgePairs,
    weigh: Callable[[Tensor, Tensor, Tensor], Tensor],
    norm: tuple[Tensor, Tensor],
) -> Tensor:
    r"""Messages of the neighbors to every site, summed over the heads.

    .. math:: m_i = \sum_h \sum_j \alpha^h_{ij}\, s(p_j + q_{ij})^h, \qquad
              \mathrm{logit}^h_{ij} = a_h \cdot s(p_i + q_{ij})^h + b_h \cdot s(p_j + q_{ij})^h

    with p the site part and q the product of edge features and weights.

    Parameters
    ----------
    site_part : Tensor of shape (n_sites, n_heads * width)
        What the sites contribute.
    edges : Tensor of shape (n_pairs, n_features)
        Features of the pairs.
    edge_weight : Tensor of shape (n_features, n_heads * width)
        Their weights.
    scores : Tensor of shape (2, n_heads, width)
        The vectors a and b.
    pairs : EdgePairs
        The edges.
    weigh : callable
        Attention of shape (n_edges, n_heads) from the logits, in the order of ``pairs.target``,
        and the two tensors of `norm`. Recorded by autograd as usual, and called once.
    norm : tuple of two Tensors
        Trainable parameters that `weigh` uses.

    Returns
    -------
    Tensor of shape (n_sites, width)
        Messages.
    """
    # A matrix product over all heads at once is faster than one for each.
    n_heads = scores.shape[1]
    own_head = torch.eye(n_heads, dtype=scores.dtype, device=scores.device).unsqueeze(2)
    stacked = (scores.unsqueeze(2) * own_head).reshape(2 * n_heads, -1)
    message: Tensor = _PairAttention.apply(  # type: ignore[no-untyped-call]
        site_part, edges, edge_weight, stacked, *norm, pairs, weigh
    )
    return message


class _PairAttention(torch.autograd.Function):
    @staticmethod
    def forward(  # noqa: PLR0917 - what autograd hands in
        ctx: Any,  # noqa: ANN401 - torch leaves it untyped
        site_part: Tensor,
        edges: Tensor,
        edge_weight: Tensor,
        scores: Tensor,
        norm_weight: Tensor,
        norm_bias: Tensor,
        pairs: EdgePairs,
        weigh: Callable[[Tensor, Tensor, Tensor], Tensor],
    ) -> Tensor:
        activated = _activate(site_part, edges, edge_weight, pairs)
        recorded = [_logits(activated, scores, pairs), norm_weight.detach(), norm_bias.detach()]
        with torch.set_grad_enabled(any(ctx.needs_input_grad)):
            for tensor in recorded:
                tensor.requires_grad_(any(ctx.needs_input_grad))
            attention = weigh(*recorded)
        ctx.save_for_backward(site_part, edges, edge_weight, scores)
        ctx.pairs, ctx.recorded, ctx.attention = pairs, recorded, attention
        return _messages(activated, attention.detach(), pairs, len(site_part))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        pairs, attention = ctx.pairs, ctx.attention
        site_part, edges, edge_weight, _ = ctx.saved_tensors
        activated = _activate(site_part, edges, edge_weight, pairs)
        grad_attention = _grad_attention(grad, activated, pairs, attention.shape[1])
        grad_logits, *grad_norm = torch.autograd.grad(
            attention, ctx.recorded, grad_attention, retain_graph=True
        )
        grad_inputs = _grad_inputs(
            ctx.saved_tensors,
            activated,
            pairs,
            grad=grad,
            grad_logits=grad_logits,
            attention=attention.detach(),
            edges_need_grad=ctx.needs_input_grad[1],
        )
        return (*grad_inputs, *grad_norm, None, None)


def _blocks(pairs: EdgePairs) -> Iterator[tuple[slice, slice]]:
    """Rows of each block, and those among them that are mutual."""
    size = len(pairs) if pairs.first.is_cuda else _BLOCK
    for start in range(0, len(pairs), max(size, 1)):
        stop = min(start + size, len(pairs))
        yield slice(start, stop), slice(start, max(start, min(stop, pairs.n_mutual)))


def _activate(site_part: Tensor, edges: Tensor, edge_weight: Tensor, pairs: EdgePairs) -> Tensor:
    """Softplus of both ends of the pairs, shape (2, n_pairs, n_heads * width), in shared memory."""
    activated = pairs.scratch(site_part.shape[1], site_part)
    for rows, _ in _blocks(pairs):
        edge_part = edges[rows] @ edge_weight
        for end, sites in enumerate((pairs.first, pairs.second)):
            z = torch.index_select(site_part, 0, sites[rows], out=activated[end, rows])
            z += edge_part
            power = z.clamp(max=_LARGEST_EXPONENT).exp2_()
            power += 1
            # The softplus is at least z; this puts right those above the largest exponent.
            torch.maximum(power.log2_(), z, out=z)
    return activated


def _logits(activated: Tensor, scores: Tensor, pairs: EdgePairs) -> Tensor:
    """Logits of all edges, shape (n_pairs + n_mutual, n_heads)."""
    n_pairs, n_heads = len(pairs), len(scores) // 2
    logits = activated.new_empty(n_heads, n_pairs + pairs.n_mutual)
    for rows, mutual in _blocks(pairs):
        at_first, at_second = (scores @ activated[end, rows].t() for end in (0, 1))
        torch.add(at_first[:n_heads], at_second[n_heads:], out=logits[:, rows])
        n_mutual = mutual.stop - mutual.start
        logits[:, n_pairs + mutual.start : n_pairs + mutual.stop] = (
            at_second[:n_heads, :n_mutual] + at_first[n_heads:, :n_mutual]
        )
    return logits.t().contiguous()


def _by_pair(of_edges: Tensor, pairs: EdgePairs) -> tuple[Tensor, Tensor]:
    """Split values of the edges into those forth and back of each pair, 0 where there is none."""
    forth, back = of_edges[: len(pairs)], of_edges[len(pairs) :]
    return forth, F.pad(back, (0, 0, 0, len(pairs) - pairs.n_mutual))


def _by_head(rows: Tensor, n_heads: int) -> Tensor:
    """View rows of n_heads * width columns as (n_rows, n_heads, width)."""
    return rows.view(len(rows), n_heads, rows.shape[1] // n_heads)


def _messages(activated: Tensor, attention: Tensor, pairs: EdgePairs, n_sites: int) -> Tensor:
    """Sum of the attended neighbors at every site."""
    n_heads = attention.shape[1]
    forth, back = _by_pair(attention, pairs)
    message = activated.new_zeros(n_sites, activated.shape[2] // n_heads)
    for rows, mutual in _blocks(pairs):
        for weights, end, sites, part in (
            (forth, 1, pairs.first, rows),
            (back, 0, pairs.second, mutual),
        ):
            heads = _by_head(activated[end, part], n_heads)
            message.index_add_(0, sites[part], torch.bmm(weights[part].unsqueeze(1), heads)[:, 0])
    return message


def _grad_attention(grad: Tensor, activated: Tensor, pairs: EdgePairs, n_heads: int) -> Tensor:
    """Gradient with respect to the attention of all edges."""
    n_pairs = len(pairs)
    result = grad.new_empty(n_pairs + pairs.n_mutual, n_heads)
    for rows, mutual in _blocks(pairs):
        for end, sites, part, offset in (
            (1, pairs.first, rows, 0),
            (0, pairs.second, mutual, n_pairs),
        ):
            heads = _by_head(activated[end, part], n_heads)
            at_site = grad.index_select(0, sites[part]).unsqueeze(1)
            result[offset + part.start : offset + part.stop] = (heads * at_site).sum(2)
    return result


def _grad_inputs(
    inputs: tuple[Tensor, Tensor, Tensor, Tensor],
    activated: Tensor,
    pairs: EdgePairs,
    *,
    grad: Tensor,
    grad_logits: Tensor,
    attention: Tensor,
    edges_need_grad: bool,
) -> tuple[Tensor | None, ...]:
    """Gradients with respect to site part, edge features, edge weights and scores."""
    site_part, edges, edge_weight, scores = inputs
    grad_site, grad_weight = torch.zeros_like(site_part), torch.zeros_like(edge_weight)
    grad_scores = torch.zeros_like(scores)
    grad_edges = torch.empty_like(edges) if edges_need_grad else None
    to_first, to_second = _by_pair(attention, pairs)
    forth, back = _by_pair(grad_logits, pairs)
    ends = (
        # Each end: its site, the gradients of its products with the scores, its attention as a
        # neighbor, and the site that attends to it.
        (pairs.first, torch.cat([forth, back], 1), to_second, pairs.second),
        (pairs.second, torch.cat([back, forth], 1), to_first, pairs.first),
    )
    for rows, _ in _blocks(pairs):
        steps = []
        for end, (sites, grad_score, weights, receiver) in enumerate(ends):
            softplus = activated[end, rows]
            grad_scores.addmm_(grad_score[rows].t(), softplus)
            at_receiver = grad.index_select(0, receiver[rows])
            step = (weights[rows].unsqueeze(2) * at_receiver.unsqueeze(1)).flatten(1)
            step.addmm_(grad_score[rows], scores)
            step.addcmul_(step, softplus.neg_().exp2_(), value=-1)
            grad_site.index_add_(0, sites[rows], step)
            steps.append(step)
        step = steps[0].add_(steps[1])
        grad_weight.addmm_(edges[rows].t(), step)
        if grad_edges is not None:
            torch.mm(step, edge_weight.t(), out=grad_edges[rows])
    return grad_site, grad_edges, grad_weight, grad_scores
