"""Files that are there whole or not at all."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
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
        Empty file in the same folder, with the suffix of `path`. It is removed on any error, and
        `path` is then as it was.

    Raises
    ------
    OSError
        If the folder cannot be written to, or there is something other than a file.
    """
    target = regular_target(path)
    handle, name = tempfile.mkstemp(
        dir=target.parent, prefix=f".{target.stem}.", suffix=target.suffix
    )
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
    finally:
        part.unlink(missing_ok=True)
