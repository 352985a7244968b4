"""Sets of classes of stated coverage around any classifier."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassifierMixin, is_regressor
from sklearn.model_selection import StratifiedKFold
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_is_fitted

from dssl_sklearn._optional import import_optional
from dssl_sklearn.estimators.targets import check_complete, class_targets
from dssl_sklearn.exceptions import InvalidInputError
from dssl_sklearn.uncertainty._conformal import ConformalEstimator
from dssl_sklearn.uncertainty._mapie import indexable_rows


class ConformalClassifier(ClassifierMixin, ConformalEstimator):
    """Sets of classes that contain the true class with a stated probability.

    Conformal prediction by MAPIE [1]_, on structures as they are. A set holds every class whose
    probability is large enough that the sets of the calibration crystals missed no more of their
    true classes than stated; sure crystals get one class, doubtful ones several. A set may be
    empty, where no class is likely. The coverage holds on average over crystals from the same
    source as the calibration crystals, not for each class by itself.

    Parameters
    ----------
    estimator : estimator
        Classifier with ``predict_proba``, such as `DSSLClassifier` or a pipeline.
    confidence_level : float or sequence of float, default=0.9
        Probability with which a set shall contain the true class; several at once give one set
        each.
    method : {"split", "prefit"}, default="split"
        "split" trains on one part and calibrates on the other. "prefit" takes a fitted estimator,
        and `fit` only calibrates it, on crystals that it must not have seen.
    cv : int, splitter or sequence of (train, test) rows, default=5
        "split" trains and calibrates on the parts of the first fold. A number means shuffled folds
        with the same shares of the classes.
    random_state : int, RandomState instance or None, default=None
        Seed of the shuffling. The wrapped estimator has one of its own.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Classes, in the order of the columns of the sets.
    estimator_ : estimator
        The fitted classifier behind `predict`.
    mapie_ : SplitConformalClassifier
        MAPIE's estimator, which takes the probabilities of `estimator_` in place of crystals.
    n_calibration_ : int
        Crystals behind the sets, without those that the estimator leaves out.

    References
    ----------
    .. [1] M. Sadinle, J. Lei and L. Wasserman, "Least Ambiguous Set-Valued Classifiers With Bounded
       Error Levels", J. Am. Stat. Assoc. 114, 223 (2019).

    Examples
    --------
    >>> from dssl_sklearn import DSSLClassifier
    >>> from dssl_sklearn.datasets import load_elasticity
    >>> from dssl_sklearn.uncertainty import ConformalClassifier
    >>> structures, y = load_elasticity(target="log10_K_VRH", return_X_y=True)
    >>> stiff = y > 2
    >>> model = ConformalClassifier(DSSLClassifier(max_epochs=2, random_state=0), random_state=0)
    >>> labels, sets = model.fit(structures[:80], stiff[:80]).predict_set(structures[80:84])
    >>> labels.shape, sets.shape, sets.dtype
    ((4,), (4, 2), dtype('bool'))
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **ConformalEstimator._parameter_constraints,  # noqa: SLF001 - the base's own
        "method": [StrOptions({"split", "prefit"})],
    }
    _needed: ClassVar[tuple[str, ...]] = ("predict", "predict_proba")
    _shuffled = StratifiedKFold

    def __init__(
        self,
        estimator: Any,  # noqa: ANN401 - any classifier
        *,
        confidence_level: float | Sequence[float] = 0.9,
        method: Literal["split", "prefit"] = "split",
        cv: Any = 5,  # noqa: ANN401 - whatever splits
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.estimator = estimator
        self.confidence_level = confidence_level
        self.method = method
        self.cv = cv
        self.random_state = random_state

    def fit(
        self,
        X: Any,  # noqa: ANN401
        y: ArrayLike,
        groups: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Train and calibrate; with ``method="prefit"`` only calibrate.

        Parameters
        ----------
        X : sequence of crystals of shape (n_structures,)
            Whatever the estimator takes; or a table of shape (n_structures, n_features): an array,
            a DataFrame, a sparse matrix or a list of rows.
        y : array-like of shape (n_structures,)
            Classes, all of them known.
        groups : array-like of shape (n_structures,), default=None
            Handed to a splitter that keeps groups together.
        sample_weight : array-like of shape (n_structures,), default=None
            Handed to the `fit` of the estimator, or of the last step of a pipeline. Calibration
            counts all crystals alike, since the stated coverage does.

        Returns
        -------
        self
            The calibrated classifier.

        Raises
        ------
        InvalidInputError
            If `X`, `y` or an argument has an unusable value, there are too few crystals for the
            confidence level, or a class of the calibration part is not in the training part.
        InvalidStructureError
            If any crystal cannot be used.
        NotFittedError
            If ``method="prefit"`` and the estimator is not fitted.
        MissingDependencyError
            If MAPIE is not installed.
        """
        mapie = import_optional("mapie.classification", type(self).__name__, "conformal")
        rows = self._check_rows(X, y)
        labels = _known_classes(y)
        weight = self._check_weight(sample_weight, len(labels))
        folds = self._folds(rows, labels, groups)
        known = labels[folds[0][0]] if folds else self.estimator.classes_
        unknown = np.setdiff1d(labels, known)
        if len(unknown):
            raise InvalidInputError(
                f"y holds {unknown[0].item()!r}, a class that the training part does not have; "
                "give more structures of that class, or leave it out."
            )
        make = partial(mapie.SplitConformalClassifier, conformity_score="lac", prefit=True)
        return self._fit_split(make, rows, labels, folds, weight)

    @property
    def classes_(self) -> NDArray[Any]:
        """Classes, in the order of the columns of the sets."""
        check_is_fitted(self, "mapie_")
        return self.estimator_.classes_  # type: ignore[no-any-return]

    def predict(self, X: Any) -> NDArray[Any]:  # noqa: ANN401
        """Predict as the wrapped estimator does.

        Parameters
        ----------
        X : sequence of crystals of shape (n_structures,)
            As for `fit`.

        Returns
        -------
        ndarray of shape (n_structures,)
            Most probable classes.

        Raises
        ------
        NotFittedError
            If the classifier is not fitted.
        InvalidInputError, InvalidStructureError
            As `fit`.
        """
        check_is_fitted(self, "mapie_")
        return self.estimator_.predict(indexable_rows(X))  # type: ignore[no-any-return]

    def predict_proba(self, X: Any) -> NDArray[np.float64]:  # noqa: ANN401
        """Predict probabilities as the wrapped estimator does; they are not recalibrated.

        Parameters
        ----------
        X : sequence of crystals of shape (n_structures,)
            As for `fit`.

        Returns
        -------
        ndarray of shape (n_structures, n_classes)
            Probabilities in the order of `classes_`.

        Raises
        ------
        NotFittedError
            If the classifier is not fitted.
        InvalidInputError, InvalidStructureError
            As `fit`.
        """
        check_is_fitted(self, "mapie_")
        return self.estimator_.predict_proba(indexable_rows(X))  # type: ignore[no-any-return]

    def predict_set(self, X: Any) -> tuple[NDArray[Any], NDArray[np.bool_]]:  # noqa: ANN401
        """Predict with sets of classes.

        Parameters
        ----------
        X : sequence of crystals of shape (n_structures,)
            As for `fit`.

        Returns
        -------
        labels : ndarray of shape (n_structures,)
            Most probable classes; None for structures that the estimator leaves out.
        sets : ndarray of bool of shape (n_structures, n_classes) or (..., n_levels)
            Whether a class is in the set, for each level where `confidence_level` is a sequence;
            empty sets for structures that the estimator leaves out.

        Raises
        ------
        NotFittedError
            If the classifier is not fitted.
        InvalidInputError, InvalidStructureError
            As `fit`.
        """
        probabilities = self.predict_proba(X)
        known = np.isfinite(probabilities).all(axis=1)
        labels = self.classes_[probabilities.argmax(axis=1)]
        if not known.all():
            # As `predict` of a DSSLClassifier.
            labels = labels.astype(object)
            labels[~known] = None
        sets = np.zeros((*probabilities.shape, math.prod(self._level_shape)), dtype=bool)
        if known.any():
            _, sets[known] = self.mapie_.predict_set(probabilities[known])
        return labels, self._of_levels(sets)

    def _for_mapie(
        self,
        fitted: Any,  # noqa: ANN401
        X: Any,  # noqa: ANN401
        y: NDArray[Any],
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        probabilities = fitted.predict_proba(X)
        known = np.isfinite(probabilities).all(axis=1)
        return probabilities[known], y[known]

    def _check_kind(self) -> None:
        if hasattr(self.estimator, "__sklearn_tags__") and is_regressor(self.estimator):
            raise InvalidInputError(
                f"estimator={type(self.estimator).__name__} is a regressor, which has no "
                "predict_proba; take ConformalRegressor for it, or a classifier."
            )


def _known_classes(y: Any) -> NDArray[Any]:  # noqa: ANN401
    """Read one class for each crystal.

    Raises
    ------
    InvalidInputError
        If some are missing.
    """
    classes, codes = class_targets(y, regressor="ConformalRegressor")
    check_complete(codes < 0, "y is missing", "calibration needs the true classes")
    return classes[codes]
