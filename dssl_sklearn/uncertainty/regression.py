"""Prediction intervals of stated coverage around any regressor."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Sequence
from functools import partial
from numbers import Integral
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import RegressorMixin, is_classifier
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import check_cv
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_is_fitted

from dssl_sklearn._optional import import_optional
from dssl_sklearn.estimators.targets import known_targets
from dssl_sklearn.exceptions import InvalidInputError
from dssl_sklearn.uncertainty._conformal import ConformalEstimator, whole_input
from dssl_sklearn.uncertainty._mapie import WithPredict, indexable_rows


class ConformalRegressor(RegressorMixin, ConformalEstimator):
    """Prediction intervals that contain the true value with a stated probability.

    Conformal prediction by MAPIE, on structures as they are: errors on crystals that the model was
    not trained on tell how wide an interval must be. The coverage holds on average over new
    crystals that come from the same source as the calibration crystals, whatever the model and
    however many data; it does not hold for each kind of crystal by itself, nor for crystals of
    another kind (see `ApplicabilityDomain`).

    Parameters
    ----------
    estimator : estimator
        Regressor of one target, such as `DSSLRegressor` or a pipeline. It may also take embeddings.
    confidence_level : float or sequence of float, default=0.9
        Probability with which an interval shall contain the true value; several at once give one
        interval each.
    method : {"split", "cv+", "prefit"}, default="split"
        "split" trains on one part and calibrates on the other: coverage of at least
        `confidence_level`. "cv+" [1]_ trains once for each fold and once on everything, and
        calibrates on all crystals: about `confidence_level` in practice (guaranteed are twice as
        many misses), with narrower intervals from few labels. "prefit" takes a fitted estimator,
        and `fit` only calibrates it, on crystals that it must not have seen.
    normalize : bool, default=False
        Whether the widths follow the standard deviation that ``estimator.predict(X,
        return_std=True)`` gives, such as that of an ensemble, instead of being all alike.
    cv : int, splitter or sequence of (train, test) rows, default=5
        Folds for "cv+"; "split" trains and calibrates on the parts of the first one. A number means
        shuffled folds. A splitter that keeps formulas together calibrates for new formulas.
    n_jobs : int or None, default=None
        Processes for the folds of "cv+".
    random_state : int, RandomState instance or None, default=None
        Seed of the shuffling. The wrapped estimator has one of its own.

    Attributes
    ----------
    estimator_ : estimator
        The fitted model behind `predict`; not for "cv+", where it lives inside `mapie_`.
    mapie_ : SplitConformalRegressor or CrossConformalRegressor
        MAPIE's estimator.
    n_calibration_ : int
        Crystals behind the intervals, without those that the estimator leaves out.

    References
    ----------
    .. [1] R. F. Barber, E. J. Candès, A. Ramdas and R. J. Tibshirani, "Predictive inference with
       the jackknife+", Ann. Statist. 49, 486 (2021).

    Examples
    --------
    >>> from dssl_sklearn import DSSLRegressor
    >>> from dssl_sklearn.datasets import load_elasticity
    >>> from dssl_sklearn.uncertainty import ConformalRegressor
    >>> structures, y = load_elasticity(target="log10_K_VRH", return_X_y=True)
    >>> model = ConformalRegressor(DSSLRegressor(max_epochs=2, random_state=0), random_state=0)
    >>> y_pred, intervals = model.fit(structures[:80], y[:80]).predict_interval(structures[80:84])
    >>> y_pred.shape, intervals.shape
    ((4,), (4, 2))
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **ConformalEstimator._parameter_constraints,  # noqa: SLF001 - the base's own
        "method": [StrOptions({"split", "cv+", "prefit"})],
        "normalize": ["boolean"],
        "n_jobs": [Integral, None],
    }

    def __init__(
        self,
        estimator: Any,  # noqa: ANN401 - any regressor
        *,
        confidence_level: float | Sequence[float] = 0.9,
        method: Literal["split", "cv+", "prefit"] = "split",
        normalize: bool = False,
        cv: Any = 5,  # noqa: ANN401 - whatever splits
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.estimator = estimator
        self.confidence_level = confidence_level
        self.method = method
        self.normalize = normalize
        self.cv = cv
        self.n_jobs = n_jobs
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
        y : array-like of shape (n_structures,) or (n_structures, 1)
            Targets, all of them known.
        groups : array-like of shape (n_structures,), default=None
            Handed to a splitter that keeps groups together.
        sample_weight : array-like of shape (n_structures,), default=None
            Handed to the `fit` of the estimator, or of the last step of a pipeline. Calibration
            counts all crystals alike, since the stated coverage does. Not 0 for "cv+".

        Returns
        -------
        self
            The calibrated regressor.

        Raises
        ------
        InvalidInputError
            If `X`, `y` or an argument has an unusable value, or there are too few crystals for
            the confidence level.
        InvalidStructureError
            If any crystal cannot be used.
        NotFittedError
            If ``method="prefit"`` and the estimator is not fitted.
        MissingDependencyError
            If MAPIE is not installed.
        """
        mapie = import_optional("mapie.regression", type(self).__name__, "conformal")
        rows = self._check_rows(X, y)
        targets = known_targets(y, "calibration", "ConformalClassifier")
        weight = self._check_weight(sample_weight, len(targets))
        self._check_std()
        folds = self._folds(rows, targets, groups)
        if self.method != "cv+":
            make = partial(
                mapie.SplitConformalRegressor, conformity_score=self._score(), prefit=True
            )
            return self._fit_split(make, rows, targets, folds, weight)
        untested = np.setdiff1d(np.arange(len(targets)), [row for _, test in folds for row in test])
        if len(untested):
            raise InvalidInputError(
                f"cv has {len(untested)} of {len(targets)} structure(s) in no test part, the first "
                f"at position {untested[0]}; method='cv+' calibrates on all of them: give folds "
                "that test each, such as KFold, or take method='split'."
            )
        cross = mapie.CrossConformalRegressor(
            WithPredict.of(self.estimator, weighted=weight is not None),
            confidence_level=self._levels(len(targets)),
            conformity_score=self._score(),
            method="plus",
            cv=check_cv(folds),
            n_jobs=self.n_jobs,
        )
        # The fit on all crystals, which comes first, names those that the folds leave out.
        with whole_input(len(targets)) as whole, whole.part(np.arange(len(targets))):
            _fit_conformalize(cross, rows, targets, weight)
        self._set_calibrated(cross)
        self.__dict__.pop("estimator_", None)
        return self

    def predict(self, X: Any) -> NDArray[np.float64]:  # noqa: ANN401
        """Predict as the wrapped estimator does.

        Parameters
        ----------
        X : sequence of crystals of shape (n_structures,)
            As for `fit`.

        Returns
        -------
        ndarray of shape (n_structures,)
            Predictions of the model that was trained on the training part, for "cv+" on everything.

        Raises
        ------
        NotFittedError
            If the regressor is not fitted.
        InvalidInputError, InvalidStructureError
            As `fit`.
        """
        check_is_fitted(self, "mapie_")
        if hasattr(self, "estimator_"):
            return self.mapie_.predict(indexable_rows(X))  # type: ignore[no-any-return]
        # Not the mean over the folds but the model that was trained on everything.
        return self.mapie_.predict(  # type: ignore[no-any-return]
            indexable_rows(X), aggregate_point_predictions=None
        )

    def predict_interval(self, X: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:  # noqa: ANN401
        """Predict with intervals.

        Parameters
        ----------
        X : sequence of crystals of shape (n_structures,)
            As for `fit`.

        Returns
        -------
        y_pred : ndarray of shape (n_structures,)
            As from `predict`. With "cv+" it may lie outside of its interval, though hardly ever.
        intervals : ndarray of shape (n_structures, 2) or (n_structures, 2, n_levels)
            Lower and upper ends, for each level where `confidence_level` is a sequence; NaN where
            the estimator predicts NaN.

        Raises
        ------
        NotFittedError
            If the regressor is not fitted.
        InvalidInputError, InvalidStructureError
            As `fit`.
        """
        check_is_fitted(self, "mapie_")
        rows = indexable_rows(X)
        if hasattr(self, "estimator_"):
            y_pred, intervals = self.mapie_.predict_interval(rows)
            return y_pred, self._of_levels(intervals)
        y_pred = self.predict(rows)
        # What an estimator leaves out it predicts as NaN, which MAPIE cannot rank for "cv+".
        usable = np.isfinite(y_pred)
        intervals = np.full((len(y_pred), 2, math.prod(self._level_shape)), np.nan)
        if usable.any():
            _, intervals[usable] = self.mapie_.predict_interval(_safe_indexing(rows, usable))
        return y_pred, self._of_levels(intervals)

    def _check_kind(self) -> None:
        if hasattr(self.estimator, "__sklearn_tags__") and is_classifier(self.estimator):
            raise InvalidInputError(
                f"estimator={type(self.estimator).__name__} is a classifier, whose classes have no "
                "intervals; take ConformalClassifier for it, or a regressor."
            )

    def _score(self) -> Any:  # noqa: ANN401 - MAPIE is untyped
        """How an error counts: by its size, or in units of the predicted standard deviation."""
        scores = import_optional("mapie.conformity_scores", type(self).__name__, "conformal")
        return scores.StdConformityScore() if self.normalize else scores.AbsoluteConformityScore()

    def _check_std(self) -> None:
        if not self.normalize:
            return
        model = self.estimator
        if isinstance(model, FrozenEstimator):
            model = model.estimator
        if isinstance(model, Pipeline):
            # It hands what it is asked for on to its last step.
            model = model[-1]
        predict = getattr(model, "predict", None)
        if predict is None or "return_std" not in inspect.signature(predict).parameters:
            raise InvalidInputError(
                "normalize=True needs an estimator with predict(X, return_std=True), which "
                f"{type(model).__name__} has not; take an ensemble or a Gaussian process, or "
                "normalize=False."
            )


def _fit_conformalize(
    cross: Any,  # noqa: ANN401
    X: Any,  # noqa: ANN401
    y: NDArray[np.float64],
    weight: NDArray[np.float64] | None,
) -> None:
    params = None if weight is None else {"sample_weight": weight}
    with warnings.catch_warnings():
        # Crystals that the estimator leaves out have no error.
        warnings.filterwarnings("ignore", "Mean of empty slice", RuntimeWarning)
        warnings.filterwarnings("ignore", "(?s).*belongs to every resampling", UserWarning)
        cross.fit_conformalize(X, y, fit_params=params)
