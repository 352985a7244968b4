"""Named quantities of sites or crystals: one number or one vector for each, NaN where unknown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dssl_sklearn.exceptions import InvalidInputError

#: What a quantity belongs to.
Level: TypeAlias = Literal["site", "crystal"]


def as_rows(
    level: Level, given: Mapping[str, ArrayLike], n_rows: int
) -> dict[str, NDArray[np.float32]]:
    """Check quantities that a user attaches.

    Parameters
    ----------
    level : {"site", "crystal"}
        What they belong to.
    given : mapping of str to array-like of shape (n_rows,) or (n_rows, k)
        Values, NaN where unknown.
    n_rows : int
        Number of sites, or of crystals.

    Returns
    -------
    dict of str to ndarray of shape (n_rows,) or (n_rows, k), float32
        The same; arrays of float32 are not copied.

    Raises
    ------
    InvalidInputError
        If an array does not hold numbers or has another shape.
    """
    checked = {}
    for name, values in given.items():
        try:
            rows = np.asarray(values, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise InvalidInputError(
                f"{level}[{name!r}] is not an array of numbers ({error}); give one number, or k of "
                f"them, per {level}, NaN where unknown"
            ) from error
        if rows.ndim not in (1, 2) or len(rows) != n_rows or rows.shape[1:] == (0,):
            raise InvalidInputError(
                f"{level}[{name!r}] has shape {rows.shape}, expected ({n_rows},) or ({n_rows}, k): "
                f"one row per {level}, in the order of the data set"
            )
        checked[name] = rows
    return checked


def one_row(properties: Mapping[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    """Quantities of one crystal as rows that can be joined."""
    return {name: np.asarray(values)[None] for name, values in properties.items()}


def joined(
    parts: Sequence[Mapping[str, NDArray[np.floating]]], dtype: type = np.float32
) -> dict[str, NDArray[Any]]:
    """Join the quantities that all parts have, as numbers of type `dtype`.

    Raises
    ------
    InvalidInputError
        If a quantity is a number in one part and a vector, or a vector of another length, in
        another one.
    """
    result: dict[str, NDArray[Any]] = {}
    for name in parts[0]:
        arrays = [part[name] for part in parts if name in part]
        if len(arrays) < len(parts):
            continue
        widths = sorted({array.shape[1:] for array in arrays})
        if len(widths) > 1:
            raise InvalidInputError(
                f"property {name!r} has rows of different shapes {widths}; give it the same one in "
                "all crystals"
            )
        result[name] = np.concatenate(arrays).astype(dtype, copy=False)
    return result
