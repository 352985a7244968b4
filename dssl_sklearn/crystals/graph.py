"""The two records that all else is made from: a crystal and its periodic graph (numpy only)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pymatgen.core import Structure

#: Edge length in angstrom and neighbors per site where nothing else is asked for (the paper's).
DEFAULT_CUTOFF = 8.0
DEFAULT_MAX_NEIGHBORS = 12


@dataclass(frozen=True, eq=False, slots=True)
class Crystal:
    """An ordered periodic crystal as plain arrays.

    Attributes
    ----------
    numbers : ndarray of shape (n_sites,), int64
        Atomic numbers, 1 to 103.
    frac_coords : ndarray of shape (n_sites, 3), float64
        Fractional coordinates.
    lattice : ndarray of shape (3, 3), float64
        Lattice vectors as rows, in angstrom.
    site_properties : mapping of str to ndarray of shape (n_sites,) or (n_sites, k)
        Per-site quantities that were asked for by name (NaN where unknown).
    crystal_properties : mapping of str to ndarray of shape () or (k,)
        Quantities of the whole crystal (NaN where unknown).
    """

    numbers: NDArray[np.int64]
    frac_coords: NDArray[np.float64]
    lattice: NDArray[np.float64]
    site_properties: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    crystal_properties: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.numbers)

    def to_structure(self) -> Structure:
        """Build the pymatgen ``Structure``."""
        from pymatgen.core import Structure

        return Structure(
            self.lattice,
            self.numbers.tolist(),
            self.frac_coords,
            site_properties={k: list(v) for k, v in self.site_properties.items()},
            properties={k: v.tolist() for k, v in self.crystal_properties.items()},
        )


@dataclass(frozen=True, eq=False, slots=True)
class CrystalGraph:
    """The periodic neighbor multigraph of one crystal.

    Edge ``k`` points from site ``source[k]``, in the periodic image ``shift[k]``, to the site
    ``target[k]`` in the home cell; a site's own images are neighbors like any other. Its vector is
    ``(frac_coords[source] + shift - frac_coords[target]) @ lattice``.

    Attributes
    ----------
    crystal : Crystal
        What the graph was built from, fractional coordinates as given (not wrapped).
    source, target : ndarray of shape (n_edges,), int32
        Sites at the two ends; edges are sorted by ``target``, then by distance.
    shift : ndarray of shape (n_edges, 3), int32
        Periodic image of the source, in lattice vectors.
    distance : ndarray of shape (n_edges,), float32
        Length of the edges in angstrom.
    cutoff : float
        Largest edge length in angstrom, isolated sites excepted.
    max_neighbors : int
        Neighbors per site, more where the last shell holds several.
    """

    crystal: Crystal
    source: NDArray[np.int32]
    target: NDArray[np.int32]
    shift: NDArray[np.int32]
    distance: NDArray[np.float32]
    cutoff: float
    max_neighbors: int

    @property
    def n_sites(self) -> int:
        """Number of sites."""
        return len(self.crystal)

    @property
    def n_edges(self) -> int:
        """Number of directed edges."""
        return len(self.source)
