"""The one door for structures: whatever a user may hand in becomes a plain sequence, or a table."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dssl_sklearn.crystals.graph import Crystal, CrystalGraph
from dssl_sklearn.crystals.reading import ACCEPTED, read_table
from dssl_sklearn.crystals.table import CrystalTable
from dssl_sklearn.exceptions import InvalidInputError, InvalidStructureError


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
            f"crystals, each {ACCEPTED}."
        )
    if len(X) == 0:
        raise InvalidInputError(f"{name} is empty, expected at least one structure.")
    return X  # type: ignore[no-any-return]


def read_crystals(X: Any, name: str = "X") -> CrystalTable:  # noqa: ANN401 - the door takes anything
    """Read crystals of any accepted kind, without building graphs.

    Parameters
    ----------
    X : sequence of crystals of shape (n_structures,)
        Structures, ASE Atoms, structure dicts, paths of CIF or POSCAR files, or graphs.
    name : str, default="X"
        Name of the argument in error messages.

    Returns
    -------
    CrystalTable
        The crystals in their order.

    Raises
    ------
    InvalidInputError
        If `X` is not a sequence of crystals.
    InvalidStructureError
        Naming every crystal that cannot be used and why.
    """
    items = as_sequence(X, name)
    table, _, reasons = read_table(items, range(len(items)))
    if reasons:
        raise InvalidStructureError(reasons, len(items))
    return table


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
            f"{name} is an array of dtype {X.dtype}, expected crystals: each {ACCEPTED}."
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
