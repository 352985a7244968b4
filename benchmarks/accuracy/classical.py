"""Models on feature tables; whatever they fit is fitted on the rows they are given."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import (
    ExtraTreesRegressor,
    HistGradientBoostingRegressor,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR

#: Grid of the support vector machines; gamma in units of 1 / n_features, epsilon in those of the
#: standardized target.
SVR_GRID = {"C": [1.0, 10.0, 100.0], "epsilon": [0.02, 0.1], "gamma": [0.05, 0.2, 1.0]}
INNER_FOLDS = 5
RIDGE_ALPHAS = [float(alpha) for alpha in np.logspace(-2, 5, 22)]
FOREST = {"n_estimators": 300, "max_features": 1 / 3}
#: Leaves may be small, so that 50 labels can be split at all.
BOOSTING = {
    "learning_rate": 0.05,
    "max_iter": 300,
    "max_leaf_nodes": 15,
    "min_samples_leaf": 5,
    "max_features": 0.3,
}
_SVR_CACHE_MB = 500


class ClippedRegressor(RegressorMixin, BaseEstimator):
    """Keep the predictions of a regressor within the range of its training targets.

    Parameters
    ----------
    regressor : estimator
        What is fitted.

    Attributes
    ----------
    regressor_ : estimator
        The fitted copy.
    range_ : tuple of float
        Smallest and largest training target.
    """

    def __init__(self, regressor: Any) -> None:  # noqa: ANN401 - any regressor
        self.regressor = regressor

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Fit on rows X of shape (n, n_features) and targets y of shape (n,)."""
        self.range_ = (float(np.min(y)), float(np.max(y)))
        self.regressor_ = clone(self.regressor).fit(X, y)
        return self

    def predict(self, X: ArrayLike) -> NDArray[np.float64]:
        """Predict and clip, shape (n,)."""
        predicted: NDArray[np.float64] = np.clip(self.regressor_.predict(X), *self.range_)
        return predicted


class BestScale(RegressorMixin, BaseEstimator):
    """Learn targets as they are or, if all are positive, their logarithms: what suits inner folds.

    Parameters
    ----------
    regressor : estimator
        What is fitted.
    random_state : int, default=0
        Seed of the inner folds.

    Attributes
    ----------
    regressor_ : estimator
        The fitted one.
    chosen_ : dict of str to float
        Whether logarithms were learned (``log``: 0 or 1).
    """

    def __init__(self, regressor: Any, random_state: int = 0) -> None:  # noqa: ANN401
        self.regressor = regressor
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Fit on rows X of shape (n, n_features) and targets y of shape (n,)."""
        candidates = [clone(self.regressor)]
        if np.min(y) > 0:
            candidates.append(_of_logarithms(clone(self.regressor)))
        errors = [0.0]
        if len(candidates) > 1:
            folds = KFold(INNER_FOLDS, shuffle=True, random_state=self.random_state)
            scoring = "neg_mean_absolute_error"
            errors = [
                -cross_val_score(model, X, y, scoring=scoring, cv=folds).mean()
                for model in candidates
            ]
        best = int(np.argmin(errors))
        self.chosen_ = {"log": float(best)}
        self.regressor_ = candidates[best].fit(X, y)
        return self

    def predict(self, X: ArrayLike) -> NDArray[np.float64]:
        """Predict, shape (n,)."""
        predicted: NDArray[np.float64] = self.regressor_.predict(X)
        return predicted


class TunedSVR(RegressorMixin, BaseEstimator):
    """Support vector regression, tuned by the MAE of five folds of the rows it is fitted on.

    Features and target are standardized inside; of positive targets the logarithms are tried, too.

    Parameters
    ----------
    random_state : int, default=0
        Seed of the inner folds.

    Attributes
    ----------
    search_ : GridSearchCV
        Over C, epsilon and gamma, on the better scale.
    chosen_ : dict of str to float
        What it chose; gamma in units of 1 / n_features, and whether logarithms were learned.
    """

    def __init__(self, random_state: int = 0) -> None:
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Fit on rows X of shape (n, n_features) and targets y of shape (n,)."""
        n_features = np.shape(X)[1]
        grid = {**SVR_GRID, "gamma": [share / n_features for share in SVR_GRID["gamma"]]}
        model = TransformedTargetRegressor(
            _scaled(SVR(cache_size=_SVR_CACHE_MB)), transformer=StandardScaler()
        )
        self.search_, prefix, log = self._search(model, "regressor__svr__", grid, X, y), "", 0.0
        if np.min(y) > 0:
            of_log = self._search(_of_logarithms(model), "regressor__regressor__svr__", grid, X, y)
            if of_log.best_score_ > self.search_.best_score_:
                self.search_, prefix, log = of_log, "regressor__", 1.0
        best = self.search_.best_params_
        self.chosen_ = {name: float(best[f"{prefix}regressor__svr__{name}"]) for name in SVR_GRID}
        self.chosen_["gamma"] *= n_features
        self.chosen_["log"] = log
        return self

    def _search(
        self,
        model: TransformedTargetRegressor,
        prefix: str,
        grid: dict[str, list[float]],
        X: ArrayLike,
        y: ArrayLike,
    ) -> GridSearchCV:
        return GridSearchCV(
            model,
            {f"{prefix}{name}": values for name, values in grid.items()},
            scoring="neg_mean_absolute_error",
            cv=KFold(INNER_FOLDS, shuffle=True, random_state=self.random_state),
        ).fit(X, y)

    def predict(self, X: ArrayLike) -> NDArray[np.float64]:
        """Predict, shape (n,)."""
        predicted: NDArray[np.float64] = self.search_.predict(X)
        return predicted


def make_svr(seed: int) -> TunedSVR:
    """Support vector regression, tuned."""
    return TunedSVR(seed)


def make_ridge(_seed: int) -> ClippedRegressor:
    """Ridge regression, alpha by leave-one-out, predictions clipped to the training targets."""
    return ClippedRegressor(_scaled(RidgeCV(RIDGE_ALPHAS)))


def make_forest(seed: int) -> BestScale:
    """Random forest, untuned but for the scale of the target."""
    model = make_pipeline(_imputer(), RandomForestRegressor(**FOREST, random_state=seed))
    return BestScale(model, seed)


def make_extra_trees(seed: int) -> BestScale:
    """Extremely randomized trees, untuned but for the scale of the target."""
    model = make_pipeline(_imputer(), ExtraTreesRegressor(**FOREST, random_state=seed))
    return BestScale(model, seed)


def make_boosting(seed: int) -> BestScale:
    """Gradient boosting, untuned but for the scale; it takes missing features as they are."""
    model = HistGradientBoostingRegressor(**BOOSTING, early_stopping=False, random_state=seed)
    return BestScale(model, seed)


def make_median(_seed: int) -> DummyRegressor:
    """Median of the training targets."""
    return DummyRegressor(strategy="median")


def _of_logarithms(regressor: Any) -> TransformedTargetRegressor:  # noqa: ANN401 - any regressor
    return TransformedTargetRegressor(regressor, func=np.log, inverse_func=np.exp)


def _imputer() -> SimpleImputer:
    return SimpleImputer(strategy="median", keep_empty_features=True)


def _scaled(regressor: Any) -> Pipeline:  # noqa: ANN401 - any regressor
    return make_pipeline(_imputer(), StandardScaler(), regressor)
