"""What pretrained embeddings, and a teacher's answers beside them, give the Gaussian process alone.

    python benchmarks/answers.py --labels 100 --draws 6
    python benchmarks/answers.py --labels 400 --draws 2 --weights mp mp-distilled mine.safetensors

Labels are drawn from four fifths of the formulas of a shipped set, errors are those on 300 crystals
of the last fifth, as in ``shipped.py``; of matbench's phonons, those on 250 crystals of the
first training part. The process learns the logarithms of n, poly_total and phonons, as a regressor
does there. Prints the change in percent of the error without an embedding, for several weights of
an answer in entries of the embedding, and writes all errors as JSON.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from accuracy.tasks import load_task
from common import write_json
from numpy.typing import NDArray
from pymatgen.core import Structure
from shipped import LOADERS, validation_split
from torch import Tensor

from dssl_sklearn.crystals.builder import GraphBuilder
from dssl_sklearn.crystals.dataset import GraphDataset
from dssl_sklearn.crystals.graph import DEFAULT_CUTOFF, DEFAULT_MAX_NEIGHBORS
from dssl_sklearn.estimators.kernel_part import FrozenEncoder, crystal_features
from dssl_sklearn.estimators.pretrainer import resolve_pretrained
from dssl_sklearn.models.gaussian_process import GaussianProcess

TARGETS = {**{task: target for task, (_, target) in LOADERS.items()}, "phonons": "phonons"}
AS_LOGARITHMS = ("n", "poly_total", "phonons")
COPIES = (0, 3, 6, 12)
BATCH_SIZE = 64


def main() -> None:
    """Fit, print the table, write it."""
    options = _options()
    torch.set_num_threads(1)
    found: dict[str, dict[str, list[float]]] = {}
    for task in options.tasks:
        known = load_task(TARGETS[task], options.data_dir)
        labeled, tested = split_of(task, known.structures, known.folds[0][0])
        graphs = GraphBuilder(DEFAULT_CUTOFF, DEFAULT_MAX_NEIGHBORS).dataset(known.structures)
        for name, groups in described(graphs, options.weights):
            errors = found.setdefault(name, {}).setdefault(task, [])
            for draw in range(options.draws):
                rows = np.random.default_rng(draw).permutation(labeled)[: options.labels]
                errors.append(error(task, groups, known.y, rows, tested))
        print(task, flush=True)
    bare = found["no embedding"]
    for name, mae in found.items():
        change = [100 * np.mean(np.array(mae[task]) / bare[task] - 1) for task in mae]
        print(f"{name:32}", " | ".join(f"{v:+.1f}" for v in [*change, np.mean(change)]))
    content = {"labels": options.labels, "tasks": options.tasks, "mae": found}
    write_json(options.output, content)


def split_of(
    task: str, structures: Sequence[Structure], training: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows that labels are drawn from, and rows to predict."""
    if task == "phonons":
        order = np.random.default_rng(5).permutation(training)
        return order[250:], order[:250]
    return validation_split(structures)


def described(graphs: GraphDataset, weights: list[str]) -> list[tuple[str, list[Tensor]]]:
    """Names and groups of features: without an embedding, and with those of all weights."""
    result = [("no embedding", crystal_features(None, graphs, BATCH_SIZE))]
    for name in weights:
        encoder = FrozenEncoder.of(resolve_pretrained(name))
        for copies in COPIES if encoder is not None and encoder.answers is not None else (0,):
            groups = crystal_features(encoder, graphs, BATCH_SIZE, copies=copies)
            result.append((f"{name}, answers as {copies}", groups))
    return result


def error(
    task: str,
    groups: list[Tensor],
    y: NDArray[np.float64],
    rows: NDArray[np.int64],
    tested: NDArray[np.int64],
) -> float:
    """Mean absolute error of the process on the tested rows."""
    learned = np.log(y) if task in AS_LOGARITHMS else y
    mean, scale = learned[rows].mean(), learned[rows].std()
    targets = ((learned[rows] - mean) / scale)[:, None]
    known = [g[rows] for g in groups]
    process, _ = GaussianProcess.fit_and_leave_out(known, targets, np.ones(len(rows)))
    predicted = process.predict([g[tested] for g in groups])[:, 0] * scale + mean
    if task in AS_LOGARITHMS:
        lowest, highest = learned[rows].min() - scale, learned[rows].max() + scale
        predicted = np.exp(np.clip(predicted, lowest, highest))
    return float(np.abs(predicted - y[tested]).mean())


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--tasks", nargs="+", choices=TARGETS, default=list(TARGETS))
    add("--labels", type=int, default=100)
    add("--draws", type=int, default=6)
    add("--weights", nargs="+", default=["mp", "mp-distilled"], help="names or files")
    add("--data-dir", type=Path, default=Path("../shared/data"))
    add("--output", type=Path, default=Path("outputs/answers.json"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
