"""The one door for structures: whatever a user may hand in, checked and made plain arrays."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dssl_sklearn.crystals.elements import MAX_ATOMIC_NUMBER
from dssl_sklearn.crystals.graph import Crystal, CrystalGraph
from dssl_sklearn.exceptions import InvalidInputError

#: Volume of the cell over the product of its edge lengths below which the cell counts as flat.
_FLAT_CELL = 1e-6
#: Cells away from the origin beyond which a coordinate has lost its fraction and counts as wrong.
_FARTHEST_CELL = 1e6

_ACCEPTED = (
    "a pymatgen Structure, an ASE Atoms, a structure dict, the path of a CIF or POSCAR file, "
    "or a crystal graph of StructureToGraph"
)


class UnusableCrystalError(ValueError):
    """One crystal cannot be used; the message says why (internal, collected by the door)."""


def as_sequence(X: Any, name: str = "X") -> Sequence[Any]:  # noqa: ANN401 - the door takes anything
    """Turn the accepted containers into a plain sequence of crystals without touching the items.

    Parameters
    ----------
    X : list, tuple, ndarray, pandas Series, one-column DataFrame, or another sequence
        Crystals. An array of sites, which ``np.asarray`` makes from crystals of equal size, is
        turned back into one crystal per row.
    name : str, default="X"
        Name of the argument in error messages.

    Returns
    -------
    sequence
        Something with a length whose items are the crystals.

    Raises
    ------
    InvalidInputError
        If `X` is a single crystal, not a sequence, empty, or a table of several columns.
    """
    if isinstance(X, Mapping) and "lattice" not in X:
        raise InvalidInputError(
            f"{name} is a {type(X).__name__}, expected a sequence of crystals; write "
            f"list({name}.values()) for those of a dict."
        )
    if _is_single_crystal(X):
        raise InvalidInputError(
            f"{name} is a single {type(X).__name__}, expected a sequence of crystals; write "
            f"[{name}] for one."
        )
    if hasattr(X, "iloc"):
        X = _pandas_column(X, name)
    elif isinstance(X, np.ndarray):
        X = _array_items(X, name)
    elif not isinstance(X, Sequence) and not (hasattr(X, "__len__") and hasattr(X, "__getitem__")):
        raise InvalidInputError(
            f"{name} is of type {type(X).__name__}, expected a sequence (list, array, Series) of "
            f"crystals, each {_ACCEPTED}."
        )
    if len(X) == 0:
        raise InvalidInputError(f"{name} is empty, expected at least one structure.")
    return X  # type: ignore[no-any-return]


def _is_single_crystal(X: Any) -> bool:  # noqa: ANN401
    if isinstance(X, str | bytes | os.PathLike | Mapping | Crystal | CrystalGraph):
        return True
    # Structures, molecules and ASE Atoms are sequences of their sites. The class is asked, since
    # the attribute itself may be costly.
    return hasattr(type(X), "cart_coords") or hasattr(type(X), "get_atomic_numbers")


def _pandas_column(X: Any, name: str) -> list[Any]:  # noqa: ANN401
    if X.ndim == 1:
        return list(X)
    if X.shape[1] != 1:
        raise InvalidInputError(
            f"{name} is a DataFrame of {X.shape[1]} columns {list(map(str, X.columns))[:8]}, "
            f"expected one column of crystals; select it, as in {name}[['structure']]."
        )
    return list(X.iloc[:, 0])


def _array_items(X: NDArray[Any], name: str) -> list[Any]:
    if X.size == 0:
        raise InvalidInputError(f"{name} is empty, expected at least one structure.")
    if X.dtype.kind not in "OUT":
        raise InvalidInputError(
            f"{name} is an array of dtype {X.dtype}, expected crystals: each {_ACCEPTED}."
        )
    if X.ndim == 2 and _is_site(X.flat[0]):
        return [_crystal_of_sites(row) for row in X]
    if X.ndim == 1 or (X.ndim == 2 and X.shape[1] == 1):
        return list(X.ravel())
    raise InvalidInputError(
        f"{name} is an array of shape {X.shape}, expected one crystal per row: (n_structures,)."
    )


def _is_site(item: Any) -> bool:  # noqa: ANN401
    """Whether this is a site of a pymatgen Structure or an atom of ASE Atoms (not those)."""
    of_structure = hasattr(item, "frac_coords") and not hasattr(item, "sites")
    return of_structure or getattr(item, "atoms", None) is not None


def _crystal_of_sites(row: NDArray[np.object_]) -> Any:  # noqa: ANN401
    if hasattr(row[0], "atoms"):
        return row[0].atoms[[atom.index for atom in row]]
    from pymatgen.core import Structure

    return Structure.from_sites(list(row))


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
    raise UnusableCrystalError(
        f"not a structure: found {type(item).__name__}, expected {_ACCEPTED}"
    )


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
    numbers = set()
    for specie in species:
        # Dummy species carry a hash as their Z; it must not pass for an element.
        z = 0 if type(specie).__name__ == "DummySpecies" else int(specie.Z)
        if not 1 <= z <= MAX_ATOMIC_NUMBER:
            raise UnusableCrystalError(
                f"site {index} holds {specie}, which is no element from H to Lr (Z = 1 to 103)"
            )
        numbers.add(z)
    # One element in several oxidation states, or isotopes, is no disorder once these are dropped.
    if len(numbers) == 1 and abs(species.num_atoms - 1.0) < 1e-3:
        return numbers.pop()
    raise UnusableCrystalError(
        f"site {index} is disordered ({species}); order it first, for example with pymatgen's "
        "OrderDisorderedStructureTransformation"
    )


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
