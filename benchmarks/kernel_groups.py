"""What the groups of features do for the Gaussian process alone.

    python benchmarks/kernel_groups.py --labels 100 --draws 6
    python benchmarks/kernel_groups.py --labels 400 --draws 2

Labels, rows and errors are those of ``answers.py``. One more set puts the arrangement to the test:
cubic perovskites in which the two metals change places, with CHGNet's energy at the best volume,
less what a sum over the elements explains of it (in eV per atom). No composition and hardly a bond
length tells a crystal from its inverse there. These are made up, and CHGNet is the teacher of
"mp-distilled": they show what a process is blind to, not how well a method predicts. Prints the
change in percent of the error with other groups than a regressor's, and writes all errors as JSON.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from accuracy.tasks import load_task
from answers import BATCH_SIZE, TARGETS, error, split_of
from common import write_json
from made_up import every_perovskite, perovskites

from dssl_sklearn.crystals.builder import GraphBuilder
from dssl_sklearn.crystals.graph import DEFAULT_CUTOFF, DEFAULT_MAX_NEIGHBORS
from dssl_sklearn.estimators.kernel_part import FrozenEncoder, crystal_features
from dssl_sklearn.estimators.pretrainer import resolve_pretrained

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from made_up import Names
    from numpy.typing import NDArray
    from pymatgen.core import Structure
    from torch import Tensor

    Values = NDArray[np.float64]

USUAL = "as they are"


def _whole_composition(*groups: Tensor) -> list[Tensor]:
    return [*groups[:2], torch.cat(groups[2:4], 1), *groups[4:]]


def _bonds_with_densities(*groups: Tensor) -> list[Tensor]:
    return [torch.cat(groups[:2], 1), *groups[2:]]


#: Other groups, made of densities, bonds, means of the composition, its spread, the arrangement
#: and, where there is one, the embedding.
GROUPS: dict[str, Callable[..., list[Tensor]]] = {
    USUAL: lambda *groups: list(groups),
    "densities and bonds in one": _bonds_with_densities,
    "composition and its spread in one": _whole_composition,
    "both": lambda *groups: _bonds_with_densities(*_whole_composition(*groups)),
    "no arrangement": lambda *groups: [*groups[:4], *groups[5:]],
}
PEROVSKITES = "perovskites"
N_DRAWN, N_TESTED = 900, 300


def main() -> None:
    """Fit, print the tables, write the errors."""
    options = _options()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    for task in [*TARGETS, PEROVSKITES]:
        structures, y, labeled, tested = rows_of(task, options.data_dir)
        graphs = GraphBuilder(DEFAULT_CUTOFF, DEFAULT_MAX_NEIGHBORS).dataset(structures)
        drawn = [
            np.random.default_rng(draw).permutation(labeled)[: options.labels]
            for draw in range(options.draws)
        ]
        for name in options.weights:
            encoder = FrozenEncoder.of(None if name == "none" else resolve_pretrained(name))
            groups = crystal_features(encoder, graphs, BATCH_SIZE)
            for other, change in GROUPS.items():
                changed = change(*groups)
                errors = [error(task, changed, y, rows, tested) for rows in drawn]
                found.setdefault(other, {}).setdefault(name, {})[task] = errors
        print(task, flush=True)
    for other, by_weights in found.items():
        for name, by_task in by_weights.items():
            usual = found[USUAL][name]
            percent = [100 * np.mean(np.array(by_task[task]) / usual[task] - 1) for task in by_task]
            values = [*percent[:-1], np.mean(percent[:-1]), percent[-1]]
            print("| " + " | ".join([other, name, *(f"{v:+.1f}" for v in values)]) + " |")
    write_json(options.output, {"labels": options.labels, "mae": found})


def rows_of(
    task: str, data_dir: Path
) -> tuple[Sequence[Structure], Values, NDArray[np.int64], NDArray[np.int64]]:
    """Crystals, targets, rows that labels are drawn from, rows to predict."""
    if task == PEROVSKITES:
        structures, y = perovskites(drawn_perovskites())
        order = np.random.default_rng(0).permutation(len(structures))
        return structures, y, order[:-N_TESTED], order[-N_TESTED:]
    known = load_task(TARGETS[task], data_dir)
    labeled, tested = split_of(task, known.structures, known.folds[0][0])
    return known.structures, known.y, labeled, tested


def drawn_perovskites() -> list[Names]:
    """Some, and the inverse of many of these."""
    drawn = every_perovskite()[:N_DRAWN]
    return drawn + [(b, a, x) for a, b, x in drawn[: N_DRAWN // 3] if (b, a, x) not in drawn]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--labels", type=int, default=100)
    add("--draws", type=int, default=6)
    add("--weights", nargs="+", default=["none", "mp", "mp-distilled"], help="names or files")
    add("--data-dir", type=Path, default=Path("../shared/data"))
    add("--output", type=Path, default=Path("outputs/kernel_groups.json"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
