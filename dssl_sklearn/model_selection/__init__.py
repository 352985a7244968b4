"""Splitters that keep related crystals together, a check for leaks from pretraining, grids."""

from __future__ import annotations

from dssl_sklearn.model_selection.grids import embedding_svr_grid, fine_tuning_grid
from dssl_sklearn.model_selection.groups import structure_groups
from dssl_sklearn.model_selection.overlap import pretraining_overlap
from dssl_sklearn.model_selection.splitters import (
    ChemicalSystemKFold,
    ClusterKFold,
    FormulaKFold,
    PrototypeKFold,
)

__all__ = [
    "ChemicalSystemKFold",
    "ClusterKFold",
    "FormulaKFold",
    "PrototypeKFold",
    "embedding_svr_grid",
    "fine_tuning_grid",
    "pretraining_overlap",
    "structure_groups",
]
