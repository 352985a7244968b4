"""The methods by name: what they read, how they are made, and all that their results depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from accuracy.classical import (
    BOOSTING,
    FOREST,
    INNER_FOLDS,
    RIDGE_ALPHAS,
    SVR_GRID,
    make_boosting,
    make_extra_trees,
    make_forest,
    make_median,
    make_ridge,
    make_svr,
)
from accuracy.features import CHGNET_WEIGHTS, TABLES

if TYPE_CHECKING:
    from pathlib import Path

Group = Literal["classical", "networks", "paper"]

#: Behind the name of a method: its network alone.
ALONE = ":network"
#: Which tables the classical methods read, and what they are called.
_DESCRIPTORS = ("composition", "structure")
_CHGNET = ("chgnet",)


@dataclass(frozen=True)
class Method:
    """One row of the tables.

    Attributes
    ----------
    title : str
        How tables call it.
    group : {"classical", "networks", "paper"}
        Name under which ``--methods`` takes all of a kind.
    make : callable
        From a seed to an unfitted regressor; every statistic and every tuned value comes from the
        rows that `fit` gets.
    settings : dict
        JSON values that its results depend on.
    tables : tuple of str
        Feature tables that it reads side by side; none for one that reads structures.
    ours : bool
        Whether it is a method of this library, for which the tables say where it loses.
    card : Path or None
        Card of the shipped weights that it starts from.
    alone : Method or None
        The same with the network alone, whose result every fit gives on the way.
    """

    title: str
    group: Group
    make: Callable[[int], Any]
    settings: dict[str, Any]
    tables: tuple[str, ...] = ()
    ours: bool = False
    card: Path | None = field(default=None)
    alone: Method | None = field(default=None)

    @property
    def config(self) -> str:
        """Hash of the settings: results of equal configuration are not computed again."""
        return config_of(self.settings)


def config_of(settings: dict[str, Any]) -> str:
    """Hash of settings."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


def classical_methods() -> dict[str, Method]:
    """Methods on feature tables, CHGNet's among them.

    Returns
    -------
    dict of str to Method
        By name.
    """
    # Models of a target's logarithms, if inner folds like them better.
    scale = {"scales": ["linear", "log"], "inner_folds": INNER_FOLDS}
    tuned = {"grid": SVR_GRID, **scale}
    forest, boosting = {**FOREST, **scale}, {**BOOSTING, **scale}
    ridge = {"alphas": RIDGE_ALPHAS, "clipped": True}
    both = "Magpie + structure"
    chgnet = f"frozen CHGNet {CHGNET_WEIGHTS}"
    return {
        "median": Method(
            "median", "classical", make_median, {"model": "median"}, tables=("composition",)
        ),
        "forest": _on_tables(f"random forest, {both}", make_forest, _DESCRIPTORS, forest),
        "extra_trees": _on_tables(f"extra trees, {both}", make_extra_trees, _DESCRIPTORS, forest),
        "boosting": _on_tables(f"gradient boosting, {both}", make_boosting, _DESCRIPTORS, boosting),
        "svr": _on_tables(f"SVR, {both}", make_svr, _DESCRIPTORS, tuned),
        "chgnet_ridge": _on_tables(f"ridge, {chgnet}", make_ridge, _CHGNET, ridge),
        "chgnet_svr": _on_tables(f"SVR, {chgnet}", make_svr, _CHGNET, tuned),
    }


def _on_tables(
    title: str,
    make: Callable[[int], Any],
    tables: tuple[str, ...],
    settings: dict[str, Any],
) -> Method:
    revisions = {name: TABLES[name].revision for name in tables}
    settings = {"model": make.__name__, **settings, "tables": revisions}
    return Method(title, "classical", make, settings, tables=tables)
