"""Periodic neighbor graphs: whole shells of the nearest neighbors, all images included."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from dssl_sklearn.crystals.edges import Edges, SortedEdges
from dssl_sklearn.crystals.graph_table import GraphTable
from dssl_sklearn.crystals.limits import MIN_DISTANCE, Filling, overfull, too_close, unsearchable
from dssl_sklearn.crystals.ragged import pointer
from dssl_sklearn.crystals.search import LARGE_CELL, Cells, find_pairs
from dssl_sklearn.crystals.table import CrystalTable

#: Neighbors whose distances differ by less than this (angstrom) belong to one shell.
SHELL_TOLERANCE = 1e-3
#: First search radius over that of the sphere that holds the wanted neighbors at mean density.
_FIRST_RADIUS = 1.2
#: Factor by which the search radius grows for sites that still lack neighbors.
_GROWTH = 1.3
#: Pairs of sites that are searched at once, so that the arrays of a block stay in the cache.
_PAIRS_PER_BLOCK = 20_000

_Floats = NDArray[np.float64]
_Integers = NDArray[np.int64]


def build_graphs(
    crystals: CrystalTable, cutoff: float, max_neighbors: int
) -> tuple[GraphTable, dict[int, str]]:
    """Build the periodic neighbor multigraphs of some crystals, all steps for many at once.

    Every site is linked to its `max_neighbors` nearest neighbors within `cutoff`. The last shell
    is never cut: sorted by distance, neighbors go on being taken until the gap to the next one
    reaches `SHELL_TOLERANCE` (1e-3 angstrom), so that symmetry-equivalent neighbors are in or out
    together and the graph does not depend on the choice of cell. For the same reason a neighbor
    counts as within the cutoff up to `SHELL_TOLERANCE` beyond it. A site without any neighbor
    within the cutoff is linked to its nearest ones at whatever distance they are.

    Parameters
    ----------
    crystals : CrystalTable
        Checked crystals, at least one.
    cutoff : float
        Largest edge length in angstrom.
    max_neighbors : int
        Neighbors per site before completion of the last shell.

    Returns
    -------
    GraphTable
        Edges sorted by target, then by distance; none for a crystal that cannot be used.
    dict of int to str
        Why some crystals cannot be used: two atoms are too close, or too many are within reach.
    """
    blocks: list[GraphTable] = []
    errors: dict[int, str] = {}
    for start, stop in _blocks(crystals.n_sites):
        part = crystals.crystal_table(start, stop)
        block, wrong = _nearest_shells(part, cutoff, max_neighbors)
        blocks.append(block)
        errors |= {start + index: reason for index, reason in wrong.items()}
    return GraphTable.concatenate(blocks), errors


def _blocks(n_sites: _Integers) -> list[tuple[int, int]]:
    """First and last crystals of runs that are of about equal work."""
    small = n_sites <= LARGE_CELL
    work = np.cumsum(np.where(small, n_sites * (n_sites + 1) // 2, LARGE_CELL * n_sites))
    ends = np.flatnonzero(np.diff(work // _PAIRS_PER_BLOCK)) + 1
    bounds = [0, *ends.tolist(), len(n_sites)]
    return list(pairwise(bounds))


def _nearest_shells(
    crystals: CrystalTable, cutoff: float, max_neighbors: int
) -> tuple[GraphTable, dict[int, str]]:
    """Whole shells of nearest neighbors of every site, with search radii that adapt.

    A radius is large enough for a site once it has shown `max_neighbors` neighbors, or all within
    the cutoff, and the gap behind the last shell; only sites that still lack some are searched
    again with a larger one.
    """
    cells = Cells.of(crystals)
    of_site = np.repeat(np.arange(len(crystals)), crystals.n_sites)
    reach = np.full(len(of_site), cutoff + SHELL_TOLERANCE)
    filling = Filling.of(cells)
    per_site = filling.volume / crystals.n_sites
    radius = _FIRST_RADIUS * (3 * (max_neighbors + 1) * per_site / (4 * np.pi)) ** (1 / 3)
    # A gap can only be seen within the radius searched, hence more than the tolerance behind reach.
    limit = np.full(len(radius), cutoff + 3 * SHELL_TOLERANCE)
    pending = np.ones(len(of_site), dtype=bool)
    isolated = np.zeros(len(of_site), dtype=bool)
    found: list[Edges] = []
    errors = overfull(cells, filling)
    while True:
        radius = np.minimum(radius, limit)
        searched = np.logical_or.reduceat(pending, crystals.ptr[:-1])
        errors = unsearchable(cells, filling, radius, searched) | errors
        pending &= ~np.isin(of_site, list(errors))
        if not pending.any():
            break
        pairs = find_pairs(cells, radius, pending)
        edges = SortedEdges.of(pairs, pending)
        errors |= _overlaps(edges, of_site, crystals.ptr)
        pending &= ~np.isin(of_site, list(errors))
        n_kept, complete = _shells(edges, reach, radius[of_site], max_neighbors)
        # Left at the limit are isolated sites, now without a cutoff, and shells that run across it.
        at_limit = radius >= limit
        alone = pending & at_limit[of_site] & (n_kept == 0)
        isolated |= alone
        reach[alone] = np.inf
        limit[at_limit] = np.inf
        found.append(edges.first(np.where(pending & complete, n_kept, 0)))
        pending &= ~complete
        radius = radius * _GROWTH
    graphs = _graphs(
        crystals, cells, Edges.join(found), isolated, cutoff=cutoff, max_neighbors=max_neighbors
    )
    return graphs, errors


def _overlaps(edges: SortedEdges, of_site: _Integers, ptr: _Integers) -> dict[int, str]:
    """Crystals with two atoms closer than any are, and what is to be said about them."""
    if not (edges.distance < MIN_DISTANCE).any():
        return {}
    nearest = edges.first(np.minimum(np.diff(edges.ptr), 1))
    close = np.flatnonzero(nearest.distance < MIN_DISTANCE)
    close = close[np.argsort(nearest.distance[close], kind="stable")]
    errors: dict[int, str] = {}
    for k in close.tolist():
        center, distance = int(nearest.center[k]), nearest.distance[k]
        index = int(of_site[center])
        first = int(ptr[index])
        a, b = sorted((center - first, int(nearest.neighbor[k]) - first))
        pair = f"sites {a} and {b}" if a != b else f"site {a} and its periodic image"
        errors.setdefault(index, too_close(pair, distance))
    return errors


def _shells(
    edges: SortedEdges, reach: _Floats, radius: _Floats, max_neighbors: int
) -> tuple[_Integers, NDArray[np.bool_]]:
    """How many edges of each center are in its whole shells, and whether these are all."""
    distance, start, end = edges.distance, edges.ptr[:-1], edges.ptr[1:]
    near = pointer(distance <= np.repeat(reach, end - start))
    wanted = np.minimum(near[end] - near[start], max_neighbors)
    # A shell ends where the next neighbor is a gap away, or where the center has no more.
    is_end = np.zeros(len(distance) + 1, dtype=bool)
    is_end[1:-1] = np.diff(distance) >= SHELL_TOLERANCE
    is_end[end] = True
    ends = np.flatnonzero(is_end)
    shell_end = ends[np.searchsorted(ends, start + wanted)]
    n_kept = np.where(wanted > 0, shell_end - start, 0)
    farthest = np.concatenate((distance, [0.0]))[start + np.maximum(n_kept - 1, 0)]
    enough = (n_kept >= max_neighbors) | ((n_kept > 0) & (radius >= reach))
    return n_kept, enough & (farthest + SHELL_TOLERANCE <= radius)


def _graphs(
    crystals: CrystalTable,
    cells: Cells,
    edges: Edges,
    isolated: NDArray[np.bool_],
    *,
    cutoff: float,
    max_neighbors: int,
) -> GraphTable:
    """Edges counted within their crystals, with image shifts in the lattice vectors as given."""
    ptr = crystals.ptr
    edge_ptr = np.searchsorted(edges.center, ptr)
    first_site = np.repeat(ptr[:-1], np.diff(edge_ptr))
    shift = edges.shift
    for index, transform in cells.transforms.items():
        of_crystal = slice(edge_ptr[index], edge_ptr[index + 1])
        shift[of_crystal] = shift[of_crystal] @ transform
    return GraphTable(
        crystals,
        edge_ptr,
        (edges.neighbor - first_site).astype(np.int32),
        (edges.center - first_site).astype(np.int32),
        shift,
        edges.distance.astype(np.float32),
        np.add.reduceat(isolated.astype(np.int64), ptr[:-1]),
        cutoff,
        max_neighbors,
    )
