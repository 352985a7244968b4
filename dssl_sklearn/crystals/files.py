"""Crystals out of files and dicts, through pymatgen; whatever fails there has one error here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: Largest file with one crystal that is read.
_MAX_FILE_BYTES = 32 * 2**20


class UnusableCrystalError(ValueError):
    """One crystal cannot be used; the message says why, `check` of what kind that is (internal)."""

    def __init__(self, message: str, check: str = "unreadable") -> None:
        super().__init__(message)
        self.check = check


def load_file(path: str | os.PathLike[str]) -> Any:  # noqa: ANN401 - pymatgen is imported late
    """Read the structure in a file, or raise ``UnusableCrystalError`` with the reason."""
    from pymatgen.core import Structure

    shown = str(path)[:200]
    try:
        is_file, n_bytes = Path(path).is_file(), 0
        if is_file:
            n_bytes = Path(path).stat().st_size
    except OSError:  # what is too long to be a path, such as the text of a CIF file
        is_file = False
    if not is_file:
        raise UnusableCrystalError(f"no such file: {shown!r}")
    if n_bytes > _MAX_FILE_BYTES:
        raise UnusableCrystalError(
            f"{shown!r} has {n_bytes / 2**20:.0f} MB, expected one crystal of at most "
            f"{_MAX_FILE_BYTES // 2**20} MB"
        )
    try:
        return Structure.from_file(os.fspath(path))
    except Exception as error:
        raise UnusableCrystalError(f"cannot read {shown!r}: {_first_line(error)}") from error


def load_dict(record: Mapping[str, Any]) -> Any:  # noqa: ANN401 - pymatgen is imported late
    """Read a structure dict, or raise ``UnusableCrystalError`` with the reason."""
    from pymatgen.core import Structure

    if "lattice" not in record:
        raise UnusableCrystalError("a dict without a 'lattice' (a molecule?); a cell is needed")
    try:
        return Structure.from_dict(dict(record))
    except Exception as error:
        raise UnusableCrystalError(f"not a valid structure dict: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:300]}" if text else type(error).__name__
