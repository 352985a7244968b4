"""All pairs of sites within a radius, images included, for many crystals in one go."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dssl_sklearn.crystals.ragged import ranges
from dssl_sklearn.crystals.table import CrystalTable

#: Sites above which binning the space of a cell is cheaper than looking at all its pairs of sites.
LARGE_CELL = 40
#: A cell whose volume is below this share of the product of its edges is reduced before the search.
_SKEWED_CELL = 0.1
#: So is one that has a vector which reaches more than so many times along another one.
_LONG_SHIFT = 3.0
#: A large cell is turned where the box around it is so many times larger: images fill the box.
_TILTED_CELL = 4.0
#: Share by which the radius is widened, so that rounding loses no neighbor on its surface.
_MARGIN = 1e-9
#: pymatgen bins space into cubes of the radius; an almost empty cell must not ask for more.
_MAX_BINS = 1e5

_Floats = NDArray[np.float64]
_Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of sites of a table, counted over all its crystals; no site with itself at home.

    Attributes
    ----------
    center, neighbor : ndarray of shape (n_pairs,), int64
        Sites at the two ends.
    shift : three ndarray of shape (n_pairs,), float64
        Periodic image of the neighbor, in lattice vectors, coordinates as given.
    distance : ndarray of shape (n_pairs,), float64
        Length in angstrom.
    forth, back : ndarray of int64
        Pairs that are edges from neighbor to center, and from center to neighbor.
    """

    center: _Integers
    neighbor: _Integers
    shift: tuple[_Floats, _Floats, _Floats]
    distance: _Floats
    forth: _Integers
    back: _Integers

    @classmethod
    def join(cls, parts: list[Pairs]) -> Pairs:
        """All pairs of the parts, one part after the other."""
        if len(parts) == 1:
            return parts[0]
        a, b, c = (np.concatenate(axis) for axis in zip(*(p.shift for p in parts), strict=True))
        first = np.cumsum([0, *(len(part.center) for part in parts[:-1])])
        return cls(
            np.concatenate([part.center for part in parts]),
            np.concatenate([part.neighbor for part in parts]),
            (a, b, c),
            np.concatenate([part.distance for part in parts]),
            np.concatenate([part.forth + n for part, n in zip(parts, first, strict=True)]),
            np.concatenate([part.back + n for part, n in zip(parts, first, strict=True)]),
        )


@dataclass(frozen=True, eq=False)
class Cells:
    """Crystals as the search wants them: no cell is very oblique.

    An oblique cell has a huge number of images within reach, so it is reduced; the transforms carry
    the image shifts back to the lattice vectors as given.

    Attributes
    ----------
    frac_coords : ndarray of shape (n_sites, 3)
        Fractional coordinates in the reduced cells, not wrapped.
    lattice : ndarray of shape (n_crystals, 3, 3)
        Lattice vectors of the reduced cells.
    ptr : ndarray of shape (n_crystals + 1,)
        Where the sites of each crystal begin.
    volume : ndarray of shape (n_crystals,)
        Volumes of the cells in cubic angstrom.
    transforms : dict of int to ndarray of shape (3, 3), int64
        For each crystal whose cell was reduced: reduced lattice = transform @ lattice.
    """

    frac_coords: _Floats
    lattice: _Floats
    ptr: _Integers
    volume: _Floats
    transforms: dict[int, _Integers]

    @classmethod
    def of(cls, crystals: CrystalTable) -> Cells:
        """Reduce the cells that need it."""
        lattice, frac_coords = crystals.lattice, crystals.frac_coords
        volume = np.abs(np.linalg.det(lattice))
        products = lattice @ lattice.transpose(0, 2, 1)
        squared = np.einsum("nii->ni", products)
        along = np.abs(products[:, [1, 2, 2], [0, 0, 1]])
        shorter = np.minimum(squared[:, [1, 2, 2]], squared[:, [0, 0, 1]])
        is_skewed = volume < _SKEWED_CELL * np.sqrt(squared.prod(axis=1))
        is_skewed |= (along > _LONG_SHIFT * shorter).any(axis=1)
        skewed = np.flatnonzero(is_skewed).tolist()
        transforms = {index: _reduction(lattice[index]) for index in skewed}
        if transforms:
            lattice, frac_coords = lattice.copy(), frac_coords.copy()
        for index, transform in transforms.items():
            lattice[index] = transform @ lattice[index]
            sites = slice(crystals.ptr[index], crystals.ptr[index + 1])
            frac_coords[sites] = frac_coords[sites] @ np.linalg.inv(transform)
        return cls(frac_coords, lattice, crystals.ptr, volume, transforms)


def _reduction(lattice: _Floats) -> _Integers:
    """Integer matrix that makes a compact cell of an oblique one: ``matrix @ lattice``."""
    from pymatgen.core import Lattice

    reduced = Lattice(lattice).get_lll_reduced_lattice().matrix
    return np.rint(reduced @ np.linalg.inv(lattice)).astype(np.int64)


def find_pairs(cells: Cells, radius: _Floats, pending: NDArray[np.bool_]) -> Pairs:
    """All pairs of sites within the radius of their crystal, if that has pending sites.

    Parameters
    ----------
    cells : Cells
        The crystals.
    radius : ndarray of shape (n_crystals,)
        Search radius of each crystal in angstrom.
    pending : ndarray of shape (n_sites,), bool
        Sites whose neighbors are wanted, at least one; further ones may be among the centers.

    Returns
    -------
    Pairs
        Those of one crystal come in an order that depends on it alone.
    """
    n_pending = np.add.reduceat(pending.astype(np.int64), cells.ptr[:-1])
    large = np.diff(cells.ptr) > LARGE_CELL
    small = np.flatnonzero((n_pending > 0) & ~large)
    parts = [
        _of_large_cell(cells, index, float(radius[index]), pending)
        for index in np.flatnonzero((n_pending > 0) & large).tolist()
    ]
    if len(small):
        parts.append(_of_small_cells(cells, small, radius[small] * (1 + _MARGIN)))
    return Pairs.join(parts)


def _of_small_cells(cells: Cells, chosen: _Integers, radius: _Floats) -> Pairs:
    """Edges of all sites of the chosen crystals, by enumeration of the images of each pair.

    With the axes turned so that the lattice is lower triangular, two sites and the number of cells
    between them along c fix the z component of an edge, the number along b then fixes y, and the
    one along a fixes x. What the components so far leave of the radius bounds the next number
    (Fincke and Pohst, Math. Comput. 44, 463 (1985)), so that all that is reached is an edge.
    """
    first, n_sites = cells.ptr[chosen], np.diff(cells.ptr)[chosen]
    site = ranges(first, n_sites)
    # Each site with itself and those behind it; the other half of the edges is the mirror image.
    n_sources = np.repeat(first + n_sites, n_sites) - site
    center, source = np.repeat(site, n_sources), ranges(site, n_sources)
    apart = [x[source] - np.repeat(x[site], n_sources) for x in cells.frac_coords.T.copy()]
    # Lengths in units of the radius, which is then 1 for all crystals.
    ax, bx, by, cx, cy, cz = _lower_triangle(cells.lattice[chosen] / radius[:, None, None])
    crystal = np.repeat(np.arange(len(chosen)), n_sites * (n_sites + 1) // 2)

    along_c = apart[2]
    count, k = _images(along_c, (1 / cz)[crystal])
    pair, crystal = np.repeat(np.arange(len(center)), count), np.repeat(crystal, count)
    along_c = np.repeat(along_c, count)
    along_c += k
    zz = along_c * cz[crystal]
    zz *= zz

    along_b = apart[1][pair] + along_c * (cy / by)[crystal]
    scale = by[crystal]
    count, j = _images(along_b, _rest(zz) / scale)
    pair, k, crystal, along_c = (np.repeat(x, count) for x in (pair, k, crystal, along_c))
    along_b = np.repeat(along_b, count)
    along_b += j
    yz = along_b * np.repeat(scale, count)
    yz *= yz
    yz += np.repeat(zz, count)

    along_a = apart[0][pair] + along_b * (bx / ax)[crystal]
    along_a += along_c * ((cx - cy * bx / by) / ax)[crystal]
    scale = ax[crystal]
    count, i = _images(along_a, _rest(yz) / scale)
    squared = np.repeat(along_a, count)
    squared += i
    squared *= np.repeat(scale, count)
    squared *= squared
    squared += np.repeat(yz, count)
    distance = np.sqrt(squared, out=squared)
    distance *= np.repeat(radius[crystal], count)
    shift = (i, np.repeat(j, count), np.repeat(k, count))
    pair = np.repeat(pair, count)

    center, source = center[pair], source[pair]
    between = center != source
    at_home = np.flatnonzero(~between)
    for component in shift:
        at_home = at_home[component[at_home] == 0]
    forth = np.delete(np.arange(len(center)), at_home)
    back = np.flatnonzero(between)
    return Pairs(center, source, shift, distance, forth, back)


def _images(offset: _Floats, reach: _Floats) -> tuple[_Integers, _Floats]:
    """All integers n with ``|offset + n| <= reach``: how many in each row, and all of them."""
    below = np.floor(reach + offset)
    count = np.floor(reach - offset)
    count += below
    count += 1  # not negative, since the reach is not
    count = count.astype(np.int64)
    end = np.cumsum(count)
    numbers = np.arange(end[-1], dtype=np.float64)
    numbers -= np.repeat(below + (end - count), count)
    return count, numbers


def _rest(squared: _Floats) -> _Floats:
    """What the unit length leaves to the next component."""
    rest: _Floats = np.maximum(1 - squared, 0)
    return np.sqrt(rest, out=rest)


def _lower_triangle(lattice: _Floats) -> tuple[_Floats, ...]:
    """Entries ax, bx, by, cx, cy, cz of the lattices after rotation to lower triangular form."""
    a, b, c = lattice.transpose(1, 0, 2)
    ax = np.linalg.norm(a, axis=1)
    x = a / ax[:, None]
    normal = np.cross(a, b)
    area = np.linalg.norm(normal, axis=1)
    z = normal / area[:, None]
    y = np.cross(z, x)
    bx, cx = (x * b).sum(axis=1), (x * c).sum(axis=1)
    # The sign of z does not matter, and neither does the handedness of the cell.
    return ax, bx, area / ax, cx, (y * c).sum(axis=1), np.abs((z * c).sum(axis=1))


def _of_large_cell(cells: Cells, index: int, radius: float, pending: NDArray[np.bool_]) -> Pairs:
    """Edges of the pending sites of one crystal, by binning space: linear in its sites."""
    from pymatgen.optimization.neighbors import find_points_in_spheres

    first, last = cells.ptr[index], cells.ptr[index + 1]
    lattice = np.ascontiguousarray(cells.lattice[index])
    if np.abs(lattice).sum(axis=0).prod() > _TILTED_CELL * cells.volume[index]:
        ax, bx, by, cx, cy, cz = (float(entry[0]) for entry in _lower_triangle(lattice[None]))
        lattice = np.array([[ax, 0, 0], [bx, by, 0], [cx, cy, cz]])
    frac_coords = cells.frac_coords[first:last]
    wrap = np.floor(frac_coords)
    positions = (frac_coords - wrap) @ lattice
    centers = np.flatnonzero(pending[first:last])
    # Bins cover the box around the centers and their spheres, however large or flat the cell is.
    box = np.ptp(positions[centers], axis=0) + 2 * radius
    center, neighbor, image, distance = find_points_in_spheres(
        all_coords=positions,
        center_coords=positions[centers],
        r=radius,
        pbc=np.ones(3, dtype=np.int64),
        lattice=lattice,
        tol=1e-8,
        min_r=max(1.0, float((box.prod() / _MAX_BINS) ** (1 / 3))),
    )
    center = centers[center]
    a, b, c = (image + wrap[center] - wrap[neighbor]).T
    forth = np.flatnonzero((center != neighbor) | image.any(axis=1))
    back = np.empty(0, dtype=np.int64)
    return Pairs(center + first, neighbor + first, (a, b, c), distance, forth, back)
