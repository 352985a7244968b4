"""Gaussian process on groups of features, robust against outlying targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from dssl_sklearn.exceptions import InvalidInputError

#: Crystals that the hyperparameters are learned from, and those that predict: what a fit costs
#: grows with their cubes.
N_TUNED, N_POINTS = 512, 3000
#: Standardized features further out than this are cut.
_LARGEST_FEATURE = 8.0
#: Targets count up to so many robust standard deviations from the median in the likelihood.
_LARGEST_TARGET = 3.0
#: Labels with a leave-one-out error beyond so many robust standard deviations lose weight.
_OUTLYING = 1.5
_N_REWEIGHTED = 3
_SMALLEST_NOISE = 1e-4
_MOST_STEPS = 40
#: Strength that pulls the logarithms of the hyperparameters to where they start.
_PRIOR = 0.02
_CHUNK = 512


@dataclass(frozen=True, eq=False)
class GaussianProcess:
    r"""Regression with a sum of Matern kernels over groups of features.

    .. math::
        k(x, x') = s_0\, m\Big(\sum_g \frac{d_g^2}{l_g}\Big)
                   + \sum_g s_g\, m\Big(\frac{d_g^2}{l'_g}\Big), \qquad
        m(q) = (1 + \sqrt{3 q})\, e^{-\sqrt{3 q}}

    with the mean squared difference :math:`d_g^2` of the standardized features of group g. Scales
    :math:`l`, variances :math:`s` and the noise maximize the marginal likelihood [1]_ of at most
    512 of the labels, in which outlying targets are cut. Labels whose leave-one-out error ([1]_,
    equation 5.12) stands out then get noise in proportion to it, as in a Huber loss.

    Attributes
    ----------
    center, scale : Tensor of shape (n_features,), float64
        Standardization of the features.
    inputs : Tensor of shape (n_points, n_features), float64
        Standardized features of the crystals that predict.
    log_params : Tensor of shape (n_outputs, 3 * n_groups + 2), float64
        Logarithms of l, l', s and of the noise.
    weights : Tensor of shape (n_outputs, n_points), float64
        Factors of the kernels; 0 where a target is unknown.
    offset : Tensor of shape (n_outputs,), float64
        Prediction far from all points.
    sizes : Tensor of shape (n_groups,), int64
        Number of features of each group.

    References
    ----------
    .. [1] C. E. Rasmussen and C. K. I. Williams, "Gaussian Processes for Machine Learning", MIT
       Press (2006).
    """

    center: Tensor
    scale: Tensor
    inputs: Tensor
    log_params: Tensor
    weights: Tensor
    offset: Tensor
    sizes: Tensor

    @classmethod
    def fit(
        cls,
        groups: Sequence[Tensor],
        targets: NDArray[np.floating],
        weight: NDArray[np.floating],
    ) -> Self:
        """Learn from labeled crystals; arguments as of `fit_and_leave_out`."""
        return cls.fit_and_leave_out(groups, targets, weight)[0]

    @classmethod
    def fit_and_leave_out(
        cls,
        groups: Sequence[Tensor],
        targets: NDArray[np.floating],
        weight: NDArray[np.floating],
        *,
        jointly: bool = False,
    ) -> tuple[Self, NDArray[np.float64]]:
        """Learn from labeled crystals, and predict each of them from the others.

        Parameters
        ----------
        groups : sequence of Tensor of shape (n_points, n_features_of_group)
            Features.
        targets : ndarray of shape (n_points, n_outputs)
            Standardized targets, NaN where unknown.
        weight : ndarray of shape (n_points,)
            Positive weights of the crystals; twice the weight is half the noise.
        jointly : bool, default=False
            Learn one set of hyperparameters from all targets, of which none may be missing, instead
            of one for each: the same cost for any number of targets.

        Returns
        -------
        process : GaussianProcess
            Fitted.
        left_out : ndarray of shape (n_points, n_outputs)
            Prediction for each label from all others, NaN where there is none. The
            hyperparameters are those of all labels.
        """
        features = torch.cat([group.double() for group in groups], dim=1)
        center, scale = _standardization(features)
        sizes = torch.tensor([group.shape[1] for group in groups])
        inputs = _standardized(features, center, scale)
        of_labels = torch.as_tensor(np.asarray(weight, np.float64))
        columns = torch.as_tensor(np.asarray(targets, np.float64))
        of_all = None
        if jointly:
            some = inputs[:N_TUNED]
            of_all = _tune(_squares(some, some, sizes), columns[:N_TUNED])
        params, weights, offsets, left_out = [], [], [], []
        for column in columns.T:
            known = column.isfinite()
            rows, values = inputs[known], column[known]
            tuned = of_all
            if tuned is None:
                some = rows[:N_TUNED]
                tuned = _tune(_squares(some, some, sizes), values[:N_TUNED, None])
            trust = of_labels[known] / of_labels[known].mean()
            noise = (tuned[-1].exp() + _SMALLEST_NOISE) / trust
            kernel = _kernel(_squares(rows, rows, sizes), tuned)
            factors, offset, errors = _solve(kernel, values, noise)
            weights.append(torch.zeros_like(column).masked_scatter(known, factors))
            left_out.append(
                torch.full_like(column, torch.nan).masked_scatter(known, values - errors)
            )
            params.append(tuned)
            offsets.append(offset)
        log_params, factors_of = torch.stack(params), torch.stack(weights)
        offset_of = torch.stack(offsets)
        process = cls(center, scale, inputs, log_params, factors_of, offset_of, sizes)
        return process, torch.stack(left_out, dim=1).numpy()

    def predict(self, groups: Sequence[Tensor]) -> NDArray[np.float64]:
        """Predict standardized targets.

        Parameters
        ----------
        groups : sequence of Tensor of shape (n_crystals, n_features_of_group)
            Features, in the groups of the fit.

        Returns
        -------
        ndarray of shape (n_crystals, n_outputs)
            Predictions.
        """
        features = torch.cat([group.double() for group in groups], dim=1)
        rows = _standardized(features, self.center, self.scale)
        predicted = torch.empty(len(rows), len(self.offset), dtype=torch.float64)
        for start in range(0, len(rows), _CHUNK):
            chunk = slice(start, start + _CHUNK)
            squares = _squares(rows[chunk], self.inputs, self.sizes)
            for output, params in enumerate(self.log_params):
                similar = _kernel(squares, params)
                predicted[chunk, output] = similar @ self.weights[output] + self.offset[output]
        return predicted.numpy()

    def to_tensors(self) -> dict[str, Tensor]:
        """Everything it consists of, by name."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], n_outputs: int) -> Self:
        """Put together what `to_tensors` gave.

        Parameters
        ----------
        tensors : mapping of str to Tensor
            Content of a file, which may hold anything.
        n_outputs : int
            Expected number of targets.

        Returns
        -------
        GaussianProcess
            Fitted.

        Raises
        ------
        InvalidInputError
            If names, types or shapes do not fit, or an entry is not finite.
        """
        names = {f.name for f in fields(cls)}
        if odd := sorted(names ^ tensors.keys()):
            raise InvalidInputError(f"a Gaussian process has no or needs the tensor {odd[0]!r}")
        sizes = tensors["sizes"]
        n_points = len(tensors["inputs"]) if tensors["inputs"].ndim else 0
        if sizes.dtype != torch.int64 or sizes.ndim != 1 or bool((sizes < 1).any()):
            raise InvalidInputError("'sizes' must hold the numbers of features of the groups")
        width, n_params = int(sizes.sum()), 3 * len(sizes) + 2
        shapes = {
            "center": (width,),
            "scale": (width,),
            "inputs": (n_points, width),
            "log_params": (n_outputs, n_params),
            "weights": (n_outputs, n_points),
            "offset": (n_outputs,),
        }
        for name, shape in shapes.items():
            found = tensors[name]
            if found.shape != shape or found.dtype != torch.float64:
                raise InvalidInputError(
                    f"{name!r} is {found.dtype} of shape {tuple(found.shape)}, expected float64 of "
                    f"shape {shape}"
                )
            if not bool(found.isfinite().all()):
                raise InvalidInputError(f"{name!r} is not all finite")
        # Where a file was mapped, products of unaligned memory round differently.
        return cls(**{name: tensor.clone() for name, tensor in tensors.items()})


def _standardization(features: Tensor) -> tuple[Tensor, Tensor]:
    center = features.mean(0)
    spread = features.std(0, correction=0)
    # What never varies in training says nothing, however far a new crystal is off.
    varies = spread > 1e-6 * features.abs().amax(0).clamp_min(1e-6)
    return center, torch.where(varies, 1 / spread.clamp_min(1e-30), 0.0)


def _standardized(features: Tensor, center: Tensor, scale: Tensor) -> Tensor:
    return ((features - center) * scale).clamp(-_LARGEST_FEATURE, _LARGEST_FEATURE)


def _squares(rows: Tensor, others: Tensor, sizes: Tensor) -> list[Tensor]:
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


def _kernel(squares: Sequence[Tensor], params: Tensor) -> Tensor:
    n = len(squares)
    together, alone, share = params[:n].exp(), params[n : 2 * n].exp(), params[2 * n : -1].exp()
    joint = sum(square / length for square, length in zip(squares, together, strict=True))
    result = share[0] * _matern(torch.as_tensor(joint))
    for square, length, variance in zip(squares, alone, share[1:], strict=True):
        result = result + variance * _matern(square / length)
    return result


def _tune(squares: Sequence[Tensor], targets: Tensor) -> Tensor:
    """Hyperparameters of the largest marginal likelihood, shape (3 * n_groups + 2,).

    Of several columns of targets, the mean of their log likelihoods counts.
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
    one = torch.eye(n_points, dtype=torch.float64)

    def objective(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        params = torch.tensor(values, requires_grad=True)
        noise = params[-1].exp() + _SMALLEST_NOISE
        factor = torch.linalg.cholesky(_kernel(squares, params) + noise * one)
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
    limit = _LARGEST_TARGET * _robust_deviation(targets - median)
    cut = torch.clamp(targets, median - limit, median + limit)
    return (cut - cut.mean()) / cut.std(correction=0).clamp_min(1e-9)


def _solve(kernel: Tensor, targets: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Factors of the kernels, the offset, and the leave-one-out errors.

    Outlying labels get more noise; the errors are those before the last time.
    """
    trust = torch.ones_like(targets)
    ones = torch.ones_like(targets).unsqueeze(1)
    for step in range(_N_REWEIGHTED + 1):
        factor = torch.linalg.cholesky(kernel + torch.diag(noise / trust))
        offset = torch.cholesky_solve(targets.unsqueeze(1), factor).sum()
        offset = offset / torch.cholesky_solve(ones, factor).sum()
        weights = torch.cholesky_solve((targets - offset).unsqueeze(1), factor).squeeze(1)
        if step < _N_REWEIGHTED:
            left_out = weights / torch.cholesky_inverse(factor).diagonal()
            limit = _OUTLYING * _robust_deviation(left_out)
            trust = (limit / left_out.abs().clamp_min(1e-12)).clamp(1e-6, 1.0)
    return weights, offset, left_out


def _robust_deviation(values: Tensor) -> Tensor:
    """Median absolute value in units in which that of a normal distribution is its deviation."""
    return (1.4826 * values.abs().median()).clamp_min(1e-9)
