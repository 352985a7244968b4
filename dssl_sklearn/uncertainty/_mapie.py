"""The seam to MAPIE, which does the conformal prediction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import get_config
from sklearn.base import BaseEstimator, clone
from sklearn.pipeline import Pipeline
from sklearn.utils import indexable

from dssl_sklearn.crystals.inputs import as_sequence
from dssl_sklearn.exceptions import InvalidInputError


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


class WithPredict(BaseEstimator):
    """An estimator with methods that MAPIE looks for before it fits.

    A stack without a final estimator says only when it is fitted that it predicts; and a pipeline
    under metadata routing takes other names for weights than MAPIE gives it.

    Parameters
    ----------
    estimator : estimator
        To be fitted.
    """

    estimator_: Any

    def __init__(self, estimator: Any) -> None:  # noqa: ANN401
        self.estimator = estimator

    @classmethod
    def of(cls, estimator: Any, *, weighted: bool) -> Any:  # noqa: ANN401
        """Wrap an estimator if it needs that; weights make a difference for a pipeline."""
        renamed = weighted and isinstance(estimator, Pipeline) and _routed()
        return cls(estimator) if renamed or not hasattr(estimator, "predict") else estimator

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> WithPredict:  # noqa: ANN401
        """Fit a copy."""
        params = {} if sample_weight is None else weight_params(self.estimator, sample_weight)
        self.estimator_ = clone(self.estimator).fit(X, y, **params)
        return self

    def predict(self, X: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """Predict as the copy does."""
        check_methods(self.estimator_, ("predict",), "ConformalRegressor")
        return self.estimator_.predict(X, **kwargs)


def check_methods(fitted: Any, needed: Sequence[str], caller: str) -> None:  # noqa: ANN401
    """Make sure that a fitted estimator has what `caller` needs.

    Raises
    ------
    InvalidInputError
        If it has not.
    """
    for name in needed:
        if not hasattr(fitted, name):
            raise InvalidInputError(
                f"estimator={type(fitted).__name__} has no {name} even when it is fitted; {caller} "
                "needs it."
            )


def _routed() -> bool:
    """Whether scikit-learn hands arguments of `fit` on by requests instead of by names."""
    return bool(get_config()["enable_metadata_routing"])


def weight_params(estimator: Any, sample_weight: NDArray[np.float64]) -> dict[str, Any]:  # noqa: ANN401
    """Name sample weights as an estimator's `fit` takes them.

    Parameters
    ----------
    estimator : estimator
        To be fitted.
    sample_weight : ndarray of shape (n_structures,)
        Weights.

    Returns
    -------
    dict of str to ndarray
        Argument of `fit`; that of the last step for a pipeline, which is where MAPIE hands it. With
        metadata routing a pipeline asks its steps which of them wants weights.
    """
    by_step = isinstance(estimator, Pipeline) and not _routed()
    name = f"{estimator.steps[-1][0]}__sample_weight" if by_step else "sample_weight"
    return {name: sample_weight}


def indexable_rows(X: Any, name: str = "X") -> Any:  # noqa: ANN401
    """Make sure that MAPIE and scikit-learn can cut an input into parts.

    Parameters
    ----------
    X : sequence of crystals, or array-like of shape (n_structures, n_features)
        Crystals of any accepted kind; or a table of what the estimator takes, such as embeddings.
    name : str, default="X"
        Name of the argument in error messages.

    Returns
    -------
    array, sparse matrix, DataFrame, Series or sequence of rows
        `X` itself, save that a sequence of crystals becomes an array of objects: MAPIE asks the
        first one for a number of features, and a `Structure` is a sequence of its sites.

    Raises
    ------
    InvalidInputError
        If `X` is neither, or empty.
    """
    if len(getattr(X, "shape", ())):
        if not X.shape[0]:
            raise InvalidInputError(f"{name} is empty, expected at least one row.")
        return indexable(X)[0]
    items = as_sequence(X, name)
    if isinstance(items[0], list | tuple | np.ndarray):
        return items
    rows = np.empty(len(items), dtype=object)
    for index in range(len(items)):
        rows[index] = items[index]
    return rows
