"""The scale on which targets are learned: as they are, or their logarithms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dssl_sklearn.estimators.targets import mean_and_scale, weighted_quantile
from dssl_sklearn.exceptions import InvalidInputError
from dssl_sklearn.models.gaussian_process import N_TUNED, GaussianProcess, LeftOut

Scale: TypeAlias = Literal["auto", "linear", "log"]
Columns: TypeAlias = NDArray[np.float64]

#: Where the largest target is less than this many times the smallest, the logarithm is as good as a
#: straight line.
_SMALLEST_RATIO = 2.0
#: Share of a normal distribution within one standard deviation.
_WITHIN_ONE_DEVIATION = 0.683
#: A smallest or largest target that at least this share of the labels has, and at least so many of
#: them, is a limit of the property, as 0 is of band gaps.
_SHARE_AT_LIMIT, _LABELS_AT_LIMIT = 0.05, 3
#: Factors by which differences to the median may shrink. Not 0, which would lose the order.
_SHRINKAGES = np.linspace(0.1, 1.0, 10)
#: How many margins of a limit are tried.
_N_MARGINS = 10


@dataclass(frozen=True, eq=False)
class TargetScale:
    """How targets become what is learned, and predictions what was asked for.

    Attributes
    ----------
    log : ndarray of shape (n_targets,), bool
        Whether the natural logarithm of a target is learned.
    mean, scale : ndarray of shape (n_targets,)
        Weighted mean and standard deviation of what is learned.
    smallest, largest : ndarray of shape (n_targets,)
        Range of the known targets.
    floor, ceiling : ndarray of shape (n_targets,), bool
        Whether the smallest, the largest of them is a limit, beyond which nothing is predicted.
    floor_margin, ceiling_margin : ndarray of shape (n_targets,)
        What would be predicted closer to that limit than this is predicted to be at it.
    """

    log: NDArray[np.bool_]
    mean: Columns
    scale: Columns
    smallest: Columns
    largest: Columns
    floor: NDArray[np.bool_]
    ceiling: NDArray[np.bool_]
    floor_margin: Columns
    ceiling_margin: Columns

    @classmethod
    def fit(
        cls,
        columns: Columns,
        weight: Columns,
        log: NDArray[np.bool_],
        numbers: NDArray[np.int64] | None = None,
    ) -> Self:
        """Learn mean, deviation and range.

        Parameters
        ----------
        columns : ndarray of shape (n_structures, n_targets)
            Targets, NaN where missing.
        weight : ndarray of shape (n_structures,)
            Sample weights.
        log : ndarray of shape (n_targets,), bool
            Whether to take logarithms.
        numbers : ndarray of shape (n_structures,), int64, default=None
            Equal for copies of a structure, whose equal labels are no sign of a limit. None if
            there are no copies.

        Returns
        -------
        TargetScale
            Fitted.

        Raises
        ------
        InvalidInputError
            If all known entries of a target have weight 0.
        """
        mean, scale = mean_and_scale(_transformed(columns, log), weight)
        smallest, largest = np.nanmin(columns, axis=0), np.nanmax(columns, axis=0)
        different = columns if numbers is None else _once_each(columns, numbers)
        floor, ceiling = _is_limit(different, smallest), _is_limit(different, largest)
        none = np.zeros(len(mean))
        return cls(log, mean, scale, smallest, largest, floor, ceiling, none, none)

    def standardize(self, columns: Columns) -> Columns:
        """Turn targets of shape (n_structures, n_targets) into what is learned."""
        return (_transformed(columns, self.log) - self.mean) / self.scale

    def restore(self, outputs: Columns) -> Columns:
        """Turn what was predicted into targets, both of shape (n_structures, n_targets).

        Logarithms stay within those of the known targets, widened by their deviation: of an error
        beyond, the exponential would be anything. What is beyond a limit, or within its margin, is
        at the limit.
        """
        values: Columns = outputs * self.scale + self.mean
        for k in np.flatnonzero(self.log):
            low, high = np.log(max(self.smallest[k], 1e-300)), np.log(max(self.largest[k], 1e-300))
            low, high = low - self.scale[k], high + self.scale[k]
            values[:, k] = np.exp(np.minimum(np.clip(values[:, k], low, high), 700.0))
        low, high = self.smallest + self.floor_margin, self.largest - self.ceiling_margin
        values = np.where(self.floor & (values < low), self.smallest, values)
        return np.where(self.ceiling & (values > high), self.largest, values)

    def slope(self, predictions: Columns) -> Columns:
        """Change of the targets with what is learned, both of shape (n_structures, n_targets)."""
        slopes: Columns = np.where(self.log, predictions, 1.0) * self.scale
        return slopes

    def shrunk(self, left_out: Columns, columns: Columns, weight: Columns) -> TargetScale:
        """Restore less than what was predicted, where predictions are worse than their average.

        Labels that the crystals say little about, such as energies above the hull that are mostly
        0, are predicted worse than by their median, in mean absolute errors. Differences to the
        median shrink by the factor that suits predictions of each label from the others best, if
        that is better than no change by more than one standard error.

        Parameters
        ----------
        left_out : ndarray of shape (n_points, n_targets)
            Prediction for each label from the others, standardized; NaN where it is unknown, and
            for a whole target to leave that as it is.
        columns : ndarray of shape (n_points, n_targets)
            The labels in their unit.
        weight : ndarray of shape (n_points,)
            Positive sample weights.

        Returns
        -------
        TargetScale
            With another mean and scale for such targets.
        """
        learned = self.standardize(columns)
        factor, center = np.ones(len(self.mean)), np.zeros(len(self.mean))
        for k in np.flatnonzero(np.isfinite(left_out).any(axis=0)):
            known = np.isfinite(columns[:, k])
            share = weight[known] / weight[known].sum()
            center[k] = _median(learned[known, k], share)
            errors = []
            for shrinkage in _SHRINKAGES:
                outputs = left_out[known].copy()
                outputs[:, k] = center[k] + shrinkage * (outputs[:, k] - center[k])
                errors.append(np.abs(self.restore(outputs)[:, k] - columns[known, k]))
            factor[k] = _SHRINKAGES[_clearly_best(errors, share, plain=-1)]
        mean = self.mean + (1 - factor) * center * self.scale
        return replace(self, mean=mean, scale=factor * self.scale)

    def with_margins(self, left_out: Columns, columns: Columns, weight: Columns) -> TargetScale:
        """Take what is predicted close to a limit for the limit, where that is better.

        Of crystals that may be metals, those with a small predicted band gap are. The margin is the
        one that suits predictions of each label from the others best, if that is better than none
        by more than one standard error; no more of them than of the labels come to the limit. There
        is none where labels have only two values, as all predictions might end there.

        Parameters
        ----------
        left_out, columns, weight
            As of `shrunk`.

        Returns
        -------
        TargetScale
            With margins for such targets.
        """
        predictions = self.restore(left_out)
        floor, ceiling = self.floor_margin.copy(), self.ceiling_margin.copy()
        for k in np.flatnonzero(np.isfinite(left_out).any(axis=0)):
            known = np.isfinite(columns[:, k])
            y, predicted = columns[known, k], predictions[known, k]
            share = weight[known] / weight[known].sum()
            if len(np.unique(y)) <= 2:
                continue
            if self.floor[k]:
                floor[k] = _margin(predicted - self.smallest[k], y - self.smallest[k], share)
            if self.ceiling[k]:
                ceiling[k] = _margin(self.largest[k] - predicted, self.largest[k] - y, share)
        return replace(self, floor_margin=floor, ceiling_margin=ceiling)

    def calibration(self, left_out: LeftOut, columns: Columns, weight: Columns) -> Columns:
        """Factors of the deviations with which 68 % of the labels are within one of them.

        Labels at a limit that are predicted to be there are left out: many of them would make the
        deviations of all others too small.

        Parameters
        ----------
        left_out : LeftOut
            Prediction for each label from the others, standardized.
        columns : ndarray of shape (n_points, n_targets)
            The labels in their unit.
        weight : ndarray of shape (n_points,)
            Their weights.

        Returns
        -------
        ndarray of shape (n_targets,)
            Factors; 1 for targets of which nothing was left out.
        """
        predicted = self.restore(left_out.predictions)
        error = np.abs(self.standardize(columns) - self.standardize(predicted))
        ratios = error / left_out.deviations
        ratios[self.floor & (predicted <= self.smallest) & (columns <= self.smallest)] = np.nan
        ratios[self.ceiling & (predicted >= self.largest) & (columns >= self.largest)] = np.nan
        factors = np.ones(columns.shape[1])
        for k in np.flatnonzero(np.isfinite(ratios).any(axis=0)):
            known = np.isfinite(ratios[:, k])
            factors[k] = weighted_quantile(ratios[known, k], weight[known], _WITHIN_ONE_DEVIATION)
        return factors


def check_positive(columns: Columns, scale: str) -> None:
    """Make sure that logarithms can be taken where these are asked for.

    Raises
    ------
    InvalidInputError
        If `scale` is "log" and a known target is not above 0.
    """
    bad = np.flatnonzero((columns <= 0).any(axis=1))
    if scale == "log" and len(bad):
        raise InvalidInputError(
            f"target_scale='log' needs targets above 0, and y is {np.nanmin(columns[bad[0]]):g} at "
            f"position {bad[0]}; remove such entries, or use target_scale='auto' or 'linear'."
        )


def takes_logarithm(
    columns: Columns, weight: Columns, groups: Sequence[Tensor]
) -> NDArray[np.bool_]:
    """Find out which targets are predicted better from their logarithms.

    A Gaussian process on each of the two scales predicts every label from the others
    (leave-one-out); that with the lower mean absolute error, in the unit of the target, decides.

    Parameters
    ----------
    columns : ndarray of shape (n_structures, n_targets)
        Targets in random order, NaN where missing. At most 512 are looked at.
    weight : ndarray of shape (n_structures,)
        Positive sample weights.
    groups : sequence of Tensor of shape (n_structures, n_features_of_group)
        Features of the crystals.

    Returns
    -------
    ndarray of shape (n_targets,), bool
        False, too, for targets with entries at or below 0, and for those that vary by less than a
        factor of two.
    """
    result = np.zeros(columns.shape[1], dtype=bool)
    for k, column in enumerate(columns.T):
        known = np.flatnonzero(np.isfinite(column))[:N_TUNED]
        every = column[np.isfinite(column)]
        if every.min() <= 0 or every.max() < _SMALLEST_RATIO * every.min():
            continue
        features = [group[known] for group in groups]
        errors = [
            _left_out_error(column[known, None], weight[known], features, log=log)
            for log in (False, True)
        ]
        result[k] = errors[1] < errors[0]
    return result


def _left_out_error(
    column: Columns, weight: Columns, features: Sequence[Tensor], *, log: bool
) -> float:
    scale = TargetScale.fit(column, weight, np.array([log]))
    _, left_out = GaussianProcess.fit_and_leave_out(features, scale.standardize(column), weight)
    errors = np.abs(scale.restore(left_out.predictions) - column)[:, 0]
    return float(np.average(errors, weights=weight))


def _is_limit(columns: Columns, ends: Columns) -> NDArray[np.bool_]:
    """Whether many of the known targets have the value at the end of their range."""
    count = (columns == ends).sum(axis=0)
    n_known = np.isfinite(columns).sum(axis=0)
    limit: NDArray[np.bool_] = count >= np.maximum(_SHARE_AT_LIMIT * n_known, _LABELS_AT_LIMIT)
    return limit


def _once_each(columns: Columns, numbers: NDArray[np.int64]) -> Columns:
    """Known targets of the first of equal structures alone."""
    result = np.full_like(columns, np.nan)
    for k, column in enumerate(columns.T):
        known = np.flatnonzero(np.isfinite(column))
        _, first = np.unique(numbers[known], return_index=True)
        result[known[first], k] = column[known[first]]
    return result


def _margin(predicted: Columns, y: Columns, share: NDArray[np.float64]) -> float:
    """Margin of a limit for predictions and labels in terms of their distance to it."""
    most = float(share[y == 0].sum())
    margins = [0.0, *np.quantile(predicted, np.linspace(0, most, _N_MARGINS + 1)[1:])]
    errors = [np.abs(np.where(predicted < margin, 0.0, predicted) - y) for margin in margins]
    return float(margins[_clearly_best(errors, share, plain=0)])


def _clearly_best(errors: Sequence[Columns], share: NDArray[np.float64], plain: int) -> int:
    """Position of the lowest mean error, if by more than one standard error, else `plain`."""
    means = [float((share * error).sum()) for error in errors]
    best = int(np.argmin(means))
    gains, gain = errors[plain] - errors[best], means[plain] - means[best]
    return best if gain > np.sqrt((share**2 * (gains - gain) ** 2).sum()) else plain


def _median(values: NDArray[np.float64], share: NDArray[np.float64]) -> float:
    order = np.argsort(values)
    # The lower one of two middles, however the sum was rounded.
    middle = int(np.searchsorted(np.cumsum(share[order]), 0.5 - 1e-9))
    return float(values[order[middle]])


def _transformed(columns: Columns, log: NDArray[np.bool_]) -> Columns:
    transformed = columns.copy()
    transformed[:, log] = np.log(columns[:, log])
    return transformed
