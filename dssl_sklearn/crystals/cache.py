"""Graphs kept in memory under keys made from their content."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from itertools import pairwise

from dssl_sklearn.crystals.graph_table import GraphTable
from dssl_sklearn.crystals.table import CrystalTable

#: Bytes of graphs that one process keeps (about 50,000 crystals of 12 sites).
MAX_BYTES = 256 * 2**20

#: A graph as its table and its row there.
Entry = tuple[GraphTable, int]


def content_keys(crystals: CrystalTable, cutoff: float, max_neighbors: int) -> list[bytes]:
    """Fingerprints of all that graphs depend on: equal crystals share one, ids do not count."""
    names = sorted(crystals.site_properties)
    prefix = f"{cutoff!r},{max_neighbors!r},{names!r},".encode()
    of_site = [crystals.numbers, crystals.frac_coords]
    of_site += [crystals.site_properties[name] for name in names]
    # Slices of one block of bytes are far cheaper than slices of arrays.
    columns = [(memoryview(a.tobytes()), a.nbytes // max(len(a), 1)) for a in of_site]
    lattices = memoryview(crystals.lattice.tobytes())
    bounds = crystals.ptr.tolist()
    keys = []
    for row, (first, last) in enumerate(pairwise(bounds)):
        parts = [data[first * width : last * width] for data, width in columns]
        content = b"".join([prefix, lattices[72 * row : 72 * row + 72], *parts])
        keys.append(hashlib.blake2b(content, digest_size=16).digest())
    return keys


class GraphCache:
    """Least recently used tables of graphs up to a number of bytes; threads may share it.

    Parameters
    ----------
    max_bytes : int
        Size of the arrays kept.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self.max_bytes = max_bytes
        self._entries: dict[bytes, Entry] = {}
        #: Tables by identity, the least recently used first, with the keys of their rows.
        self._tables: OrderedDict[int, tuple[GraphTable, Sequence[bytes]]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, keys: Iterable[bytes]) -> dict[bytes, Entry]:
        """Graphs under those of the keys that are known."""
        with self._lock:
            found = {key: self._entries[key] for key in keys if key in self._entries}
            for table_id in dict.fromkeys(id(table) for table, _ in found.values()):
                self._tables.move_to_end(table_id)
            return found

    def put(self, keys: Sequence[bytes], table: GraphTable) -> None:
        """Keep a table, read-only from now on; the least recently used ones make room.

        Parameters
        ----------
        keys : sequence of bytes
            One for each graph of the table.
        table : GraphTable
            Nothing else may hold its arrays.
        """
        for array in table.arrays():
            array.setflags(write=False)
        with self._lock:
            self._tables[id(table)] = (table, keys)
            self._bytes += _n_bytes(table)
            self._entries |= {key: (table, row) for row, key in enumerate(keys)}
            while self._bytes > self.max_bytes:
                _, (oldest, old_keys) = self._tables.popitem(last=False)
                self._bytes -= _n_bytes(oldest)
                for key in old_keys:
                    # Another thread may have put the same crystal since.
                    if key in self._entries and self._entries[key][0] is oldest:
                        del self._entries[key]

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries.clear()
            self._tables.clear()
            self._bytes = 0


def _n_bytes(table: GraphTable) -> int:
    return sum(array.nbytes for array in table.arrays())


#: The cache that folds, grid points, pretraining and fine-tuning of one process share.
GRAPH_CACHE = GraphCache()
