"""Crystals out of files and dicts, through pymatgen; whatever fails there has one error here."""

from __future__ import annotations

import os
import re
import warnings
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
        with warnings.catch_warnings():
            # POSCAR files of VASP 4 name no elements; pymatgen would take H, He and so on.
            warnings.filterwarnings("error", "Elements in POSCAR cannot be determined")
            structure = Structure.from_file(os.fspath(path))
    except Exception as error:
        raise UnusableCrystalError(f"cannot read {shown!r}: {_first_line(error)}") from error
    if (n_structures := _count_structures(path)) > 1:
        raise UnusableCrystalError(
            f"{shown!r} holds {n_structures} structures, expected one; split the file"
        )
    return structure


def _count_structures(path: str | os.PathLike[str]) -> int:
    """How many blocks of a CIF file hold a structure; 1 for other files."""
    if Path(path).suffix.lower() != ".cif":
        return 1
    text = Path(path).read_text(encoding="utf-8", errors="replace").lower()
    blocks = re.split(r"^data_", text, flags=re.MULTILINE)
    return sum("_cell_length_a" in block and "_atom_site_" in block for block in blocks)


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
