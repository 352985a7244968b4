"""What ``on_error="skip"`` does about crystals that cannot be used."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from dssl_sklearn._warnings import warn
from dssl_sklearn.crystals.builder import GraphBuilder
from dssl_sklearn.crystals.dataset import GraphDataset
from dssl_sklearn.crystals.graph import CrystalGraph
from dssl_sklearn.crystals.inputs import some_of
from dssl_sklearn.crystals.table import Tabular
from dssl_sklearn.exceptions import (
    MOST_SHOWN,
    InvalidStructureError,
    SkippedStructuresWarning,
    reason_lines,
)

_Float = TypeVar("_Float", np.float32, np.float64)


class SkippedReport(NamedTuple):
    """What a warning would say of the skipped structures of an input.

    Attributes
    ----------
    reasons : mapping of int to str
        Positions, with the reasons.
    n_structures : int
        Length of the input.
    """

    reasons: Mapping[int, str]
    n_structures: int


#: Where skipped structures are reported in place of a warning, if an estimator around asks for it.
_reports: ContextVar[list[SkippedReport] | None] = ContextVar("_reports", default=None)


@dataclass(frozen=True)
class UsableGraphs:
    """Graphs of the usable crystals of an input, and where these stand in it.

    Attributes
    ----------
    graphs : GraphDataset or None
        None if no crystal can be used.
    rows : ndarray of shape (n_usable,), int64
        Their positions.
    n_structures : int
        Length of the input.
    """

    graphs: GraphDataset | None
    rows: NDArray[np.int64]
    n_structures: int

    @classmethod
    def of(cls, X: Any, builder: GraphBuilder, name: str = "X", *, skip: bool) -> UsableGraphs:  # noqa: ANN401
        """Build the graphs of all crystals, or with `skip` of those that can be used.

        A warning names what is skipped.

        Raises
        ------
        InvalidInputError
            If `X` is not a sequence of crystals.
        InvalidStructureError
            If any crystal cannot be used, and `skip` is not set.
        """
        graphs, reasons = builder.usable_dataset(X, name, skip=skip)
        n_usable = 0 if graphs is None else len(graphs)
        n_structures = n_usable + len(reasons)
        if reasons:
            warn_skipped(reasons, builder.first + n_structures, "get no result (NaN)", name)
        rows = kept_rows(n_usable, [index - builder.first for index in reasons])
        return cls(graphs, rows, n_structures)

    def spread(self, values: NDArray[_Float]) -> NDArray[_Float]:
        """Put rows of the usable crystals in their places, with NaN in those of the others."""
        if len(values) == self.n_structures:
            return values
        result = np.full((self.n_structures, *values.shape[1:]), np.nan, dtype=values.dtype)
        result[self.rows] = values
        return result

    def spread_sites(
        self, values: Sequence[NDArray[_Float]], nothing: NDArray[_Float]
    ) -> list[NDArray[_Float]]:
        """Put arrays of the usable crystals in their places, with `nothing` in the others."""
        found = [nothing] * self.n_structures
        for row, of_sites in zip(self.rows, values, strict=True):
            found[row] = of_sites
        return found


def kept_rows(n_usable: int, skipped: Collection[int]) -> NDArray[np.int64]:
    """Positions of the usable crystals of an input, given those of the others."""
    return np.setdiff1d(np.arange(n_usable + len(skipped)), np.fromiter(skipped, np.int64))


def training_graphs(
    X: Any,  # noqa: ANN401
    builder: GraphBuilder,
    *,
    skip: bool,
) -> tuple[GraphDataset, dict[int, str]]:
    """Graphs to learn from, with a warning that names what is left out.

    Raises
    ------
    InvalidStructureError
        If any crystal cannot be used, and `skip` is not set, or none can.
    """
    graphs, reasons = builder.usable_dataset(X, skip=skip)
    if graphs is None:
        raise InvalidStructureError(reasons, len(reasons))
    if reasons:
        warn_skipped(reasons, len(graphs) + len(reasons), "are left out")
    return graphs, reasons


def leave_out(
    items: Sequence[Any], builder: GraphBuilder, name: str
) -> tuple[Sequence[Any], NDArray[np.int64], dict[int, str]]:
    """Split a sequence into usable crystals and reasons against the others, with a warning.

    Ready graphs pass: whether their settings are right is for the network to say.

    Returns
    -------
    sequence
        The usable crystals.
    ndarray of shape (n_usable,), int64
        Their positions.
    dict of int to str
        Positions of the others, with the reasons.

    Raises
    ------
    InvalidStructureError
        If no crystal can be used.
    """
    reasons: dict[int, str] = {}
    if isinstance(items, GraphDataset):
        pass  # graphs that were built are of usable crystals
    elif isinstance(items, Tabular):
        _, reasons = builder.usable_dataset(items, name)
    else:
        places = [i for i in range(len(items)) if not isinstance(items[i], CrystalGraph)]
        found = builder.usable_graphs(some_of(items, places), name)[1] if places else {}
        reasons = {places[index]: reason for index, reason in found.items()}
    n_structures = len(items)
    rows = kept_rows(n_structures - len(reasons), reasons)
    if not reasons:
        return items, rows, reasons
    if not len(rows):
        raise InvalidStructureError(reasons, n_structures)
    warn_skipped(reasons, n_structures, "are left out", name)
    return [items[row] for row in rows], rows, reasons


def warn_skipped(
    reasons: Mapping[int, str], n_structures: int, consequence: str, name: str = "X"
) -> None:
    """Name the crystals that are skipped and why, all in one warning or in a report."""
    reports = _reports.get()
    # Other inputs, such as `unlabeled`, are no parts of the X of an estimator around.
    if reports is not None and name == "X":
        reports.append(SkippedReport(reasons, n_structures))
        return
    lines = reason_lines(reasons)
    if others := sorted(reasons)[MOST_SHOWN:]:
        lines.append(f"  and the structures {', '.join(map(str, others))}")
    warn(
        f"{len(reasons)} unusable structure(s) of {n_structures} in {name} {consequence}:\n"
        + "\n".join(lines),
        SkippedStructuresWarning,
    )


@contextmanager
def reported_skips() -> Iterator[list[SkippedReport]]:
    """Gather what is skipped in place of warnings, for an estimator that knows the whole input.

    Other processes and threads warn by themselves.

    Yields
    ------
    list of SkippedReport
        One for each warning that was not given, in order.
    """
    reports: list[SkippedReport] = []
    token = _reports.set(reports)
    try:
        yield reports
    finally:
        _reports.reset(token)
