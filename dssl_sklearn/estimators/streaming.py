"""Results of a fitted estimator for inputs of any length, in constant memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from sklearn.utils.validation import check_is_fitted

from dssl_sklearn._checks import check_integer
from dssl_sklearn.crystals.chunks import in_chunks
from dssl_sklearn.estimators.skipping import UsableGraphs

if TYPE_CHECKING:
    from dssl_sklearn.estimators.base import CrystalEstimator

_Result = TypeVar("_Result")


def stream(
    estimator: CrystalEstimator,
    X: Iterable[Any],
    chunk_size: int,
    compute: Callable[[UsableGraphs], _Result],
) -> Iterator[_Result]:
    """Compute results piece by piece, while one piece of the input is held.

    Parameters
    ----------
    estimator : CrystalEstimator
        Fitted; says how graphs are built and what becomes of unusable crystals.
    X : sequence or iterable of crystals
        Whatever `fit` takes, or an iterable without a length, such as a generator.
    chunk_size : int
        Crystals in a piece.
    compute : callable
        Makes the results of the usable graphs of a piece.

    Returns
    -------
    iterator
        Results of the pieces, in order.

    Raises
    ------
    NotFittedError, InvalidInputError
        At once, if the estimator is not fitted or an argument has an unusable value.
    InvalidStructureError
        When the piece is asked for, with positions in the whole input.
    """
    check_is_fitted(estimator, "net_")
    check_integer("chunk_size", chunk_size)
    return _results(estimator, in_chunks(X, int(chunk_size)), compute)


def _results(
    estimator: CrystalEstimator,
    pieces: Iterator[Sequence[Any]],
    compute: Callable[[UsableGraphs], _Result],
) -> Iterator[_Result]:
    first = 0
    for piece in pieces:
        # What streams by does not come again: the cache would only be flooded.
        usable = estimator._graphs_to_use(piece, first=first, use_cache=False)  # noqa: SLF001
        yield compute(usable)
        first += len(piece)
