"""The labeled sets that ship with the package, and the rows of them that choices are made on."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pymatgen.core import Structure

from dssl_sklearn.datasets import (
    load_dielectric,
    load_elasticity,
    load_formation_energy,
    load_piezoelectricity,
)
from dssl_sklearn.model_selection import FormulaKFold

Labeled: TypeAlias = tuple[list[Structure], NDArray[np.float64]]
SETS: dict[str, Callable[..., Any]] = {
    "elasticity": load_elasticity,
    "dielectric": load_dielectric,
    "piezoelectricity": load_piezoelectricity,
    "formation_energy": load_formation_energy,
}
#: Properties that choices are made on: the loader, and the name of the target there.
LOADERS = {
    "log10 K": (load_elasticity, "log10_K_VRH"),
    "log10 G": (load_elasticity, "log10_G_VRH"),
    "n": (load_dielectric, "n"),
    "poly_total": (load_dielectric, "poly_total"),
    "formation energy": (load_formation_energy, "formation_energy"),
}
N_TESTED = 300


def drawn(
    structures: Sequence[Structure], y: ArrayLike, n_labels: int, draw: int
) -> tuple[Labeled, Labeled]:
    """Crystals and labels to learn from, and those to predict, of `validation_split`."""
    labeled, tested = validation_split(structures)
    chosen = np.random.default_rng(draw).permutation(labeled)[:n_labels]
    values = np.asarray(y, float)
    train, test = (([structures[row] for row in rows], values[rows]) for rows in (chosen, tested))
    return train, test


def validation_split(
    structures: Sequence[Structure],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows that labels are drawn from, four fifths of the formulas, and rows to predict."""
    split = FormulaKFold(5, shuffle=True, random_state=17).split(structures)
    labeled, validation = next(iter(split))
    return labeled, validation[:N_TESTED]


def parse_options(description: str, output: Path) -> argparse.Namespace:
    """Command line of a choice that is made by fine-tuning after a few labels."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--tasks", nargs="+", choices=LOADERS, default=list(LOADERS))
    add("--labels", type=int, default=100)
    add("--draws", type=int, default=3)
    add("--pretrained", default="mp-distilled", help='weights, or "none"')
    add("--epochs", type=int, help="of fine-tuning; default: the recipe's")
    add("--output", type=Path, default=output)
    return parser.parse_args()
