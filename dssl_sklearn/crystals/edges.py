"""Edges of many crystals in the order of their centers and lengths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dssl_sklearn.crystals.ragged import pointer, ranges
from dssl_sklearn.crystals.search import Pairs

#: Distances are rounded to this (angstrom), so that noise does not order equal ones.
_RESOLUTION = 2.0**-30

_Floats = NDArray[np.float64]
_Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Edges:
    """Directed edges of all crystals of a table, by center, then distance.

    Attributes
    ----------
    center, neighbor : ndarray of shape (n_edges,), int64
        Sites at the two ends, counted over all crystals.
    shift : ndarray of shape (n_edges, 3), int32
        Periodic image of the neighbor, in lattice vectors.
    distance : ndarray of shape (n_edges,), float64
        Length in angstrom.
    """

    center: _Integers
    neighbor: _Integers
    shift: NDArray[np.int32]
    distance: _Floats

    @classmethod
    def join(cls, parts: Sequence[Edges]) -> Edges:
        """Join edges; those of one center must be in one of the parts."""
        if not parts:
            none = np.empty(0, dtype=np.int64)
            return cls(none, none, np.empty((0, 3), dtype=np.int32), np.empty(0))
        if len(parts) == 1:
            return parts[0]
        center = np.concatenate([part.center for part in parts])
        order = np.argsort(center, kind="stable")
        return cls(
            center[order],
            np.concatenate([part.neighbor for part in parts])[order],
            np.concatenate([part.shift for part in parts])[order],
            np.concatenate([part.distance for part in parts])[order],
        )


@dataclass(frozen=True, eq=False)
class SortedEdges:
    """Edges found in a search by center, then distance, then as their pairs come.

    Attributes
    ----------
    pairs : Pairs
        What the search found.
    ptr : ndarray of shape (n_sites + 1,)
        The edges ``ptr[i]:ptr[i + 1]`` have site ``i`` as their center.
    edge : ndarray of shape (n_edges,)
        Pair of each edge, plus the number of pairs if the edge runs back.
    distance : ndarray of shape (n_edges,)
        Length in angstrom.
    """

    pairs: Pairs
    ptr: _Integers
    edge: _Integers
    distance: _Floats

    @classmethod
    def of(cls, pairs: Pairs, pending: NDArray[np.bool_]) -> SortedEdges:
        """Sort the edges that have a pending site as their center."""
        edge = np.concatenate((pairs.forth, pairs.back + len(pairs.distance)))
        center = np.concatenate((pairs.center[pairs.forth], pairs.neighbor[pairs.back]))
        steps = np.rint(pairs.distance * (1 / _RESOLUTION)).astype(np.int64)
        steps = np.concatenate((steps[pairs.forth], steps[pairs.back]))
        if not pending.all():
            wanted = np.flatnonzero(pending[center])
            edge, center, steps = edge[wanted], center[wanted], steps[wanted]
        ptr = pointer(np.bincount(center, minlength=len(pending)))
        edge, steps = _sorted(center, steps, edge)
        return cls(pairs, ptr, edge, steps.astype(np.float64) * _RESOLUTION)

    def first(self, n_wanted: _Integers) -> Edges:
        """The nearest edges of each center, as many as are wanted."""
        rows = ranges(self.ptr[:-1], n_wanted)
        pairs, pair = self.pairs, self.edge[rows]
        back = pair >= len(pairs.distance)
        pair -= len(pairs.distance) * back
        sign = 1 - 2 * back
        shift = np.empty((len(rows), 3), dtype=np.int32)
        for axis in range(3):
            shift[:, axis] = pairs.shift[axis][pair] * sign
        center = np.repeat(np.arange(len(n_wanted)), n_wanted)
        neighbor = np.where(back, pairs.center[pair], pairs.neighbor[pair])
        return Edges(center, neighbor, shift, self.distance[rows])


def _sorted(center: _Integers, steps: _Integers, edge: _Integers) -> tuple[_Integers, _Integers]:
    """Edges and steps in the order of center, steps, edge."""
    widths = [int(values.max(initial=0)).bit_length() for values in (center, steps, edge)]
    if sum(widths) > 63:
        order = np.lexsort((edge, steps, center))
        return edge[order], steps[order]
    # One integer that holds all three sorts several times faster than three keys.
    _, step_bits, edge_bits = widths
    keys = (center << (step_bits + edge_bits)) | (steps << edge_bits) | edge
    keys.sort()
    return keys & ((1 << edge_bits) - 1), (keys >> edge_bits) & ((1 << step_bits) - 1)
