"""Statistics over folds and draws, and the compact file of results."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from accuracy.store import Record, cell_key
from dssl_sklearn.evaluation.paired import PairedDifference

#: Columns of the compact file; settings, titles and environments stand beside it, once each.
_COLUMNS = (
    *("table", "task", "method", "split", "n_labels", "config", "mae", "cpu_seconds"),
    *("wall_seconds", "seed", "chosen", "leak", "time", "environment"),
)
_OF_METHOD = ("settings", "title")
_OF_ENVIRONMENT = ("versions", "python", "commit", "machine", "threads", "device")


@dataclass
class Series:
    """Errors of one method on one task with one number of labels.

    Attributes
    ----------
    mae : dict of int to float
        Error by fold or draw.
    cpu_seconds : dict of int to float
        Cost of fit and prediction.
    """

    mae: dict[int, float] = field(default_factory=dict)
    cpu_seconds: dict[int, float] = field(default_factory=dict)

    @property
    def mean(self) -> float:
        """Mean error over the folds."""
        return float(np.mean(list(self.mae.values())))

    @property
    def deviation(self) -> float:
        """Standard deviation over the folds (of the sample), NaN for a single one."""
        values = list(self.mae.values())
        return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


def paired_difference(ours: Series, theirs: Series) -> PairedDifference | None:
    """Compare two methods fold by fold.

    Parameters
    ----------
    ours, theirs : Series
        Errors.

    Returns
    -------
    PairedDifference or None
        Of ours and theirs in percent of the mean of theirs, on the folds that both have; None
        without a common fold. Five folds are few.
    """
    common = sorted(ours.mae.keys() & theirs.mae.keys())
    if not common:
        return None
    first, second = (np.array([series.mae[split] for split in common]) for series in (ours, theirs))
    percent = 100 / second.mean()
    return PairedDifference.of(percent * first, percent * second)


def latest(records: Iterable[Record]) -> list[Record]:
    """One record a cell, and one configuration a mean: that of its newest record.

    Errors of two configurations must not meet in one mean: in the folds of a method and task, or
    in its draws of one number of labels.

    Parameters
    ----------
    records : iterable of dict
        In the order of time, or with ``time``.

    Returns
    -------
    list of dict
        What tables are made of.
    """
    by_cell = {cell_key(record): record for record in sorted(records, key=lambda r: r["time"])}
    newest = {_mean_key(record): record["config"] for record in by_cell.values()}
    return [record for record in by_cell.values() if newest[_mean_key(record)] == record["config"]]


def _mean_key(record: Record) -> tuple[str, str, str, int]:
    n_labels = record["n_labels"] if record["table"] == "curves" else 0
    return record["table"], record["task"], record["method"], n_labels


def series_of(records: Iterable[Record], table: str) -> dict[tuple[str, str, int], Series]:
    """Group the errors of a table.

    Parameters
    ----------
    records : iterable of dict
        Records, one a cell.
    table : {"folds", "curves", "shuffled"}
        Which table.

    Returns
    -------
    dict of (task, method, n_labels) to Series
        For folds `n_labels` is 0, since it differs from fold to fold.
    """
    found: defaultdict[tuple[str, str, int], Series] = defaultdict(Series)
    for record in records:
        if record["table"] == table:
            n_labels = record["n_labels"] if table == "curves" else 0
            series = found[record["task"], record["method"], n_labels]
            series.mae[record["split"]] = record["mae"]
            series.cpu_seconds[record["split"]] = record["cpu_seconds"]
    return dict(found)


def usual_choice(records: Sequence[Record]) -> str:
    """Most frequent outcome of tuning among some records, with its count; empty if untuned."""
    outcomes = Counter(
        ", ".join(f"{name} {value:.3g}" for name, value in record["chosen"].items())
        for record in records
        if record["chosen"]
    )
    if not outcomes:
        return ""
    outcome, count = outcomes.most_common(1)[0]
    return f"{outcome} ({count} of {len(records)})"


def write_compact(path: Path, records: Sequence[Record]) -> None:
    """Write results with one cell a line, and what many share only once.

    Parameters
    ----------
    path : Path
        JSON file.
    records : sequence of dict
        What `read_compact` gives back.
    """
    methods: dict[str, Any] = {}
    environments: list[Any] = []
    rows = []
    for record in sorted(records, key=cell_key):
        methods[record["config"]] = {name: record[name] for name in _OF_METHOD}
        where = {name: record[name] for name in _OF_ENVIRONMENT}
        if where not in environments:
            environments.append(where)
        full = {**record, "environment": environments.index(where)}
        rows.append(json.dumps([full[name] for name in _COLUMNS]))
    head = json.dumps(
        {"columns": _COLUMNS, "methods": methods, "environments": environments}, indent=1
    )
    cells = ",\n".join(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'{head[:-2]},\n "cells": [\n{cells}\n ]\n}}\n', encoding="utf-8")


def read_compact(path: Path) -> list[Record]:
    """Read what `write_compact` wrote; nothing where it does not exist."""
    if not path.exists():
        return []
    content = json.loads(path.read_text(encoding="utf-8"))
    records = []
    for row in content["cells"]:
        record = dict(zip(content["columns"], row, strict=True))
        record |= content["environments"][record.pop("environment")]
        records.append({**record, **content["methods"][record["config"]]})
    return records
