"""Periodic neighbor search: whole shells of the nearest neighbors, all images included."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dssl_sklearn.crystals.graph import Crystal, CrystalGraph
from dssl_sklearn.crystals.inputs import UnusableCrystalError

#: Neighbors whose distances differ by less than this (angstrom) belong to one shell.
SHELL_TOLERANCE = 1e-3
#: Two sites closer than this (angstrom) count as being on one place.
MIN_DISTANCE = 0.1
#: A cell whose volume is below this share of the product of its edges is reduced before the search.
_SKEWED_CELL = 0.1
#: Factor by which the search radius grows for sites that still lack neighbors.
_GROWTH = 1.3
#: The library bins space into cubes of the radius; an almost empty cell must not ask for more.
_MAX_BINS = 1e5

#: Center, neighbor, image and distance of pairs of sites.
_Edges = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]


def build_graph(crystal: Crystal, cutoff: float, max_neighbors: int) -> tuple[CrystalGraph, int]:
    """Build the periodic neighbor multigraph of one crystal.

    Every site is linked to its `max_neighbors` nearest neighbors within `cutoff`. The last shell
    is never cut: sorted by distance, neighbors go on being taken until the gap to the next one
    reaches `SHELL_TOLERANCE` (1e-3 angstrom), so that symmetry-equivalent neighbors are in or out
    together and the graph does not depend on the choice of cell. For the same reason a neighbor
    counts as within the cutoff up to `SHELL_TOLERANCE` beyond it. A site without any neighbor
    within the cutoff is linked to its nearest ones at whatever distance they are.

    Parameters
    ----------
    crystal : Crystal
        Checked crystal.
    cutoff : float
        Largest edge length in angstrom.
    max_neighbors : int
        Neighbors per site before completion of the last shell.

    Returns
    -------
    CrystalGraph
        Edges sorted by target, then by distance.
    int
        Number of isolated sites, for which the cutoff was widened.

    Raises
    ------
    UnusableCrystalError
        If two atoms are on one place.
    """
    # The search wants coordinates in the cell and a compact cell (an oblique one has a huge number
    # of images within reach); the shifts are carried back to the coordinates as given.
    lattice, transform = _compact_cell(crystal.lattice)
    frac = crystal.frac_coords @ np.linalg.inv(transform)
    wrap = np.floor(frac)
    target, source, shift, distance, n_isolated = _nearest_shells(
        (frac - wrap) @ lattice, lattice, cutoff, max_neighbors
    )
    shift = (shift + (wrap[target] - wrap[source]).astype(np.int64)) @ transform
    graph = CrystalGraph(
        crystal=crystal,
        source=source.astype(np.int32),
        target=target.astype(np.int32),
        shift=shift.astype(np.int32),
        distance=distance.astype(np.float32),
        cutoff=cutoff,
        max_neighbors=max_neighbors,
    )
    return graph, n_isolated


def _compact_cell(
    lattice: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Lattice to search in, and the integer matrix with ``compact = transform @ lattice``."""
    if abs(np.linalg.det(lattice)) >= _SKEWED_CELL * np.linalg.norm(lattice, axis=1).prod():
        return lattice, np.eye(3, dtype=np.int64)
    from pymatgen.core import Lattice

    reduced = Lattice(lattice).get_lll_reduced_lattice().matrix
    transform = np.rint(reduced @ np.linalg.inv(lattice)).astype(np.int64)
    return transform @ lattice, transform


def _nearest_shells(
    positions: NDArray[np.float64], lattice: NDArray[np.float64], cutoff: float, max_neighbors: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], int]:
    """Whole shells of nearest neighbors of every site, with a search radius that adapts.

    A radius is large enough for a site once it has shown `max_neighbors` neighbors, or all within
    the cutoff, and the gap behind the last shell; only sites that still lack some are searched
    again with a larger one.
    """
    n_sites = len(positions)
    reach = np.full(n_sites, cutoff + SHELL_TOLERANCE)
    # Radius of the sphere that holds max_neighbors + 1 atoms at the mean density, a little larger.
    volume = abs(np.linalg.det(lattice))
    radius = 1.15 * (3 * (max_neighbors + 1) * volume / (4 * np.pi * n_sites)) ** (1 / 3)
    # A gap can only be seen within the radius searched, hence more than the tolerance behind reach.
    limit = cutoff + 3 * SHELL_TOLERANCE
    pending = np.arange(n_sites)
    found: list[_Edges] = []
    n_isolated = 0
    while len(pending):
        radius = min(radius, limit)
        edges = _search(positions, pending, lattice, radius)
        edges, complete = _trim(edges, reach, radius, max_neighbors)
        if radius >= limit:
            # Left are isolated sites, now without a cutoff, and shells that run across the limit.
            isolated = pending[np.bincount(edges[0], minlength=n_sites)[pending] == 0]
            reach[isolated] = limit = np.inf
            n_isolated = len(isolated)
        keep = complete[edges[0]]
        found.append(tuple(part[keep] for part in edges))  # type: ignore[arg-type]
        pending = pending[~complete[pending]]
        radius *= _GROWTH
    return *_merge(found), n_isolated


def _search(
    positions: NDArray[np.float64],
    centers: NDArray[np.int64],
    lattice: NDArray[np.float64],
    radius: float,
) -> _Edges:
    """Center, neighbor, image and distance of all pairs in reach, by center, then distance."""
    from pymatgen.optimization.neighbors import find_points_in_spheres

    center, neighbor, image, distance = find_points_in_spheres(
        all_coords=np.ascontiguousarray(positions),
        center_coords=np.ascontiguousarray(positions[centers]),
        r=float(radius),
        pbc=np.ones(3, dtype=np.int64),
        lattice=np.ascontiguousarray(lattice),
        tol=1e-8,
        min_r=max(1.0, float(abs(np.linalg.det(lattice)) / _MAX_BINS) ** (1 / 3)),
    )
    center = centers[center]
    image = image.astype(np.int64)
    itself = (center == neighbor) & ~image.any(axis=1)
    order = np.lexsort((distance, center))
    order = order[~itself[order]]
    center, neighbor, image, distance = (
        center[order],
        neighbor[order],
        image[order],
        distance[order],
    )
    if len(distance) and distance.min() < MIN_DISTANCE:
        k = int(distance.argmin())
        a, b = sorted((int(center[k]), int(neighbor[k])))
        pair = f"sites {a} and {b}" if a != b else f"site {a} and its periodic image"
        raise UnusableCrystalError(
            f"two atoms on one place: {pair} are {distance[k]:.3g} angstrom apart "
            f"(at least {MIN_DISTANCE} needed); merge duplicated sites"
        )
    return center, neighbor, image, distance


def _trim(
    edges: _Edges, reach: NDArray[np.float64], radius: float, max_neighbors: int
) -> tuple[_Edges, NDArray[np.bool_]]:
    """Keep the nearest whole shells of each center and tell which centers are complete."""
    center, _, _, distance = edges
    n_sites = len(reach)
    n_found = np.bincount(center, minlength=n_sites)
    start = np.cumsum(n_found) - n_found
    rank = np.arange(len(center)) - start[center]
    n_near = np.bincount(center[distance <= reach[center]], minlength=n_sites)
    wanted = np.minimum(n_near, max_neighbors)
    # A shell ends where the next neighbor is a gap away; only gaps behind the wanted ones count.
    gap = rank == 0
    gap[1:] |= np.diff(distance) >= SHELL_TOLERANCE
    ended = np.cumsum(gap & (rank >= wanted[center]))
    before = np.concatenate(([0], ended))[start]  # gaps counted for the centers before
    keep = ended == before[center]
    center_kept = center[keep]
    n_kept = np.bincount(center_kept, minlength=n_sites)
    last = np.where(n_kept > 0, start + n_kept - 1, 0)
    farthest = distance[last] if len(distance) else np.zeros(n_sites)
    enough = (n_kept >= max_neighbors) | ((n_kept > 0) & (radius >= reach))
    complete = enough & (farthest + SHELL_TOLERANCE <= radius)
    return tuple(part[keep] for part in edges), complete


def _merge(
    found: list[_Edges],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    if len(found) == 1:
        return found[0]
    center, neighbor, image, distance = (
        np.concatenate(parts) for parts in zip(*found, strict=True)
    )
    order = np.argsort(center, kind="stable")
    return center[order], neighbor[order], image[order], distance[order]
