"""The trained network inside an estimator, and what its outputs mean."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from dssl_sklearn._checks import is_number
from dssl_sklearn.crystals.dataset import GraphDataset
from dssl_sklearn.estimators.base import CrystalEstimator
from dssl_sklearn.estimators.inner import path_to_network
from dssl_sklearn.estimators.property import PropertyEstimator
from dssl_sklearn.estimators.skipping import UsableGraphs
from dssl_sklearn.exceptions import InvalidInputError
from dssl_sklearn.explain.attributions import SiteAttributions


def check_estimator(estimator: object, kind: type[CrystalEstimator], wanted: str) -> None:
    """Make sure that there is a trained network to explain.

    Raises
    ------
    InvalidInputError
        If `estimator` is of another class.
    NotFittedError
        If it is not fitted.
    """
    if not isinstance(estimator, kind):
        path = path_to_network(estimator)
        advice = f"; hand in the network inside: estimator{path}" if path else ""
        raise InvalidInputError(
            f"estimator must be a fitted {wanted}, got {type(estimator).__name__}{advice}"
        )
    check_is_fitted(estimator, "net_")


def graphs_of(estimator: CrystalEstimator, structures: Any) -> UsableGraphs:  # noqa: ANN401
    """Graphs as `DSSLRegressor.predict` builds them, of ``structures`` in messages."""
    return estimator._graphs_to_use(structures, "structures")  # noqa: SLF001 - the package's own


def explained(
    estimator: PropertyEstimator,
    structures: Any,  # noqa: ANN401
    split: Callable[[GraphDataset], SiteAttributions],
) -> SiteAttributions:
    """Split predictions for crystals; skipped ones get no values and NaN for the rest."""
    usable, nothing = graphs_of(estimator, structures), np.empty(0)
    none = SiteAttributions([], nothing, nothing)
    found = none if usable.graphs is None else split(usable.graphs)
    return SiteAttributions(
        usable.spread_sites(found.values, nothing),
        usable.spread(found.baselines),
        usable.spread(found.predictions),
    )


def split_sites(values: Tensor, n_sites: NDArray[np.int64]) -> list[NDArray[np.float64]]:
    """One array per crystal from one row per site."""
    flat: NDArray[np.float64] = values.detach().double().cpu().numpy()
    return np.split(flat, np.cumsum(n_sites)[:-1])


def beside_network(
    estimator: PropertyEstimator, graphs: GraphDataset, unit: TargetUnit
) -> NDArray[np.float64]:
    """Part of each prediction that is not the network's, in the unit of the target."""
    kernel = estimator.kernel_
    if kernel is None or not hasattr(estimator, "y_scale_"):
        # Of a classifier the logit of the network is explained.
        return np.zeros(len(graphs))
    scale, mean = estimator.y_scale_[unit.column], estimator.y_mean_[unit.column]
    outputs = kernel.predict(graphs, estimator.net_.batch_size)[:, unit.column]
    part: NDArray[np.float64] = kernel.share[unit.column] * (scale * outputs + mean)
    return part


@dataclass(frozen=True)
class TargetUnit:
    """How an output of the network turns into its part of a prediction.

    Attributes
    ----------
    column : int
        Output that belongs to the target.
    scale, mean : float
        The part is ``scale * output + mean``; 1 and 0 for the logit of a class.
    """

    column: int
    scale: float
    mean: float

    @classmethod
    def of(cls, estimator: PropertyEstimator, target: int) -> TargetUnit:
        """Look a target up.

        Raises
        ------
        InvalidInputError
            If there is no such target.
        """
        n_outputs = int(estimator.head_params_["n_outputs"])
        is_index = is_number(target) and int(target) == target
        if not is_index or not 0 <= target < n_outputs:
            kind = "class" if hasattr(estimator, "classes_") else "target"
            raise InvalidInputError(
                f"target must be the index of a {kind}, an integer from 0 to {n_outputs - 1}, "
                f"got {target!r}"
            )
        column = int(target)
        if hasattr(estimator, "y_scale_"):
            kernel = estimator.kernel_
            share = 1.0 if kernel is None else 1.0 - kernel.share[column]
            scale, mean = estimator.y_scale_[column], estimator.y_mean_[column]
            return cls(column, share * float(scale), share * float(mean))
        return cls(column, 1.0, 0.0)
