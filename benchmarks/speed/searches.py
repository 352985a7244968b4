"""The bare neighbor search of every library that is installed, and the plain form of a graph.

A bare search starts from arrays and stops as soon as every site has the neighbors that it wants
within the radius searched: no shells, no order, no graph. The radius is adaptive as it is in the
package, which is the cheapest exact way.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Structure

#: First radius, as a multiple of that of a sphere with 13 sites of mean density, and its growth.
_START, _GROWTH = 1.15, 1.3

#: Centers of all pairs of sites within a radius.
Search = Callable[["Cell", float], NDArray[Any]]


@dataclass(frozen=True)
class Cell:
    """One crystal as arrays: Cartesian positions within the cell, lattice, volume."""

    positions: NDArray[np.float64]
    lattice: NDArray[np.float64]
    volume: float
    atoms: Any = None

    @classmethod
    def of(cls, structure: Structure) -> Cell:
        """Take the arrays out of a structure."""
        lattice = np.array(structure.lattice.matrix, dtype=np.float64, order="C")
        frac = np.array(structure.frac_coords) % 1.0
        atoms = None
        if importlib.util.find_spec("ase"):
            ase = importlib.import_module("ase")
            atoms = ase.Atoms(positions=frac @ lattice, cell=lattice, pbc=True)
        return cls(frac @ lattice, lattice, float(structure.volume), atoms)


def searches() -> dict[str, Search]:
    """Searches of the libraries that are installed, by name."""
    made: dict[str, Search] = {"pymatgen": _pymatgen()}
    for name, make in (("vesin", _vesin), ("matscipy", _matscipy), ("ase", _ase)):
        if importlib.util.find_spec(name):
            made[name] = make()
    return made


def adaptive(search: Search, cell: Cell, cutoff: float, max_neighbors: int) -> NDArray[Any]:
    """Search with a growing radius until every site has its neighbors.

    Parameters
    ----------
    search : callable
        Search within one radius.
    cell : Cell
        The crystal.
    cutoff : float
        Largest radius in angstrom.
    max_neighbors : int
        Neighbors wanted for each site.

    Returns
    -------
    ndarray of shape (n_pairs,)
        Centers of the pairs of the last search.
    """
    n_sites = len(cell.positions)
    sphere = 3 * (max_neighbors + 1) * cell.volume / (4 * math.pi * n_sites)
    radius = min(_START * sphere ** (1 / 3), cutoff)
    while True:
        centers = search(cell, radius)
        if radius >= cutoff or np.bincount(centers, minlength=n_sites).min() >= max_neighbors:
            return centers
        radius = min(_GROWTH * radius, cutoff)


def _pymatgen() -> Search:
    from pymatgen.optimization.neighbors import find_points_in_spheres

    pbc = np.array([1, 1, 1], dtype=np.int64)

    def search(cell: Cell, radius: float) -> NDArray[Any]:
        found = find_points_in_spheres(
            all_coords=cell.positions,
            center_coords=cell.positions,
            r=float(radius),
            pbc=pbc,
            lattice=cell.lattice,
            tol=1e-8,
        )
        centers: NDArray[Any] = found[0][found[3] > 1e-8]  # a site finds itself
        return centers

    return search


def _vesin() -> Search:
    vesin = importlib.import_module("vesin")

    def search(cell: Cell, radius: float) -> NDArray[Any]:
        found: NDArray[Any] = vesin.NeighborList(cutoff=radius, full_list=True).compute(
            points=cell.positions, box=cell.lattice, periodic=True, quantities="ijSd"
        )[0]
        return found

    return search


def _matscipy() -> Search:
    neighbors = importlib.import_module("matscipy.neighbours")
    pbc = np.array([True, True, True])

    def search(cell: Cell, radius: float) -> NDArray[Any]:
        found: NDArray[Any] = neighbors.neighbour_list(
            "ijSd", positions=cell.positions, cell=cell.lattice, pbc=pbc, cutoff=radius
        )[0]
        return found

    return search


def _ase() -> Search:
    neighbors = importlib.import_module("ase.neighborlist")

    def search(cell: Cell, radius: float) -> NDArray[Any]:
        found: NDArray[Any] = neighbors.neighbor_list("ijSd", cell.atoms, radius)[0]
        return found

    return search
