"""Which crystals lie too far from those that a model was trained on."""

from __future__ import annotations

import copy
import os
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import gmean
from sklearn.base import BaseEstimator, OutlierMixin, clone
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from dssl_sklearn.estimators.pretrained import is_fitted_pretrainer
from dssl_sklearn.estimators.skipping import UsableGraphs
from dssl_sklearn.exceptions import InvalidInputError
from dssl_sklearn.uncertainty._embedding import Embedder
from dssl_sklearn.uncertainty._report import domain_report, symbols_of

_Comparison = tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.bool_]]
#: Distances of copies in other cells, in spreads of the embedding: rounding.
_ROUNDING = 1e-4
#: Threshold for training crystals that are all copies, in spreads of the embedding: rounding.
_LEAST_THRESHOLD = 1e-3


class ApplicabilityDomain(OutlierMixin, BaseEstimator):
    """Tell crystals like the training crystals from those out of reach.

    A crystal is out of the domain if it has an element that no training crystal has, or if its
    embedding is farther from those of the training crystals than they are from each other. The
    distance is the geometric mean of the Euclidean distances to the `n_neighbors` nearest training
    crystals, of embeddings that are standardized over the training crystals; it is zero for a copy
    of one of them, whatever cell it is written in.

    Parameters
    ----------
    pretrained : str, path or fitted estimator, default="mp"
        Where the embedding comes from: the name of shipped weights, a file that
        `DSSLPretrainer.save` wrote, a fitted `DSSLPretrainer`, or a fitted `DSSLRegressor` or
        `DSSLClassifier` for its own view of the crystals.
    n_neighbors : int, default=5
        Training crystals that the distance is taken to.
    contamination : float, default=0.05
        Share of the training crystals that would be out of the domain if each was compared with the
        others alone; sets the threshold.
    on_error : {"raise", "skip"}, default="raise"
        What to do about crystals that cannot be used: an error that names all of them, or leave
        them out with a `SkippedStructuresWarning`. They are then out of the domain, with NaN as
        distance and score.
    n_jobs : int or None, default=None
        Processes for building graphs and for the search of neighbors.

    Attributes
    ----------
    threshold_ : float
        Distance at which the domain ends.
    offset_ : float
        -1; `decision_function` is ``score_samples(X) - offset_``.
    elements_ : tuple of str
        Elements of the training crystals.
    n_train_ : int
        Number of training crystals.

    Examples
    --------
    >>> from dssl_sklearn.datasets import load_elasticity
    >>> from dssl_sklearn.uncertainty import ApplicabilityDomain
    >>> structures = load_elasticity().data
    >>> domain = ApplicabilityDomain(n_neighbors=3).fit(structures[:100])
    >>> domain.predict(structures[:3])
    array([1, 1, 1])
    >>> domain.report(structures[100:102]).columns.tolist()
    ['in_domain', 'relative_distance', 'distance', 'nearest', 'unseen_elements', 'reason']
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "pretrained": [str, os.PathLike, BaseEstimator],
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "contamination": [Interval(Real, 0, 0.5, closed="both")],
        "on_error": [StrOptions({"raise", "skip"})],
        "n_jobs": [Integral, None],
    }

    def __init__(
        self,
        pretrained: str | os.PathLike[str] | BaseEstimator = "mp",
        *,
        n_neighbors: int = 5,
        contamination: float = 0.05,
        on_error: Literal["raise", "skip"] = "raise",
        n_jobs: int | None = None,
    ) -> None:
        self.pretrained = pretrained
        self.n_neighbors = n_neighbors
        self.contamination = contamination
        self.on_error = on_error
        self.n_jobs = n_jobs

    def fit(self, X: Any, y: object = None) -> Self:  # noqa: ANN401
        """Learn where the training crystals lie.

        Parameters
        ----------
        X : sequence of crystals of shape (n_structures,)
            Training crystals of the model in question, more than `n_neighbors`.
        y : None
            Ignored.

        Returns
        -------
        self
            The fitted domain.

        Raises
        ------
        InvalidInputError
            If `X` is not a sequence of crystals, or an argument has an unusable value.
        InvalidStructureError
            If any crystal cannot be used, unless ``on_error="skip"``.
        WeightsError
            If there are no such weights.
        NotFittedError
            If `pretrained` is an estimator that is not fitted.
        """
        self._fit(X)
        return self

    def _fit(self, X: Any) -> NDArray[np.float64]:  # noqa: ANN401
        """Fit, and return the distance of every training crystal from the others."""
        self._validate_params()
        embedder = Embedder.of(self.pretrained, self.n_jobs)
        usable = UsableGraphs.of(X, embedder.builder, skip=self.on_error == "skip")
        if usable.graphs is None:
            raise InvalidInputError("X has no crystal that can be used; the warning says why.")
        embeddings, elements = embedder.embed(usable.graphs)
        if len(embeddings) <= self.n_neighbors:
            raise InvalidInputError(
                f"n_neighbors={self.n_neighbors} needs more than {self.n_neighbors} training "
                f"crystals, got {len(embeddings)}; give more, or a smaller n_neighbors."
            )
        scaler = StandardScaler().fit(embeddings)
        neighbors = NearestNeighbors(n_neighbors=self.n_neighbors, n_jobs=self.n_jobs)
        neighbors.fit(scaler.transform(embeddings))
        # Without X a crystal is not its own neighbor.
        among_others = _mean_distance(neighbors.kneighbors()[0])
        self._embedder, self._scaler, self._neighbors = embedder, scaler, neighbors
        self._rows = usable.rows
        self._seen: NDArray[np.bool_] = np.asarray(elements.any(axis=0))
        quantile = float(np.quantile(among_others, 1 - self.contamination))
        self.threshold_ = max(quantile, _LEAST_THRESHOLD)
        self.offset_: float = -1.0
        self.elements_ = symbols_of(self._seen)
        self.n_train_ = len(embeddings)
        return usable.spread(among_others)

    def fit_predict(self, X: Any, y: object = None) -> NDArray[np.int64]:  # noqa: ANN401
        """Find the outliers among crystals, each compared with all others.

        Parameters
        ----------
        X : sequence of crystals of shape (n_structures,)
            As for `fit`.
        y : None
            Ignored.

        Returns
        -------
        ndarray of int of shape (n_structures,)
            -1 for about a share of `contamination` of them, 1 for the others.

        Raises
        ------
        InvalidInputError, InvalidStructureError, WeightsError, NotFittedError
            As `fit`.
        """
        among_others = self._fit(X)
        return np.where(among_others <= self.threshold_, 1, -1)

    def score_samples(self, X: Any) -> NDArray[np.float64]:  # noqa: ANN401
        """Score crystals: the lower, the farther from the training crystals.

        Parameters
        ----------
        X : sequence of crystals of shape (n_structures,)
            As for `fit`.

        Returns
        -------
        ndarray of shape (n_structures,)
            Minus the distance in units of `threshold_`, and 1 less for every unseen element.

        Raises
        ------
        NotFittedError
            If the domain is not fitted.
        InvalidInputError, InvalidStructureError
            As `fit`.
        """
        distance, _, unseen = self._compare(X)
        scores: NDArray[np.float64] = -distance / self.threshold_ - unseen.sum(axis=1)
        return scores

    def decision_function(self, X: Any) -> NDArray[np.float64]:  # noqa: ANN401
        """Score crystals so that those out of the domain are below zero.

        Parameters
        ----------
        X : sequence of crystals of shape (n_structures,)
            As for `fit`.

        Returns
        -------
        ndarray of shape (n_structures,)
            ``score_samples(X) - offset_``.

        Raises
        ------
        NotFittedError
            If the domain is not fitted.
        InvalidInputError, InvalidStructureError
            As `fit`.
        """
        shifted: NDArray[np.float64] = self.score_samples(X) - self.offset_
        return shifted

    def predict(self, X: Any) -> NDArray[np.int64]:  # noqa: ANN401
        """Tell whether crystals are in the domain.

        Parameters
        ----------
        X : sequence of crystals of shape (n_structures,)
            As for `fit`.

        Returns
        -------
        ndarray of int of shape (n_structures,)
            1 for crystals in the domain, -1 for those out of it.

        Raises
        ------
        NotFittedError
            If the domain is not fitted.
        InvalidInputError, InvalidStructureError
            As `fit`.
        """
        distance, _, unseen = self._compare(X)
        return np.where(self._is_inside(distance, unseen), 1, -1)

    def report(self, X: Any) -> pd.DataFrame:  # noqa: ANN401
        """Tell for every crystal whether it is in the domain, and if not, why.

        Parameters
        ----------
        X : sequence of crystals of shape (n_structures,)
            As for `fit`.

        Returns
        -------
        DataFrame
            A row for each crystal, with the index of `X` if it is a pandas object. Columns:
            ``in_domain`` (bool), ``relative_distance`` (in units of the threshold), ``distance``,
            ``nearest`` (position of the nearest training crystal; -1 for a skipped one),
            ``unseen_elements`` (symbols with commas between, or nothing), ``reason`` (in words, or
            nothing).

        Raises
        ------
        NotFittedError
            If the domain is not fitted.
        InvalidInputError, InvalidStructureError
            As `fit`.
        """
        distance, nearest, unseen = self._compare(X)
        return domain_report(
            self._is_inside(distance, unseen),
            distance,
            self.threshold_,
            nearest,
            unseen,
            index=getattr(X, "index", None) if hasattr(X, "iloc") else None,
        )

    def _compare(self, X: Any) -> _Comparison:  # noqa: ANN401
        """Distances, positions of the nearest training crystals, and unseen elements by number."""
        check_is_fitted(self, "threshold_")
        usable = UsableGraphs.of(X, self._embedder.builder, skip=self.on_error == "skip")
        distance = np.full(usable.n_structures, np.nan)
        nearest = np.full(usable.n_structures, -1)
        unseen = np.zeros((usable.n_structures, len(self._seen)), dtype=bool)
        if usable.graphs is not None:
            embeddings, elements = self._embedder.embed(usable.graphs)
            distances, found = self._neighbors.kneighbors(self._scaler.transform(embeddings))
            distance[usable.rows] = _mean_distance(distances)
            nearest[usable.rows] = self._rows[found[:, 0]]
            unseen[usable.rows] = elements & ~self._seen
        return distance, nearest, unseen

    def _is_inside(
        self, distance: NDArray[np.float64], unseen: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        inside: NDArray[np.bool_] = (distance <= self.threshold_) & ~unseen.any(axis=1)
        return inside

    def __sklearn_clone__(self) -> Self:
        """Copy unfitted; a fitted `pretrained` stays fitted, since it is what embeds."""
        params = {k: clone(v, safe=False) for k, v in self.get_params(deep=False).items()}
        if is_fitted_pretrainer(self.pretrained):
            params["pretrained"] = copy.copy(self.pretrained)
        return type(self)(**params)

    def __sklearn_tags__(self) -> Any:  # noqa: ANN401 - sklearn.utils.Tags moved between versions
        """Say that the input is no table: crystals, not rows of numbers."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        return tags


def _mean_distance(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    # The geometric mean would make up to a tenth of the threshold of a copy's rounding error.
    mean: NDArray[np.float64] = gmean(np.where(distances < _ROUNDING, 0.0, distances), axis=1)
    return mean
