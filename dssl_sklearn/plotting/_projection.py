"""A crystal as seen from one side: spheres and cell edges, the near ones over the far ones."""

from __future__ import annotations

from itertools import pairwise, product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dssl_sklearn.crystals.graph import Crystal

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Fractional distance to a face of the cell below which an atom is drawn on the opposite face, too.
_ON_FACE = 1e-2
#: Parts of a cell edge, so that an atom can hide one part of it and not another.
_N_PARTS = 24


def atoms_in_cell(crystal: Crystal) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Atoms of one cell, those on its faces, edges and corners on all sides.

    Returns
    -------
    ndarray of shape (n_atoms,), int64
        Site of each atom.
    ndarray of shape (n_atoms, 3), float64
        Cartesian coordinates in angstrom.
    """
    wrapped = crystal.frac_coords % 1.0
    wrapped[wrapped > 1 - _ON_FACE] -= 1.0
    sites, places = [], []
    for site, place in enumerate(wrapped):
        options = [(0, 1) if x < _ON_FACE else (0,) for x in place]
        for shift in product(*options):
            sites.append(site)
            places.append(place + shift)
    return np.array(sites, dtype=np.int64), np.array(places) @ crystal.lattice


def cell_edges(lattice: NDArray[np.float64]) -> NDArray[np.float64]:
    """Twelve edges of a cell as two ends each, shape (12, 2, 3), in angstrom."""
    corners = [
        (axis, np.insert(np.array(others, dtype=np.float64), axis, 0.0))
        for axis in range(3)
        for others in product((0, 1), repeat=2)
    ]
    ends = [(start, start + np.eye(3)[axis]) for axis, start in corners]
    edges: NDArray[np.float64] = np.array(ends) @ lattice
    return edges


def view_axes(elev: float, azim: float) -> NDArray[np.float64]:
    """Directions to the right, up, and to the viewer as rows, from angles in degrees."""
    e, a = np.deg2rad([elev, azim])
    right = [-np.sin(a), np.cos(a), 0.0]
    up = [-np.sin(e) * np.cos(a), -np.sin(e) * np.sin(a), np.cos(e)]
    toward = [np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)]
    return np.array([right, up, toward])


def draw_edges(ax: Axes, lattice: NDArray[np.float64], view: NDArray[np.float64]) -> None:
    """Draw the edges of the cell."""
    for start, end in cell_edges(lattice) @ view.T:
        points = np.linspace(start, end, _N_PARTS + 1)
        for first, second in pairwise(points):
            x, y, depth = np.stack([first, second], axis=1)
            ax.plot(x, y, color="0.45", linewidth=1, zorder=depth.mean(), solid_capstyle="round")


def draw_atoms(
    ax: Axes,
    places: NDArray[np.float64],
    radii: NDArray[np.float64],
    colors: list[Any],
    texts: list[tuple[str, str]],
) -> None:
    """Draw circles with text.

    Parameters
    ----------
    ax : Axes
        Where to draw.
    places : ndarray of shape (n_atoms, 3)
        Right, up, and toward the viewer, in angstrom.
    radii : ndarray of shape (n_atoms,)
        In angstrom.
    colors : list
        Of the circles.
    texts : list of tuple of str
        Text and its color.
    """
    from matplotlib.patches import Circle

    for (x, y, depth), radius, color, (text, ink) in zip(places, radii, colors, texts, strict=True):
        # Edges that end inside the sphere are hidden by its front.
        front = depth + radius
        ax.add_patch(
            Circle((x, y), radius, facecolor=color, edgecolor="0.25", linewidth=0.8, zorder=front)
        )
        ax.text(x, y, text, color=ink, fontsize=8, ha="center", va="center", zorder=front)
