"""Crystals out of files and dicts, through pymatgen; whatever fails there has one error here."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dssl_sklearn.crystals.elements import ELEMENT_SYMBOLS

#: Largest file with one crystal that is read.
_MAX_FILE_BYTES = 32 * 2**20
#: What pymatgen remarks on most CIF files: 0.3333 is taken for 1/3.
HARMLESS_REMARK = "fractional coordinates rounded to ideal values"


class UnusableCrystalError(ValueError):
    """One crystal cannot be used; the message says why, `check` of what kind that is (internal)."""

    def __init__(self, message: str, check: str = "unreadable") -> None:
        super().__init__(message)
        self.check = check


def load_file(path: str | os.PathLike[str]) -> Any:  # noqa: ANN401 - pymatgen is imported late
    """Read the structure in a file, or raise ``UnusableCrystalError`` with the reason."""
    shown = str(path)[:200]
    if "\n" in str(path) or str(path).lstrip().startswith("{"):
        raise UnusableCrystalError(
            f"the text of a file, not its path: {shown[:40]!r}...; read it with "
            "Structure.from_str(text, fmt='cif'), or fmt='json'"
        )
    try:
        file = Path(path).expanduser()
        is_file = file.is_file()
        n_bytes = file.stat().st_size if is_file else 0
    except (OSError, RuntimeError):  # too long to be a path; nobody of that name has a home
        is_file = False
    if not is_file and is_folder(path):
        raise UnusableCrystalError(
            f"is a folder: {shown!r}; give its files, as in sorted(Path({shown!r}).glob('*.cif'))"
        )
    if not is_file:
        raise UnusableCrystalError(f"no such file: {shown!r}")
    if n_bytes > _MAX_FILE_BYTES:
        raise UnusableCrystalError(
            f"{shown!r} has {n_bytes / 2**20:.0f} MB, expected one crystal of at most "
            f"{_MAX_FILE_BYTES // 2**20} MB"
        )
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", rf"Issues .* CIF: \d+ {HARMLESS_REMARK}[^\n]*$")
            structures = _structures(file)
    except Exception as error:
        raise UnusableCrystalError(f"cannot read {shown!r}: {_first_line(error)}") from error
    if len(structures) != 1:
        raise UnusableCrystalError(
            f"{shown!r} holds {len(structures)} structures, expected one; split it"
        )
    return structures[0]


def is_folder(path: str | os.PathLike[str]) -> bool:
    """Whether there is a folder of that name, which may be none that a folder can have."""
    return os.path.isdir(os.path.expanduser(path))  # noqa: PTH111, PTH112 - never raises


def _structures(path: Path) -> list[Any]:
    """All structures of a CIF file, of which pymatgen would take the first, or that of another."""
    from pymatgen.core import Structure
    from pymatgen.io.cif import CifParser

    name = path.name.lower()
    if ".cif" in name or ".mcif" in name:  # as pymatgen tells them
        return list(CifParser(os.fspath(path)).parse_structures(primitive=False))
    structure = Structure.from_file(os.fspath(path))
    symbols = tuple(dict.fromkeys(site.species_string for site in structure))
    # Where a POSCAR file names no elements, as in VASP 4, pymatgen takes the first ones there are.
    doubtful = symbols == ELEMENT_SYMBOLS[1 : len(symbols) + 1]
    is_poscar = any(part in name for part in ("poscar", "contcar", ".vasp"))
    if doubtful and is_poscar and not _names_elements(path):
        raise ValueError("a POSCAR file of VASP 4 names no elements; add the line of symbols")
    return [structure]


def _names_elements(path: Path) -> bool:
    from pymatgen.io.vasp import Poscar

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the first reading had the same
        return bool(Poscar.from_file(os.fspath(path)).true_names)


def load_dict(record: Mapping[str, Any]) -> Any:  # noqa: ANN401 - pymatgen is imported late
    """Read a structure dict, or raise ``UnusableCrystalError`` with the reason."""
    from pymatgen.core import Structure

    if "lattice" not in list(record):  # a Composition, also a mapping, raises an error for `in`
        raise UnusableCrystalError("a dict without a 'lattice' (a molecule?); a cell is needed")
    try:
        return Structure.from_dict(dict(record))
    except Exception as error:
        raise UnusableCrystalError(f"not a valid structure dict: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:300]}" if text else type(error).__name__
