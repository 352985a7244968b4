"""Crystals of any accepted kind, read into arrays, and what makes them unusable."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from functools import lru_cache
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from dssl_sklearn.crystals.elements import MAX_ATOMIC_NUMBER
from dssl_sklearn.crystals.files import UnusableCrystalError, load_dict, load_file
from dssl_sklearn.crystals.graph import Crystal, CrystalGraph
from dssl_sklearn.crystals.table import CrystalTable, Sites, Tabular, without

#: Volume of the cell over the product of its edge lengths below which the cell counts as flat.
_FLAT_CELL = 1e-6
#: Cells away from the origin beyond which a coordinate has lost its fraction and counts as wrong.
_FARTHEST_CELL = 1e6
#: Edge of a cell in angstrom beyond which single precision no longer resolves bonds.
_LONGEST_EDGE = 1e6

#: What a crystal may be, for messages.
ACCEPTED = (
    "a pymatgen Structure, an ASE Atoms, a structure dict, the path of a CIF or POSCAR file, "
    "or a crystal graph of StructureToGraph"
)


def read_sites(item: Any, site_properties: tuple[str, ...] = ()) -> Sites:  # noqa: ANN401
    """Read one crystal of any accepted kind.

    Parameters
    ----------
    item : Structure, ASE Atoms, dict, path, Crystal or CrystalGraph
        One crystal. Oxidation states are dropped and deuterium and tritium count as hydrogen.
    site_properties : tuple of str, default=()
        Per-site quantities to keep; sites without them get NaN.

    Returns
    -------
    Sites
        Of an ordered crystal with at least one site. The values are still to be checked, for many
        crystals at once, by `unusable`; arrays may be those of the item.

    Raises
    ------
    UnusableCrystalError
        With the reason, if the crystal cannot be used.
    """
    read = _reader_of(type(item))  # type: ignore[arg-type]  # a class that mypy takes as unhashable
    return read(item, site_properties)


def read_table(
    items: Any,  # noqa: ANN401 - tabular, or crystals by position
    places: Sequence[int],
    site_properties: tuple[str, ...] = (),
) -> tuple[CrystalTable, list[int], dict[int, str]]:
    """Read those of some crystals that can be used.

    Returns a table of them, their places, and the reasons against the others by place. The places
    in what is tabular have to be consecutive.
    """
    reasons: dict[int, str] = {}
    of_row = list(places)
    if isinstance(items, Tabular):
        table = items.crystal_table(places[0], places[-1] + 1).with_properties(site_properties)
    else:
        found: dict[int, Sites] = {}
        for index in places:
            try:
                found[index] = read_sites(items[index], site_properties)
            except UnusableCrystalError as error:
                reasons[index] = str(error)
        table, of_row = CrystalTable.of(list(found.values())), list(found)
    if wrong := unusable(table):
        reasons |= {of_row[row]: reason for row, reason in wrong.items()}
        table, of_row = without(table, of_row, wrong)
    return table, of_row, reasons


def unusable(crystals: CrystalTable) -> dict[int, str]:
    """Say which crystals of a table have values that no crystal can have, and which ones.

    Parameters
    ----------
    crystals : CrystalTable
        Crystals as `read_sites` returns them.

    Returns
    -------
    dict of int to str
        Rows of the unusable crystals, each with the first reason found.
    """
    numbers, frac_coords, ptr = crystals.numbers, crystals.frac_coords, crystals.ptr
    wrong = _first_sites((numbers < 1) | (numbers > MAX_ATOMIC_NUMBER), ptr)
    reasons = {row: _wrong_number(numbers[ptr[row] : ptr[row + 1]]) for row, _ in wrong}
    finite = np.asarray(np.isfinite(frac_coords).all(axis=1))
    for row, site in _first_sites(~finite, ptr):
        reasons.setdefault(row, f"site {site} has NaN or infinite coordinates")
    far = (np.abs(frac_coords) > _FARTHEST_CELL).any(axis=1)
    for row, _ in _first_sites(np.asarray(far), ptr):
        reasons.setdefault(row, "coordinates are over a million cells away; wrap them into one")
    for row, reason in _wrong_cells(crystals.lattice).items():
        reasons.setdefault(row, reason)
    return reasons


def _wrong_number(numbers: NDArray[np.int64]) -> str:
    """What is wrong with the atomic numbers of a crystal, empty if nothing is."""
    bad = np.flatnonzero((numbers < 1) | (numbers > MAX_ATOMIC_NUMBER))
    if not len(bad):
        return ""
    return f"site {bad[0]} has atomic number {numbers[bad[0]]}, expected 1 (H) to 103 (Lr)"


def _first_sites(wrong: NDArray[np.bool_], ptr: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Crystals that have a wrong site, each with the first one, counted within the crystal."""
    sites = np.flatnonzero(wrong)
    rows, first = np.unique(np.searchsorted(ptr, sites, side="right") - 1, return_index=True)
    return zip(rows.tolist(), (sites[first] - ptr[rows]).tolist(), strict=True)


def _wrong_cells(lattice: NDArray[np.float64]) -> dict[int, str]:
    """Which of some cells cannot be used, and why; lattice of shape (n_cells, 3, 3)."""
    finite = np.isfinite(lattice).all(axis=(1, 2))
    reasons = dict.fromkeys(
        np.flatnonzero(~finite).tolist(), "the lattice has NaN or infinite entries"
    )
    with np.errstate(invalid="ignore", over="ignore"):
        edges = np.linalg.norm(lattice, axis=2)
        volume = np.abs(np.linalg.det(lattice))
        flat = finite & ~(volume > _FLAT_CELL * edges.prod(axis=1))
    for row in np.flatnonzero(finite & (edges > _LONGEST_EDGE).any(axis=1)).tolist():
        reasons[row] = (
            f"the cell has an edge of {edges[row].max():.3g} angstrom, expected at most "
            f"{_LONGEST_EDGE:g}; look at its unit"
        )
    for row in np.flatnonzero(flat).tolist():
        shown = lattice[row].round(6).tolist()
        reasons[row] = f"the cell has zero volume (lattice {shown})"
    return reasons


@lru_cache(maxsize=64)
def _reader_of(kind: type) -> Callable[[Any, tuple[str, ...]], Sites]:
    """How items of a type are read; asked once for each, since the questions are slow."""
    if issubclass(kind, Crystal):
        return _from_crystal
    if issubclass(kind, CrystalGraph):
        return lambda item, wanted: _from_crystal(item.crystal, wanted)
    if issubclass(kind, str | os.PathLike):
        return lambda item, wanted: _from_structure(load_file(item), wanted)
    if issubclass(kind, Mapping):
        return lambda item, wanted: _from_structure(load_dict(item), wanted)
    if hasattr(kind, "get_atomic_numbers"):
        return _from_ase
    if hasattr(kind, "cart_coords"):
        return _from_structure
    perhaps = " (left out before, by StructureToGraph?)" if kind is type(None) else ""
    raise UnusableCrystalError(
        f"not a structure: found {kind.__name__}{perhaps}, expected {ACCEPTED}"
    )


def _from_crystal(crystal: Crystal, wanted: tuple[str, ...]) -> Sites:
    return _fitting(
        np.asarray(crystal.numbers, dtype=np.int64),
        np.asarray(crystal.frac_coords, dtype=np.float64),
        np.asarray(crystal.lattice, dtype=np.float64),
        _site_properties(crystal.site_properties.get, wanted, len(crystal)),
    )


def _from_ase(atoms: Any, wanted: tuple[str, ...]) -> Sites:  # noqa: ANN401
    lattice = np.array(atoms.cell, dtype=np.float64)
    # A slab (periodic in two directions, with vacuum in its cell) is taken as the periodic crystal
    # that its cell describes; atoms without any periodicity are a molecule.
    if not np.any(atoms.pbc) or not lattice.any():
        raise UnusableCrystalError("a molecule without a lattice; a periodic cell is needed")
    if wrong := _wrong_cells(lattice[None]):
        raise UnusableCrystalError(wrong[0])
    with np.errstate(invalid="ignore"):  # infinite positions are reported later
        frac_coords = np.asarray(atoms.positions, dtype=np.float64) @ np.linalg.inv(lattice)
    return _fitting(
        np.array(atoms.get_atomic_numbers(), dtype=np.int64),
        frac_coords,
        lattice,
        _site_properties(atoms.arrays.get, wanted, len(atoms)),
    )


def _fitting(
    numbers: NDArray[np.int64],
    frac_coords: NDArray[np.float64],
    lattice: NDArray[np.float64],
    site_properties: dict[str, NDArray[np.float64]],
) -> Sites:
    """Check that the arrays of a crystal fit each other."""
    n_sites = len(numbers)
    if n_sites == 0:
        raise UnusableCrystalError("empty: it has no sites")
    if frac_coords.shape != (n_sites, 3) or lattice.shape != (3, 3):
        raise UnusableCrystalError(
            _wrong_number(numbers)
            or f"coordinates of shape {frac_coords.shape} and lattice of shape {lattice.shape} do "
            f"not fit {n_sites} sites"
        )
    return Sites(numbers, frac_coords, lattice, site_properties)


def _from_structure(structure: Any, wanted: tuple[str, ...]) -> Sites:  # noqa: ANN401
    if not hasattr(structure, "lattice") or not any(structure.lattice.pbc):
        raise UnusableCrystalError("a molecule without a lattice; a periodic Structure is needed")
    sites = structure.sites
    if not sites:
        raise UnusableCrystalError("empty: it has no sites")
    return Sites(
        _atomic_numbers([site.species for site in sites]),
        [site.frac_coords for site in sites],
        structure.lattice.matrix,
        _site_properties(lambda name: [s.properties.get(name) for s in sites], wanted, len(sites)),
    )


#: Contents of sites by identity, with their atomic number; kept here, they stay who they are.
_KNOWN: dict[int, tuple[object, int]] = {}
_MOST_KNOWN = 4096


def _atomic_numbers(of_sites: Sequence[Any]) -> list[int]:
    """Atomic numbers of what is on some sites; sites often share one object, then asked once."""
    try:
        return [_KNOWN[id(species)][1] for species in of_sites]
    except KeyError:
        known = {id(species): (species, _atomic_number(species)) for species in of_sites}
    if not all(number for _, number in known.values()):
        _refuse(of_sites)
    if len(_KNOWN) > _MOST_KNOWN:
        _KNOWN.clear()
    _KNOWN.update(known)
    return [known[id(species)][1] for species in of_sites]


def _atomic_number(species: Any) -> int:  # noqa: ANN401
    """Atomic number of what is on a site, 0 if that is not one element."""
    contents = species.items()
    if len(contents) == 1:
        ((specie, amount),) = contents
        # The plain case without hashing the specie, which would cost more than all else here.
        # Elements are members of an enumeration, species with an oxidation state are not.
        is_element = isinstance(specie, Enum)
        number: int = specie.Z if is_element and amount == 1 else 0
        if 1 <= number <= MAX_ATOMIC_NUMBER:
            return number
    return _number_of(tuple(species), round(species.num_atoms, 3))


def _refuse(of_sites: Sequence[Any]) -> NoReturn:
    """Say which site is the first that holds anything but one element."""
    index, species = next((i, s) for i, s in enumerate(of_sites) if not _atomic_number(s))
    for specie in species:
        if not _is_element(specie):
            raise UnusableCrystalError(
                f"site {index} holds {specie}, which is no element from H to Lr (Z = 1 to 103)",
                "unknown_element",
            )
    raise UnusableCrystalError(
        f"site {index} is disordered ({species}); order it first, for example with pymatgen's "
        "OrderDisorderedStructureTransformation",
        "disordered",
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
