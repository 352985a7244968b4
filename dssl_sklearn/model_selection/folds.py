"""Folds in every form that `cv` may have, as rows."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import KFold, StratifiedKFold, check_cv

from dssl_sklearn._checks import check_integer
from dssl_sklearn.exceptions import InvalidInputError

Rows = NDArray[np.intp]


def folds_of(
    cv: Any,  # noqa: ANN401 - all that scikit-learn's cv= takes
    X: Any,  # noqa: ANN401
    y: NDArray[Any],
    groups: Any = None,  # noqa: ANN401
    *,
    seed: int | None = None,
    shuffled: type[KFold | StratifiedKFold] = KFold,
) -> list[tuple[Rows, Rows]]:
    """Draw the folds once, since splitters may draw anew each time.

    Parameters
    ----------
    cv : int, splitter, or sequence of pairs
        A number of shuffled folds, or what makes them, or the parts themselves as rows or masks.
    X : sequence of length n_structures
        For the splitter.
    y : ndarray of shape (n_structures,)
        As `X`.
    groups : array-like of shape (n_structures,), default=None
        As `X`.
    seed : int, default=None
        For a number of folds.
    shuffled : {KFold, StratifiedKFold}, default=KFold
        What makes a number of folds.

    Returns
    -------
    list of pairs of ndarray
        Rows for training and for testing.

    Raises
    ------
    InvalidInputError
        If `cv` is a number below 2, or above that of the structures.
    """
    if isinstance(cv, Integral):
        check_integer("cv", cv, minimum=2)
        if int(cv) > len(y):
            raise InvalidInputError(
                f"cv={cv} folds of {len(y)} structure(s) are not possible; give more structures or "
                "a smaller cv."
            )
        cv = shuffled(int(cv), shuffle=True, random_state=seed)
    every = np.arange(len(y))
    splits = check_cv(cv).split(X, y, groups)
    return [(every[np.asarray(train)], every[np.asarray(test)]) for train, test in splits]
