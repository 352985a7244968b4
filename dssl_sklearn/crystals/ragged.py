"""Runs of different lengths, one after the other in a flat array."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def pointer(counts: ArrayLike) -> NDArray[np.int64]:
    """Where each of some runs of the given lengths begins, and where the last one ends."""
    return np.concatenate(([0], np.cumsum(np.asarray(counts, dtype=np.int64))))


def ranges(start: NDArray[np.int64], count: NDArray[np.int64]) -> NDArray[np.int64]:
    """Concatenated ``arange(start[i], start[i] + count[i])``."""
    end = np.cumsum(count)
    offsets: NDArray[np.int64] = np.repeat(start - (end - count), count)
    return np.arange(len(offsets)) + offsets


def narrow(values: NDArray[np.integer]) -> NDArray[np.integer]:
    """Smallest signed type that holds the values: edges dominate the memory of a large corpus."""
    peak = max(abs(int(values.min())), abs(int(values.max()))) if values.size else 0
    return values.astype(np.min_scalar_type(-peak - 1))
