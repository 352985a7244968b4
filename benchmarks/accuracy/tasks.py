"""What is predicted: crystals, targets and folds of every task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from shipped import SETS
from sklearn.model_selection import KFold

from dssl_sklearn.datasets import fetch_matbench

if TYPE_CHECKING:
    from pymatgen.core import Structure

Rows = NDArray[np.int64]
Folds = list[tuple[Rows, Rows]]
Table = Literal["folds", "curves", "shuffled"]

N_FOLDS = 5
FOLD_SEED = 0
#: Numbers of labels of the learning curves; larger ones than a training part has are left out.
CURVE_SIZES = (50, 100, 200, 400, 800)


@dataclass(frozen=True)
class TaskSpec:
    """Where a task comes from.

    Attributes
    ----------
    title : str
        How tables call it.
    unit : str
        Unit of target and error.
    crystals : str
        Set of crystals; tasks of the same set share their feature tables.
    official : bool
        Whether matbench defines the folds.
    untouched : bool
        Whether no choice of the library had been made on this property when it was first run.
    """

    title: str
    unit: str
    crystals: str
    official: bool = False
    untouched: bool = False


TASKS: dict[str, TaskSpec] = {
    "jdft2d": TaskSpec("jdft2d", "meV/atom", "jdft2d", official=True),
    "phonons": TaskSpec("phonons", "1/cm", "phonons", official=True),
    "log10_K_VRH": TaskSpec("log10 K", "log10 GPa", "elasticity"),
    "log10_G_VRH": TaskSpec("log10 G", "log10 GPa", "elasticity"),
    "n": TaskSpec("refractive index n", "1", "dielectric"),
    "poly_total": TaskSpec("dielectric constant poly_total", "1", "dielectric"),
    "formation_energy": TaskSpec("formation energy", "eV/atom", "formation_energy"),
    "band_gap": TaskSpec("band gap", "eV", "dielectric", untouched=True),
    "eij_max": TaskSpec("piezoelectric modulus", "C/m2", "piezoelectricity", untouched=True),
    "poisson_ratio": TaskSpec("Poisson ratio", "1", "elasticity", untouched=True),
    "e_above_hull": TaskSpec("energy above hull", "eV/atom", "formation_energy", untouched=True),
}


@dataclass(frozen=True, eq=False)
class Task:
    """A task with its data.

    Attributes
    ----------
    name : str
        Key of `TASKS`.
    structures : list of Structure
        The crystals.
    y : ndarray of shape (n_crystals,)
        Targets in the unit of the task.
    formulas : list of str
        Reduced formulas.
    folds : list of tuple (train, test) of ndarray of int
        Rows of the five folds.
    """

    name: str
    structures: list[Structure]
    y: NDArray[np.float64]
    formulas: list[str]
    folds: Folds

    @property
    def spec(self) -> TaskSpec:
        """Title, unit and origin."""
        return TASKS[self.name]

    def folds_of(self, table: Table) -> Folds:
        """Folds that a table has: those of formulas or of matbench, or of single crystals."""
        if table != "shuffled" or self.spec.official:
            return self.folds
        return list(KFold(N_FOLDS, shuffle=True, random_state=FOLD_SEED).split(self.y))


def load_task(name: str, data_dir: Path) -> Task:
    """Load a task.

    Parameters
    ----------
    name : str
        Key of `TASKS`.
    data_dir : Path
        Folder with the files of matbench (downloaded into it where they are missing).

    Returns
    -------
    Task
        Crystals, targets and folds.

    Notes
    -----
    jdft2d and phonons have the official folds of matbench v0.1, in which polymorphs of a test
    crystal may be trained on. All other tasks have five folds of whole reduced formulas, so that
    no polymorph of a test composition is trained on; their scores are a little worse, and more
    honest, than with a plain shuffle.
    """
    bunch = _load_crystals(TASKS[name].crystals, data_dir)
    formulas = [structure.composition.reduced_formula for structure in bunch.data]
    if TASKS[name].official:
        return Task(name, bunch.data, np.asarray(bunch.target, float), formulas, bunch.folds)
    y = np.asarray(bunch.target[:, bunch.target_names.index(name)], float)
    return Task(name, bunch.data, y, formulas, formula_folds(formulas))


@cache
def _load_crystals(crystals: str, data_dir: Path) -> Any:  # noqa: ANN401 - a Bunch
    if crystals in SETS:
        return SETS[crystals](target="all")
    return fetch_matbench(crystals, data_dir)


def formula_folds(
    formulas: Sequence[str], n_folds: int = N_FOLDS, random_state: int = FOLD_SEED
) -> Folds:
    """Split rows into folds of whole formulas.

    Parameters
    ----------
    formulas : sequence of str of shape (n_crystals,)
        Reduced formulas.
    n_folds : int, default=5
        Number of folds.
    random_state : int, default=0
        Seed of the order in which formulas are dealt out.

    Returns
    -------
    list of tuple (train, test) of ndarray of int
        Ascending rows; the test parts are disjoint and cover all rows.

    Raises
    ------
    ValueError
        If there are fewer formulas than folds.
    """
    names, formula_of_row = np.unique(np.asarray(formulas), return_inverse=True)
    if len(names) < n_folds:
        raise ValueError(f"{len(names)} formulas do not fill {n_folds} folds; use fewer folds.")
    order = np.random.default_rng(random_state).permutation(len(names))
    fold_of_formula = np.empty(len(names), np.int64)
    for fold, members in enumerate(np.array_split(order, n_folds)):
        fold_of_formula[members] = fold
    fold_of_row = fold_of_formula[formula_of_row]
    return [
        (np.flatnonzero(fold_of_row != fold), np.flatnonzero(fold_of_row == fold))
        for fold in range(n_folds)
    ]


def draw_labels(train: Rows, n_labels: int, draw: int) -> Rows:
    """Draw the labels of a learning curve from a training part.

    Parameters
    ----------
    train : ndarray of int
        Rows of the training part.
    n_labels : int
        How many to draw.
    draw : int
        Number of the draw, the seed.

    Returns
    -------
    ndarray of shape (n_labels,), int
        Distinct rows. The same draw with more labels contains the one with fewer, so that a curve
        shows the effect of added labels alone.

    Raises
    ------
    ValueError
        If the training part is smaller than that.
    """
    if n_labels > len(train):
        raise ValueError(f"n_labels={n_labels} exceeds the {len(train)} rows of the training part.")
    return np.random.default_rng([FOLD_SEED, draw]).permutation(train)[:n_labels]
