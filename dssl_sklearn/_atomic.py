"""Files that are there whole or not at all."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def regular_target(path: str | os.PathLike[str]) -> Path:
    """File that a path leads to, which may be replaced by another one.

    Parameters
    ----------
    path : path-like
        File to write; a link leads to the file behind it.

    Returns
    -------
    Path
        Where to write.

    Raises
    ------
    OSError
        If there is something other than a file: a folder, a device, a pipe. Renaming another file
        to its name would put an end to it.
    """
    try:
        target = Path(os.path.realpath(path))
    except ValueError as error:
        raise OSError(errno.EINVAL, str(error)) from error
    if target.exists() and not target.is_file():
        raise OSError(errno.EINVAL, f"{os.fspath(path)!r} is a folder, a device or a pipe")
    return target


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a path to write to, which takes the place of `path` only if all goes well.

    Parameters
    ----------
    path : path-like
        File to write; its folder must exist.

    Yields
    ------
    Path
        Empty file in the same folder, removed on any error; `path` is then as it was.

    Raises
    ------
    OSError
        If the folder cannot be written to, or there is something other than a file.
    """
    target = regular_target(path)
    if not target.parent.is_dir():
        # Else the error would name the temporary file.
        raise FileNotFoundError(errno.ENOENT, f"there is no folder {str(target.parent)!r}")
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=_temporary_prefix(target))
    os.close(handle)
    part = Path(name)
    try:
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        # mkstemp makes a private file; give it the mode that open() would.
        umask = os.umask(0)
        os.umask(umask)
        part.chmod(0o666 & ~umask)
        part.replace(target)
        _sync_folder(target.parent)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file in UTF-8, all or nothing."""
    with atomic_path(path) as part:
        part.write_text(text, encoding="utf-8")


def probe_folder(path: Path) -> None:
    """Raise ``OSError`` if no file can be written beside `path`."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=_temporary_prefix(path))
    try:
        os.write(handle, bytes(4096))
    finally:
        os.close(handle)
        Path(temporary).unlink(missing_ok=True)


def remove_leftovers(path: Path) -> None:
    """Remove what processes left that were killed while they wrote `path`."""
    prefix = _temporary_prefix(path)
    for leftover in path.parent.iterdir():
        if leftover.name.startswith(prefix):
            leftover.unlink(missing_ok=True)


def _temporary_prefix(path: Path) -> str:
    return f".{path.name}."


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut, where the system can do that."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
