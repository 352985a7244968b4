"""Self-supervised pretraining of crystal graph networks, as scikit-learn estimators."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dssl_sklearn.estimators.classifier import DSSLClassifier
    from dssl_sklearn.estimators.graphs import StructureToGraph
    from dssl_sklearn.estimators.pretrainer import DSSLPretrainer
    from dssl_sklearn.estimators.regressor import DSSLRegressor

__version__ = "0.1.0.dev0"

# torch, torch-geometric, pymatgen and skorch take seconds to import: they wait for the first use.
_WHERE = {
    "DSSLClassifier": "dssl_sklearn.estimators.classifier",
    "DSSLPretrainer": "dssl_sklearn.estimators.pretrainer",
    "DSSLRegressor": "dssl_sklearn.estimators.regressor",
    "StructureToGraph": "dssl_sklearn.estimators.graphs",
}

__all__ = ["DSSLClassifier", "DSSLPretrainer", "DSSLRegressor", "StructureToGraph"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - any public name
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
