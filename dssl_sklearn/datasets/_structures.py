"""Many pymatgen structures from flat arrays, without the cost of parsing each site."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pymatgen.core import Structure


def build_structures(
    numbers: NDArray[np.integer],
    frac_coords: NDArray[np.float64],
    lattices: NDArray[np.float64],
    ptr: NDArray[np.integer],
) -> list[Structure]:
    """Build the structures of a set of crystals.

    Parameters
    ----------
    numbers : ndarray of shape (n_sites,), int
        Atomic numbers of all crystals.
    frac_coords : ndarray of shape (n_sites, 3)
        Fractional coordinates.
    lattices : ndarray of shape (n_crystals, 3, 3)
        Lattice vectors as rows, in angstrom.
    ptr : ndarray of shape (n_crystals + 1,), int
        Crystal i owns the sites ``ptr[i]:ptr[i + 1]``.

    Returns
    -------
    list of Structure
        In the order of `lattices`.
    """
    from pymatgen.core import Composition, Element, Lattice, Structure

    # Making a site's composition is most of the cost of a structure; it is immutable, so that all
    # sites of an element can share one.
    species = {z: Composition({Element.from_Z(z): 1}) for z in np.unique(numbers).tolist()}
    site_species = [species[z] for z in numbers.tolist()]
    return [
        Structure(Lattice(lattice), site_species[start:stop], frac_coords[start:stop])
        for lattice, start, stop in zip(lattices, ptr[:-1], ptr[1:], strict=True)
    ]
