"""Reading data files so that whatever is wrong with one ends in a single clear error."""

from __future__ import annotations

import gzip
import json
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dssl_sklearn.exceptions import DatasetError

# What zipfile, gzip, zlib, json and numpy raise on files that are cut short, altered or something
# else altogether. Flipped bits can pass for any size or compression, hence the last four.
_READ_ERRORS = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    SyntaxError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
    MemoryError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
)


@contextmanager
def explain_failure(path: Path, cure: str) -> Iterator[None]:
    """Turn any error met while reading a file into one that names the file and the cure.

    Parameters
    ----------
    path : Path
        The file.
    cure : str
        What the user can do, one sentence.

    Raises
    ------
    DatasetError
        Instead of whatever the reading raised.
    """
    try:
        yield
    except DatasetError:
        raise
    except FileNotFoundError as error:
        raise DatasetError(f"{path} does not exist. {cure}") from error
    except _READ_ERRORS as error:
        reason = (str(error).strip().splitlines() or [""])[0]
        raise DatasetError(
            f"{path} cannot be read, it is damaged or not of the expected form "
            f"({type(error).__name__}: {reason}). {cure}"
        ) from error


def read_npz(path: Path, required: Iterable[str], cure: str) -> dict[str, NDArray[Any]]:
    """Read all arrays of an npz file, without ever unpickling.

    Parameters
    ----------
    path : Path
        The file.
    required : iterable of str
        Arrays that must be there.
    cure : str
        What the user can do if the file is unusable, one sentence.

    Returns
    -------
    dict of str to ndarray
        Every array of the file by its name.

    Raises
    ------
    DatasetError
        If the file is missing or damaged, or lacks an array.
    """
    # Opened here, since np.load leaves its own file open where the archive is damaged.
    with explain_failure(path, cure), path.open("rb") as file:
        if not zipfile.is_zipfile(file):
            raise DatasetError(f"{path} is cut short or not an npz file. {cure}")
        with np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    missing = sorted(set(required) - set(arrays))
    if missing:
        raise DatasetError(f"{path} lacks the arrays {missing}; it holds {sorted(arrays)}. {cure}")
    return arrays


def read_json_gz(path: Path, cure: str) -> Any:  # noqa: ANN401 - JSON is any value
    """Read a gzipped JSON file; errors as in `read_npz`."""
    with explain_failure(path, cure), gzip.open(path, "rt", encoding="utf-8") as file:
        return json.load(file)
