"""The files of a graph store: npy arrays under fixed names, and a JSON header with checksums."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import DTypeLike, NDArray

from dssl_sklearn._atomic import atomic_path, write_text
from dssl_sklearn.exceptions import DatasetError

#: Raised when the layout of the files changes; older ones stay readable.
FORMAT_VERSION = 1
FORMAT = "dssl_sklearn graph store"
HEADER = "header.json"
SKIPPED = "skipped.json"
#: Bytes of a header; a larger one is none of ours.
_LARGEST_HEADER = 2**20
_INTEGERS = ("|i1", "<i2", "<i4", "<i8")

#: Array -> types it may have, what it has one row for, and shape of a row.
LAYOUT: dict[str, tuple[tuple[str, ...], str, tuple[int, ...]]] = {
    "numbers": (("|u1",), "n_sites", ()),
    "frac_coords": (("<f4",), "n_sites", (3,)),
    "lattice": (("<f4",), "n_crystals", (3, 3)),
    "site_ptr": (("<i8",), "n_pointers", ()),
    "edge_ptr": (("<i8",), "n_pointers", ()),
    "source": (_INTEGERS, "n_edges", ()),
    "target": (_INTEGERS, "n_edges", ()),
    "shift": (_INTEGERS, "n_edges", (3,)),
    "distance": (("<f4",), "n_edges", ()),
    "positions": (("<i8",), "n_crystals", ()),
}


class HashedFile:
    """File that is written from front to back, with the checksum of all its bytes.

    Parameters
    ----------
    file : file open for writing in binary mode
        Where the bytes go.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()

    def write(self, data: Any) -> int:  # noqa: ANN401 - any buffer
        """Write bytes or a contiguous buffer."""
        self._digest.update(data)
        return self._file.write(data)

    def begin_array(self, dtype: DTypeLike, shape: tuple[int, ...]) -> None:
        """Write the header of an npy file, whose rows follow."""
        descr = np.lib.format.dtype_to_descr(np.dtype(dtype))
        head = {"descr": descr, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self, head)

    def write_rows(self, rows: NDArray[Any], dtype: DTypeLike) -> None:
        """Write rows of an array, converted to its type."""
        flat = np.ascontiguousarray(rows, dtype=dtype).reshape(-1)
        self.write(flat.view(np.uint8).data)

    def checksum(self) -> str:
        """SHA-256 of what was written."""
        return self._digest.hexdigest()


@contextmanager
def hashed_file(path: Path) -> Iterator[HashedFile]:
    """Write a file that is there whole or not at all."""
    with atomic_path(path) as part, part.open("wb") as file:
        yield HashedFile(file)


def property_file(level: str, index: int) -> str:
    """Name of the array of a quantity, free of the user's name for it."""
    return f"{level}_property_{index}"


def write_header(folder: Path, header: Mapping[str, Any]) -> None:
    """Write the header, with which a store is complete."""
    whole = {"format": FORMAT, "format_version": FORMAT_VERSION, **header}
    text = json.dumps({**whole, "checksum": _fingerprint(whole)}, indent=1)
    write_text(folder / HEADER, text)


def read_header(folder: Path) -> dict[str, Any]:
    """Read and check the header of a store.

    Raises
    ------
    DatasetError
        If there is none, or it is damaged, of another program, or of a newer format.
    """
    shown = os.fspath(folder)
    if not folder.is_dir():
        raise DatasetError(f"no graph store: {shown!r} is not a folder; GraphStore.build makes one")
    if not (folder / HEADER).exists() and (folder / "shards").is_dir():
        raise DatasetError(
            f"the graph store {shown!r} is unfinished; call GraphStore.build again, which goes on"
        )
    try:
        header = json.loads(read_regular(folder / HEADER, _LARGEST_HEADER))
        version = header["format_version"]
        if header["format"] != FORMAT or not isinstance(version, int):
            raise ValueError(f"it calls itself {header['format']!r}")  # noqa: TRY301
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        refuse_if_unread(folder, error)
        raise DatasetError(f"{shown!r} is no graph store, or damaged: {HEADER}: {error}") from error
    if version > FORMAT_VERSION:
        raise DatasetError(
            f"the graph store {shown!r} has format version {version}, this dssl_sklearn reads up "
            f"to {FORMAT_VERSION}; update the package"
        )
    if header.pop("checksum", None) != _fingerprint(header):
        raise damaged(folder, f"{HEADER} does not fit its checksum")
    return header  # type: ignore[no-any-return]


def read_regular(path: Path, most: int) -> bytes:
    """Read a file that is no link, pipe or device, and of a bounded size."""
    _check_regular(path)
    with path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise ValueError(f"{path.name} is larger than {most} bytes")
    return data


def open_array(
    folder: Path, name: str, dtypes: tuple[str, ...], shape: tuple[int, ...]
) -> NDArray[Any]:
    """Map an array into memory, read-only.

    Raises
    ------
    DatasetError
        If the file is missing, a link, cut short, or of another type or shape.
    """
    path = folder / f"{name}.npy"
    try:
        _check_regular(path)
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(mapped, np.memmap):
            raise ValueError("not an npy file")  # noqa: TRY004, TRY301
        if mapped.dtype.str not in dtypes or mapped.shape != shape:
            raise ValueError(  # noqa: TRY301
                f"holds {mapped.dtype.str} of shape {mapped.shape}, expected one of {dtypes} of "
                f"shape {shape}"
            )
        n_bytes = mapped.offset + mapped.nbytes
        if path.stat().st_size != n_bytes or not mapped.flags.c_contiguous:
            raise ValueError(f"has {path.stat().st_size} bytes, expected {n_bytes}")  # noqa: TRY301
    except (OSError, ValueError, TypeError, EOFError, OverflowError, MemoryError) as error:
        refuse_if_unread(folder, error)
        raise damaged(folder, f"{path.name}: {error}") from error
    # A plain array over the map: numpy's own class would be handed on to every slice.
    return np.asarray(mapped)


def file_checksum(path: Path) -> str:
    """SHA-256 of a file that is no link, pipe or device."""
    _check_regular(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def refuse_if_unread(folder: Path, error: BaseException) -> None:
    """Raise a ``DatasetError`` if the system refused, which is no damage of the store."""
    if isinstance(error, OSError | MemoryError) and not isinstance(error, FileNotFoundError):
        raise DatasetError(f"cannot read the graph store {os.fspath(folder)!r}: {error}") from error


def damaged(folder: Path, reason: str) -> DatasetError:
    """Make the error for a store that is not as it was written."""
    return DatasetError(
        f"the graph store {os.fspath(folder)!r} is damaged: {reason}; remove the folder and build "
        "it anew"
    )


def _check_regular(path: Path) -> None:
    if not stat.S_ISREG(path.lstat().st_mode):
        raise ValueError(f"{path.name} is not a regular file")


def _fingerprint(header: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(header, sort_keys=True).encode()).hexdigest()
