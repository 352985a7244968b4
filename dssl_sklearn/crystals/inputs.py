"""The one door for structures: whatever a user may hand in, checked and made plain arrays."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dssl_sklearn.crystals.elements import MAX_ATOMIC_NUMBER
from dssl_sklearn.crystals.graph import Crystal, CrystalGraph
from dssl_sklearn.exceptions import InvalidInputError

#: Volume of the cell over the product of its edge lengths below which the cell counts as flat.
_FLAT_CELL = 1e-6

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
        Crystals. An array of sites, which ``np.asarray`` makes from structures of equal size, is
        turned back into one row per structure.
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
    if _is_single_crystal(X):
        kind = type(X).__name__
        raise InvalidInputError(
            f"{name} is a single {kind}, expected a sequence of crystals; write [{name}] for one."
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
    if isinstance(X, str | os.PathLike | Mapping | Crystal | CrystalGraph):
        return True
    # Structures, molecules and ASE Atoms are sequences of their sites.
    return hasattr(X, "cart_coords") or hasattr(X, "get_atomic_numbers")


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
    if X.dtype.kind not in "OU":
        raise InvalidInputError(
            f"{name} is an array of dtype {X.dtype}, expected crystals: each {_ACCEPTED}."
        )
    if X.ndim == 2 and hasattr(X.flat[0], "frac_coords") and hasattr(X.flat[0], "species"):
        from pymatgen.core import Structure

        return [Structure.from_sites(list(row)) for row in X]
    if X.ndim == 1 or (X.ndim == 2 and X.shape[1] == 1):
        return list(X.ravel())
    raise InvalidInputError(
        f"{name} is an array of shape {X.shape}, expected one crystal per row: (n_structures,)."
    )


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
        return _checked(item)
    if isinstance(item, str | os.PathLike):
        return _checked(_from_structure(_load_file(item), wanted))
    if isinstance(item, Mapping):
        return _checked(_from_structure(_load_dict(item), wanted))
    if hasattr(item, "get_atomic_numbers"):
        return _checked(_from_ase(item, wanted))
    if hasattr(item, "cart_coords") and hasattr(item, "sites"):
        return _checked(_from_structure(item, wanted))
    raise UnusableCrystalError(
        f"not a structure: found {type(item).__name__}, expected {_ACCEPTED}"
    )


def _load_file(path: str | os.PathLike[str]) -> Any:  # noqa: ANN401
    from pymatgen.core import Structure

    if not Path(path).is_file():
        raise UnusableCrystalError(f"no such file: {os.fspath(path)!r}")
    try:
        return Structure.from_file(os.fspath(path))
    except Exception as error:
        raise UnusableCrystalError(
            f"cannot read {os.fspath(path)!r}: {_first_line(error)}"
        ) from error


def _load_dict(record: Mapping[str, Any]) -> Any:  # noqa: ANN401
    from pymatgen.core import Structure

    if "lattice" not in record:
        raise UnusableCrystalError(
            "a dict without a 'lattice' (a molecule?); a periodic cell is needed"
        )
    try:
        return Structure.from_dict(dict(record))
    except Exception as error:
        raise UnusableCrystalError(f"not a valid structure dict: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


def _from_ase(atoms: Any, wanted: tuple[str, ...]) -> Crystal:  # noqa: ANN401
    lattice = np.array(atoms.cell, dtype=np.float64)
    # A slab (periodic in two directions, with vacuum in its cell) is taken as the periodic crystal
    # that its cell describes; atoms without any periodicity are a molecule.
    if not np.any(atoms.pbc) or not lattice.any():
        raise UnusableCrystalError("a molecule without a lattice; a periodic cell is needed")
    _check_cell(lattice)
    frac_coords = np.asarray(atoms.positions, dtype=np.float64) @ np.linalg.inv(lattice)
    n_sites = len(atoms)
    properties = {
        name: np.asarray(atoms.arrays.get(name, np.full(n_sites, np.nan)), dtype=np.float64)
        for name in wanted
    }
    return Crystal(
        np.array(atoms.get_atomic_numbers(), dtype=np.int64), frac_coords, lattice, properties
    )


def _from_structure(structure: Any, wanted: tuple[str, ...]) -> Crystal:  # noqa: ANN401
    if not hasattr(structure, "lattice"):
        raise UnusableCrystalError("a molecule without a lattice; a periodic Structure is needed")
    if len(structure) == 0:
        raise UnusableCrystalError("empty: it has no sites")
    numbers = np.array(
        [_atomic_number(site.species, index) for index, site in enumerate(structure.sites)],
        dtype=np.int64,
    )
    properties = {name: _site_values(structure, name) for name in wanted}
    return Crystal(
        numbers,
        np.array(structure.frac_coords, dtype=np.float64),
        np.array(structure.lattice.matrix, dtype=np.float64),
        properties,
    )


def _atomic_number(species: Any, index: int) -> int:  # noqa: ANN401
    if len(species) == 1:
        ((specie, occupancy),) = species.items()
        # Dummy species carry a hash as their Z; it must not pass for an element.
        z = 0 if type(specie).__name__ == "DummySpecies" else specie.Z
        if abs(occupancy - 1.0) < 1e-3 and 1 <= z <= MAX_ATOMIC_NUMBER:
            return int(z)
        if z < 1 or z > MAX_ATOMIC_NUMBER:
            raise UnusableCrystalError(
                f"site {index} holds {specie}, which is no element from H to Lr (Z = 1 to 103)"
            )
    raise UnusableCrystalError(
        f"site {index} is disordered ({species}); order it first, for example with pymatgen's "
        "OrderDisorderedStructureTransformation"
    )


def _site_values(structure: Any, name: str) -> NDArray[np.float64]:  # noqa: ANN401
    values = [site.properties.get(name) for site in structure.sites]
    try:
        return np.array([np.nan if v is None else v for v in values], dtype=np.float64).reshape(-1)
    except (TypeError, ValueError) as error:
        raise UnusableCrystalError(f"site property {name!r} is not one number per site") from error


def _check_cell(lattice: NDArray[np.float64]) -> None:
    if not np.isfinite(lattice).all():
        raise UnusableCrystalError("the lattice has NaN or infinite entries")
    edges = np.linalg.norm(lattice, axis=1)
    volume = abs(np.linalg.det(lattice))
    if not volume > _FLAT_CELL * edges.prod():
        raise UnusableCrystalError(
            f"the cell has zero volume (lattice {lattice.round(6).tolist()})"
        )


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
    _check_cell(crystal.lattice)
    return crystal
