"""Crystals whose neighbor search would never end or fill the memory, found before it begins."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dssl_sklearn.crystals.search import LARGE_CELL, Cells

#: Two sites closer than this (angstrom) are an error, as in cells in nanometers. The closest of the
#: Materials Project's crystals of 2026 are 0.47 apart, atoms of hydrogen molecules 0.74.
MIN_DISTANCE = 0.4
#: Most candidates for the pairs of one crystal that a search may look at (some 100 bytes each).
MAX_CANDIDATES = 5e6
#: More sites than this within a cube of `_CUBE` angstrom: 45 times as dense as diamond.
_CROWD = 64
_CUBE = 2.0

_Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Filling:
    """How the sites of large cells are spread over cubes of space; small cells are not looked at.

    Attributes
    ----------
    volume : ndarray of shape (n_crystals,)
        Volume of the cell in cubic angstrom, of a large one without most of its vacuum: a radius
        that suits the mean density would hold thousands of neighbors in a cluster.
    partners : ndarray of shape (n_crystals,)
        Sites that a search looks at for each site and each image of the cell, roughly.
    spacing : ndarray of shape (n_crystals, 3)
        Distances between the lattice planes in angstrom, which bound the images within reach.
    crowds : dict of int to tuple of int
        Number of sites in the fullest cube and the first of them, where that is too many.
    """

    volume: _Floats
    partners: _Floats
    spacing: _Floats
    crowds: dict[int, tuple[int, int]]

    @classmethod
    def of(cls, cells: Cells) -> Filling:
        """Count the sites in the cubes."""
        volume = cells.volume.copy()
        n_sites = np.diff(cells.ptr)
        # In a small cell all pairs are looked at, each once.
        partners = (n_sites + 1) / 2
        crowds = {}
        for index in np.flatnonzero(n_sites > LARGE_CELL).tolist():
            number, first = _in_cubes(cells, index)
            # Atoms of a dense crystal are in about every other cube.
            volume[index] = min(volume[index], 3 * _CUBE**3 * len(number))
            partners[index] = float(np.square(number).sum() / n_sites[index])
            fullest = int(number.argmax())
            if number[fullest] > _CROWD:
                crowds[index] = (int(number[fullest]), int(first[fullest]))
        a, b, c = cells.lattice.transpose(1, 0, 2)
        areas = np.stack([np.cross(b, c), np.cross(c, a), np.cross(a, b)], axis=1)
        spacing = cells.volume[:, None] / np.sqrt(np.einsum("nij,nij->ni", areas, areas))
        return cls(volume, partners, spacing, crowds)


def _in_cubes(cells: Cells, index: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Number of sites in each cube that has one, and the first of them."""
    frac_coords = cells.frac_coords[cells.ptr[index] : cells.ptr[index + 1]]
    positions = (frac_coords - np.floor(frac_coords)) @ cells.lattice[index]
    cubes = np.floor(positions / _CUBE).astype(np.int64)
    cubes -= cubes.min(axis=0)
    _, first, number = np.unique(
        np.ravel_multi_index(tuple(cubes.T), tuple(cubes.max(axis=0) + 1)),
        return_index=True,
        return_counts=True,
    )
    return number, first


def overfull(cells: Cells, filling: Filling) -> dict[int, str]:
    """Say which crystals have atoms too close, as far as that shows without a search.

    Parameters
    ----------
    cells : Cells
        Crystals to search.
    filling : Filling
        Of these cells.

    Returns
    -------
    dict of int to str
        Reasons by crystal: a lattice vector shorter than `MIN_DISTANCE`, or a crowd of sites.
    """
    shortest = np.sqrt(np.einsum("nij,nij->ni", cells.lattice, cells.lattice).min(axis=1))
    reasons = {
        index: f"{number} sites (the first is site {first}) lie within a cube of {_CUBE:g} "
        f"angstrom, expected at most {_CROWD}; look at the unit of the coordinates and merge "
        "duplicated sites"
        for index, (number, first) in filling.crowds.items()
    }
    return reasons | {
        index: too_close("site 0 and its periodic image", shortest[index])
        for index in np.flatnonzero(shortest < MIN_DISTANCE).tolist()
    }


def too_close(pair: str, distance: float) -> str:
    """What is to be said of two atoms that cannot both be there."""
    return (
        f"two atoms too close: {pair} are {distance:.3g} angstrom apart (at least {MIN_DISTANCE} "
        "needed); merge duplicated sites, and look at the unit of the lattice"
    )


def unsearchable(
    cells: Cells, filling: Filling, radius: _Floats, searched: NDArray[np.bool_]
) -> dict[int, str]:
    """Say which crystals have too many pairs of sites within a radius.

    Parameters
    ----------
    cells : Cells
        Crystals to search.
    filling : Filling
        Of these cells.
    radius : ndarray of shape (n_crystals,)
        Search radius in angstrom.
    searched : ndarray of shape (n_crystals,), bool
        Those that are searched.

    Returns
    -------
    dict of int to str
        Reasons by crystal.
    """
    n_images = (2 * radius[:, None] / filling.spacing + 1).prod(axis=1)
    candidates = n_images * np.diff(cells.ptr) * filling.partners
    too_many = searched & (candidates > MAX_CANDIDATES)
    if not too_many.any():
        return {}
    return {
        index: f"too many neighbors: some {n_images[index]:.2g} images of the cell are within "
        f"{radius[index]:.3g} angstrom, its lattice planes being down to "
        f"{filling.spacing[index].min():.3g} angstrom apart; look at the unit of the lattice, or "
        "lower `cutoff` and `max_neighbors`"
        for index in np.flatnonzero(too_many).tolist()
    }
