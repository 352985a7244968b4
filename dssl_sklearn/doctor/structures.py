"""Checks of the structures."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dssl_sklearn.crystals.duplicates import (
    Environment,
    environments,
    group_duplicates,
)
from dssl_sklearn.crystals.elements import MAX_ATOMIC_NUMBER, element_property
from dssl_sklearn.crystals.files import HARMLESS_REMARK, UnusableCrystalError
from dssl_sklearn.crystals.graph_table import GraphTable
from dssl_sklearn.crystals.identity import formula_keys
from dssl_sklearn.crystals.neighbors import build_graphs
from dssl_sklearn.crystals.reading import read_sites, unusable
from dssl_sklearn.crystals.table import CrystalTable, Sites, Tabular, without
from dssl_sklearn.doctor.findings import Finding

#: Crystals that are looked at together.
_CHUNK = 512
#: Volume per atom in cubic angstrom that the stable crystals of the Materials Project keep to.
_VOLUMES = (4.0, 80.0)
#: Distance over the sum of the atomic radii below which two sites are too close.
_TOO_CLOSE = 0.6


class StructureCheck:
    """Looks at structures and keeps what is found.

    Parameters
    ----------
    cutoff : float
        Largest edge length in angstrom, for isolated atoms.
    max_neighbors : int
        Neighbors per site.
    large_cell : int
        Sites above which a cell is large.
    tolerance : float
        How far the distances of duplicates may differ, in angstrom.

    Attributes
    ----------
    findings : list of Finding
        What was found.
    usable : ndarray of shape (n_structures,), bool
        Whether an estimator can use the structure.
    duplicates : list of list of int
        Groups of equal crystals.
    """

    def __init__(
        self, cutoff: float, max_neighbors: int, large_cell: int, tolerance: float
    ) -> None:
        self.cutoff = cutoff
        self.max_neighbors = max_neighbors
        self.large_cell = large_cell
        self.tolerance = tolerance
        self.findings: list[Finding] = []
        self.usable: NDArray[np.bool_] = np.zeros(0, dtype=bool)
        self.duplicates: list[list[int]] = []

    def look_at(self, items: Sequence[Any]) -> StructureCheck:
        """Run all checks."""
        self.usable = np.zeros(len(items), dtype=bool)
        sound: list[tuple[CrystalTable, list[int]]] = []
        for start in range(0, len(items), _CHUNK):
            rows = range(start, min(start + _CHUNK, len(items)))
            table, of_row = self._without_bad_values(*self._read(items, rows))
            if len(table):
                table, of_row = self._look_at_graphs(table, of_row)
            self.usable[of_row] = True
            self._look_at_cells(table, of_row)
            sound.append((table, of_row))
        self._find_duplicates(sound)
        return self

    def _find_duplicates(self, sound: list[tuple[CrystalTable, list[int]]]) -> None:
        keys = [formula_keys(table) for table, _ in sound]
        often = Counter(chain.from_iterable(keys))
        places: list[int] = []
        found: list[Environment] = []
        for (table, of_row), key_of_row in zip(sound, keys, strict=True):
            # A formula that comes only once has no duplicate.
            rows = [row for row, key in enumerate(key_of_row) if often[key] > 1]
            places += [of_row[row] for row in rows]
            found += environments(table.take(np.array(rows, dtype=np.int64)))
        groups = group_duplicates(found, self.tolerance)
        self.duplicates = [[places[row] for row in group] for group in groups]

    def _add(self, index: int, check: str, message: str) -> None:
        self.findings.append(Finding(index, check, message))

    def _read(self, items: Sequence[Any], rows: range) -> tuple[CrystalTable, list[int]]:
        if isinstance(items, Tabular):
            return items.crystal_table(rows.start, rows.stop).with_properties(()), list(rows)
        crystals, of_row = [], []
        for index in rows:
            try:
                sites, remarks = _read_item(items[index])
                # Together with others, arrays that do not fit could no longer be told apart.
                CrystalTable.of([sites])
            except UnusableCrystalError as error:
                self._add(index, error.check, str(error))
            except Exception as error:  # noqa: BLE001 - one bad item must not end the report
                self._add(index, "unreadable", f"{type(error).__name__}: {error}".splitlines()[0])
            else:
                crystals.append(sites)
                of_row.append(index)
                for remark in remarks:
                    self._add(index, "reader_remark", remark)
        return CrystalTable.of(crystals), of_row

    def _without_bad_values(
        self, table: CrystalTable, of_row: list[int]
    ) -> tuple[CrystalTable, list[int]]:
        wrong = unusable(table)
        for row, reason in wrong.items():
            numbers = table.numbers[table.ptr[row] : table.ptr[row + 1]]
            unknown = ((numbers < 1) | (numbers > MAX_ATOMIC_NUMBER)).any()
            self._add(of_row[row], "unknown_element" if unknown else "bad_cell", reason)
        return without(table, of_row, wrong)

    def _look_at_graphs(
        self, table: CrystalTable, of_row: list[int]
    ) -> tuple[CrystalTable, list[int]]:
        graphs, overlaps = build_graphs(table, self.cutoff, self.max_neighbors)
        for row, reason in overlaps.items():
            self._add(of_row[row], "overlapping_sites", reason)
        for row in np.flatnonzero(graphs.n_isolated).tolist():
            message = (
                f"{graphs.n_isolated[row]} of {table.n_sites[row]} atom(s) have no neighbor within "
                f"{self.cutoff:g} angstrom"
            )
            self._add(of_row[row], "isolated_atom", message)
        for row, message in _close_sites(graphs):
            self._add(of_row[row], "close_sites", message)
        return without(table, of_row, overlaps)

    def _look_at_cells(self, table: CrystalTable, of_row: list[int]) -> None:
        volume = np.abs(np.linalg.det(table.lattice)) / table.n_sites
        lowest, highest = _VOLUMES
        for row in np.flatnonzero((volume < lowest) | (volume > highest)).tolist():
            message = (
                f"{volume[row]:.3g} cubic angstrom per atom, usual are {lowest:g} to {highest:g}"
            )
            self._add(of_row[row], "unusual_volume", message)
        for row in np.flatnonzero(table.n_sites > self.large_cell).tolist():
            self._add(of_row[row], "large_cell", f"the cell has {table.n_sites[row]} sites")
        for row in np.flatnonzero(table.n_sites == 1).tolist():
            self._add(of_row[row], "single_atom", "the cell has one atom")


def _read_item(item: Any) -> tuple[Sites, list[str]]:  # noqa: ANN401
    """Sites of a crystal, and what the reader of its file had to remark."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        sites = read_sites(item)
    remarks = [" ".join(str(warning.message).split()) for warning in caught]
    worth_a_look = [remark[:300] for remark in remarks if HARMLESS_REMARK not in remark]
    return sites, list(dict.fromkeys(worth_a_look))


def _close_sites(graphs: GraphTable) -> Iterator[tuple[int, str]]:
    """Crystals in which two atoms are much closer than their radii allow, with the closest."""
    crystals = graphs.crystals
    radius = element_property("atomic_radius")
    start = np.repeat(crystals.ptr[:-1], np.diff(graphs.edge_ptr))
    ends = crystals.numbers[start + graphs.source], crystals.numbers[start + graphs.target]
    ratio = graphs.distance / (radius[ends[0]] + radius[ends[1]])
    close = np.flatnonzero(ratio < _TOO_CLOSE)
    of_edge = np.searchsorted(graphs.edge_ptr, close, side="right") - 1
    for row in np.unique(of_edge).tolist():
        edges = close[of_edge == row]
        edge = edges[np.argmin(ratio[edges])]
        yield (
            row,
            (
                f"sites {graphs.source[edge]} and {graphs.target[edge]} are "
                f"{graphs.distance[edge]:.2f} angstrom apart"
            ),
        )
