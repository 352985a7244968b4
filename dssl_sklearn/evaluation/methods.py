"""The methods that `compare_pretraining` compares, and the features that each of them reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import RandomForestRegressor
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR

from dssl_sklearn._checks import did_you_mean
from dssl_sklearn.crystals.graph import DEFAULT_CUTOFF, DEFAULT_MAX_NEIGHBORS
from dssl_sklearn.estimators.pretrained import is_fitted_pretrainer
from dssl_sklearn.estimators.pretrainer import DSSLPretrainer, resolve_pretrained
from dssl_sklearn.estimators.recipes import PRETRAIN_RECIPES
from dssl_sklearn.estimators.regressor import DSSLRegressor
from dssl_sklearn.exceptions import InvalidInputError

Features = Literal["graphs", "composition", "embeddings"]

#: Grid of the support vector machines; features and target are standardized inside.
_SVR_GRID = {"C": [1.0, 10.0, 100.0], "gamma": ["scale", 0.003]}
_INNER_FOLDS = 3
#: What the network from scratch takes over from the pretrained one, so that only weights differ.
_NETWORK = ("backbone", "backbone_params", "readout", "cutoff", "max_neighbors")


@dataclass(frozen=True)
class Method:
    """One method of the comparison.

    Attributes
    ----------
    title : str
        Name for people.
    features : {"graphs", "composition", "embeddings"}
        What it reads.
    make : callable
        From a seed to an unfitted estimator.
    """

    title: str
    features: Features
    make: Callable[[int], Any]


@dataclass(frozen=True)
class Start:
    """The pretrained network under test.

    Attributes
    ----------
    pretrained : str, path or DSSLPretrainer
        As the estimators take it.
    fitted : DSSLPretrainer or None
        The same with its weights; None if it is to be fitted inside each fold.
    network : mapping
        Arguments of a `DSSLRegressor` with the same network and other weights.
    name : str
        For tables and reports.
    """

    pretrained: Any
    fitted: DSSLPretrainer | None
    network: Mapping[str, Any]
    name: str

    @classmethod
    def of(cls, pretrained: Any) -> Start:  # noqa: ANN401
        """Look at a value of `pretrained`.

        Raises
        ------
        InvalidInputError
            If it is None or no pretrainer.
        WeightsError
            If a name or file is unknown or damaged.
        """
        if pretrained is None:
            raise InvalidInputError(
                "pretrained is None; give the name of shipped weights, a path or a DSSLPretrainer."
            )
        is_pretrainer = isinstance(pretrained, DSSLPretrainer)
        is_unfitted = is_pretrainer and not is_fitted_pretrainer(pretrained)
        # An unfitted one takes over the network of the weights that it goes on from.
        fitted = resolve_pretrained(pretrained.pretrained if is_unfitted else pretrained)
        if fitted is not None:
            network = {name: getattr(fitted.architecture_, name) for name in _NETWORK}
            network["backbone_params"] = dict(network["backbone_params"])
        else:
            network = {name: getattr(pretrained, name) for name in _NETWORK}
            # The network alone: the recipe of fine-tuning is that of `estimator_params`.
            recipe = PRETRAIN_RECIPES.get(pretrained.recipe)
            for name in ("backbone", "readout"):
                if network[name] is None:
                    network[name] = getattr(recipe, name, None)
        if is_unfitted:
            return cls(pretrained, None, network, "DSSLPretrainer, fitted in each fold")
        name = type(pretrained).__name__ if is_pretrainer else str(pretrained)
        return cls(pretrained, fitted, network, name)


def make_methods(start: Start, params: Mapping[str, Any]) -> dict[str, Method]:
    """Set up all methods.

    Parameters
    ----------
    start : Start
        The pretrained network.
    params : mapping
        Arguments of both `DSSLRegressor`.

    Returns
    -------
    dict of str to Method
        The simple ones first.

    Raises
    ------
    InvalidInputError
        If there is no such argument.
    """
    known = DSSLRegressor().get_params(deep=False)
    for name in params:
        if name not in known:
            raise InvalidInputError(
                f"estimator_params has {name!r}, which a DSSLRegressor does not take"
                f"{did_you_mean(name, known)}"
            )
    embedded: Features = "graphs" if start.fitted is None else "embeddings"
    network = dict(start.network)
    if network["readout"] == "mean" and params.get("recipe", "default") == "default":
        # Fine-tuning widens the mean to the readout of its recipe, and so does None from scratch.
        network["readout"] = None
    return {
        "median": Method("median", "graphs", lambda _: DummyRegressor(strategy="median")),
        "forest": Method("random forest, composition", "composition", _make_forest),
        "svr": Method("SVR, composition", "composition", _make_svr),
        "scratch": Method(
            "network from scratch",
            "graphs",
            lambda seed: DSSLRegressor(
                **{**network, "random_state": seed, **params, "unlabeled": None}
            ),
        ),
        "pretrained": Method(
            "pretrained network, fine-tuned",
            "graphs",
            lambda seed: DSSLRegressor(
                **{"pretrained": start.pretrained, "random_state": seed, **params}
            ),
        ),
        "embeddings": Method(
            "SVR, pretrained embeddings", embedded, lambda seed: _make_embedded(start, seed)
        ),
    }


def graph_settings(start: Start, params: Mapping[str, Any]) -> tuple[float, int]:
    """Cutoff in angstrom and number of neighbors of the graphs that all networks read."""
    cutoff = params.get("cutoff") or start.network["cutoff"] or DEFAULT_CUTOFF
    neighbors = params.get("max_neighbors") or start.network["max_neighbors"]
    return float(cutoff), int(neighbors or DEFAULT_MAX_NEIGHBORS)


def _make_forest(seed: int) -> RandomForestRegressor:
    return RandomForestRegressor(300, max_features=1 / 3, random_state=seed)


def _make_svr(seed: int) -> GridSearchCV:
    scaled = make_pipeline(StandardScaler(), SVR())
    return GridSearchCV(
        TransformedTargetRegressor(scaled, transformer=StandardScaler()),
        {f"regressor__svr__{name}": values for name, values in _SVR_GRID.items()},
        scoring="neg_mean_absolute_error",
        cv=KFold(_INNER_FOLDS, shuffle=True, random_state=seed),
    )


def _make_embedded(start: Start, seed: int) -> GridSearchCV | Pipeline:
    if start.fitted is not None:
        return _make_svr(seed)
    embedder = clone(start.pretrained)
    if embedder.random_state is None:
        embedder.set_params(random_state=seed)
    return make_pipeline(embedder, _make_svr(seed))
