"""Long inputs piece by piece."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np

from dssl_sklearn.crystals.dataset import GraphDataset
from dssl_sklearn.crystals.inputs import as_sequence, some_of
from dssl_sklearn.crystals.table import Tabular


def in_chunks(X: Iterable[Any], size: int) -> Iterator[Sequence[Any]]:
    """Cut what a user hands in into pieces, without holding more than one.

    Parameters
    ----------
    X : sequence or iterable of crystals
        Whatever `as_sequence` takes, or an iterable without a length, such as a generator.
    size : int
        Crystals in a piece; the last one may have fewer.

    Returns
    -------
    iterator of sequences
        Pieces as of `piece_of`; lists of an iterable without a length.

    Raises
    ------
    InvalidInputError
        If `X` is neither, at once and not when the first piece is asked for.
    """
    if hasattr(X, "__iter__") and not hasattr(X, "__len__"):
        return _of_iterable(X, size)
    items = as_sequence(X)
    return (piece_of(items, start, size) for start in range(0, len(items), size))


def piece_of(items: Sequence[Any], start: int, size: int) -> Any:  # noqa: ANN401 - a sequence
    """At most `size` items: graph data sets of one, tables of what hands them out, else lists."""
    stop = min(start + size, len(items))
    if isinstance(items, GraphDataset):
        return items.take(np.arange(start, stop))
    if isinstance(items, Tabular):
        return items.crystal_table(start, stop)
    return some_of(items, range(start, stop))


def _of_iterable(X: Iterable[Any], size: int) -> Iterator[list[Any]]:
    items = iter(X)
    while piece := list(islice(items, size)):
        yield piece
