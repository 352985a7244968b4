"""Many crystals, and their graphs, in contiguous arrays of full precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from dssl_sklearn.crystals.dataset import GraphDataset
from dssl_sklearn.crystals.graph import Crystal, CrystalGraph
from dssl_sklearn.crystals.properties import joined, one_row
from dssl_sklearn.crystals.ragged import narrow, pointer, ranges


@dataclass(frozen=True, eq=False)
class CrystalTable:
    """Crystals as flat arrays; crystal ``i`` owns the sites ``ptr[i]:ptr[i + 1]``.

    Attributes
    ----------
    numbers : ndarray of shape (n_sites,), int64
        Atomic numbers.
    frac_coords : ndarray of shape (n_sites, 3), float64
        Fractional coordinates as given.
    lattice : ndarray of shape (n_crystals, 3, 3), float64
        Lattice vectors as rows, in angstrom.
    ptr : ndarray of shape (n_crystals + 1,), int64
        Where the sites of each crystal begin.
    site_properties : mapping of str to ndarray of shape (n_sites,) or (n_sites, k), float64
        Per-site quantities, NaN where unknown.
    crystal_properties : mapping of str to ndarray of shape (n_crystals,) or (n_crystals, k)
        Quantities of the whole crystals as float64, NaN where unknown.
    """

    numbers: NDArray[np.int64]
    frac_coords: NDArray[np.float64]
    lattice: NDArray[np.float64]
    ptr: NDArray[np.int64]
    site_properties: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    crystal_properties: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    @classmethod
    def of(cls, crystals: Sequence[Crystal]) -> CrystalTable:
        """Copy crystals into one table, with the properties that all of them have."""
        if not crystals:
            return cls(
                np.empty(0, dtype=np.int64),
                np.empty((0, 3)),
                np.empty((0, 3, 3)),
                np.zeros(1, dtype=np.int64),
            )
        return cls(
            np.concatenate([c.numbers for c in crystals]).astype(np.int64, copy=False),
            np.concatenate([c.frac_coords for c in crystals]).astype(np.float64, copy=False),
            np.array([c.lattice for c in crystals], dtype=np.float64, order="C"),
            pointer([len(c.numbers) for c in crystals]),
            joined([c.site_properties for c in crystals], np.float64),
            joined([one_row(c.crystal_properties) for c in crystals], np.float64)
            if crystals[0].crystal_properties
            else {},
        )

    def __len__(self) -> int:
        return len(self.lattice)

    @property
    def n_sites(self) -> NDArray[np.int64]:
        """Number of sites of each crystal."""
        return np.diff(self.ptr)

    def crystal(self, index: int) -> Crystal:
        """One crystal, as views of the table."""
        sites = slice(self.ptr[index], self.ptr[index + 1])
        return Crystal(
            self.numbers[sites],
            self.frac_coords[sites],
            self.lattice[index],
            {name: values[sites] for name, values in self.site_properties.items()},
            {name: np.asarray(values[index]) for name, values in self.crystal_properties.items()},
        )

    def part(self, start: int, stop: int) -> CrystalTable:
        """The crystals from `start` to before `stop`, as views of the table."""
        sites = slice(self.ptr[start], self.ptr[stop])
        return CrystalTable(
            self.numbers[sites],
            self.frac_coords[sites],
            self.lattice[start:stop],
            self.ptr[start : stop + 1] - self.ptr[start],
            {name: values[sites] for name, values in self.site_properties.items()},
            {name: values[start:stop] for name, values in self.crystal_properties.items()},
        )

    def with_properties(self, names: Sequence[str]) -> CrystalTable:
        """These crystals with exactly the named site properties, NaN where unknown."""
        unknown = np.full(len(self.numbers), np.nan)
        properties = {name: self.site_properties.get(name, unknown) for name in names}
        return replace(self, site_properties=properties)

    def take(self, rows: NDArray[np.int64]) -> CrystalTable:
        """Copy of some crystals, in the order of `rows`; the table itself if that is all."""
        if is_all(rows, len(self)):
            return self
        n_sites = self.n_sites[rows]
        sites = ranges(self.ptr[rows], n_sites)
        return CrystalTable(
            self.numbers[sites],
            self.frac_coords[sites],
            self.lattice[rows],
            pointer(n_sites),
            {name: values[sites] for name, values in self.site_properties.items()},
            {name: values[rows] for name, values in self.crystal_properties.items()},
        )

    @classmethod
    def concatenate(cls, tables: Sequence[CrystalTable]) -> CrystalTable:
        """Join tables, with the properties that all of them have."""
        return cls(
            np.concatenate([table.numbers for table in tables]),
            np.concatenate([table.frac_coords for table in tables]),
            np.concatenate([table.lattice for table in tables]),
            pointer(np.concatenate([table.n_sites for table in tables])),
            joined([table.site_properties for table in tables], np.float64),
            joined([table.crystal_properties for table in tables], np.float64),
        )

    def arrays(self) -> list[NDArray[np.generic]]:
        """All arrays of the table."""
        flat = (self.numbers, self.frac_coords, self.lattice, self.ptr)
        return [*flat, *self.site_properties.values(), *self.crystal_properties.values()]


@runtime_checkable
class Tabular(Protocol):
    """A collection that hands out its crystals as tables."""

    def crystal_table(self, start: int, stop: int) -> CrystalTable:
        """The crystals from `start` to before `stop`."""
        ...


@dataclass(frozen=True, eq=False)
class GraphTable:
    """Graphs of the crystals of a table; graph ``i`` owns ``edge_ptr[i]:edge_ptr[i + 1]``.

    Attributes
    ----------
    crystals : CrystalTable
        What the graphs were built from.
    edge_ptr : ndarray of shape (n_crystals + 1,), int64
        Where the edges of each crystal begin.
    source, target, shift, distance : ndarray
        Edges as in `CrystalGraph`, one crystal after the other.
    n_isolated : ndarray of shape (n_crystals,), int64
        Number of sites for which the cutoff was widened.
    cutoff, max_neighbors : float, int
        Settings of the graphs.
    """

    crystals: CrystalTable
    edge_ptr: NDArray[np.int64]
    source: NDArray[np.int32]
    target: NDArray[np.int32]
    shift: NDArray[np.int32]
    distance: NDArray[np.float32]
    n_isolated: NDArray[np.int64]
    cutoff: float
    max_neighbors: int
    _graphs: dict[int, CrystalGraph] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, graphs: Sequence[CrystalGraph]) -> GraphTable:
        """Copy graphs of equal settings, at least one, into a table; none counts as isolated."""
        return cls(
            CrystalTable.of([graph.crystal for graph in graphs]),
            pointer([graph.n_edges for graph in graphs]),
            np.concatenate([graph.source for graph in graphs]),
            np.concatenate([graph.target for graph in graphs]),
            np.concatenate([graph.shift for graph in graphs]),
            np.concatenate([graph.distance for graph in graphs]),
            np.zeros(len(graphs), dtype=np.int64),
            graphs[0].cutoff,
            graphs[0].max_neighbors,
        )

    def __len__(self) -> int:
        return len(self.crystals)

    def graph(self, index: int) -> CrystalGraph:
        """One graph, as views of the table; always the same object."""
        if index in self._graphs:
            return self._graphs[index]
        edges = slice(self.edge_ptr[index], self.edge_ptr[index + 1])
        graph = CrystalGraph(
            crystal=self.crystals.crystal(index),
            source=self.source[edges],
            target=self.target[edges],
            shift=self.shift[edges],
            distance=self.distance[edges],
            cutoff=self.cutoff,
            max_neighbors=self.max_neighbors,
        )
        return self._graphs.setdefault(index, graph)  # another thread may have been faster

    def take(self, rows: NDArray[np.int64]) -> GraphTable:
        """Copy of some graphs, in the order of `rows`; the table itself if that is all."""
        if is_all(rows, len(self)):
            return self
        n_edges = np.diff(self.edge_ptr)[rows]
        edges = ranges(self.edge_ptr[rows], n_edges)
        return GraphTable(
            self.crystals.take(rows),
            pointer(n_edges),
            self.source[edges],
            self.target[edges],
            self.shift[edges],
            self.distance[edges],
            self.n_isolated[rows],
            self.cutoff,
            self.max_neighbors,
        )

    @classmethod
    def concatenate(cls, tables: Sequence[GraphTable]) -> GraphTable:
        """Join tables of equal settings; the table itself if there is one."""
        if len(tables) == 1:
            return tables[0]
        return cls(
            CrystalTable.concatenate([table.crystals for table in tables]),
            pointer(np.concatenate([np.diff(table.edge_ptr) for table in tables])),
            np.concatenate([table.source for table in tables]),
            np.concatenate([table.target for table in tables]),
            np.concatenate([table.shift for table in tables]),
            np.concatenate([table.distance for table in tables]),
            np.concatenate([table.n_isolated for table in tables]),
            tables[0].cutoff,
            tables[0].max_neighbors,
        )

    @classmethod
    def gather(cls, entries: Sequence[tuple[GraphTable, int]]) -> GraphTable:
        """Join single graphs, given as table and row, in their order."""
        rows: dict[int, tuple[GraphTable, list[int], list[int]]] = {}
        for place, (table, row) in enumerate(entries):
            _, of_table, places = rows.setdefault(id(table), (table, [], []))
            of_table.append(row)
            places.append(place)
        joined = cls.concatenate([table.take(np.array(r)) for table, r, _ in rows.values()])
        order = np.concatenate([np.array(places) for *_, places in rows.values()])
        return joined.take(np.argsort(order))

    def dataset(self) -> GraphDataset:
        """Copy into a data set: coordinates wrapped into the cell, numbers as narrow as they go."""
        crystals, shift = self.crystals, self.shift
        wrap = np.floor(crystals.frac_coords)
        outside = np.add.reduceat(wrap.any(axis=1), crystals.ptr[:-1], dtype=np.int64) > 0
        if outside.any():
            n_edges = np.where(outside, np.diff(self.edge_ptr), 0)
            edges, first = (
                ranges(self.edge_ptr[:-1], n_edges),
                np.repeat(crystals.ptr[:-1], n_edges),
            )
            shift = shift.astype(np.int64)
            shift[edges] += wrap[first + self.source[edges]].astype(np.int64)
            shift[edges] -= wrap[first + self.target[edges]].astype(np.int64)
        return GraphDataset(
            numbers=crystals.numbers.astype(np.uint8),
            frac_coords=(crystals.frac_coords - wrap).astype(np.float32),
            lattice=crystals.lattice.astype(np.float32),
            site_ptr=crystals.ptr,
            edge_ptr=self.edge_ptr,
            source=narrow(self.source),
            target=narrow(self.target),
            shift=narrow(shift),
            distance=self.distance,
            cutoff=self.cutoff,
            max_neighbors=self.max_neighbors,
            site_properties=joined([crystals.site_properties]),
            crystal_properties=joined([crystals.crystal_properties]),
        )

    def arrays(self) -> list[NDArray[np.generic]]:
        """All arrays of the table."""
        edges = (self.edge_ptr, self.source, self.target, self.shift, self.distance)
        return [*self.crystals.arrays(), *edges, self.n_isolated]


def is_all(rows: NDArray[np.int64], length: int) -> bool:
    """Whether the rows are all of a table, in order."""
    return len(rows) == length and bool((rows == np.arange(length)).all())
