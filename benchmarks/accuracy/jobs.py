"""The cells of a table: which there are, and how one is computed."""

from __future__ import annotations

import copy
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

from accuracy.classical import BestScale, ClippedRegressor, TunedSVR
from accuracy.features import load_table
from accuracy.methods import ALONE, Method
from accuracy.store import Record
from accuracy.tasks import CURVE_SIZES, Rows, Table, Task, draw_labels


@dataclass(frozen=True)
class Cell:
    """One fit and its test.

    Attributes
    ----------
    table : {"folds", "curves", "shuffled"}
        Protocol.
    task, method : str
        Names.
    split : int
        Fold, and for curves the draw of the labels within it; also the seed.
    n_labels : int
        Number of labels.
    config : str
        Hash of the method's settings.
    """

    table: Table
    task: str
    method: str
    split: int
    n_labels: int
    config: str

    @property
    def key(self) -> tuple[Any, ...]:
        """As `store.cell_key` gives it for the cell's record."""
        return (self.table, self.task, self.method, self.split, self.n_labels, self.config)

    @property
    def name(self) -> str:
        """Fit for the name of a file."""
        return "_".join(str(part) for part in self.key)


def cells_of(
    table: Table,
    tasks: Mapping[str, Task],
    methods: Mapping[str, Method],
    splits: Sequence[int],
    sizes: Sequence[int] = CURVE_SIZES,
) -> list[Cell]:
    """List the cells of a table.

    Parameters
    ----------
    table : {"folds", "curves", "shuffled"}
        The protocol: whole training parts, 50 to 800 labels drawn from them, or whole training
        parts of folds that split polymorphs of a formula, too.
    tasks : mapping of str to Task
        Tasks by name.
    methods : mapping of str to Method
        Methods by name.
    splits : sequence of int
        Folds, or draws.
    sizes : sequence of int, default=(50, 100, 200, 400, 800)
        Numbers of labels of the curves.

    Returns
    -------
    list of Cell
        Method by method; sizes that a training part does not have are left out.
    """
    return [
        Cell(table, task.name, name, split, n_labels, method.config)
        for name, method in methods.items()
        for task in tasks.values()
        for split in splits
        for n_labels in _sizes(table, len(task.folds_of(table)[split][0]), sizes)
    ]


def _sizes(table: Table, n_train: int, sizes: Sequence[int]) -> list[int]:
    return [size for size in sizes if size <= n_train] if table == "curves" else [n_train]


def rows_of(cell: Cell, task: Task) -> tuple[Rows, Rows]:
    """Rows that a cell trains on, and those it is tested on."""
    train, test = task.folds_of(cell.table)[cell.split]
    if cell.table == "curves":
        train = draw_labels(train, cell.n_labels, cell.split)
    return train, test


def run_cell(cell: Cell, task: Task, method: Method, features: Path) -> list[Record]:
    """Fit on the training rows of a cell and measure on its test rows.

    Parameters
    ----------
    cell : Cell
        What to compute.
    task : Task
        Its data.
    method : Method
        Its method.
    features : Path
        Folder of the feature tables.

    Returns
    -------
    list of dict
        One record, and one more for `Method.alone`: the cell's names, ``mae`` in the unit of the
        task, ``cpu_seconds`` of fit and prediction
        (feature tables not included), ``chosen`` by tuning, and where and with what it ran.
    """
    train, test = rows_of(cell, task)
    X = _inputs(task, method, features)
    estimator = method.make(cell.split)
    started, wall = time.process_time(), time.perf_counter()
    estimator.fit(X(train), task.y[train])
    predicted = np.asarray(estimator.predict(X(test)), float)
    seconds, elapsed = time.process_time() - started, time.perf_counter() - wall
    cost = (seconds, elapsed)
    found = [_record(cell, method, task.y[test], predicted, cost)]
    if method.alone is not None:
        network = copy.copy(estimator)
        network.kernel_ = None
        predicted = np.asarray(network.predict(X(test)), float)
        alone = replace(cell, method=cell.method + ALONE, config=method.alone.config)
        found.append(_record(alone, method.alone, task.y[test], predicted, cost))
    for record in found:
        record["chosen"] = _chosen(estimator)
    return found


def _record(
    cell: Cell,
    method: Method,
    y: NDArray[np.float64],
    predicted: NDArray[np.float64],
    cost: tuple[float, float],
) -> Record:
    seconds, elapsed = cost
    return {
        "table": cell.table,
        "task": cell.task,
        "method": cell.method,
        "split": cell.split,
        "n_labels": cell.n_labels,
        "config": cell.config,
        "mae": float(np.abs(predicted - y).mean()),
        "n_test": len(y),
        "cpu_seconds": round(seconds, 3),
        "wall_seconds": round(elapsed, 3),
        "seed": cell.split,
        "settings": method.settings,
        "title": method.title,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _inputs(task: Task, method: Method, folder: Path) -> Callable[[Rows], Any]:
    if not method.tables:
        return lambda rows: [task.structures[row] for row in rows]
    table = np.hstack([_table(name, task, folder) for name in method.tables])
    return lambda rows: table[rows]


@cache
def _table(name: str, task: Task, folder: Path) -> NDArray[np.float64]:
    return load_table(name, task.structures, folder)


def _chosen(estimator: Any) -> dict[str, float]:  # noqa: ANN401 - any regressor
    """Values that the estimator tuned on its training rows."""
    last = estimator[-1] if isinstance(estimator, Pipeline) else estimator
    if isinstance(last, TunedSVR | BestScale):
        return last.chosen_
    if isinstance(last, ClippedRegressor):
        return {"alpha": float(last.regressor_[-1].alpha_)}
    return {}


def seconds_left(open_cells: Iterable[Cell], finished: Iterable[Record]) -> tuple[float, int]:
    """Estimate the work ahead from cells of the same methods that are done.

    Parameters
    ----------
    open_cells : iterable of Cell
        What is left.
    finished : iterable of dict
        Records of any cells.

    Returns
    -------
    seconds : float
        Estimate for the cells of methods with a record; time is taken to grow with the labels.
    n_unknown : int
        Number of cells of the other methods.
    """
    rates: defaultdict[str, list[float]] = defaultdict(list)
    for record in finished:
        rates[record["method"]].append(record["wall_seconds"] / record["n_labels"])
    per_label = {method: statistics.median(values) for method, values in rates.items()}
    seconds, n_unknown = 0.0, 0
    for cell in open_cells:
        if cell.method in per_label:
            seconds += per_label[cell.method] * cell.n_labels
        else:
            n_unknown += 1
    return seconds, n_unknown
