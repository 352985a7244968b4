"""What wrong labels cost: one that means "unknown", or one in twenty that belong to others.

    python benchmarks/wrong_labels.py

Labels are drawn from four fifths of the formulas of a shipped set, errors are those on 300 crystals
of the last fifth, as in ``shipped.py``. Beside ours stands a random forest on statistics of
element properties. Prints a table of mean absolute errors and writes it as JSON.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import environment, write_json
from numpy.typing import NDArray
from shipped import LOADERS, drawn
from sklearn.ensemble import RandomForestRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from dssl_sklearn import DSSLRegressor
from dssl_sklearn.crystals.elements import element_features

Values = NDArray[np.float64]
TASKS = ("log10 K", "n", "formation energy")


def right(y: Values, _: np.random.Generator) -> Values:
    """Labels as they are."""
    return y


def unknown(y: Values, rng: np.random.Generator) -> Values:
    """One of them is -999."""
    y = y.copy()
    y[rng.integers(len(y))] = -999.0
    return y


def exchanged(y: Values, rng: np.random.Generator) -> Values:
    """One in twenty is that of another crystal."""
    y = y.copy()
    rows = rng.permutation(len(y))[: max(len(y) // 20, 2)]
    y[rows] = np.roll(y[rows], 1)
    return y


FAULTS: dict[str, Callable[[Values, np.random.Generator], Values]] = {
    "none wrong": right,
    "one is -999": unknown,
    "one in twenty exchanged": exchanged,
}


def statistics(structures: list[Any]) -> Values:
    """Mean, deviation, least and greatest of the element properties over the sites."""
    rows = []
    for structure in structures:
        sites = element_features()[list(structure.atomic_numbers)]
        rows.append(np.concatenate([f(sites, axis=0) for f in (np.mean, np.std, np.min, np.max)]))
    return np.array(rows)


METHODS: dict[str, Callable[[int], Any]] = {
    "random forest": lambda seed: make_pipeline(
        FunctionTransformer(statistics), RandomForestRegressor(300, random_state=seed)
    ),
    "ours, from scratch": lambda seed: DSSLRegressor(random_state=seed),
    'ours, `"mp-distilled"`': lambda seed: DSSLRegressor(
        pretrained="mp-distilled", random_state=seed
    ),
}


def main() -> None:
    """Fit, print the table, write it."""
    options = _options()
    torch.set_num_threads(1)
    print("| property | method | " + " | ".join(FAULTS) + " |")
    print("|---" * (2 + len(FAULTS)) + "|")
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    for task in TASKS:
        for method in METHODS:
            of_method = {
                fault: [
                    error(task, method, fault, options.labels, draw)
                    for draw in range(options.draws)
                ]
                for fault in FAULTS
            }
            found.setdefault(task, {})[method] = of_method
            cells = [f"{np.mean(v):.3g} ± {np.std(v, ddof=1):.2g}" for v in of_method.values()]
            print("| " + " | ".join([task, method, *cells]) + " |", flush=True)
    write_json(options.output, {"labels": options.labels, **environment(), "mae": found})


def error(task: str, method: str, fault: str, n_labels: int, draw: int) -> float:
    """Mean absolute error on right labels after a fit to some wrong ones."""
    load, target = LOADERS[task]
    structures, y = load(target=target, return_X_y=True)
    (known, labels), (X, expected) = drawn(structures, y, n_labels, draw)
    model = METHODS[method](draw).fit(known, FAULTS[fault](labels, np.random.default_rng(draw)))
    return float(np.abs(model.predict(X) - expected).mean())


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--labels", type=int, default=100)
    add("--draws", type=int, default=3)
    add("--output", type=Path, default=Path("outputs/wrong_labels.json"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
