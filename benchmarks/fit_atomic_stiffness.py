"""Fit the atomic stiffness that ships with the package to the elastic set.

Chooses the weight of the prior by repeated cross-validation, polymorphs of one composition in one
fold: the smallest mean absolute error of log10 K among the weights that leave no element with a
stiffness of zero. Prints the errors of the bulk modulus K for each weight and for the prior alone.
Writes ``atomic_stiffness.csv`` (symbol, stiffness in eV per atom, "fitted"
where some crystal has the element and "prior" where none has, number of crystals with the element)
to ``dssl_sklearn/crystals/data``.

Run as ``python benchmarks/fit_atomic_stiffness.py [folder]`` (about half a minute).
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold

from dssl_sklearn.crystals.elements import ELEMENT_SYMBOLS
from dssl_sklearn.crystals.stiffness import (
    DEFAULT_ALPHA,
    EV_PER_CUBIC_ANGSTROM_IN_GPA,
    fit_atomic_stiffness,
    prior_stiffness,
)
from dssl_sklearn.datasets import load_elasticity

DATA_FOLDER = Path(__file__).parents[1] / "dssl_sklearn" / "crystals" / "data"
ALPHAS = (0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 2.0, 5.0)
N_FOLDS = 10
N_REPEATS = 3

#: Bulk modulus in GPa below which a prediction counts as this: its logarithm must exist.
SMALLEST_MODULUS = 0.1

#: Stiffness in eV per atom below which an element counts as having none.
NEARLY_ZERO = 1e-3


def predict_bulk_modulus(
    structures: list[Any], stiffness: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Bulk moduli in GPa from the sum of the stiffness over the atoms."""
    energies = np.array([stiffness[list(s.atomic_numbers)].sum() for s in structures])
    volumes = np.array([s.volume for s in structures])
    return np.asarray(energies / volumes * EV_PER_CUBIC_ANGSTROM_IN_GPA)


def errors(predicted: NDArray[np.float64], moduli: NDArray[np.float64]) -> tuple[float, float]:
    """Mean absolute errors of K in GPa and of log10 K."""
    logs = np.log10(np.maximum(predicted, SMALLEST_MODULUS)) - np.log10(moduli)
    return float(np.abs(predicted - moduli).mean()), float(np.abs(logs).mean())


def cross_validate(
    structures: list[Any], moduli: NDArray[np.float64], alpha: float
) -> tuple[float, float]:
    """Errors of ``errors`` for one weight of the prior, averaged over the repeats."""
    formulas = [s.composition.reduced_formula for s in structures]
    results = []
    for seed in range(N_REPEATS):
        folds = GroupKFold(N_FOLDS, shuffle=True, random_state=seed)
        predicted = np.empty(len(structures))
        for train, test in folds.split(structures, groups=formulas):
            stiffness = fit_atomic_stiffness(
                [structures[i] for i in train], moduli[train], alpha=alpha
            )
            predicted[test] = predict_bulk_modulus([structures[i] for i in test], stiffness)
        results.append(errors(predicted, moduli))
    gpa, log = np.mean(results, axis=0)
    return float(gpa), float(log)


def choose_alpha(structures: list[Any], moduli: NDArray[np.float64]) -> float:
    """Print the errors of all weights and return the best one that gives no zeros."""
    print("table            MAE K/GPa   MAE log10 K   elements at zero")
    gpa, log = errors(predict_bulk_modulus(structures, prior_stiffness()), moduli)
    print(f"prior only        {gpa:8.2f}    {log:10.4f}")
    scores = {}
    for alpha in ALPHAS:
        gpa, log = cross_validate(structures, moduli, alpha)
        stiffness = fit_atomic_stiffness(structures, moduli, alpha=alpha)
        zeros = [ELEMENT_SYMBOLS[z] for z in np.flatnonzero(stiffness < NEARLY_ZERO)]
        print(f"alpha = {alpha:<5g}     {gpa:8.2f}    {log:10.4f}   {' '.join(zeros)}")
        if not zeros:
            scores[alpha] = log
    return min(scores, key=scores.__getitem__)


def write_stiffness(
    folder: Path, structures: list[Any], moduli: NDArray[np.float64], alpha: float
) -> None:
    """Fit to all crystals and write ``atomic_stiffness.csv`` to a folder."""
    stiffness = fit_atomic_stiffness(structures, moduli, alpha=alpha)
    counts = np.zeros(len(ELEMENT_SYMBOLS), dtype=np.int64)
    for structure in structures:
        counts[np.unique(structure.atomic_numbers)] += 1
    with (folder / "atomic_stiffness.csv").open("w", newline="") as file:
        file.write(f"# benchmarks/fit_atomic_stiffness.py, alpha = {alpha:g}\n")
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["symbol", "stiffness_eV", "source", "n_crystals"])
        for symbol, k, n in list(zip(ELEMENT_SYMBOLS, stiffness, counts, strict=True))[1:]:
            writer.writerow([symbol, f"{k:.6g}", "fitted" if n else "prior", n])


def main(folder: Path) -> None:
    """Choose the weight of the prior and write the table."""
    structures, moduli = load_elasticity(target="K_VRH", return_X_y=True)
    alpha = choose_alpha(structures, moduli)
    print(f"smallest error of log10 K without zeros: alpha = {alpha:g} (default {DEFAULT_ALPHA:g})")
    write_stiffness(folder, structures, moduli, alpha)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else DATA_FOLDER)
