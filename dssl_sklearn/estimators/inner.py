"""Where the network is in pipelines, searches and other estimators around it."""

from __future__ import annotations

from typing import Any

from sklearn.pipeline import Pipeline

from dssl_sklearn.estimators.base import CrystalEstimator

#: Where estimators keep the one that they have fitted, or hold.
_ATTRIBUTES = ("best_estimator_", "estimator_", "regressor_", "estimator")


def path_to_network(estimator: Any) -> str:  # noqa: ANN401
    """Say how to get from an estimator to the network inside, for messages.

    Parameters
    ----------
    estimator : estimator
        Such as a pipeline or a fitted search.

    Returns
    -------
    str
        Such as ``".best_estimator_['dsslregressor']"``; empty if there is none, or it is one.
    """
    path = ""
    while not isinstance(estimator, CrystalEstimator):
        if isinstance(estimator, Pipeline):
            steps = [name for name, step in estimator.steps if isinstance(step, CrystalEstimator)]
            name = steps[-1] if steps else estimator.steps[-1][0]
            path, estimator = f"{path}[{name!r}]", estimator[name]
            continue
        # Ensembles have many, and keep an unfitted one beside them.
        one = not hasattr(estimator, "estimators_")
        name = next((name for name in _ATTRIBUTES if one and hasattr(estimator, name)), "")
        if not name:
            return ""
        path, estimator = f"{path}.{name}", getattr(estimator, name)
    return path
