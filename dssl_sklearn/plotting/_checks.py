"""Checks of what is handed to the displays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dssl_sklearn.exceptions import InvalidInputError


def numbers(name: str, values: ArrayLike, length: int | None = None) -> NDArray[np.float64]:
    """Read one column of numbers.

    Parameters
    ----------
    name : str
        Argument, for messages.
    values : array-like of shape (n,)
        Numbers; NaN is allowed.
    length : int, default=None
        Length that it must have.

    Returns
    -------
    ndarray of shape (n,), float64
        The numbers.

    Raises
    ------
    InvalidInputError
        If it is no such column.
    """
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"{name} must hold numbers: {error}") from error
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise InvalidInputError(
            f"{name} has shape {array.shape}, expected one column; choose one target at a time"
        )
    if length is not None and len(array) != length:
        raise InvalidInputError(f"{name} has {len(array)} entries, expected {length}")
    return array


def paired(
    y_true: ArrayLike, y_pred: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Read true and predicted values and the rows where both are known.

    Returns
    -------
    y_true, y_pred : ndarray of shape (n,), float64
        As handed in.
    known : ndarray of shape (n,), bool
        Where both are finite.

    Raises
    ------
    InvalidInputError
        If they do not fit together or no row is known.
    """
    true = numbers("y_true", y_true)
    predicted = numbers("y_pred", y_pred, len(true))
    known = np.isfinite(true) & np.isfinite(predicted)
    if not known.any():
        raise InvalidInputError("y_true and y_pred have no row in which both are finite numbers")
    return true, predicted, known


def column(values: Any, target: int) -> NDArray[Any]:  # noqa: ANN401
    """One column of predictions or targets of one or several targets.

    Raises
    ------
    InvalidInputError
        If there is no such column.
    """
    array = np.asarray(values)
    n_targets = 1 if array.ndim == 1 else array.shape[1]
    if not 0 <= target < n_targets:
        raise InvalidInputError(
            f"target must be the index of a target, an integer from 0 to {n_targets - 1}, "
            f"got {target!r}"
        )
    return array if array.ndim == 1 else array[:, target]
