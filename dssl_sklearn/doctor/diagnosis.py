"""The one call: structures and targets in, a report out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from dssl_sklearn._checks import check_choice, check_integer, check_number
from dssl_sklearn.crystals.graph import DEFAULT_CUTOFF, DEFAULT_MAX_NEIGHBORS
from dssl_sklearn.crystals.inputs import as_sequence
from dssl_sklearn.doctor.findings import Finding
from dssl_sklearn.doctor.report import DataReport
from dssl_sklearn.doctor.structures import StructureCheck
from dssl_sklearn.doctor.targets import check_column, target_columns
from dssl_sklearn.exceptions import InvalidInputError


def diagnose(
    X: Any,  # noqa: ANN401
    y: Any = None,  # noqa: ANN401
    *,
    targets: Sequence[str] | None = None,
    task: Literal["auto", "regression", "classification"] = "auto",
    names: Sequence[str] | None = None,
    cutoff: float = DEFAULT_CUTOFF,
    max_neighbors: int = DEFAULT_MAX_NEIGHBORS,
    large_cell: int = 200,
    tolerance: float = 0.01,
) -> DataReport:
    """Look over structures and targets before training.

    Nothing in the structures or targets makes this fail: whatever is wrong is in the report, with
    the position of the structure.

    Parameters
    ----------
    X : sequence of crystals of shape (n_structures,)
        Structures, ASE Atoms, structure dicts, paths of CIF or POSCAR files, or graphs, bad ones
        among them.
    y : array-like of shape (n_structures,) or (n_structures, n_targets), default=None
        Targets; None to look at the structures alone.
    targets : sequence of str, default=None
        Names of the targets, for messages; by default those of a Series or DataFrame.
    task : {"auto", "regression", "classification"}, default="auto"
        What the targets are for. "auto" takes text and truth values for classes.
    names : sequence of str of length n_structures, default=None
        Names of the structures, such as their files, for the summary.
    cutoff : float, default=8.0
        Edge length in angstrom within which an atom without neighbors counts as isolated.
    max_neighbors : int, default=12
        Neighbors per site, as for the estimators.
    large_cell : int, default=200
        Sites above which a cell counts as large.
    tolerance : float, default=0.01
        How far the distances of two crystals may differ, in angstrom, for them to be the same.

    Returns
    -------
    DataReport
        A table of all findings, and a readable summary.

    Raises
    ------
    InvalidInputError
        If `X` is not a sequence of crystals, or an argument has an unusable value.

    Examples
    --------
    >>> from dssl_sklearn.datasets import load_elasticity
    >>> from dssl_sklearn.doctor import diagnose
    >>> structures, y = load_elasticity(target="K_VRH", return_X_y=True)
    >>> report = diagnose([*structures[:60], "nowhere.cif"], [*y[:60], 3.0])
    >>> report.ok
    False
    >>> report.table.query("severity == 'error'")["index"].tolist()
    [60]
    """
    check_number("cutoff", cutoff)
    check_integer("max_neighbors", max_neighbors)
    check_integer("large_cell", large_cell)
    check_number("tolerance", tolerance)
    check_choice("task", task, ("auto", "regression", "classification"))
    items = as_sequence(X)
    if names is not None and len(names) != len(items):
        raise InvalidInputError(f"names has {len(names)} entries for {len(items)} structures.")
    found = StructureCheck(cutoff, max_neighbors, large_cell, tolerance).look_at(items)
    findings = list(found.findings)
    if y is not None:
        columns, problems = target_columns(y, len(items), targets)
        findings += problems
        for name, column in columns:
            findings += check_column(name, column, task, found.usable, found.duplicates)
    # What is said as a conflict need not be said again.
    conflicts = {f.index for f in findings if f.check == "conflicting_duplicate"}
    for first, *others in found.duplicates:
        findings += [
            Finding(index, "duplicate", f"the same crystal as structure {first}")
            for index in others
            if index not in conflicts
        ]
    return DataReport(findings, found.usable, names=names)
