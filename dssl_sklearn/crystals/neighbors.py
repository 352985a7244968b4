"""Periodic neighbor search: whole shells of the nearest neighbors, all images included."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dssl_sklearn.crystals.graph import Crystal, CrystalGraph
from dssl_sklearn.crystals.reading import UnusableCrystalError

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
    """Build the graph of one crystal, see `build_graphs`.

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
    ((result, n_isolated),) = build_graphs([crystal], cutoff, max_neighbors)
    if isinstance(result, UnusableCrystalError):
        raise result
    return result, n_isolated


def build_graphs(
    crystals: Sequence[Crystal], cutoff: float, max_neighbors: int
) -> list[tuple[CrystalGraph | UnusableCrystalError, int]]:
    """Build the periodic neighbor multigraphs of some crystals, all steps but the search at once.

    Every site is linked to its `max_neighbors` nearest neighbors within `cutoff`. The last shell
    is never cut: sorted by distance, neighbors go on being taken until the gap to the next one
    reaches `SHELL_TOLERANCE` (1e-3 angstrom), so that symmetry-equivalent neighbors are in or out
    together and the graph does not depend on the choice of cell. For the same reason a neighbor
    counts as within the cutoff up to `SHELL_TOLERANCE` beyond it. A site without any neighbor
    within the cutoff is linked to its nearest ones at whatever distance they are.

    Parameters
    ----------
    crystals : sequence of Crystal
        Checked crystals, some thousand at most.
    cutoff : float
        Largest edge length in angstrom.
    max_neighbors : int
        Neighbors per site before completion of the last shell.

    Returns
    -------
    list of (CrystalGraph, int)
        For each crystal the graph, edges sorted by target, then by distance, and its number of
        isolated sites. Where two atoms are on one place, the error that says so instead of a graph.
    """
    if not crystals:
        return []
    cells = _Cells.of(crystals)
    (target, source, shift, distance), isolated, errors = _nearest_shells(
        cells, cutoff, max_neighbors
    )
    shift += (cells.wrap[target] - cells.wrap[source]).astype(np.int64)
    first_site = cells.ptr[:-1]
    edge_ptr = np.searchsorted(target, cells.ptr)
    offset = np.repeat(first_site, np.diff(edge_ptr))
    source32, target32 = (source - offset).astype(np.int32), (target - offset).astype(np.int32)
    distance32 = distance.astype(np.float32)
    n_isolated = np.add.reduceat(isolated.astype(np.int64), first_site)
    results: list[tuple[CrystalGraph | UnusableCrystalError, int]] = []
    for index, crystal in enumerate(crystals):
        if index in errors:
            results.append((errors[index], 0))
            continue
        edges = slice(edge_ptr[index], edge_ptr[index + 1])
        transform = cells.transforms.get(index)
        of_crystal = shift[edges] if transform is None else shift[edges] @ transform
        graph = CrystalGraph(
            crystal=crystal,
            source=source32[edges],
            target=target32[edges],
            shift=of_crystal.astype(np.int32),
            distance=distance32[edges],
            cutoff=cutoff,
            max_neighbors=max_neighbors,
        )
        results.append((graph, int(n_isolated[index])))
    return results


@dataclass(frozen=True, eq=False)
class _Cells:
    """Crystals as the search wants them: sites of all in one array, in compact cells.

    An oblique cell has a huge number of images within reach, so it is reduced; what was wrapped
    and transformed is kept, to carry the image shifts back to the coordinates as given.
    """

    positions: NDArray[np.float64]
    lattice: NDArray[np.float64]
    ptr: NDArray[np.int64]
    crystal_of_site: NDArray[np.int64]
    volume: NDArray[np.float64]
    wrap: NDArray[np.float64]
    transforms: dict[int, NDArray[np.int64]]

    @classmethod
    def of(cls, crystals: Sequence[Crystal]) -> _Cells:
        # The search wants C order; a strained Structure, say, has Fortran order.
        lattice = np.ascontiguousarray(np.stack([crystal.lattice for crystal in crystals]))
        n_sites = np.array([len(crystal) for crystal in crystals])
        ptr = np.concatenate(([0], np.cumsum(n_sites)))
        frac = np.concatenate([crystal.frac_coords for crystal in crystals])
        volume = np.abs(np.linalg.det(lattice))
        skewed = volume < _SKEWED_CELL * np.linalg.norm(lattice, axis=2).prod(axis=1)
        transforms = {}
        for index in np.flatnonzero(skewed).tolist():
            transforms[index] = transform = _reduction(lattice[index])
            lattice[index] = transform @ lattice[index]
            sites = slice(ptr[index], ptr[index + 1])
            frac[sites] = frac[sites] @ np.linalg.inv(transform)
        wrap = np.floor(frac)
        crystal_of_site = np.repeat(np.arange(len(crystals)), n_sites)
        positions = np.einsum("ni,nij->nj", frac - wrap, lattice[crystal_of_site], order="C")
        return cls(positions, lattice, ptr, crystal_of_site, volume, wrap, transforms)


def _reduction(lattice: NDArray[np.float64]) -> NDArray[np.int64]:
    """Integer matrix that makes a compact cell of an oblique one: ``matrix @ lattice``."""
    from pymatgen.core import Lattice

    reduced = Lattice(lattice).get_lll_reduced_lattice().matrix
    return np.rint(reduced @ np.linalg.inv(lattice)).astype(np.int64)


def _nearest_shells(
    cells: _Cells, cutoff: float, max_neighbors: int
) -> tuple[_Edges, NDArray[np.bool_], dict[int, UnusableCrystalError]]:
    """Whole shells of nearest neighbors of every site, with search radii that adapt.

    A radius is large enough for a site once it has shown `max_neighbors` neighbors, or all within
    the cutoff, and the gap behind the last shell; only sites that still lack some are searched
    again with a larger one.
    """
    of_site = cells.crystal_of_site
    reach = np.full(len(of_site), cutoff + SHELL_TOLERANCE)
    # Radius of the sphere that holds max_neighbors + 1 atoms at the mean density, a little larger.
    per_site = cells.volume / np.diff(cells.ptr)
    radius = 1.15 * (3 * (max_neighbors + 1) * per_site / (4 * np.pi)) ** (1 / 3)
    # A gap can only be seen within the radius searched, hence more than the tolerance behind reach.
    limit = np.full(len(radius), cutoff + 3 * SHELL_TOLERANCE)
    pending = np.ones(len(of_site), dtype=bool)
    isolated = np.zeros(len(of_site), dtype=bool)
    found: list[_Edges] = []
    errors: dict[int, UnusableCrystalError] = {}
    while pending.any():
        radius = np.minimum(radius, limit)
        edges = _search(cells, pending, radius)
        errors |= _overlaps(cells, edges)
        pending &= ~np.isin(of_site, list(errors))
        edges, complete = _trim(edges, reach, radius[of_site], max_neighbors)
        # Left at the limit are isolated sites, now without a cutoff, and shells that run across it.
        at_limit = radius >= limit
        has_neighbor = np.bincount(edges[0], minlength=len(of_site)) > 0
        alone = pending & at_limit[of_site] & ~has_neighbor
        isolated |= alone
        reach[alone] = np.inf
        limit[at_limit] = np.inf
        done = pending & complete
        found.append(_take(edges, done[edges[0]]))
        pending &= ~complete
        radius = radius * _GROWTH
    edges = _merge(found)
    return edges, isolated, errors


def _search(cells: _Cells, pending: NDArray[np.bool_], radius: NDArray[np.float64]) -> _Edges:
    """Pairs within the radius of the pending sites, by center, then distance."""
    from pymatgen.optimization.neighbors import find_points_in_spheres

    pbc = np.ones(3, dtype=np.int64)
    min_radius = np.maximum(1.0, (cells.volume / _MAX_BINS) ** (1 / 3))
    parts: list[tuple[NDArray[Any], ...]] = []
    first_sites = cells.ptr[:-1]
    n_pending = np.add.reduceat(pending.astype(np.int64), first_sites)
    for index in np.flatnonzero(n_pending).tolist():
        first, last = cells.ptr[index], cells.ptr[index + 1]
        positions = cells.positions[first:last]
        centers = None
        if n_pending[index] < last - first:
            centers = np.flatnonzero(pending[first:last])
        center, neighbor, image, distance = find_points_in_spheres(
            all_coords=positions,
            center_coords=positions if centers is None else positions[centers],
            r=float(radius[index]),
            pbc=pbc,
            lattice=cells.lattice[index],
            tol=1e-8,
            min_r=float(min_radius[index]),
        )
        if centers is not None:
            center = centers[center]
        parts.append((center + first, neighbor + first, image, distance))
    center, neighbor, image, distance = (np.concatenate(p) for p in zip(*parts, strict=True))
    # Stable, so that the order of equally distant neighbors depends on their crystal alone.
    order = np.lexsort((distance, center))
    itself = (center == neighbor) & ~image.any(axis=1)
    order = order[~itself[order]]
    return center[order], neighbor[order], image[order].astype(np.int64), distance[order]


def _overlaps(cells: _Cells, edges: _Edges) -> dict[int, UnusableCrystalError]:
    """Crystals with two atoms on one place, and the error that says so."""
    center, neighbor, _, distance = edges
    close = np.flatnonzero(distance < MIN_DISTANCE)
    close = close[np.argsort(distance[close], kind="stable")]
    errors: dict[int, UnusableCrystalError] = {}
    for k in close.tolist():
        index = int(cells.crystal_of_site[center[k]])
        first = int(cells.ptr[index])
        a, b = sorted((int(center[k]) - first, int(neighbor[k]) - first))
        pair = f"sites {a} and {b}" if a != b else f"site {a} and its periodic image"
        message = (
            f"two atoms on one place: {pair} are {distance[k]:.3g} angstrom apart "
            f"(at least {MIN_DISTANCE} needed); merge duplicated sites"
        )
        errors.setdefault(index, UnusableCrystalError(message))
    return errors


def _trim(
    edges: _Edges, reach: NDArray[np.float64], radius: NDArray[np.float64], max_neighbors: int
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
    n_kept = np.bincount(center[keep], minlength=n_sites)
    last = np.where(n_kept > 0, start + n_kept - 1, 0)
    farthest = distance[last] if len(distance) else np.zeros(n_sites)
    enough = (n_kept >= max_neighbors) | ((n_kept > 0) & (radius >= reach))
    complete = enough & (farthest + SHELL_TOLERANCE <= radius)
    return _take(edges, keep), complete


def _take(edges: _Edges, rows: NDArray[Any]) -> _Edges:
    center, neighbor, image, distance = edges
    return center[rows], neighbor[rows], image[rows], distance[rows]


def _merge(found: list[_Edges]) -> _Edges:
    """Join the edges of several rounds; those of one center are of one round, in order."""
    center, neighbor, image, distance = (
        np.concatenate(parts) for parts in zip(*found, strict=True)
    )
    edges = (center, neighbor, image, distance)
    return edges if len(found) == 1 else _take(edges, np.argsort(center, kind="stable"))
