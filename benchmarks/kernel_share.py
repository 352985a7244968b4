"""Choose the share of the Gaussian process in a prediction, on validation rows.

    python benchmarks/kernel_share.py --labels 100 --draws 3
    python benchmarks/kernel_share.py --labels 100 --draws 3 --pretrained none

Labels are drawn from four fifths of the formulas of a shipped set, errors are those on 300 crystals
of the last fifth. Each fit gives the errors for all shares. Prints a table of the mean change in
percent of the error of the network alone, negative where better, and writes it as JSON.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
from common import write_json
from numpy.typing import ArrayLike, NDArray
from pymatgen.core import Structure

from dssl_sklearn import DSSLRegressor
from dssl_sklearn.datasets import load_dielectric, load_elasticity, load_formation_energy
from dssl_sklearn.model_selection import FormulaKFold

Labeled: TypeAlias = tuple[list[Structure], NDArray[np.float64]]
SHARES = (0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
LOADERS = {
    "log10 K": (load_elasticity, "log10_K_VRH"),
    "log10 G": (load_elasticity, "log10_G_VRH"),
    "n": (load_dielectric, "n"),
    "poly_total": (load_dielectric, "poly_total"),
    "formation energy": (load_formation_energy, "formation_energy"),
}
N_TESTED = 300


def main() -> None:
    """Fit, print the table, write it."""
    options = _options()
    pretrained = None if options.pretrained == "none" else options.pretrained
    found = {
        task: np.array(
            [
                errors(task, options.labels, draw, pretrained, options.epochs)
                for draw in range(options.draws)
            ]
        )
        for task in options.tasks
    }
    change = {task: 100 * (mae / mae[:, :1] - 1) for task, mae in found.items()}
    print("share |", " | ".join(found), "| mean")
    for column, share in enumerate(SHARES):
        row = [change[task][:, column].mean() for task in found]
        print(f"{share:5.1f} |", " | ".join(f"{v:+.1f}" for v in [*row, np.mean(row)]))
    content = {
        "settings": {k: v for k, v in vars(options).items() if k != "output"},
        "shares": SHARES,
        "mae": {task: mae.round(5).tolist() for task, mae in found.items()},
    }
    write_json(options.output, content)


def errors(
    task: str, n_labels: int, draw: int, pretrained: str | None, epochs: int | None
) -> list[float]:
    """Errors for all shares, from one fit."""
    load, target = LOADERS[task]
    structures, y = load(target=target, return_X_y=True)
    labeled, tested = drawn(structures, y, n_labels, draw)
    model = DSSLRegressor(pretrained=pretrained, max_epochs=epochs, random_state=draw)
    model.fit(*labeled)
    part = model.kernel_
    result = []
    for share in SHARES:
        mixed = copy.copy(model)
        mixed.kernel_ = None if part is None else replace(part, share=share)
        result.append(float(np.abs(mixed.predict(tested[0]) - tested[1]).mean()))
    return result


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


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--tasks", nargs="+", choices=LOADERS, default=list(LOADERS))
    add("--labels", type=int, default=100)
    add("--draws", type=int, default=3)
    add("--pretrained", default="mp-distilled", help='weights, or "none"')
    add("--epochs", type=int, help="of fine-tuning; default: the recipe's")
    add("--output", type=Path, default=Path("outputs/kernel_share.json"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
