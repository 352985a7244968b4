"""The graphs of many crystals in contiguous arrays of full precision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dssl_sklearn.crystals.dataset import GraphDataset
from dssl_sklearn.crystals.graph import CrystalGraph
from dssl_sklearn.crystals.properties import joined
from dssl_sklearn.crystals.ragged import narrow, pointer, ranges
from dssl_sklearn.crystals.table import CrystalTable, is_all


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
            crystal=self.crystals[index],
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
