"""Choosing targets by name, and handing a data set out the way scikit-learn's loaders do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch

from dssl_sklearn._checks import check_choice
from dssl_sklearn.exceptions import InvalidInputError

if TYPE_CHECKING:
    from pymatgen.core import Structure

TargetChoice: TypeAlias = str | Sequence[str] | None


@dataclass(frozen=True)
class Quantity:
    """A column of a data set.

    Attributes
    ----------
    name : str
        Name by which it is asked for.
    unit : str
        Unit, ``"1"`` for a pure number.
    meaning : str
        What it is, one phrase.
    log10_of : str, default=""
        Name of the stored column that this is the decimal logarithm of, where it is one.
    """

    name: str
    unit: str
    meaning: str
    log10_of: str = ""


def choose_targets(target: TargetChoice, columns: Mapping[str, NDArray[Any]]) -> list[str]:
    """Resolve the argument `target` of a loader to names of columns.

    Parameters
    ----------
    target : str, sequence of str or None
        One name, several, or None or ``"all"`` for every column that is a quantity, not a flag.
    columns : mapping of str to ndarray
        The columns there are.

    Returns
    -------
    list of str
        Names in the order asked for.

    Raises
    ------
    InvalidInputError
        If a name is unknown or none is given.
    """
    if target is None or (isinstance(target, str) and target == "all"):
        return [name for name, column in columns.items() if column.dtype != bool]
    names = [target] if isinstance(target, str) else list(target)
    if not names:
        raise InvalidInputError(f"target is empty; name one or more of {', '.join(columns)}.")
    for name in names:
        check_choice("target", name, columns)
    return names


def make_bunch(
    structures: list[Structure],
    columns: Mapping[str, NDArray[Any]],
    target: TargetChoice,
    ids: Sequence[str],
    *,
    as_frame: bool,
    **others: Any,  # noqa: ANN401 - whatever else the data set has
) -> Bunch:
    """Assemble the result of a loader.

    Parameters
    ----------
    structures : list of Structure
        The crystals.
    columns : mapping of str to ndarray of shape (n_structures,)
        All targets there are.
    target : str, sequence of str or None
        Which of them to hand out, see `choose_targets`.
    ids : sequence of str
        One identifier a crystal; the index of the frames.
    as_frame : bool
        Hand out pandas objects.
    **others
        Further entries.

    Returns
    -------
    Bunch
        With `data`, `target`, `target_names`, `feature_names`, `ids`, `frame` and the `others`.
    """
    names = choose_targets(target, columns)
    data: Any = structures
    values: Any = (
        columns[names[0]]
        if isinstance(target, str) and target != "all"
        else np.column_stack([columns[name].astype(np.float64) for name in names])
    )
    frame = None
    if as_frame:
        frame = _make_frame(structures, {name: columns[name] for name in names}, ids)
        data = frame[["structure"]]
        values = frame[names[0]] if values.ndim == 1 else frame[names]
    return Bunch(
        data=data,
        target=values,
        frame=frame,
        target_names=names,
        feature_names=["structure"],
        ids=list(ids),
        **others,
    )


def _make_frame(
    structures: list[Structure], columns: Mapping[str, NDArray[Any]], ids: Sequence[str]
) -> Any:  # noqa: ANN401 - a DataFrame; pandas is imported only where asked for
    import pandas as pd

    # A structure is itself a sequence (of sites): left to guess, numpy would unpack it.
    cells = np.empty(len(structures), dtype=object)
    for index, structure in enumerate(structures):
        cells[index] = structure
    return pd.DataFrame({"structure": cells, **columns}, index=pd.Index(ids, name="id"))
