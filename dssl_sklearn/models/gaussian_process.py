"""Gaussian process on groups of features, robust against outlying targets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dssl_sklearn.exceptions import InvalidInputError
from dssl_sklearn.models.kernels import (
    kernel_of,
    noise_of,
    solve,
    solve_robustly,
    squares_of,
    tune,
)

#: Crystals that the hyperparameters are learned from, and those that predict: what a fit costs
#: grows with their cubes.
N_TUNED, N_POINTS = 512, 3000
#: Standardized features further out than this are cut.
_LARGEST_FEATURE = 8.0
_CHUNK = 512


class LeftOut(NamedTuple):
    """Predictions of labels from all others, each of shape (n_points, n_outputs).

    Attributes
    ----------
    predictions : ndarray
        Standardized; NaN where a target is unknown.
    deviations : ndarray
        Standard deviations of the labels about them, as of `predict_with_deviation`.
    """

    predictions: NDArray[np.float64]
    deviations: NDArray[np.float64]


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
    equation 5.12) stands out then get noise in proportion to it, as in a Huber loss; those far out,
    such as -999 for a missing value, so much that they do little harm.

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
    noise : Tensor of shape (n_outputs, n_points), float64
        Variance of the noise of every label, 0 where a target is unknown; all 0 in files from
        before it was kept.

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
    noise: Tensor

    @classmethod
    def fit_and_leave_out(
        cls,
        groups: Sequence[Tensor],
        targets: NDArray[np.floating],
        weight: NDArray[np.floating],
        *,
        jointly: bool = False,
    ) -> tuple[Self, LeftOut]:
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
            of one for each, and trust all of them alike: the same cost for any number of targets.
            For scores of classes, where the members of a rare class would pass for outliers.

        Returns
        -------
        process : GaussianProcess
            Fitted.
        left_out : LeftOut
            Prediction for each label from all others. Hyperparameters and offset are those of all
            labels, so that errors come out somewhat too small: 1 to 6 % on 20 points.
        """
        features = _joined(groups)
        center, scale = _standardization(features)
        sizes = torch.tensor([group.shape[1] for group in groups])
        inputs = _standardized(features, center, scale)
        of_labels = torch.as_tensor(np.asarray(weight, np.float64))
        columns = torch.as_tensor(np.asarray(targets, np.float64))
        if jointly:
            found = _fit_jointly(inputs, columns, of_labels, sizes)
        else:
            each = [_fit_column(inputs, column, of_labels, sizes) for column in columns.T]
            found = tuple(map(torch.stack, zip(*each, strict=True)))
        params, weights, offset, noise, left_out, deviation = found
        process = cls(center, scale, inputs, params, weights, offset, sizes, noise)
        return process, LeftOut(left_out.T.numpy(), deviation.T.numpy())

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
        rows = self._rows(groups)
        predicted = torch.empty(len(rows), len(self.offset), dtype=torch.float64)
        for chunk, alike, similar in self._kernels(rows):
            predicted[chunk, alike] = similar @ self.weights[alike].T + self.offset[alike]
        return predicted.numpy()

    @property
    def knows_noise(self) -> bool:
        """Whether deviations can be computed."""
        return bool((self.noise > 0).any())

    def predict_with_deviation(
        self, groups: Sequence[Tensor]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """As `predict`, with standard deviations ([1]_, equation 2.26, and the noise).

        Parameters
        ----------
        groups : sequence of Tensor of shape (n_crystals, n_features_of_group)
            Features, in the groups of the fit.

        Returns
        -------
        predicted : ndarray of shape (n_crystals, n_outputs)
            Predictions.
        deviation : ndarray of shape (n_crystals, n_outputs)
            Standard deviation of a label about its prediction, in units of the standardized
            targets, as far as the hyperparameters fit these.

        References
        ----------
        .. [1] C. E. Rasmussen and C. K. I. Williams, "Gaussian Processes for Machine Learning", MIT
           Press (2006).
        """
        rows = self._rows(groups)
        predicted = torch.empty(len(rows), len(self.offset), dtype=torch.float64)
        variance = torch.empty_like(predicted)
        for chunk, alike, similar in self._kernels(rows):
            predicted[chunk, alike] = similar @ self.weights[alike].T + self.offset[alike]
            for k in alike.nonzero()[:, 0].tolist():
                params, of_known = self.log_params[k], similar[:, self.noise[k] > 0].T
                largest = params[2 * len(self.sizes) : -1].exp().sum() + noise_of(params)
                known = torch.linalg.solve_triangular(self._factors[k], of_known, upper=False)
                variance[chunk, k] = largest - known.square().sum(0)
        return predicted.numpy(), variance.clamp_min(0).sqrt().numpy()

    def _kernels(self, rows: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Chunks of rows, targets with equal hyperparameters, and the kernel to all points."""
        different, kind = torch.unique(self.log_params, dim=0, return_inverse=True)
        for start in range(0, len(rows), _CHUNK):
            chunk = slice(start, start + _CHUNK)
            squares = squares_of(rows[chunk], self.inputs, self.sizes)
            for k, params in enumerate(different):
                yield chunk, kind == k, kernel_of(squares, params)

    def _rows(self, groups: Sequence[Tensor]) -> Tensor:
        return _standardized(_joined(groups), self.center, self.scale)

    @cached_property
    def _factors(self) -> list[Tensor]:
        """Cholesky factors of the kernel and the noise of the labels, one of each target."""
        factors = []
        for params, noise in zip(self.log_params, self.noise, strict=True):
            inputs = self.inputs[noise > 0]
            kernel = kernel_of(squares_of(inputs, inputs, self.sizes), params)
            factors.append(torch.linalg.cholesky(kernel + torch.diag(noise[noise > 0])))
        return factors

    def __getstate__(self) -> dict[str, Tensor]:
        """Leave out what can be computed again, up to 72 MB for each target."""
        return self.to_tensors()

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
        if "noise" not in tensors and "weights" in tensors:  # from before it was kept
            tensors = {**tensors, "noise": torch.zeros_like(tensors["weights"])}
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
            "noise": (n_outputs, n_points),
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
        if bool((tensors["noise"] < 0).any()):
            raise InvalidInputError("'noise' is not all >= 0")
        # Where a file was mapped, products of unaligned memory round differently.
        return cls(**{name: tensor.clone() for name, tensor in tensors.items()})


def _joined(groups: Sequence[Tensor]) -> Tensor:
    return torch.cat([group.double() for group in groups], dim=1)


def _standardization(features: Tensor) -> tuple[Tensor, Tensor]:
    center = features.mean(0)
    spread = features.std(0, correction=0)
    # What never varies in training says nothing, however far a new crystal is off; nor do the
    # rounding errors of single precision, which tell a cell from its supercell.
    varies = spread > 1e-5 * features.abs().amax(0).clamp_min(0.1)
    return center, torch.where(varies, 1 / spread.clamp_min(1e-30), 0.0)


def _standardized(features: Tensor, center: Tensor, scale: Tensor) -> Tensor:
    return ((features - center) * scale).clamp(-_LARGEST_FEATURE, _LARGEST_FEATURE)


def _fit_column(
    inputs: Tensor, column: Tensor, weight: Tensor, sizes: Tensor
) -> tuple[Tensor, ...]:
    """What was learned of one target, and what was left out, as `fit_and_leave_out` puts it."""
    known = column.isfinite()
    rows, values = inputs[known], column[known]
    some = rows[:N_TUNED]
    of_known = weight[known]
    params = tune(squares_of(some, some, sizes), values[:N_TUNED, None], of_known[:N_TUNED])
    kernel = kernel_of(squares_of(rows, rows, sizes), params)
    solved = solve_robustly(kernel, values, noise_of(params, of_known))

    def spread(values_of_known: Tensor, unknown: float = 0.0) -> Tensor:
        return torch.full_like(column, unknown).masked_scatter(known, values_of_known)

    left_out = spread(values - solved.errors, torch.nan)
    deviation = spread(solved.variances.sqrt(), torch.nan)
    return params, spread(solved.weights), solved.offset, spread(solved.noise), left_out, deviation


def _fit_jointly(
    inputs: Tensor, columns: Tensor, weight: Tensor, sizes: Tensor
) -> tuple[Tensor, ...]:
    """As `_fit_column`, of all targets at once, one row each."""
    some = inputs[:N_TUNED]
    params = tune(squares_of(some, some, sizes), columns[:N_TUNED], weight[:N_TUNED])
    noise, kernel = noise_of(params, weight), kernel_of(squares_of(inputs, inputs, sizes), params)
    weights, offset, errors, variances = solve(kernel + torch.diag(noise), columns)
    n_outputs = columns.shape[1]
    alike = (rows.expand(n_outputs, -1) for rows in (params, noise, variances.sqrt()))
    params, noise, deviation = alike
    return params, weights.T, offset, noise, (columns - errors).T, deviation
