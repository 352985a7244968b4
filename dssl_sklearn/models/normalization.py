"""Normalizations of DeeperGATGNN, for batches of any size and in little memory."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from dssl_sklearn._checks import check_integer

#: Share of a new batch in the running statistics, and what keeps a variance above zero.
_MOMENTUM = 0.1
_EPS = 1e-5
#: Weight of the normalized part of the sites beside the sites as they are.
_SHARE = 0.01


class SmallBatchNorm(nn.BatchNorm1d):
    """Batch normalization that takes a batch of one row, with its running statistics."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """Normalize the columns of a (n_rows, n_columns) tensor."""
        return self.normalize(input.t(), self.weight, self.bias).t()

    def normalize(self, columns: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Normalize with these parameters in place of the module's own.

        Parameters
        ----------
        columns : Tensor of shape (n_columns, n_rows)
            Columns of a table, one after the other in memory, which is several times as fast. A
            single row is normalized by the running statistics.
        weight, bias : Tensor of shape (n_columns,)
            Scale and shift of the normalized columns.

        Returns
        -------
        Tensor of shape (n_columns, n_rows)
            Normalized columns.
        """
        from_batch = self.training and columns.shape[1] > 1
        mean, var = self.running_mean, self.running_var
        table = columns.unsqueeze(0)
        normalized = F.batch_norm(table, mean, var, weight, bias, from_batch, _MOMENTUM, _EPS)
        return normalized.squeeze(0)


class DiffGroupNorm(nn.Module):
    r"""Differentiable group normalization of site embeddings.

    Sites are softly assigned to groups, and each group is batch-normalized by itself:

    .. math:: s = \mathrm{softmax}(x W), \qquad
              x' = x + 0.01 \sum_g \mathrm{BatchNorm}_g(s_g \odot x)

    Same results as ``torch_geometric.nn.DiffGroupNorm``, whose tensors of shape
    (n_sites, n_groups * width) are not made here: the sum over the groups is ``x`` times one
    matrix product, and the statistics of the products ``s_g x_f`` are matrix products, too.

    Parameters
    ----------
    width : int
        Length of a site embedding.
    n_groups : int, default=10
        Number of groups.

    References
    ----------
    .. [1] Zhou et al., "Towards Deeper Graph Neural Networks with Differentiable Group
       Normalization", NeurIPS 2020, equations 3 and 4.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, width: int, n_groups: int = 10) -> None:
        super().__init__()
        check_integer("n_groups", n_groups)
        self.assign = nn.Linear(width, n_groups, bias=False)
        self.weight = nn.Parameter(torch.ones(n_groups, width))
        self.bias = nn.Parameter(torch.zeros(n_groups, width))
        self.register_buffer("running_mean", torch.zeros(n_groups, width))
        self.register_buffer("running_var", torch.ones(n_groups, width))

    def forward(self, sites: Tensor) -> Tensor:
        """Normalize.

        Parameters
        ----------
        sites : Tensor of shape (n_sites, width)
            Site embeddings; a single one is normalized by the running statistics.

        Returns
        -------
        Tensor of shape (n_sites, width)
            Normalized embeddings.
        """
        # Statistics need full precision, whatever the linear layers run in.
        with torch.autocast(sites.device.type, enabled=False):
            sites = sites.to(self.weight.dtype)
            if self.training and len(sites) > 1:
                return self._normalize_by_batch(sites)
            groups = self.assign(sites).softmax(dim=1)
            factor = self.weight * (self.running_var + _EPS).rsqrt()
            offset = (self.bias - self.running_mean * factor).sum(0)
            normalized: Tensor = sites * (groups @ factor) + offset
            return sites + _SHARE * normalized

    def _normalize_by_batch(self, sites: Tensor) -> Tensor:
        out: Tensor
        out, mean, variance = _GroupNorm.apply(  # type: ignore[no-untyped-call]
            sites, self.assign.weight, self.weight, self.bias
        )
        with torch.no_grad():
            self.running_mean.lerp_(mean, _MOMENTUM)
            self.running_var.lerp_(variance * (len(sites) / (len(sites) - 1)), _MOMENTUM)
        return out


class _GroupNorm(torch.autograd.Function):
    """Normalization by the statistics of the batch; only its input is kept for the gradient.

    With group weights s and features x, their products y = s x have the means m and the variances
    v, and the result is x + 0.01 sum_g (w (y - m) / sqrt(v + eps) + b).
    """

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch leaves it untyped
        sites: Tensor,
        assign: Tensor,
        weight: Tensor,
        bias: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        groups = (sites @ assign.t()).softmax(dim=1)
        mean, variance = _product_statistics(sites, groups)
        factor = weight * (variance + _EPS).rsqrt()
        offset = (bias - mean * factor).sum(0)
        ctx.save_for_backward(sites, assign, weight, groups, mean, variance)
        ctx.mark_non_differentiable(mean, variance)
        update = (groups @ factor).mul_(sites).add_(offset)
        return torch.add(sites, update, alpha=_SHARE), mean, variance

    @staticmethod
    @once_differentiable
    def backward(  # the statistics are not differentiable
        ctx: Any,  # noqa: ANN401
        grad: Tensor,
        *_: Tensor,
    ) -> tuple[Tensor | None, ...]:
        sites, assign, weight, groups, mean, variance = ctx.saved_tensors
        n_sites = len(sites)
        site_mean, group_mean = sites.mean(0), groups.mean(0)
        dx, ds = sites - site_mean, groups - group_mean
        # y - m = s dx + X ds - shift, with the means X of the features.
        shift = mean - group_mean.unsqueeze(1) * site_mean
        rate = (variance + _EPS).rsqrt()
        total = grad.sum(0)
        # Sum of grad (y - m) over the sites.
        covariance = groups.t() @ (grad * dx) + site_mean * (ds.t() @ grad) - shift * total
        factor = _SHARE * weight * rate
        slope = factor * rate.square() * covariance / n_sites
        # The gradient at y is factor (grad - mean of grad) - slope (y - m).
        centered = grad - total / n_sites
        grad_groups = (
            (sites * centered) @ factor.t()
            - groups * ((sites * dx) @ slope.t())
            - ds * (sites @ (slope * site_mean).t())
            + sites @ (slope * shift).t()
        )
        grad_logits = groups * (grad_groups - (grad_groups * groups).sum(1, keepdim=True))
        grad_sites = grad + grad_logits @ assign
        grad_sites += centered * (groups @ factor)
        grad_sites -= dx * (groups.square() @ slope)
        grad_sites -= (groups * ds) @ (slope * site_mean)
        grad_sites += groups @ (slope * shift)
        grad_bias = (_SHARE * total).expand_as(weight)
        return grad_sites, grad_logits.t() @ sites, _SHARE * rate * covariance, grad_bias


def _product_statistics(sites: Tensor, groups: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance over the sites of s_g x_f, each of shape (n_groups, width).

    With means S and X and deviations ds and dx, s x - S X = s dx + X ds. The second moment of that
    is taken, not of s x itself, which would lose the digits that large means share.
    """
    n_sites = len(sites)
    site_mean, group_mean = sites.mean(0), groups.mean(0)
    dx, ds = sites - site_mean, groups - group_mean
    shift = groups.t() @ dx / n_sites
    second = (
        groups.square().t() @ dx.square()
        + 2 * site_mean * ((groups * ds).t() @ dx)
        + site_mean.square() * ds.square().sum(0).unsqueeze(1)
    ) / n_sites
    # Rounding may leave a tiny negative number where all sites are equal.
    return group_mean.unsqueeze(1) * site_mean + shift, (second - shift.square()).clamp_min(0)
