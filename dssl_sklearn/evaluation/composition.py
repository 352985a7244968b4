"""Features of compositions in the manner of Magpie, each row from its crystal alone."""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dssl_sklearn.crystals.elements import element_features
from dssl_sklearn.crystals.identity import composition, formula_keys
from dssl_sklearn.crystals.table import CrystalTable

FeatureSource = Literal["matminer", "built-in"]


def feature_source() -> FeatureSource:
    """Say which features `composition_features` computes: matminer's where it is installed."""
    return "matminer" if find_spec("matminer") else "built-in"


def composition_features(crystals: CrystalTable, source: FeatureSource) -> NDArray[np.float64]:
    """Describe crystals by statistics of element properties over their sites.

    Parameters
    ----------
    crystals : CrystalTable
        The crystals.
    source : {"matminer", "built-in"}
        Magpie's 132 features [1]_ as matminer computes them, or mean, mean absolute deviation,
        minimum, maximum and range of the 34 element properties of this package.

    Returns
    -------
    ndarray of shape (n_crystals, n_features)
        The same for all crystals of one reduced formula.

    References
    ----------
    .. [1] L. Ward et al., npj Comput. Mater. 2, 16028 (2016).
    """
    compute = _Magpie() if source == "matminer" else _built_in
    known: dict[bytes, NDArray[np.float64]] = {}
    rows = []
    for key, crystal in zip(formula_keys(crystals), crystals, strict=True):
        if key not in known:
            known[key] = compute(crystal)
        rows.append(known[key])
    return np.array(rows)


def _built_in(crystal: Any) -> NDArray[np.float64]:  # noqa: ANN401
    sites = element_features()[crystal.numbers]
    mean, low, high = sites.mean(axis=0), sites.min(axis=0), sites.max(axis=0)
    return np.concatenate([mean, np.abs(sites - mean).mean(axis=0), low, high, high - low])


class _Magpie:
    def __init__(self) -> None:
        from matminer.featurizers.composition import ElementProperty

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._featurizer = ElementProperty.from_preset("magpie", impute_nan=True)

    def __call__(self, crystal: Any) -> NDArray[np.float64]:  # noqa: ANN401
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            features = self._featurizer.featurize(composition(crystal))
        return np.asarray(features, dtype=np.float64)
