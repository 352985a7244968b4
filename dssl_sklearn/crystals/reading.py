"""One crystal of any accepted kind, read into checked arrays."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dssl_sklearn.crystals.elements import MAX_ATOMIC_NUMBER
from dssl_sklearn.crystals.graph import Crystal

#: Volume of the cell over the product of its edge lengths below which the cell counts as flat.
_FLAT_CELL = 1e-6
#: Cells away from the origin beyond which a coordinate has lost its fraction and counts as wrong.
_FARTHEST_CELL = 1e6

#: What a crystal may be, for messages.
ACCEPTED = (
    "a pymatgen Structure, an ASE Atoms, a structure dict, the path of a CIF or POSCAR file, "
    "or a crystal graph of StructureToGraph"
)


class UnusableCrystalError(ValueError):
    """One crystal cannot be used; the message says why (internal, collected by the door)."""


def read_crystal(item: Any, site_properties: Iterable[str] = ()) -> Crystal:  # noqa: ANN401
    """Read one crystal of any accepted kind into checked arrays.

    Parameters
    ----------
    item : Structure, ASE Atoms, dict, path or Crystal
        One crystal. Oxidation states are dropped and deuterium and tritium count as hydrogen.
    site_properties : iterable of str, default=()
        Per-site quantities to keep; sites without them get NaN.

    Returns
    -------
    Crystal
        Ordered crystal with finite coordinates and a cell of non-zero volume.

    Raises
    ------
    UnusableCrystalError
        With the reason, if the crystal cannot be used.
    """
    wanted = tuple(site_properties)
    if isinstance(item, Crystal):
        return _checked(_from_crystal(item, wanted))
    if isinstance(item, str | os.PathLike):
        return _checked(_from_structure(_load_file(item), wanted))
    if isinstance(item, Mapping):
        return _checked(_from_structure(_load_dict(item), wanted))
    if hasattr(type(item), "get_atomic_numbers"):
        return _checked(_from_ase(item, wanted))
    if hasattr(type(item), "cart_coords"):
        return _checked(_from_structure(item, wanted))
    raise UnusableCrystalError(f"not a structure: found {type(item).__name__}, expected {ACCEPTED}")


def _load_file(path: str | os.PathLike[str]) -> Any:  # noqa: ANN401
    from pymatgen.core import Structure

    if not Path(path).is_file():
        raise UnusableCrystalError(f"no such file: {str(path)!r}")
    try:
        return Structure.from_file(os.fspath(path))
    except Exception as error:
        raise UnusableCrystalError(f"cannot read {str(path)!r}: {_first_line(error)}") from error


def _load_dict(record: Mapping[str, Any]) -> Any:  # noqa: ANN401
    from pymatgen.core import Structure

    if "lattice" not in record:
        raise UnusableCrystalError("a dict without a 'lattice' (a molecule?); a cell is needed")
    try:
        return Structure.from_dict(dict(record))
    except Exception as error:
        raise UnusableCrystalError(f"not a valid structure dict: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


def _from_crystal(crystal: Crystal, wanted: tuple[str, ...]) -> Crystal:
    """Copy, so that the graph does not change with the caller's arrays."""
    return Crystal(
        np.array(crystal.numbers, dtype=np.int64),
        np.array(crystal.frac_coords, dtype=np.float64),
        np.array(crystal.lattice, dtype=np.float64),
        _site_properties(crystal.site_properties.get, wanted, len(crystal)),
    )


def _from_ase(atoms: Any, wanted: tuple[str, ...]) -> Crystal:  # noqa: ANN401
    lattice = np.array(atoms.cell, dtype=np.float64)
    # A slab (periodic in two directions, with vacuum in its cell) is taken as the periodic crystal
    # that its cell describes; atoms without any periodicity are a molecule.
    if not np.any(atoms.pbc) or not lattice.any():
        raise UnusableCrystalError("a molecule without a lattice; a periodic cell is needed")
    _check_cell(lattice)
    with np.errstate(invalid="ignore"):  # infinite positions are reported later
        frac_coords = np.asarray(atoms.positions, dtype=np.float64) @ np.linalg.inv(lattice)
    return Crystal(
        np.array(atoms.get_atomic_numbers(), dtype=np.int64),
        frac_coords,
        lattice,
        _site_properties(atoms.arrays.get, wanted, len(atoms)),
    )


def _from_structure(structure: Any, wanted: tuple[str, ...]) -> Crystal:  # noqa: ANN401
    if not hasattr(structure, "lattice") or not any(structure.lattice.pbc):
        raise UnusableCrystalError("a molecule without a lattice; a periodic Structure is needed")
    if len(structure) == 0:
        raise UnusableCrystalError("empty: it has no sites")
    numbers = np.array(
        [_atomic_number(site.species, index) for index, site in enumerate(structure.sites)],
        dtype=np.int64,
    )
    sites = structure.sites
    return Crystal(
        numbers,
        np.array(structure.frac_coords, dtype=np.float64),
        np.array(structure.lattice.matrix, dtype=np.float64),
        _site_properties(lambda name: [s.properties.get(name) for s in sites], wanted, len(sites)),
    )


def _atomic_number(species: Any, index: int) -> int:  # noqa: ANN401
    elements = tuple(species)
    number = _number_of(elements, round(species.num_atoms, 3))
    if number:
        return number
    for specie in elements:
        if not _is_element(specie):
            raise UnusableCrystalError(
                f"site {index} holds {specie}, which is no element from H to Lr (Z = 1 to 103)"
            )
    raise UnusableCrystalError(
        f"site {index} is disordered ({species}); order it first, for example with pymatgen's "
        "OrderDisorderedStructureTransformation"
    )


@lru_cache(maxsize=4096)
def _number_of(elements: tuple[Any, ...], occupancy: float) -> int:
    """Atomic number of what is on a site, 0 if that is not one element; few kinds recur often."""
    numbers = {int(specie.Z) for specie in elements if _is_element(specie)}
    # One element in several oxidation states, or isotopes, is no disorder once these are dropped.
    is_one = len(numbers) == 1 and all(map(_is_element, elements)) and occupancy == 1.0
    return numbers.pop() if is_one else 0


def _is_element(specie: Any) -> bool:  # noqa: ANN401
    # Dummy species carry a hash as their Z; it must not pass for an element.
    return type(specie).__name__ != "DummySpecies" and 1 <= specie.Z <= MAX_ATOMIC_NUMBER


def _site_properties(
    find: Callable[[str], Iterable[Any] | None], wanted: tuple[str, ...], n_sites: int
) -> dict[str, NDArray[np.float64]]:
    """One number per site under each name, NaN where unknown."""
    found = {}
    for name in wanted:
        values = find(name)
        listed = [None] * n_sites if values is None else values
        try:
            numbers = np.array([np.nan if v is None else v for v in listed], dtype=np.float64)
            found[name] = numbers.reshape(n_sites)
        except (TypeError, ValueError) as error:
            raise UnusableCrystalError(f"{name!r} is not one number per site") from error
    return found


def _check_cell(lattice: NDArray[np.float64]) -> None:
    if not np.isfinite(lattice).all():
        raise UnusableCrystalError("the lattice has NaN or infinite entries")
    edges = np.linalg.norm(lattice, axis=1)
    if not abs(np.linalg.det(lattice)) > _FLAT_CELL * edges.prod():
        shown = lattice.round(6).tolist()
        raise UnusableCrystalError(f"the cell has zero volume (lattice {shown})")


def _checked(crystal: Crystal) -> Crystal:
    numbers, n_sites = crystal.numbers, len(crystal.numbers)
    if n_sites == 0:
        raise UnusableCrystalError("empty: it has no sites")
    if numbers.min() < 1 or numbers.max() > MAX_ATOMIC_NUMBER:
        bad = int(np.flatnonzero((numbers < 1) | (numbers > MAX_ATOMIC_NUMBER))[0])
        raise UnusableCrystalError(
            f"site {bad} has atomic number {numbers[bad]}, expected 1 (H) to 103 (Lr)"
        )
    if crystal.frac_coords.shape != (n_sites, 3) or crystal.lattice.shape != (3, 3):
        raise UnusableCrystalError(
            f"coordinates of shape {crystal.frac_coords.shape} and lattice of shape "
            f"{crystal.lattice.shape} do not fit {n_sites} sites"
        )
    if not np.isfinite(crystal.frac_coords).all():
        bad = int(np.flatnonzero(~np.isfinite(crystal.frac_coords).all(axis=1))[0])
        raise UnusableCrystalError(f"site {bad} has NaN or infinite coordinates")
    if np.abs(crystal.frac_coords).max() > _FARTHEST_CELL:
        raise UnusableCrystalError("coordinates are over a million cells away; wrap them into one")
    _check_cell(crystal.lattice)
    return crystal
