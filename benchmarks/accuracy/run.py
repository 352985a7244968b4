"""Run a table of the accuracy benchmark, or go on where the last call stopped.

    python benchmarks/accuracy/run.py folds     # five folds, whole training parts
    python benchmarks/accuracy/run.py curves    # 50 to 800 labels, five draws
    python benchmarks/accuracy/run.py shuffled  # as folds, with polymorphs on both sides

Every cell (task, method, fold or draw, number of labels) adds one line to
``outputs/accuracy/<table>.jsonl``; a cell that is there with the same configuration is not computed
again. Several calls may work on one table at the same time. ``report.py`` makes the tables.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Any

# ruff: noqa: E402 - the modules beside this one are a package that a script is outside of
sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import torch
from common import environment
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from accuracy.jobs import Cell, cells_of, rows_of, run_cell, seconds_left
from accuracy.leakage import check_weights, reduced_formulas, without_test_crystals
from accuracy.methods import Method, classical_methods
from accuracy.networks import PaperSettings, network_methods, pretrain_paper
from accuracy.store import Record, append_record, cell_key, claim, read_records
from accuracy.tasks import CURVE_SIZES, N_FOLDS, TASKS, Rows, Task, load_task
from dssl_sklearn.datasets import Corpus, load_corpus

GROUPS = ("classical", "networks", "paper")


def main(arguments: Sequence[str] | None = None) -> None:
    """Compute the cells that are open.

    Parameters
    ----------
    arguments : sequence of str, default=None
        Command line; None for that of the process.
    """
    options = parse(arguments)
    torch.set_num_threads(options.threads)
    with threadpool_limits(options.threads):
        run(options)


def run(options: argparse.Namespace) -> None:
    """Compute the open cells of a table, in the order of the methods."""
    tasks = {name: load_task(name, options.data_dir) for name in options.tasks}
    methods = choose_methods(options)
    path = options.out / f"{options.table}.jsonl"
    cells = cells_of(options.table, tasks, methods, options.splits, options.sizes)
    done = {cell_key(record) for record in read_records(path)}
    waiting = [cell for cell in cells if cell.key not in done]
    print(f"{len(cells)} cells, {len(cells) - len(waiting)} of them done before")
    started = time.monotonic()
    where = {**environment(), "threads": options.threads, "device": options.device}
    checks: dict[tuple[str, str, int], Any] = {}
    progress = tqdm(total=len(cells), initial=len(cells) - len(waiting), unit="cell")
    for position, cell in enumerate(waiting):
        if time.monotonic() - started > options.limit_seconds:
            progress.write("time is up; the same call goes on from here")
            break
        progress.set_description(f"{cell.method} {cell.task} {cell.split} ({cell.n_labels})")
        with claim(options.out / "claims", cell.name) as ours:
            if ours and not _is_done(path, cell):
                task, method = tasks[cell.task], methods[cell.method]
                records = run_cell(cell, task, method, options.out / "features")
                place = (cell.task, cell.method, cell.split)
                if place not in checks:
                    test = rows_of(cell, task)[1]
                    checks[place] = leak_check(task, method, test, options.corpus)
                for record in records:
                    append_record(path, {**record, "leak": checks[place], **where})
        progress.update()
        progress.set_postfix_str(_estimate(waiting[position + 1 :], read_records(path)))
    progress.close()


def _is_done(path: Path, cell: Cell) -> bool:
    """Whether another process has finished the cell in the meantime."""
    return any(cell_key(record) == cell.key for record in read_records(path))


def _estimate(waiting: Sequence[Cell], finished: Sequence[Record]) -> str:
    seconds, n_unknown = seconds_left(waiting, finished)
    unknown = f" and {n_unknown} cells of unknown cost" if n_unknown else ""
    return f"about {seconds / 60:.0f} min left{unknown}"


def choose_methods(options: argparse.Namespace) -> dict[str, Method]:
    """Resolve ``--methods``: names, and names of groups.

    Parameters
    ----------
    options : argparse.Namespace
        Command line.

    Returns
    -------
    dict of str to Method
        In the order of the benchmark.
    """
    paper = PaperSettings(
        n_layers=options.paper_layers,
        epochs=options.paper_epochs,
        pretraining_epochs=options.paper_pretraining_epochs,
        n_crystals=options.paper_crystals,
    )
    name = "paper_" + "_".join(str(value) for value in asdict(paper).values())
    weights = options.out / "weights" / f"{name}.safetensors"
    known = {
        **classical_methods(),
        **network_methods(
            paper, weights, partial(make_paper_weights, paper, weights, options), options.device
        ),
    }
    unknown = set(options.methods) - {*known, *GROUPS}
    if unknown:
        sys.exit(f"no method {sorted(unknown)}; choose among {', '.join([*known, *GROUPS])}")
    wanted = set(options.methods)
    return {name: m for name, m in known.items() if {name, m.group} & wanted}


def make_paper_weights(paper: PaperSettings, path: Path, options: argparse.Namespace) -> None:
    """Pretrain by the paper's recipe on crystals that hold no formula of any task.

    Parameters
    ----------
    paper : PaperSettings
        Length and size.
    path : Path
        File of the weights.
    options : argparse.Namespace
        Command line.
    """
    with claim(options.out / "claims", path.stem) as ours:
        if path.exists():
            return
        if not ours:
            sys.exit(f"another process is making {path}; try again when it is there")
        corpus = _corpus(options.corpus)
        corpus = corpus[corpus.n_sites <= paper.max_sites]
        for task in TASKS:
            structures = load_task(task, options.data_dir).structures
            corpus = without_test_crystals(corpus, structures)
        rows = np.random.default_rng(0).permutation(len(corpus))[: paper.n_crystals]
        path.parent.mkdir(parents=True, exist_ok=True)
        pretrain_paper(paper, corpus[rows], path, options.device)


def leak_check(task: Task, method: Method, test: Rows, corpus: Path) -> dict[str, Any] | None:
    """Look for the formulas of test rows in what the method's weights were pretrained on.

    Parameters
    ----------
    task : Task
        The task.
    method : Method
        The method.
    test : ndarray of int
        Rows of the test part.
    corpus : Path
        The corpus file.

    Returns
    -------
    dict or None
        As from `check_weights`; None for a method without pretrained weights. Says so where the
        corpus is not at hand.
    """
    if method.card is None:
        return None
    if not (method.card.exists() and corpus.exists()):
        return {"unchecked": "the card or the corpus file is not at hand"}
    formulas = reduced_formulas([task.structures[row] for row in test])
    return check_weights(method.card, _corpus(corpus), formulas)


@cache
def _corpus(path: Path) -> Corpus:
    return load_corpus(path)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("table", choices=["folds", "curves", "shuffled"])
    add("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS), metavar="TASK")
    add("--methods", nargs="+", default=list(GROUPS), help=f"names, or {', '.join(GROUPS)}")
    add("--splits", nargs="+", type=int, choices=range(N_FOLDS), default=list(range(N_FOLDS)))
    add("--sizes", nargs="+", type=int, choices=CURVE_SIZES, default=list(CURVE_SIZES))
    add("--limit-seconds", type=float, default=float("inf"), help="start no cell after this")
    add("--data-dir", type=Path, default=Path("../shared/data"), help="folder of matbench's files")
    add("--corpus", type=Path, default=Path("../shared/data/mp_unlabeled.npz"))
    add("--out", type=Path, default=Path("outputs/accuracy"))
    add("--device", default="auto")
    add("--threads", type=int, default=1)
    paper = PaperSettings()
    add("--paper-layers", type=int, default=paper.n_layers, help="15 in the paper")
    add("--paper-epochs", type=int, default=paper.epochs, help="500 in the paper")
    add("--paper-pretraining-epochs", type=int, default=paper.pretraining_epochs)
    add("--paper-crystals", type=int, default=paper.n_crystals)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
