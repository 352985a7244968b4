"""Processes that build graphs: how many, and what happens if one is killed."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from numbers import Integral

from joblib import effective_n_jobs

from dssl_sklearn.exceptions import InvalidInputError, WorkerError


def count_workers(n_jobs: int | None) -> int:
    """Count the processes that joblib would use.

    Parameters
    ----------
    n_jobs : int or None
        As in joblib: None for one process, -1 for one per core.

    Returns
    -------
    int
        At least 1.

    Raises
    ------
    InvalidInputError
        If it is 0 or no integer.
    """
    if n_jobs == 0 or not isinstance(n_jobs, Integral | None):
        raise InvalidInputError(f"n_jobs must be an integer other than 0, or None, got {n_jobs!r}")
    return int(effective_n_jobs(n_jobs))


@contextmanager
def explained_kill(kept: str = "") -> Iterator[None]:
    """Say what to do if a process of the block is killed.

    Parameters
    ----------
    kept : str, default=""
        What is not lost.

    Raises
    ------
    WorkerError
        If one is.
    """
    try:
        yield
    except BrokenExecutor as error:
        raise WorkerError(
            "a process that built graphs was killed, by the system where memory is short, or by "
            f"hand; call again, with a smaller n_jobs if it happens again{kept}"
        ) from error
