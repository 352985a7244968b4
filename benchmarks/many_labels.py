"""Thousands of labels: what the share of the Gaussian process does, and who is ahead.

    python benchmarks/many_labels.py --labels 500 1000 3000 --draws 3
    python benchmarks/many_labels.py --sets corpus --labels 10000 --draws 1

Two sets of `made_up.py`, since those that ship are small: cubic perovskites, where the network
learns more than the process, and crystals of the pretraining corpus, all with CHGNet's energies
less what a sum over the elements explains. "mp-distilled" has learned from these energies of the
corpus, and is left out there. Each draw has its own 900 crystals to predict. Results go into a file
of JSON, one after the other; what is there is not computed again. Prints the table.
"""

from __future__ import annotations

import argparse
import json
import pickle
import time
import warnings
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from accuracy.networks import make_cgcnn
from common import environment, write_json
from kernel_share import with_share
from made_up import corpus_crystals, every_perovskite, perovskites
from numpy.typing import NDArray
from pymatgen.core import Structure

from dssl_sklearn import DSSLRegressor
from dssl_sklearn.estimators.recipes import FINE_TUNE_RECIPES
from dssl_sklearn.models.gaussian_process import N_POINTS

Labeled: TypeAlias = tuple[list[Structure], NDArray[np.float64]]

N_TESTED, N_CORPUS, MAX_SITES = 900, 12_000, 20
SETS = ["perovskites", "corpus"]
CGCNN = "cgcnn"
TITLES = {
    CGCNN: "CGCNN-like, from scratch",
    "scratch": "from scratch",
    "mp": '`"mp"`',
    "mp-distilled": '`"mp-distilled"`',
}


def main() -> None:
    """Compute what is missing, and print the table."""
    options = _options()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    found: list[dict[str, Any]] = []
    if options.output.exists():
        found = json.loads(options.output.read_text(encoding="utf-8"))
    for name in options.sets:
        labeled = _labeled(name, options)
        for n_labels in options.labels:
            for method in options.methods:
                for draw in range(1, options.draws + 1):
                    key = {"set": name, "labels": n_labels, "method": method, "draw": draw}
                    known = any(key.items() <= record.items() for record in found)
                    if known or (name == "corpus" and method == "mp-distilled"):
                        continue
                    found.append(
                        {**key, **errors(method, labeled, n_labels, draw), **environment()}
                    )
                    write_json(options.output, found)
                    print(key, found[-1]["mae"], flush=True)
    print(table(found))


def errors(method: str, labeled: Labeled, n_labels: int, draw: int) -> dict[str, Any]:
    """Mean absolute errors of a method with all defaults, and of the same fit with other shares."""
    structures, y = labeled
    rows = np.random.default_rng(draw).permutation(len(structures))
    test, train = rows[:N_TESTED], rows[N_TESTED:][:n_labels]
    new, known = ([structures[row] for row in part] for part in (test, train))

    def error(model: DSSLRegressor) -> float:
        return float(np.abs(model.predict(new) - y[test]).mean())

    started = time.process_time()
    if method == CGCNN:
        model = make_cgcnn(draw, device="cpu").fit(known, y[train])
        return {"mae": {"all defaults": error(model)}, "seconds": time.process_time() - started}
    params: dict[str, Any] = {
        "pretrained": None if method == "scratch" else method,
        "random_state": draw,
    }
    model = DSSLRegressor(**params).fit(known, y[train])
    seconds = time.process_time() - started
    mae = {"all defaults": error(model)}
    # What it is where it is not chosen.
    usual = FINE_TUNE_RECIPES["default"].kernel_share * min(1.0, N_POINTS / n_labels)
    for title, share in (("usual share", usual), ("network alone", 0.0), ("process alone", 1.0)):
        mae[title] = error(with_share(model, share))
    chosen = 0.0 if model.kernel_ is None else float(model.kernel_.share[0])
    return {"mae": mae, "share": chosen, "seconds": seconds}


def table(found: list[dict[str, Any]]) -> str:
    """Mean and standard deviation of every error over the draws, and the chosen shares."""
    columns = ("all defaults", "usual share", "network alone", "process alone")
    lines = [
        "| set | labels | method | " + " | ".join(columns) + " | chosen shares |",
        "|" + "---|" * (len(columns) + 4),
    ]
    for name, n_labels, method in dict.fromkeys(
        (r["set"], r["labels"], r["method"]) for r in found
    ):
        key = {"set": name, "labels": n_labels, "method": method}
        records = [record for record in found if key.items() <= record.items()]
        cells = [name, f"{n_labels:,}", TITLES[method]]
        for column in columns:
            values = [r["mae"][column] for r in records if column in r["mae"]]
            spread = f" ± {np.std(values, ddof=1):.4f}" if len(values) > 1 else ""
            cells.append(f"{np.mean(values):.4f}{spread}" if values else "-")
        shares = [f"{record['share']:.2f}" for record in records if "share" in record]
        lines.append(f"| {' | '.join([*cells, ', '.join(shares) or '-'])} |")
    return "\n".join(lines)


def _labeled(name: str, options: argparse.Namespace) -> Labeled:
    """Crystals and labels, from a file if they were computed before."""
    path: Path = options.cache / f"{name}.pkl"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        made = (
            perovskites(every_perovskite())
            if name == "perovskites"
            else corpus_crystals(options.corpus, N_CORPUS, MAX_SITES)
        )
        path.write_bytes(pickle.dumps(made))
    labeled: Labeled = pickle.loads(path.read_bytes())  # noqa: S301 - written above
    return labeled


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--sets", nargs="+", choices=SETS, default=SETS)
    add("--methods", nargs="+", choices=list(TITLES), default=list(TITLES))
    add("--labels", nargs="+", type=int, default=[1000, 3000])
    add("--draws", type=int, default=3)
    add("--corpus", type=Path, default=Path("../shared/data/mp_unlabeled.npz"))
    add("--cache", type=Path, default=Path("outputs/made_up"), help="folder of the two sets")
    add("--output", type=Path, default=Path("benchmarks/results/many_labels.json"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
