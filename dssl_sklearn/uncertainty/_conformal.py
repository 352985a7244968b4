"""What conformal regressor and classifier share: split, fit, positions in messages."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.utils import _safe_indexing, check_random_state, get_tags
from sklearn.utils._param_validation import HasMethods, Interval
from sklearn.utils.validation import _num_samples, check_is_fitted

from dssl_sklearn.estimators.skipping import SkippedReport, reported_skips, warn_skipped
from dssl_sklearn.estimators.targets import (
    check_length,
    check_sample_weight,
    detached,
    warn_of_order,
)
from dssl_sklearn.exceptions import InvalidInputError, InvalidStructureError
from dssl_sklearn.model_selection.folds import Rows, folds_of
from dssl_sklearn.uncertainty._mapie import (
    FittedModel,
    check_methods,
    indexable_rows,
    weight_params,
)

Folds = list[tuple[Rows, Rows]]

#: What a warning says of structures that the wrapped estimator skips.
_LEFT_OUT = "are left out"


class ConformalEstimator(MetaEstimatorMixin, BaseEstimator, ABC):
    """Base of the estimators that give the predictions of another one a stated coverage."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "estimator": [HasMethods("fit")],
        "confidence_level": [Interval(Real, 0, 1, closed="neither"), "array-like"],
        "cv": [Interval(Integral, 2, None, closed="left"), HasMethods(["split"]), "array-like"],
        "random_state": ["random_state"],
    }

    #: Folds for `cv` given as a number.
    _shuffled: ClassVar[type[KFold | StratifiedKFold]] = KFold

    estimator: Any
    confidence_level: float | Sequence[float]
    method: str
    cv: Any
    random_state: Any
    estimator_: Any
    mapie_: Any
    n_calibration_: int

    #: What the estimator must have once it is fitted; some have it not before.
    _needed: ClassVar[tuple[str, ...]] = ("predict",)

    @abstractmethod
    def _check_kind(self) -> None:
        """Make sure that the estimator predicts what this one is for."""

    def _fit_split(
        self,
        make: Callable[..., Any],
        X: Any,  # noqa: ANN401
        y: NDArray[Any],
        folds: Folds,
        weight: NDArray[np.float64] | None,
    ) -> Self:
        """Fit on one part, or take the estimator as it is, and calibrate on the other part.

        `make` makes MAPIE's estimator from a fitted one.
        """
        everything = np.arange(len(y))
        train, calibration = folds[0] if folds else (everything, everything)
        levels = self._levels(len(calibration))
        with whole_input(len(y)) as whole:
            if folds:
                with whole.part(train):
                    fitted = self._fit_part(X, y, train, weight)
            else:
                fitted = self.estimator
            check_methods(fitted, self._needed, type(self).__name__)
            mapie = make(FittedModel(fitted), confidence_level=levels)
            with whole.part(calibration):
                held_out = _safe_indexing(X, calibration)
                rows, targets = self._for_mapie(fitted, held_out, y[calibration])
                self._levels(len(targets))
                mapie.conformalize(rows, targets)
        # Only now, so that a fit that fails leaves the last one whole.
        self._set_calibrated(mapie)
        self.estimator_ = fitted
        return self

    def _fit_part(
        self,
        X: Any,  # noqa: ANN401
        y: NDArray[Any],
        rows: NDArray[np.int64],
        weight: NDArray[np.float64] | None,
    ) -> Any:  # noqa: ANN401
        params = {} if weight is None else weight_params(self.estimator, weight[rows])
        return clone(self.estimator).fit(_safe_indexing(X, rows), y[rows], **params)

    def _for_mapie(
        self,
        fitted: Any,  # noqa: ANN401
        X: Any,  # noqa: ANN401
        y: NDArray[Any],
    ) -> tuple[Any, NDArray[Any]]:
        """Rows and targets that MAPIE calibrates on."""
        return X, y

    def _set_calibrated(self, mapie: Any) -> None:  # noqa: ANN401
        """Keep MAPIE's estimator, if enough crystals have calibrated it."""
        # Crystals that the estimator leaves out have no error.
        n_calibration = int(np.isfinite(mapie.conformity_scores).sum())
        self._levels(n_calibration)
        self.mapie_, self.n_calibration_ = mapie, n_calibration
        # Of the fit: the parameter may be another one by the time of a prediction.
        self._level_shape = np.shape(self.confidence_level)

    def _check_rows(self, X: Any, y: Any) -> Any:  # noqa: ANN401
        """Check the parameters and the lengths; what can be cut into parts comes back."""
        self._validate_params()
        self._check_kind()
        rows = indexable_rows(X)
        check_length(y, _num_samples(rows))
        warn_of_order(X, y)
        if self.method == "prefit":
            check_is_fitted(
                self.estimator,
                msg="method='prefit' takes a fitted estimator, but this %(name)s is not fitted; "
                "fit it, and wrap it in sklearn.frozen.FrozenEstimator to keep it fitted through "
                "clone and cross-validation.",
            )
        return rows

    def _check_weight(self, sample_weight: Any, n_structures: int) -> NDArray[np.float64] | None:  # noqa: ANN401
        """Check the weights in the fits inside, which get them as they are."""
        if sample_weight is None:
            return None
        check_sample_weight(sample_weight, n_structures)
        weight = np.asarray(detached(sample_weight), dtype=np.float64)
        if self.method == "prefit":
            raise InvalidInputError(
                "sample_weight has no effect with method='prefit', which trains nothing; leave it "
                "out."
            )
        unused = np.flatnonzero(weight == 0)
        if self.method == "cv+" and len(unused):
            raise InvalidInputError(
                f"sample_weight is 0 for {len(unused)} of {n_structures} structure(s), the first "
                f"at position {unused[0]}; method='cv+' trains on all that it calibrates on: leave "
                "these out, or take method='split'."
            )
        return weight

    def _folds(self, X: Any, y: NDArray[Any], groups: Any) -> Folds:  # noqa: ANN401
        """Rows for training and calibration."""
        if self.method == "prefit":
            return []
        seed = None
        if isinstance(self.cv, Integral):
            seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        return folds_of(self.cv, X, y, groups, seed=seed, shuffled=self._shuffled)

    def _levels(self, n_calibration: int) -> list[float]:
        """Confidence levels, after a check that so many crystals can carry them."""
        levels = [float(level) for level in np.atleast_1d(self.confidence_level)]
        for level in levels:
            if not 0 < level < 1:
                raise InvalidInputError(
                    f"confidence_level must lie between 0 and 1, got {level!r} in "
                    f"{self.confidence_level!r}."
                )
        for level in levels:
            # The rank that MAPIE reads off must exist, on the other side, too.
            needed = int(np.ceil(max(1 / level, 1 / (1 - level)) - 1e-9))
            if n_calibration < needed:
                ways = "give more structures, or a lower level"
                if self.method != "cv+":
                    ways += ", or method='cv+', which calibrates a regressor on all of them"
                raise InvalidInputError(
                    f"confidence_level={level:g} needs at least {needed} structures for "
                    f"calibration, got {n_calibration}; {ways}."
                )
        return levels

    def _of_levels(self, found: NDArray[Any]) -> NDArray[Any]:
        """Drop the last axis, that of the confidence levels, where `fit` was given a single one."""
        return found.reshape(*found.shape[:-1], *self._level_shape)

    def __sklearn_tags__(self) -> Any:  # noqa: ANN401 - sklearn.utils.Tags moved between versions
        """Take what the wrapped estimator takes."""
        tags = super().__sklearn_tags__()
        tags.input_tags = get_tags(self.estimator).input_tags
        return tags


@dataclass
class WholeInput:
    """An input that is used in parts, and what is left out of it.

    Attributes
    ----------
    n_structures : int
        Length of the whole.
    skipped : dict of int to str
        Positions in the whole of what is left out, with the reasons.
    """

    n_structures: int
    skipped: dict[int, str] = field(default_factory=dict)

    @contextmanager
    def part(self, rows: NDArray[np.int64]) -> Iterator[None]:
        """Have errors on crystals of a part, and what is left out, named by positions in the whole.

        Parameters
        ----------
        rows : ndarray of int of shape (n_part,)
            Positions of the part.

        Raises
        ------
        InvalidStructureError
            In place of one about the part.
        """
        try:
            with reported_skips() as reports:
                yield
        except InvalidStructureError as error:
            if error.n_structures != len(rows):
                # On crystals of more or less than the part, such as `unlabeled` beside it.
                raise
            raise InvalidStructureError(_at(rows, error.reasons), self.n_structures) from error
        finally:
            self._gather(rows, reports)

    def _gather(self, rows: NDArray[np.int64], reports: Sequence[SkippedReport]) -> None:
        of_part = [report for report in reports if report.n_structures == len(rows)]
        for report in of_part:
            self.skipped.update(_at(rows, report.reasons))
        if not of_part:
            # Those of parts of the part, which an estimator made itself, have no known place.
            for report in reports:
                warn_skipped(report.reasons, report.n_structures, _LEFT_OUT)


@contextmanager
def whole_input(n_structures: int) -> Iterator[WholeInput]:
    """Warn once of all that is left out of the parts of an input.

    Parameters
    ----------
    n_structures : int
        Length of the whole.

    Yields
    ------
    WholeInput
        For the parts.
    """
    whole = WholeInput(n_structures)
    try:
        yield whole
    finally:
        if whole.skipped:
            warn_skipped(whole.skipped, n_structures, _LEFT_OUT)


def _at(rows: NDArray[np.int64], reasons: Mapping[int, str]) -> dict[int, str]:
    return {int(rows[index]): reason for index, reason in reasons.items()}
