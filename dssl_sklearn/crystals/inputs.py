"""The one door for structures: whatever a user may hand in becomes a plain sequence, or a table."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dssl_sklearn.crystals.elements import MAX_ATOMIC_NUMBER
from dssl_sklearn.crystals.files import is_folder
from dssl_sklearn.crystals.graph import Crystal, CrystalGraph
from dssl_sklearn.crystals.reading import ACCEPTED, read_table
from dssl_sklearn.crystals.table import CrystalTable, Tabular
from dssl_sklearn.exceptions import InvalidInputError, InvalidStructureError, Reason

#: Longer texts are no pattern of file names.
_LONGEST_PATTERN = 300


class LabeledList(list[Any]):
    """Crystals out of a pandas object whose index is not just their positions.

    Attributes
    ----------
    labels : list
        The index.
    """

    labels: list[Any]

    @classmethod
    def of(cls, items: Iterable[Any], labels: list[Any]) -> LabeledList:
        """Join crystals with their labels."""
        found = cls(items)
        found.labels = labels
        return found


def some_of(items: Sequence[Any], places: Sequence[int]) -> list[Any]:
    """Some items of what `as_sequence` gave, with their labels if there are any."""
    found = [items[index] for index in places]
    if not isinstance(items, LabeledList):
        return found
    return LabeledList.of(found, [items.labels[index] for index in places])


def located(reasons: Mapping[int, str], items: Sequence[Any]) -> dict[int, str]:
    """Add to reasons by position what a user may know unusable crystals by: label and formula."""
    result = {}
    for index, reason in reasons.items():
        known = []
        if isinstance(items, LabeledList):
            known.append(f"index {items.labels[index]}")
        if not isinstance(items, Tabular) and (formula := _formula(items[index])):
            known.append(formula)
        result[index] = Reason(reason, ", ".join(known)) if known else reason
    return result


def _formula(item: Any) -> str:  # noqa: ANN401
    """Formula of a crystal in memory, empty if that is not known."""
    if hasattr(type(item), "get_atomic_numbers"):
        # ASE has no formula of numbers that are no element, or another one.
        known = ((item.numbers > 0) & (item.numbers <= MAX_ATOMIC_NUMBER)).all()
        return str(item.get_chemical_formula()) if known else ""
    return str(item.formula) if hasattr(type(item), "cart_coords") else ""


def as_sequence(X: Any, name: str = "X") -> Sequence[Any]:  # noqa: ANN401 - the door takes anything
    """Turn the accepted containers into a plain sequence of crystals without touching the items.

    Parameters
    ----------
    X : list, tuple, ndarray, Series, DataFrame of one column, or another sequence
        Crystals; tables may be those of pandas or polars. An array of sites, which ``np.asarray``
        makes from crystals of equal size, is turned back into one crystal per row.
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
        is_bunch = "data" in X and hasattr(X, "data")
        raise InvalidInputError(
            f"{name} is a {type(X).__name__}, expected a sequence of crystals; write "
            + (f"{name}.data." if is_bunch else f"list({name}.values()) for those of a dict.")
        )
    if _is_single_crystal(X):
        raise InvalidInputError(
            f"{name} is a single {type(X).__name__}, expected a sequence of crystals; write "
            f"{_several_files(X) or f'[{name}] for one'}."
        )
    if _is_table(X):
        X = _only_column(X, name)
    elif hasattr(X, "iloc"):
        X = _pandas_items(X)
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
        raise InvalidStructureError(located(reasons, items), len(items))
    return table


def _is_single_crystal(X: Any) -> bool:  # noqa: ANN401
    if isinstance(X, str | bytes | os.PathLike | Mapping | Crystal | CrystalGraph):
        return True
    # Structures, molecules and ASE Atoms are sequences of their sites. The class is asked, since
    # the attribute itself may be costly.
    return hasattr(type(X), "cart_coords") or hasattr(type(X), "get_atomic_numbers")


def _several_files(X: Any) -> str:  # noqa: ANN401
    """How to list the files of a folder or a pattern, empty if it is neither."""
    if not isinstance(X, str | os.PathLike):
        return ""
    parts = Path(os.path.expanduser(X)).parts  # noqa: PTH111 - never raises
    first = next((k for k, part in enumerate(parts) if "*" in part), None)
    # What is longer, or has lines, is the text of a file rather than a pattern.
    if first is not None and len(str(X)) < _LONGEST_PATTERN and "\n" not in str(X):
        folder, pattern = str(Path(*parts[:first])), "/".join(parts[first:])
        return f"sorted(Path({folder!r}).glob({pattern!r})) for all of these files"
    if is_folder(X):
        return f"sorted(Path({str(Path(*parts))!r}).glob('*.cif')) for the files of this folder"
    return ""


def _is_table(X: Any) -> bool:  # noqa: ANN401
    """Whether this is a DataFrame, of pandas or polars (which is not imported for the question)."""
    return (hasattr(X, "iloc") and X.ndim == 2) or hasattr(X, "get_columns")


def _columns(X: Any) -> list[tuple[Any, Any]]:  # noqa: ANN401
    """Names, which may be equal, and columns of a table."""
    if hasattr(X, "iloc"):
        return [(column, X.iloc[:, place]) for place, column in enumerate(X.columns)]
    return list(zip(X.columns, X.get_columns(), strict=True))


def _pandas_items(series: Any) -> list[Any]:  # noqa: ANN401
    plain = series.index.equals(pd.RangeIndex(len(series)))
    return list(series) if plain else LabeledList.of(series, list(series.index))


def _only_column(X: Any, name: str) -> list[Any]:  # noqa: ANN401
    if X.shape[1] != 1:
        found = _of_crystals(X)
        choice = f"{name}[{found[0][0]!r}]" if len(found) == 1 else "the column of crystals"
        raise InvalidInputError(
            f"{name} is a DataFrame of {X.shape[1]} columns {list(map(str, X.columns))[:8]}, "
            f"expected one column of crystals; give {choice} alone, or, for a model that takes "
            "the others, too, name it in a ColumnTransformer."
        )
    if hasattr(X, "iloc"):
        return _pandas_items(X.iloc[:, 0])
    return list(X.get_columns()[0].to_list())


def _of_crystals(X: Any) -> list[tuple[Any, Any]]:  # noqa: ANN401
    """Names and columns of a table whose first known entry is a crystal."""
    found = []
    for name, column in _columns(X):
        known = column.dropna() if hasattr(column, "dropna") else column.drop_nulls()
        if any(map(_is_crystal, known.head(1))):
            found.append((name, column))
    return found


def _is_crystal(item: Any) -> bool:  # noqa: ANN401
    """Whether an entry of a table is a crystal of an accepted kind."""
    if isinstance(item, Mapping):
        return "lattice" in item
    if isinstance(item, str):
        # Formulas and names are texts, too.
        return os.path.isfile(os.path.expanduser(item))  # noqa: PTH111, PTH113 - never raises
    return not isinstance(item, bytes) and _is_single_crystal(item)


def crystals_of_table(X: Any, name: str = "X") -> Sequence[Any]:  # noqa: ANN401 - as `as_sequence`
    """Turn containers into a sequence of crystals, tables of several columns among them.

    Parameters
    ----------
    X : sequence or table
        What `as_sequence` takes, or a table in which one column holds crystals.
    name : str, default="X"
        Name of the argument in error messages.

    Returns
    -------
    sequence
        As of `as_sequence`.

    Raises
    ------
    InvalidInputError
        As by `as_sequence`, and if several columns hold crystals, or none.
    """
    if not _is_table(X) or X.shape[1] < 2:
        return as_sequence(X, name)
    found = _of_crystals(X)
    if len(found) != 1:
        columns = [str(column) for column, _ in found or _columns(X)][:8]
        raise InvalidInputError(
            f"{name} is a DataFrame that holds crystals in {'several' if found else 'none'} of its "
            f"columns {columns}, as far as its first rows tell, expected one such column; make "
            f"the groups yourself, groups=structure_groups({name}[column]), for a splitter such as "
            "GroupKFold."
        )
    ((_, column),) = found
    return as_sequence(column if hasattr(column, "iloc") else column.to_list(), name)


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
