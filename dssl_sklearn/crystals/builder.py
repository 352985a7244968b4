"""From what a user hands in to graphs: door, cache, neighbor search, in several processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from joblib import Parallel, delayed

from dssl_sklearn.crystals.build_part import BuildPart, all_reasons, report
from dssl_sklearn.crystals.cache import GRAPH_CACHE, Entry, content_keys
from dssl_sklearn.crystals.chunks import piece_of
from dssl_sklearn.crystals.dataset import GraphDataset
from dssl_sklearn.crystals.graph import CrystalGraph
from dssl_sklearn.crystals.graph_table import GraphTable
from dssl_sklearn.crystals.inputs import as_sequence, located
from dssl_sklearn.crystals.neighbors import build_graphs
from dssl_sklearn.crystals.reading import read_table
from dssl_sklearn.crystals.table import CrystalTable, Tabular, without
from dssl_sklearn.crystals.workers import count_workers, explained_kill
from dssl_sklearn.exceptions import InvalidInputError

#: Crystals per task of a worker process, and per table of the cache.
CHUNK = 1024


@dataclass(frozen=True)
class GraphBuilder:
    """Turns crystals of any accepted kind into graphs of one setting.

    Parameters
    ----------
    cutoff : float
        Largest edge length in angstrom.
    max_neighbors : int
        Neighbors per site before completion of the last shell.
    n_jobs : int or None, default=None
        Processes, as in joblib. Below some thousand crystals one process is faster.
    site_properties : tuple of str, default=()
        Per-site quantities of the structures to keep.
    use_cache : bool, default=True
        Look graphs up by content and keep new ones in the memory of this process.
    first : int, default=0
        Position of the first crystal, from which messages and reasons count.
    """

    cutoff: float
    max_neighbors: int
    n_jobs: int | None = None
    site_properties: tuple[str, ...] = ()
    use_cache: bool = True
    first: int = 0

    def usable_graphs(
        self,
        X: Any,  # noqa: ANN401
        name: str = "X",
        *,
        skip: bool = True,
    ) -> tuple[list[CrystalGraph], dict[int, str]]:
        """Build or look up the graphs of the crystals that can be used.

        Without `skip` those are all of them, or an error is raised.

        Returns
        -------
        list of CrystalGraph
            Of the usable crystals, in their order.
        dict of int to str
            Positions of the others, with the reasons.

        Raises
        ------
        InvalidInputError
            If `X` is not a sequence of crystals, or holds graphs of other settings.
        InvalidStructureError
            Without `skip`, naming every crystal that cannot be used and why.
        """
        parts = self._build(as_sequence(X, name), as_dataset=False, skip=skip)
        return [graph for part in parts for graph in part.graphs], all_reasons(parts)

    def dataset(self, X: Any, name: str = "X") -> GraphDataset:  # noqa: ANN401
        """Build the contiguous data set of all crystals.

        A `GraphDataset` passes through.

        Raises
        ------
        InvalidInputError, InvalidStructureError
            As `usable_graphs` without `skip`.
        """
        graphs, _ = self.usable_dataset(X, name, skip=False)
        return cast("GraphDataset", graphs)  # of all crystals, of which there are some

    def usable_dataset(
        self,
        X: Any,  # noqa: ANN401
        name: str = "X",
        *,
        skip: bool = True,
    ) -> tuple[GraphDataset | None, dict[int, str]]:
        """Build the data set of the crystals that can be used, as `usable_graphs` does.

        Returns
        -------
        GraphDataset or None
            Of the usable crystals, in their order; None if there are none.
        dict of int to str
            Positions of the others, with the reasons.

        Raises
        ------
        InvalidInputError, InvalidStructureError
            As `usable_graphs`.
        """
        if isinstance(X, GraphDataset) and len(X):
            self._check(X, name)
            return X, {}
        parts = self._build(as_sequence(X, name), as_dataset=True, skip=skip)
        datasets = [part.dataset for part in parts if part.dataset is not None]
        return GraphDataset.concatenate(datasets) if datasets else None, all_reasons(parts)

    def _check(self, record: CrystalGraph | GraphDataset, name: str | None = None) -> None:
        """Refuse ready graphs of other settings: a data set of some name, else a single one."""
        found = f"{name} holds graphs" if name else "found a graph"
        if (record.cutoff, record.max_neighbors) != (self.cutoff, self.max_neighbors):
            cure = (
                f"cutoff={self.cutoff} and max_neighbors={self.max_neighbors}; build them anew, or "
                "give the estimator the same values"
                if name
                else f"{self.cutoff} and {self.max_neighbors}; give StructureToGraph and the "
                "estimator the same values"
            )
            raise InvalidInputError(
                f"{found} built with cutoff={record.cutoff} and max_neighbors="
                f"{record.max_neighbors}, expected {cure}"
            )
        sites = record.crystal if isinstance(record, CrystalGraph) else record
        if missing := sorted(set(self.site_properties) - set(sites.site_properties)):
            cure = (
                f"attach them with {name}.with_properties(site={{{missing[0]!r}: array}})"
                if name
                else f"give StructureToGraph site_properties={list(self.site_properties)}"
            )
            raise InvalidInputError(f"{found} without the site properties {missing}; {cure}")

    def _build(self, items: Sequence[Any], *, as_dataset: bool, skip: bool) -> list[BuildPart]:
        starts = range(0, len(items), CHUNK)
        # Structures in a list come again in the next fold or grid point. Other sequences, such as a
        # corpus of arrays, are read once, and keeping their graphs as objects would cost memory.
        cache = self.use_cache and isinstance(items, list | tuple)
        if count_workers(self.n_jobs) == 1 or len(starts) == 1:
            parts = [
                self._build_chunk(items, start, as_dataset=as_dataset, cache=cache)
                for start in starts
            ]
        else:
            # What a worker process caches is lost to this one.
            with explained_kill():
                parts = Parallel(n_jobs=self.n_jobs)(
                    delayed(build_slice)(self, piece_of(items, start, CHUNK), as_dataset=as_dataset)
                    for start in starts
                )
            for start, part in zip(starts, parts, strict=True):
                part.shift(start)
        for part in parts:
            part.reasons = located(part.reasons, items)
            part.shift(self.first)
        report(parts, self.first + len(items), skip=skip)
        return parts

    def _build_chunk(
        self, items: Sequence[Any], start: int, *, as_dataset: bool, cache: bool
    ) -> BuildPart:
        part = BuildPart()
        places = range(start, min(start + CHUNK, len(items)))
        ready, crystals, of_crystal, part.reasons = self._read(items, places)
        entries = self._entries(crystals, of_crystal, part.reasons, cache=cache)
        part.isolated = [i for i, (table, row) in sorted(entries.items()) if table.n_isolated[row]]
        if not as_dataset:
            graphs = ready | {index: table.graph(row) for index, (table, row) in entries.items()}
            part.graphs = [graphs[index] for index in sorted(graphs)]
            return part
        if ready:
            table = GraphTable.of(list(ready.values()))
            entries |= {index: (table, row) for row, index in enumerate(ready)}
        if entries:
            table = GraphTable.gather([entries[index] for index in sorted(entries)])
            part.dataset = table.dataset()
        return part

    def _read(
        self, items: Sequence[Any], places: range
    ) -> tuple[dict[int, CrystalGraph], CrystalTable, list[int], dict[int, str]]:
        """Ready graphs by place, and what `read_table` makes of the other crystals."""
        if isinstance(items, Tabular):
            return {}, *read_table(items, places, self.site_properties)
        found = {index: items[index] for index in places}
        ready = {i: item for i, item in found.items() if isinstance(item, CrystalGraph)}
        for graph in ready.values():
            self._check(graph)
        others = [index for index in places if index not in ready]
        return ready, *read_table(found, others, self.site_properties)

    def _entries(
        self, crystals: CrystalTable, places: list[int], reasons: dict[int, str], *, cache: bool
    ) -> dict[int, Entry]:
        """Graphs of checked crystals by place; reasons against crystals are added to `reasons`."""
        # Equal crystals are built once, where content is looked at.
        keys: Sequence[Any] = places
        known: dict[Any, Entry] = {}
        if cache:
            keys = content_keys(crystals, self.cutoff, self.max_neighbors)
            known = GRAPH_CACHE.get(keys)
        rows = {key: row for row, key in enumerate(keys) if key not in known}
        if rows:
            fresh = crystals.take(np.array(list(rows.values()), dtype=np.int64))
            built, errors = build_graphs(fresh, self.cutoff, self.max_neighbors)
            of_row = list(rows)
            if errors:
                wrong = {of_row[row]: reason for row, reason in errors.items()}
                reasons |= {p: wrong[k] for p, k in zip(places, keys, strict=True) if k in wrong}
                built, of_row = without(built, of_row, errors)
            if cache:
                GRAPH_CACHE.put(of_row, built)
            known |= {key: (built, row) for row, key in enumerate(of_row)}
        return {p: known[k] for p, k in zip(places, keys, strict=True) if k in known}


def build_slice(builder: GraphBuilder, items: Sequence[Any], *, as_dataset: bool) -> BuildPart:
    """Build at most `CHUNK` crystals past the cache, and raise nothing about them."""
    return builder._build_chunk(items, 0, as_dataset=as_dataset, cache=False)  # noqa: SLF001
