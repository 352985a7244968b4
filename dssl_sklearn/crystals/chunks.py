"""Long inputs piece by piece."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from dssl_sklearn.crystals.dataset import GraphDataset
from dssl_sklearn.crystals.inputs import as_sequence
from dssl_sklearn.crystals.table import CrystalTable, Tabular


@dataclass(frozen=True, eq=False)
class TableRows:
    """Some crystals of a collection that hands out tables.

    Parameters
    ----------
    table : CrystalTable
        The crystals.
    """

    table: CrystalTable

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> Any:  # noqa: ANN401 - a Crystal, as of any sequence
        return self.table.crystal(index)

    def crystal_table(self, start: int, stop: int) -> CrystalTable:
        """The crystals from `start` to before `stop`."""
        return self.table.part(start, stop)


def in_chunks(X: Iterable[Any], size: int, name: str = "X") -> Iterator[Sequence[Any]]:
    """Cut what a user hands in into pieces, without holding more than one.

    Parameters
    ----------
    X : sequence or iterable of crystals
        Whatever `as_sequence` takes, or an iterable without a length, such as a generator.
    size : int
        Crystals in a piece; the last one may have fewer.
    name : str, default="X"
        Name of the argument in error messages.

    Returns
    -------
    iterator of sequences
        Graph data sets of a graph data set, and tables of a collection of tables.

    Raises
    ------
    InvalidInputError
        If `X` is neither, at once and not when the first piece is asked for.
    """
    if hasattr(X, "__iter__") and not hasattr(X, "__len__"):
        return _of_iterable(X, size)
    return _of_sequence(as_sequence(X, name), size)


def _of_iterable(X: Iterable[Any], size: int) -> Iterator[list[Any]]:
    items = iter(X)
    while piece := list(islice(items, size)):
        yield piece


def _of_sequence(items: Sequence[Any], size: int) -> Iterator[Any]:
    for start in range(0, len(items), size):
        stop = min(start + size, len(items))
        if isinstance(items, GraphDataset):
            yield items.take(np.arange(start, stop))
        elif isinstance(items, Tabular):
            yield TableRows(items.crystal_table(start, stop))
        else:
            yield [items[index] for index in range(start, stop)]
