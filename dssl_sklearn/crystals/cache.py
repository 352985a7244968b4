"""Graphs kept in memory under a key made from their content."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from dssl_sklearn.crystals.graph import Crystal, CrystalGraph

#: Bytes of graphs that one process keeps (about 50,000 crystals of 12 sites).
MAX_BYTES = 256 * 2**20
_EDGE_ARRAYS = ("source", "target", "shift", "distance")


def content_key(crystal: Crystal, cutoff: float, max_neighbors: int) -> bytes:
    """Fingerprint of all that a graph depends on: equal crystals share it, ids do not count."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(f"{cutoff!r},{max_neighbors!r},{len(crystal)}".encode())
    digest.update(crystal.numbers.tobytes())
    digest.update(crystal.frac_coords.tobytes())
    digest.update(crystal.lattice.tobytes())
    for name in sorted(crystal.site_properties):
        digest.update(name.encode())
        digest.update(crystal.site_properties[name].tobytes())
    return digest.digest()


class GraphCache:
    """Least recently used graphs up to a number of bytes; safe to share between threads.

    Parameters
    ----------
    max_bytes : int
        Size of the arrays kept.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self.max_bytes = max_bytes
        self._graphs: OrderedDict[bytes, tuple[CrystalGraph, bool]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._graphs)

    def get(self, key: bytes) -> tuple[CrystalGraph, bool] | None:
        """Graph under the key and whether it has isolated sites, or None."""
        with self._lock:
            if key in self._graphs:
                self._graphs.move_to_end(key)
            return self._graphs.get(key)

    def put(self, key: bytes, graph: CrystalGraph, *, isolated: bool) -> tuple[CrystalGraph, bool]:
        """Keep a read-only copy of a graph and return it; the least recently used make room."""
        # The arrays handed in may be slices of those of many crystals, which must not be kept.
        edges = {name: getattr(graph, name).copy() for name in _EDGE_ARRAYS}
        graph = replace(graph, **edges)
        for array in _arrays(graph):
            array.setflags(write=False)
        with self._lock:
            if key not in self._graphs:
                self._bytes += _n_bytes(graph)
            self._graphs[key] = (graph, isolated)
            while self._bytes > self.max_bytes and self._graphs:
                _, (oldest, _) = self._graphs.popitem(last=False)
                self._bytes -= _n_bytes(oldest)
        return graph, isolated

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._graphs.clear()
            self._bytes = 0


def _arrays(graph: CrystalGraph) -> tuple[NDArray[Any], ...]:
    crystal = graph.crystal
    return (
        *(getattr(graph, name) for name in _EDGE_ARRAYS),
        crystal.numbers,
        crystal.frac_coords,
        crystal.lattice,
        *crystal.site_properties.values(),
    )


def _n_bytes(graph: CrystalGraph) -> int:
    return sum(array.nbytes for array in _arrays(graph))


#: The cache that folds, grid points, pretraining and fine-tuning of one process share.
GRAPH_CACHE = GraphCache()
