"""From what a user hands in to graphs: door, cache, neighbor search, in several processes."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from joblib import Parallel, delayed, effective_n_jobs

from dssl_sklearn.crystals.cache import GRAPH_CACHE, content_key
from dssl_sklearn.crystals.dataset import GraphDataset
from dssl_sklearn.crystals.graph import Crystal, CrystalGraph
from dssl_sklearn.crystals.inputs import as_sequence
from dssl_sklearn.crystals.neighbors import build_graphs
from dssl_sklearn.crystals.reading import UnusableCrystalError, read_crystal
from dssl_sklearn.exceptions import InvalidStructureError, IsolatedSiteWarning

#: Crystals per task of a worker process and per part of a large data set.
_CHUNK = 2048


@dataclass
class _Part:
    """Result of one chunk: graphs in order, and what is to be said about some of them."""

    graphs: list[CrystalGraph] = field(default_factory=list)
    reasons: dict[int, str] = field(default_factory=dict)
    isolated: list[int] = field(default_factory=list)
    dataset: GraphDataset | None = None


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
    """

    cutoff: float
    max_neighbors: int
    n_jobs: int | None = None
    site_properties: tuple[str, ...] = ()
    use_cache: bool = True

    def graphs(self, X: Any, name: str = "X") -> list[CrystalGraph]:  # noqa: ANN401
        """Build or look up the graph of every crystal.

        Raises
        ------
        InvalidInputError
            If `X` is not a sequence of crystals.
        InvalidStructureError
            Naming every crystal that cannot be used and why.
        """
        parts = self._build(as_sequence(X, name), as_dataset=False)
        return [graph for part in parts for graph in part.graphs]

    def dataset(self, X: Any, name: str = "X") -> GraphDataset:  # noqa: ANN401
        """Build the contiguous data set of all crystals.

        A `GraphDataset` of the same settings, and with the site properties, passes through.

        Raises
        ------
        InvalidInputError, InvalidStructureError
            As `graphs`.
        """
        if isinstance(X, GraphDataset) and len(X) and self._fits(X) and not self._missing(X):
            return X
        parts = self._build(as_sequence(X, name), as_dataset=True)
        return GraphDataset.concatenate(
            [part.dataset for part in parts if part.dataset is not None]
        )

    def _fits(self, graph: CrystalGraph | GraphDataset) -> bool:
        return (graph.cutoff, graph.max_neighbors) == (self.cutoff, self.max_neighbors)

    def _missing(self, record: Crystal | GraphDataset) -> list[str]:
        return sorted(set(self.site_properties) - set(record.site_properties))

    def _build(self, items: Sequence[Any], *, as_dataset: bool) -> list[_Part]:
        starts = range(0, len(items), _CHUNK)
        # Structures in a list come again in the next fold or grid point. Other sequences, such as a
        # corpus of arrays, are read once, and keeping their graphs as objects would cost memory.
        cache = self.use_cache and isinstance(items, list | tuple)
        if effective_n_jobs(self.n_jobs) == 1 or len(starts) == 1:
            parts = [
                self._build_chunk(items, start, as_dataset=as_dataset, cache=cache)
                for start in starts
            ]
        else:
            # What a worker process caches is lost to this one.
            parts = Parallel(n_jobs=self.n_jobs)(
                delayed(_build_slice)(self, items[start : start + _CHUNK], as_dataset=as_dataset)
                for start in starts
            )
            for start, part in zip(starts, parts, strict=True):
                part.reasons = {start + index: reason for index, reason in part.reasons.items()}
                part.isolated = [start + index for index in part.isolated]
        _report(parts, len(items))
        return parts

    def _build_chunk(
        self, items: Sequence[Any], start: int, *, as_dataset: bool, cache: bool
    ) -> _Part:
        part = _Part()
        known: dict[int, tuple[CrystalGraph, bool]] = {}
        fresh: dict[bytes | int, Crystal] = {}
        rows: dict[bytes | int, list[int]] = {}
        for index in range(start, min(start + _CHUNK, len(items))):
            try:
                item = self._read(items[index])
            except UnusableCrystalError as error:
                part.reasons[index] = str(error)
                continue
            if isinstance(item, CrystalGraph):
                known[index] = (item, False)
                continue
            # Equal crystals are built once, where content is looked at.
            key = content_key(item, self.cutoff, self.max_neighbors) if cache else index
            if isinstance(key, bytes) and (cached := GRAPH_CACHE.get(key)) is not None:
                known[index] = cached
                continue
            fresh[key] = item
            rows.setdefault(key, []).append(index)
        built = build_graphs(list(fresh.values()), self.cutoff, self.max_neighbors)
        for key, (result, n_isolated) in zip(fresh, built, strict=True):
            if isinstance(result, UnusableCrystalError):
                part.reasons |= dict.fromkeys(rows[key], str(result))
                continue
            entry = (result, n_isolated > 0)
            if isinstance(key, bytes):
                entry = GRAPH_CACHE.put(key, result, isolated=n_isolated > 0)
            known |= dict.fromkeys(rows[key], entry)
        part.graphs = [known[index][0] for index in sorted(known)]
        part.isolated = [index for index in sorted(known) if known[index][1]]
        if as_dataset and part.graphs:
            part.dataset = GraphDataset.from_graphs(part.graphs)
            part.graphs = []
        return part

    def _read(self, item: Any) -> Crystal | CrystalGraph:  # noqa: ANN401
        """Read a crystal, or check that a ready graph is of these settings."""
        if not isinstance(item, CrystalGraph):
            return read_crystal(item, self.site_properties)
        if not self._fits(item):
            raise UnusableCrystalError(
                f"a graph built with cutoff={item.cutoff} and max_neighbors="
                f"{item.max_neighbors}, expected {self.cutoff} and {self.max_neighbors}; "
                "give StructureToGraph and the estimator the same values"
            )
        if missing := self._missing(item.crystal):
            raise UnusableCrystalError(
                f"a graph without the site properties {missing}; give StructureToGraph "
                f"site_properties={list(self.site_properties)}"
            )
        return item


def _build_slice(builder: GraphBuilder, items: Sequence[Any], *, as_dataset: bool) -> _Part:
    return builder._build_chunk(items, 0, as_dataset=as_dataset, cache=False)  # noqa: SLF001


def _report(parts: Sequence[_Part], n_structures: int) -> None:
    reasons = {index: reason for part in parts for index, reason in part.reasons.items()}
    if reasons:
        raise InvalidStructureError(reasons, n_structures)
    isolated = [index for part in parts for index in part.isolated]
    if isolated:
        shown = ", ".join(map(str, isolated[:10])) + (", ..." if len(isolated) > 10 else "")
        warnings.warn(
            f"{len(isolated)} structure(s) have sites without a neighbor within the cutoff "
            f"(positions {shown}); the cutoff was widened to their nearest neighbors. "
            "Raise `cutoff` or look at these cells if this is not intended.",
            IsolatedSiteWarning,
            stacklevel=4,
        )
