"""Checks of what is learned: targets, classes, weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils.multiclass import check_classification_targets

from dssl_sklearn._checks import UNKNOWN_TEXTS
from dssl_sklearn._warnings import warn
from dssl_sklearn.exceptions import InvalidInputError

#: Largest size of a target; squares of it, and results in single precision, stay finite.
_LARGEST = 1e38
#: Targets further from the median than so many robust deviations, which at most that share of them
#: may be, are cut for mean and deviation.
_FAR_OUT, _MOST_CUT = 10.0, 0.1
#: Weights below this share of the largest count as 0: they change nothing, and still smaller ones
#: are 0 in single precision.
_SMALLEST_WEIGHT = 1e-12


def check_length(y: Any, n_structures: int, name: str = "y") -> None:  # noqa: ANN401
    """Make sure that there is one entry for each structure.

    Raises
    ------
    InvalidInputError
        If `y` is missing, is no sequence, or has another length.
    """
    if y is None:
        raise InvalidInputError(f"{name} is None; fit requires one target per structure.")
    if isinstance(y, str | bytes | Mapping | AbstractSet):
        raise InvalidInputError(
            f"{name} is a {type(y).__name__}, expected one entry per structure in their order: a "
            "list, an array or a Series."
        )
    try:
        length = len(y)
    except TypeError as error:
        raise InvalidInputError(
            f"{name} is of type {type(y).__name__} without a length, expected an array."
        ) from error
    if length != n_structures:
        raise InvalidInputError(
            f"X and {name} have inconsistent lengths: {n_structures} structures, {length} entries."
        )


def warn_of_order(X: Any, y: Any) -> None:  # noqa: ANN401
    """Warn where pandas objects hold the same labels in another order: they are not aligned."""
    if not (hasattr(X, "iloc") and hasattr(y, "iloc")) or X.index.equals(y.index):
        return
    if Counter(X.index) == Counter(y.index):
        cure = (
            "y.reindex(X.index) aligns it"
            if X.index.is_unique
            else "reset both indexes if that is right"
        )
        warn(f"X and y have the same labels in another order, and y is taken by position; {cure}")


def detached(values: Any) -> Any:  # noqa: ANN401
    """Values of a tensor that may belong to a computation or to a GPU; all else as it is."""
    return values.detach().tolist() if hasattr(values, "detach") else values


def _first_no_number(entries: Iterable[Any]) -> tuple[int, Any] | None:
    """Position and value of the first known entry that is no number."""
    for position, entry in enumerate(entries):
        try:
            float(entry)
        except OverflowError:
            return position, entry
        except (TypeError, ValueError):
            # Of what is no scalar `isna` makes an array.
            if pd.isna(entry) is not True:
                return position, entry
    return None


def _shown(value: object) -> str:
    text = repr(value.item() if isinstance(value, np.generic) else value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def regression_targets(y: Any, classifier: str = "DSSLClassifier") -> NDArray[np.float64]:  # noqa: ANN401
    """Read targets; NaN, None and pandas' NA mark missing entries.

    Parameters
    ----------
    y : array-like of shape (n_structures,) or (n_structures, n_targets)
        Numbers.
    classifier : str, default="DSSLClassifier"
        What to take for classes, for the message.

    Returns
    -------
    ndarray of shape (n_structures,) or (n_structures, n_targets), float64
        NaN where missing.

    Raises
    ------
    InvalidInputError
        If entries are no numbers, infinite or too large, the shape is wrong, or nothing is known.
    """
    y = detached(y)
    try:
        is_column = np.ndim(y) == 1
        values = _numbers(pd.DataFrame(y))
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidInputError(
            f"y must hold numbers for regression{_no_number_in(y, error, classifier)}."
        ) from error
    if not values.shape[1]:
        raise InvalidInputError(f"y has shape {values.shape}, expected at least one target.")
    if np.isinf(values).any():
        row = int(np.flatnonzero(np.isinf(values).any(axis=1))[0])
        raise InvalidInputError(f"y is infinite at position {row}; remove it or mark it as NaN.")
    too_large = np.flatnonzero((np.abs(values) > _LARGEST).any(axis=1))
    if len(too_large):
        raise InvalidInputError(
            f"y is {np.nanmax(np.abs(values[too_large[0]])):.3g} in size at position "
            f"{too_large[0]}, of more than {_LARGEST:g}; give it in another unit, or its logarithm."
        )
    empty = np.flatnonzero(np.isnan(values).all(axis=0))
    if len(empty):
        raise InvalidInputError(
            f"y has no known entry{f' in column {empty[0]}' if values.shape[1] > 1 else ''}; "
            "at least one labeled structure is needed (DSSLPretrainer learns without labels)."
        )
    return values[:, 0] if is_column else values


def known_targets(
    y: Any,  # noqa: ANN401
    purpose: str,
    classifier: str = "DSSLClassifier",
) -> NDArray[np.float64]:
    """Read one number for each structure, none of them missing.

    Parameters
    ----------
    y : array-like of shape (n_structures,) or (n_structures, 1)
        Numbers.
    purpose : str
        What needs all of them, for the message.
    classifier : str, default="DSSLClassifier"
        As for `regression_targets`.

    Returns
    -------
    ndarray of shape (n_structures,), float64
        The targets.

    Raises
    ------
    InvalidInputError
        As `regression_targets`, and if there are several targets, or some are missing.
    """
    targets = regression_targets(y, classifier)
    if targets.ndim == 2 and targets.shape[1] == 1:
        targets = targets[:, 0]
    if targets.ndim != 1:
        raise InvalidInputError(
            f"y has shape {targets.shape}, expected one target per structure: (n_structures,); "
            "take the targets one by one."
        )
    check_complete(np.isnan(targets), "y is missing (NaN)", f"{purpose} needs the true values")
    return targets


def check_complete(missing: NDArray[np.bool_], what: str, need: str) -> None:
    """Make sure that nothing is missing of any structure.

    Parameters
    ----------
    missing : ndarray of shape (n_structures,), bool
        Where something is.
    what, need : str
        What that means, and what it is needed for, for the message.

    Raises
    ------
    InvalidInputError
        If something is missing.
    """
    rows = np.flatnonzero(missing)
    if len(rows):
        raise InvalidInputError(
            f"{what} for {len(rows)} of {len(missing)} structure(s), the first at position "
            f"{rows[0]}; {need}: leave these out."
        )


def _no_number_in(y: Any, error: Exception, classifier: str) -> str:  # noqa: ANN401
    """Say which target is no number, as far as one can be named, and what to take for classes."""
    try:
        np.ndim(y)  # of rows of different lengths there is none, and pandas fills them up
        table = pd.DataFrame(y).astype(object)
    except (TypeError, ValueError, OverflowError):
        return f": {error}"
    found = _first_no_number(table.to_numpy().ravel())
    if found is None:
        return f": {error}"
    said = f", but has {_shown(found[1])} at position {found[0] // table.shape[1]} ({error})"
    n_texts = table.map(lambda entry: isinstance(entry, str)).to_numpy().sum()
    # A single text among numbers, such as "n/a", is a mistake and no class.
    return f"{said}; for classes use {classifier}" if 2 * n_texts > table.size else said


def _numbers(frame: pd.DataFrame) -> NDArray[np.float64]:
    for dtype in frame.dtypes:
        if dtype.kind in "cmM":
            raise TypeError(f"found {dtype}")
    # Columns of objects may hold pandas' NA. A copy: what pandas returns may be a read-only view.
    known = frame.where(frame.notna(), np.nan)
    return np.array(known.to_numpy(dtype=np.float64, na_value=np.nan))


def mean_and_scale(
    columns: NDArray[np.float64], weight: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weighted mean and standard deviation of the known entries of each target.

    What is far out, such as a -999 that was meant to say "unknown", counts as ten robust deviations
    from the median.

    Parameters
    ----------
    columns : ndarray of shape (n_structures, n_targets)
        NaN where missing.
    weight : ndarray of shape (n_structures,)
        Sample weights.

    Returns
    -------
    mean, scale : ndarray of shape (n_targets,)
        A constant target has scale 1.

    Raises
    ------
    InvalidInputError
        If all known entries of a target have weight 0.
    """
    known = np.isfinite(columns)
    weights = weight[:, None] * known
    total = weights.sum(axis=0)
    if not total.all():
        column = int(np.flatnonzero(total == 0)[0])
        raise InvalidInputError(
            f"sample_weight is zero for every known entry of column {column} of y."
        )
    values = np.where(known, _without_outliers(columns, weight), 0.0)
    mean = (weights * values).sum(axis=0) / total
    scale = np.sqrt((weights * (values - mean) ** 2).sum(axis=0) / total)
    # Rounding alone gives equal values some spread.
    constant = scale <= 1e-12 * np.abs(mean)
    return mean, np.where(constant, 1.0, scale)


def _without_outliers(
    columns: NDArray[np.float64], weight: NDArray[np.float64]
) -> NDArray[np.float64]:
    cut = columns.copy()
    for k, column in enumerate(columns.T):
        known = np.isfinite(column) & (weight > 0)
        median = weighted_quantile(column[known], weight[known], 0.5)
        far = np.abs(column[known] - median)
        # At most one in ten is cut: where most are equal, or nearly, the others are no exception.
        usual = weighted_quantile(far, weight[known], 1 - _MOST_CUT)
        reach = max(_FAR_OUT * 1.4826 * weighted_quantile(far, weight[known], 0.5), usual)
        if reach > 0:
            cut[:, k] = np.clip(column, median - reach, median + reach)
    return cut


def weighted_quantile(
    values: NDArray[np.float64], weight: NDArray[np.float64], level: float
) -> float:
    """Quantile of weighted values; with equal weights that of NumPy, which has no such.

    Parameters
    ----------
    values, weight : ndarray of shape (n,)
        At least one value, with positive weights.
    level : float
        From 0 to 1.

    Returns
    -------
    float
        Interpolated between the values.
    """
    order = np.argsort(values, kind="stable")
    others = weight.sum() - weight[order]
    below = np.cumsum(weight[order]) - weight[order]
    place = below / np.maximum(others, np.finfo(float).tiny)
    return float(np.interp(level, place, values[order]))


def class_targets(
    y: Any,  # noqa: ANN401
    regressor: str = "DSSLRegressor",
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Read class labels; NaN, None, pandas' NA and NumPy's masks mark unlabeled structures.

    Parameters
    ----------
    y : array-like of shape (n_structures,)
        Labels of any type that sorts.
    regressor : str, default="DSSLRegressor"
        What to take for numbers, for the message.

    Returns
    -------
    ndarray of shape (n_classes,)
        The classes, sorted.
    ndarray of shape (n_structures,), int64
        Index of the class, -1 where unlabeled.

    Raises
    ------
    InvalidInputError
        If `y` is not one column, mixes strings and numbers, holds continuous numbers, or has fewer
        than two classes.
    """
    y = detached(y)
    labels = np.array(y, dtype=object)
    if np.ma.isMaskedArray(y):
        labels[np.ma.getmaskarray(y)] = None
    series = pd.Series(labels.reshape(len(y), -1)[:, 0])
    if np.ndim(y) > 2 or (np.ndim(y) == 2 and np.shape(y)[1] != 1):
        raise InvalidInputError(f"y has shape {np.shape(y)}, expected one class per structure.")
    known = series.notna().to_numpy()
    if series[known].map(lambda label: isinstance(label, bytes)).any():
        raise InvalidInputError(
            "y holds bytes; make texts of them: [label.decode() for label in y]."
        )
    is_text = series[known].map(lambda label: isinstance(label, str))
    if is_text.any() and not is_text.all():
        text, other = (
            f"{_shown(series[row])} at position {row}"
            for row in (np.flatnonzero(known)[(is_text == kind).to_numpy()][0] for kind in (1, 0))
        )
        raise InvalidInputError(
            f"y mixes strings and numbers, such as {text} and {other}; make all class labels of "
            "one type."
        )
    given = np.array(series[known].tolist())
    if len(given):
        _check_classes(given, regressor)
    classes, codes = np.unique(given, return_inverse=True)
    if odd := [label for label in classes.tolist() if str(label).strip().lower() in UNKNOWN_TEXTS]:
        warn(
            f"y has the class {odd[0]!r}, a text that often stands for an unknown label; if it "
            "does here, too, replace it by None",
        )
    if len(classes) < 2:
        raise InvalidInputError(
            f"y has {len(classes)} class(es) {classes.tolist()}; a classifier needs at least two."
        )
    index = np.full(len(series), -1, dtype=np.int64)
    index[known] = codes
    return classes, index


def _check_classes(labels: NDArray[Any], regressor: str) -> None:
    try:
        check_classification_targets(labels)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(
            f"y does not hold classes: {error} For numbers use {regressor}."
        ) from error


def check_sample_weight(sample_weight: Any, n_structures: int) -> NDArray[np.float64]:  # noqa: ANN401
    """Read sample weights.

    Parameters
    ----------
    sample_weight : array-like of shape (n_structures,) or None
        Weights; None for 1 each.
    n_structures : int
        Expected length.

    Returns
    -------
    ndarray of shape (n_structures,), float64
        In units of the largest one; 0 below 1e-12 of it.

    Raises
    ------
    InvalidInputError
        If the weights do not fit.
    """
    if sample_weight is None:
        return np.ones(n_structures)
    check_length(sample_weight, n_structures, "sample_weight")
    entries = np.asarray(detached(sample_weight), dtype=object)
    wanted = "sample_weight must be one finite number >= 0 per structure"
    if entries.ndim != 1:
        raise InvalidInputError(f"{wanted}, got an array of shape {entries.shape}.")
    try:
        weight = entries.astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        found = _first_no_number(entries)
        said = f", got {_shown(found[1])} at position {found[0]}" if found else ""
        raise InvalidInputError(f"sample_weight must hold numbers{said}: {error}.") from error
    wrong = np.flatnonzero(~np.isfinite(weight) | (weight < 0))
    if len(wrong):
        raise InvalidInputError(f"{wanted}, got {weight[wrong[0]]} at position {wrong[0]}.")
    if not weight.any():
        raise InvalidInputError("sample_weight is zero everywhere; nothing would be learned.")
    relative: NDArray[np.float64] = weight / weight.max()
    return np.where(relative < _SMALLEST_WEIGHT, 0.0, relative)
