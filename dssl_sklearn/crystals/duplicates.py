"""Which crystals of a set are the same one, whatever cell, orientation or order was chosen."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from dssl_sklearn.crystals.elements import MAX_ATOMIC_NUMBER
from dssl_sklearn.crystals.graph_table import GraphTable
from dssl_sklearn.crystals.identity import formula_keys
from dssl_sklearn.crystals.neighbors import build_graphs
from dssl_sklearn.crystals.table import CrystalTable

#: Neighborhood that is compared; with 12 neighbors fcc and hcp would be alike.
_CUTOFF = 10.0
_NEIGHBORS = 32
_N_ELEMENTS = MAX_ATOMIC_NUMBER + 1


@dataclass(frozen=True, eq=False)
class Environment:
    """Distances between the elements of a crystal, per pair of elements.

    Attributes
    ----------
    key : bytes
        Reduced composition and the pairs of elements that are neighbors: equal in equal crystals.
    values : ndarray of shape (5 * n_pairs,), float64
        For each pair the neighbors per site of the crystal, and mean, standard deviation, minimum
        and maximum of their distances in angstrom: nearly equal in nearly equal crystals.
    """

    key: bytes
    values: NDArray[np.float64]


def environments(crystals: CrystalTable) -> list[Environment]:
    """Describe crystals by their distances, which no choice of cell, axes or order changes.

    The neighbors are the 32 nearest ones of each site with their whole last shell, averaged over
    the sites. Mirror images are alike, and so would be two crystals with equal statistics of all
    distances, which real ones hardly have.

    Parameters
    ----------
    crystals : CrystalTable
        Crystals whose sites are not on top of each other.

    Returns
    -------
    list of Environment
        One for each crystal.
    """
    if not len(crystals):
        return []
    graphs, _ = build_graphs(crystals, _CUTOFF, _NEIGHBORS)
    of_crystal, pairs, values = _statistics(graphs)
    bounds = np.searchsorted(of_crystal, np.arange(len(crystals) + 1)).tolist()
    return [
        Environment(key + pairs[first:last].tobytes(), values[first:last].ravel())
        for key, (first, last) in zip(formula_keys(crystals), pairwise(bounds), strict=True)
    ]


def _statistics(
    graphs: GraphTable,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Crystal, pair of elements, and statistics of the distances, for each pair that occurs."""
    crystals = graphs.crystals
    n_edges = np.diff(graphs.edge_ptr)
    crystal = np.repeat(np.arange(len(crystals)), n_edges)
    start = crystals.ptr[crystal]
    elements = crystals.numbers[start + graphs.target] * _N_ELEMENTS
    elements += crystals.numbers[start + graphs.source]
    code = crystal * _N_ELEMENTS**2 + elements
    order = np.argsort(code, kind="stable")
    distance = graphs.distance[order].astype(np.float64)
    codes, first, counts = np.unique(code[order], return_index=True, return_counts=True)
    if not len(codes):
        return codes, codes, np.empty((0, 5))
    mean = np.add.reduceat(distance, first) / counts
    deviation = distance - np.repeat(mean, counts)
    spread = np.sqrt(np.add.reduceat(deviation**2, first) / counts)
    of_crystal, pairs = np.divmod(codes, _N_ELEMENTS**2)
    per_site = counts / crystals.n_sites[of_crystal]
    lowest, highest = (f.reduceat(distance, first) for f in (np.minimum, np.maximum))
    return of_crystal, pairs, np.column_stack([per_site, mean, spread, lowest, highest])


def group_duplicates(found: list[Environment], tolerance: float = 0.01) -> list[list[int]]:
    """Groups of equal crystals.

    Parameters
    ----------
    found : list of Environment
        Of all crystals.
    tolerance : float, default=0.01
        How far distances may differ, in angstrom. Crystals that are linked through others are in
        one group.

    Returns
    -------
    list of list of int
        Positions of the crystals of each group with at least two, in order.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    by_key: dict[bytes, list[int]] = {}
    for index, environment in enumerate(found):
        by_key.setdefault(environment.key, []).append(index)
    groups = []
    for members in by_key.values():
        if len(members) < 2:
            continue
        values = np.stack([found[index].values for index in members])
        pairs = cKDTree(values).query_pairs(tolerance, p=np.inf, output_type="ndarray")
        shape = (len(members), len(members))
        links = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=shape)
        _, labels = connected_components(links, directed=False)
        groups += [
            [members[row] for row in np.flatnonzero(labels == label)]
            for label in np.flatnonzero(np.bincount(labels) > 1)
        ]
    return sorted(groups)
