"""Pretrain without labels, fine-tune on a few, compare.

The main job of the library on the data it ships: a network learns from 7,000 unlabeled crystals,
then from 100 bulk moduli, and predicts the bulk modulus of crystals it has never met. Beside it
stand the same network from scratch and from the shipped weights ``"mp-distilled"``, which learned
from what CHGNet says of 33,703 crystals, a random forest on composition, and the median. Five draws
of the 100 labels show how much of a difference is luck.

Run ``python examples/quickstart.py``; it takes one to two minutes on two cores and writes
``quickstart_parity.png`` and ``quickstart_training.png`` into ``--output`` (default: ``outputs``).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pymatgen.core import Structure
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import RandomForestRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from tqdm import tqdm

from dssl_sklearn import DSSLPretrainer, DSSLRegressor
from dssl_sklearn.crystals.elements import element_features
from dssl_sklearn.datasets import (
    load_dielectric,
    load_elasticity,
    load_formation_energy,
    load_piezoelectricity,
)

TARGET = "log10_K_VRH"
Array = NDArray[np.float64]
Rows = NDArray[np.intp]


def composition_features(structures: list[Structure]) -> Array:
    """Mean, spread, least and greatest of 34 element properties over the sites."""
    table = element_features()
    rows = []
    for structure in structures:
        sites = table[list(structure.atomic_numbers)]
        rows.append(np.concatenate([f(sites, axis=0) for f in (np.mean, np.std, np.min, np.max)]))
    return np.array(rows)


def unlabeled_pool(excluded_formulas: set[str]) -> list[Structure]:
    """All shipped crystals whose formula is not among those to be predicted."""
    loaders = (load_elasticity, load_dielectric, load_piezoelectricity, load_formation_energy)
    pool = [structure for load in loaders for structure in load().data]
    return [s for s in pool if s.composition.reduced_formula not in excluded_formulas]


def split(structures: list[Structure], share: float, seed: int) -> tuple[Rows, Rows]:
    """Rows for training and test; no formula is in both."""
    formulas = np.array([s.composition.reduced_formula for s in structures])
    unique = np.unique(formulas)
    rng = np.random.default_rng(seed)
    held_out = rng.choice(unique, round(share * len(unique)), replace=False)
    is_test = np.isin(formulas, held_out)
    return np.flatnonzero(~is_test), np.flatnonzero(is_test)


def plot_parity(y: Array, predictions: dict[str, Array], path: Path) -> None:
    """Predicted against true values, a panel per method."""
    figure, axes = plt.subplots(
        1,
        len(predictions),
        figsize=(3.2 * len(predictions), 3.6),
        sharex=True,
        sharey=True,
        layout="constrained",
    )
    limits = (y.min() - 0.1, y.max() + 0.1)
    for axis, (name, predicted) in zip(axes, predictions.items(), strict=True):
        axis.plot(limits, limits, color="0.6", linewidth=1)
        axis.scatter(y, predicted, s=8, alpha=0.6)
        axis.set(title=name, xlim=limits, ylim=limits, aspect="equal")
        axis.set_xlabel("DFT log10(K / GPa)")
    axes[0].set_ylabel("predicted log10(K / GPa)")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def plot_training(pretrainer: DSSLPretrainer, path: Path) -> None:
    """Pretext losses and effective rank of the embedding over the epochs."""
    history = pd.DataFrame(
        [{k: v for k, v in epoch.items() if k != "batches"} for epoch in pretrainer.history_]
    )
    figure, (losses, rank) = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
    for column in history.filter(regex="^(train|valid)_.+_loss$"):
        losses.plot(history["epoch"], history[column], label=str(column).replace("_", " "))
    losses.set(xlabel="epoch", ylabel="pretext loss")
    losses.legend(frameon=False, fontsize="small")
    rank.plot(history["epoch"], history["effective_rank"], color="C2")
    rank.set(xlabel="epoch", ylabel="effective rank of the embedding")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main() -> None:
    """Run the comparison and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--labels", type=int, default=100, help="labels to learn from")
    parser.add_argument("--draws", type=int, default=5, help="random draws of the labels")
    parser.add_argument("--epochs", type=int, default=10, help="epochs of pretraining")
    parser.add_argument("--output", type=Path, default=Path("outputs"), help="folder of the plots")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()

    structures, y = load_elasticity(target=TARGET, return_X_y=True)
    train, test = split(structures, share=0.2, seed=0)
    test_structures = [structures[row] for row in test]

    pool = unlabeled_pool({s.composition.reduced_formula for s in test_structures})
    print(f"pretraining on {len(pool)} unlabeled crystals, no formula of the test set among them")
    pretrainer = DSSLPretrainer(max_epochs=args.epochs, random_state=0, verbose=1).fit(pool)
    plot_training(pretrainer, args.output / "quickstart_training.png")

    methods: dict[str, Callable[[int], Any]] = {
        "median": lambda _: DummyRegressor(strategy="median"),
        "random forest": lambda seed: make_pipeline(
            FunctionTransformer(composition_features), RandomForestRegressor(300, random_state=seed)
        ),
        "from scratch": lambda seed: DSSLRegressor(random_state=seed),
        "pretrained here": lambda seed: DSSLRegressor(pretrained=pretrainer, random_state=seed),
        "shipped weights": lambda seed: DSSLRegressor(pretrained="mp-distilled", random_state=seed),
    }
    errors: dict[str, list[float]] = {name: [] for name in methods}
    predictions: dict[str, Array] = {}
    for seed in tqdm(range(args.draws), desc="draws of the labels", unit="draw"):
        rows = np.random.default_rng(seed).choice(train, args.labels, replace=False)
        for name, make in methods.items():
            model = make(seed).fit([structures[row] for row in rows], y[rows])
            predictions[name] = np.asarray(model.predict(test_structures))
            errors[name].append(float(np.abs(predictions[name] - y[test]).mean()))
    plot_parity(y[test], predictions, args.output / "quickstart_parity.png")

    table = pd.DataFrame(errors).T
    scratch = table.loc["from scratch"].to_numpy()
    summary = pd.DataFrame(
        {
            "MAE": table.mean(axis=1).round(4),
            "spread (std)": table.std(axis=1).round(4),
            "vs scratch, %": ((table / scratch - 1).mean(axis=1) * 100).round(1),
        }
    )
    print(
        f"\nMAE of {TARGET} (log10 GPa) on {len(test)} crystals after {args.labels} labels, "
        f"{args.draws} draws\n\n{summary.to_string()}\n\n"
        f"plots in {args.output.resolve()}, {time.perf_counter() - start:.0f} s in all"
    )


if __name__ == "__main__":
    main()
