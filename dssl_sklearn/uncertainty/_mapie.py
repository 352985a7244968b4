"""The seam to MAPIE, which does the conformal prediction."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dssl_sklearn.crystals.inputs import as_sequence
from dssl_sklearn.exceptions import MissingDependencyError


def import_mapie(part: str, caller: str) -> ModuleType:
    """Import a part of MAPIE.

    Parameters
    ----------
    part : str
        Module inside MAPIE, such as ``"regression"``.
    caller : str
        Who needs it, for the message.

    Returns
    -------
    module
        That part.

    Raises
    ------
    MissingDependencyError
        If MAPIE is not installed.
    """
    try:
        return import_module(f"mapie.{part}")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != "mapie":
            raise
        raise MissingDependencyError(
            f"{caller} needs MAPIE 1.5 or newer; install it with "
            "pip install 'dssl_sklearn[conformal]'"
        ) from error


class FittedModel:
    """A fitted estimator as MAPIE wants to see it.

    MAPIE looks for signs of fitting that not every estimator has, and tries some estimators on a
    row of zeros, which is no crystal. Whether the estimator is fitted is checked before.

    Parameters
    ----------
    estimator : estimator
        Fitted.
    """

    #: The sign that MAPIE looks for.
    fitted_ = True

    def __init__(self, estimator: Any) -> None:  # noqa: ANN401
        self.estimator = estimator

    @property
    def classes_(self) -> NDArray[Any]:
        """Classes of a classifier."""
        return self.estimator.classes_  # type: ignore[no-any-return]

    def fit(self, X: object, y: object) -> FittedModel:
        """Do nothing; MAPIE wants the method."""
        return self

    def predict(self, X: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """Predict as the estimator does."""
        return self.estimator.predict(X, **kwargs)

    def predict_proba(self, X: Any) -> Any:  # noqa: ANN401
        """Hand on probabilities, which MAPIE gets in place of crystals: it bears no NaN."""
        return X


def as_rows(X: Any, name: str = "X") -> NDArray[Any]:  # noqa: ANN401
    """Hold crystals in an array that MAPIE and scikit-learn can cut into parts.

    A `Structure` is a sequence of its sites, from which ``np.asarray`` would make columns.

    Parameters
    ----------
    X : sequence of crystals, or ndarray of shape (n_structures, n_features)
        Crystals of any accepted kind; a table of numbers, such as embeddings, stays as it is.
    name : str, default="X"
        Name of the argument in error messages.

    Returns
    -------
    ndarray of shape (n_structures,), dtype object, or of shape (n_structures, n_features)
        One crystal, or one row of numbers, for each.

    Raises
    ------
    InvalidInputError
        If `X` is neither.
    """
    if isinstance(X, np.ndarray) and X.ndim == 2 and X.dtype.kind in "fiu" and len(X):
        return X
    items = as_sequence(X, name)
    rows = np.empty(len(items), dtype=object)
    for index in range(len(items)):
        rows[index] = items[index]
    return rows
