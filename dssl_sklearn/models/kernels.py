"""Kernels of a Gaussian process: their hyperparameters, and the equations they make of labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

#: Targets count up to so many robust standard deviations from the median in the likelihood.
_LARGEST_TARGET = 3.0
#: Labels with a leave-one-out error beyond so many robust standard deviations lose weight, and
#: beyond so many, which at most that share of them may be, they are nearly ignored.
_OUTLYING, _WRONG, _MOST_WRONG = 1.5, 6.0, 0.1
#: The noise is set at least so many times, then until it has settled, and at most so many times.
_N_REWEIGHTED, _MOST_REWEIGHTED = 3, 12
_SMALLEST_NOISE = 1e-4
_MOST_STEPS = 40
#: Strength that pulls the logarithms of the hyperparameters to where they start.
_PRIOR = 0.02


def squares_of(rows: Tensor, others: Tensor, sizes: Tensor) -> list[Tensor]:
    """Mean squared differences of every pair, group by group."""
    found, widths = [], sizes.tolist()
    for a, b in zip(torch.split(rows, widths, 1), torch.split(others, widths, 1), strict=True):
        product = torch.addmm(b.square().sum(1), a, b.T, alpha=-2)
        found.append(((product + a.square().sum(1, keepdim=True)) / a.shape[1]).clamp_min(0))
    return found


def _matern(squares: Tensor) -> Tensor:
    # Differentiable at 0, where the root alone is not.
    distance = (3 * squares + 1e-12).sqrt()
    return (1 + distance) * torch.exp(-distance)


def kernel_of(squares: Sequence[Tensor], params: Tensor) -> Tensor:
    """Sum of the kernels over all groups together and each alone, see `GaussianProcess`."""
    n = len(squares)
    together, alone, share = params[:n].exp(), params[n : 2 * n].exp(), params[2 * n : -1].exp()
    joint = sum(square / length for square, length in zip(squares, together, strict=True))
    result = share[0] * _matern(torch.as_tensor(joint))
    for square, length, variance in zip(squares, alone, share[1:], strict=True):
        result = result + variance * _matern(square / length)
    return result


def tune(squares: Sequence[Tensor], targets: Tensor, weight: Tensor) -> Tensor:
    """Hyperparameters of the largest marginal likelihood, shape (3 * n_groups + 2,).

    Of several columns of targets, the mean of their log likelihoods counts. The noise of a label is
    in inverse proportion to its weight.
    """
    n_groups, (n_points, n_columns) = len(squares), targets.shape
    start = torch.cat(
        [
            torch.full((2 * n_groups,), 2.0, dtype=torch.float64),
            torch.full((n_groups + 1,), 1 / (n_groups + 1), dtype=torch.float64),
            torch.tensor([0.1], dtype=torch.float64),
        ]
    ).log()
    cut = torch.stack([_cut(column) for column in targets.T], dim=1)
    noisy = torch.diag(weight.mean() / weight)

    def objective(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        params = torch.tensor(values, requires_grad=True)
        noise = params[-1].exp() + _SMALLEST_NOISE
        factor = torch.linalg.cholesky(kernel_of(squares, params) + noise * noisy)
        fitted = (cut * torch.cholesky_solve(cut, factor)).sum() / (2 * n_columns)
        pull = _PRIOR * n_points**0.5 * (params - start).square().sum()
        loss = fitted + factor.diagonal().log().sum() + pull
        loss.backward()
        return loss.item(), torch.as_tensor(params.grad).numpy()

    bounds = [(-5.0, 5.0)] * (3 * n_groups + 1) + [(-7.0, 1.0)]
    options = {"maxiter": _MOST_STEPS}
    with torch.enable_grad():
        found = minimize(
            objective, start.numpy(), jac=True, method="L-BFGS-B", bounds=bounds, options=options
        )
    return torch.tensor(found.x)


def _cut(targets: Tensor) -> Tensor:
    """Standardize targets, outlying ones cut."""
    median = targets.median()
    limit = _LARGEST_TARGET * _robust_deviation((targets - median)[_telling(targets)])
    cut = torch.clamp(targets, median - limit, median + limit)
    return (cut - cut.mean()) / cut.std(correction=0).clamp_min(1e-9)


def noise_of(params: Tensor, weight: Tensor | None = None) -> Tensor:
    """Variance of the noise of a label, or of every label: twice the weight is half of it."""
    noise = params[-1].exp() + _SMALLEST_NOISE
    return noise if weight is None else noise / (weight / weight.mean())


class Solved(NamedTuple):
    """Solution for one target, each of shape (n_points,) but for the offset, a number."""

    weights: Tensor
    offset: Tensor
    errors: Tensor
    variances: Tensor
    noise: Tensor


def solve_robustly(kernel: Tensor, targets: Tensor, noise: Tensor) -> Solved:
    """Factors of the kernels, the offset, leave-one-out errors with their variances, and the noise.

    Outlying labels get more noise; the errors are those before the last time.
    """
    trust, extra = torch.ones_like(targets), torch.zeros_like(targets)
    telling = _telling(targets)
    for step in range(1, _MOST_REWEIGHTED + 1):
        noisy = kernel + torch.diag(noise / trust + extra)
        _, _, errors, variances = solve(noisy, targets[:, None])
        left_out, before = errors[:, 0], extra
        size = left_out.abs().clamp_min(1e-12)
        trust = (_OUTLYING * _robust_deviation(left_out) / size).clamp(1e-6, 1.0)
        # That noise leaves a label its weight where the process is far less sure than the noise. At
        # most one label in ten is so wrong: more of them are what the crystals have to tell.
        limit = _WRONG * _robust_deviation(left_out[telling])
        limit = torch.maximum(limit, torch.quantile(size, 1 - _MOST_WRONG))
        extra = (variances - before).clamp_min(0) * (size / limit - 1).clamp(0, 1e6)
        # The errors of others grow less as a label that is far out loses its weight.
        settled = (extra - before).abs() <= 0.1 * variances
        if step >= _N_REWEIGHTED and bool(settled.all()):
            break
    noise = noise / trust + extra
    weights, offset, _, _ = solve(kernel + torch.diag(noise), targets[:, None])
    return Solved(weights[:, 0], offset[0], left_out, variances, noise)


def _telling(targets: Tensor) -> Tensor:
    """Which targets tell what stands out: where more than half are equal, as 0, the others."""
    differ = targets != targets.median()
    n_different = int(differ.sum())
    return differ if 0 < 2 * n_different < len(targets) else torch.ones_like(differ)


def solve(noisy: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Factors of the kernels, offsets, and leave-one-out errors with their variances.

    Targets, factors and errors have shape (n_points, n_outputs).
    """
    factor = torch.linalg.cholesky(noisy)
    of_ones = torch.cholesky_solve(torch.ones_like(targets[:, :1]), factor)
    offset = (of_ones.T @ targets)[0] / of_ones.sum()
    weights = torch.cholesky_solve(targets - offset, factor)
    variances = 1 / torch.cholesky_inverse(factor).diagonal()
    return weights, offset, weights * variances[:, None], variances


def _robust_deviation(values: Tensor) -> Tensor:
    """Median absolute value in units in which that of a normal distribution is its deviation."""
    return (1.4826 * values.abs().median()).clamp_min(1e-9)
