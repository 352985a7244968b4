"""From a folder or a table to structure files, ids and targets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import pandas as pd

from dssl_sklearn._checks import did_you_mean
from dssl_sklearn.cli.errors import UsageError
from dssl_sklearn.cli.tables import TABLE_SUFFIXES, load_table, typed

#: Files of a folder that are taken for structures, in small letters or capitals.
PATTERNS = ("*.cif", "*.cif.gz", "*.poscar", "*.vasp", "POSCAR*", "CONTCAR*")
#: Columns that are looked for where none is named.
_PATH_COLUMNS = ("path", "file", "filename", "structure_file", "cif_file")
_ID_COLUMNS = ("id", "material_id", "name")
#: Endings that an id may lack in a folder of files.
_ENDINGS = ("", ".cif", ".cif.gz", ".vasp", ".poscar", ".CIF", ".POSCAR")


@dataclass(frozen=True)
class Inputs:
    """Structure files with their ids, and the table they stand in.

    Attributes
    ----------
    ids : list of str
        One for each file.
    paths : list of Path
        The files; they may be missing, which is for the reading to say.
    table : pandas.DataFrame or None
        The table, None for a folder.
    n_others : int
        Files of the folder that are not taken for structures.
    """

    ids: list[str]
    paths: list[Path]
    table: pd.DataFrame | None = None
    n_others: int = 0

    def __len__(self) -> int:
        return len(self.ids)

    def chunks(self, size: int) -> Iterator[Inputs]:
        """Cut into pieces of at most `size` files."""
        for start in range(0, len(self), size):
            yield Inputs(self.ids[start : start + size], self.paths[start : start + size])

    def column(self, name: str) -> pd.Series:
        """A column of the table.

        Raises
        ------
        UsageError
            If there is no table or no such column, or it holds numbers that cannot be read.
        """
        if self.table is None:
            raise UsageError(
                f"--target {name} needs a table: give a CSV or Parquet file with a column of file "
                "paths, or with ids and --folder"
            )
        _check_column(self.table, name)
        return typed(self.table[name])


def find_inputs(
    sources: Sequence[Path],
    *,
    path_column: str | None = None,
    id_column: str | None = None,
    folder: Path | None = None,
) -> Inputs:
    """Find the structure files that a user means.

    Parameters
    ----------
    sources : sequence of Path
        A folder with CIF or POSCAR files (subfolders are searched, too), one or several such files,
        or a CSV or Parquet table.
    path_column : str, default=None
        Column of the table with paths, relative to the table or to `folder`; None for "path",
        "file" or the like.
    id_column : str, default=None
        Column of ids; None for "id" or the like, else the paths are the ids.
    folder : Path, default=None
        Folder of the files of a table; without a column of paths they are found by id.

    Returns
    -------
    Inputs
        Files in the order of the table, or of their names.

    Raises
    ------
    UsageError
        If nothing is there, or a column is missing.
    DatasetError
        If the table cannot be read.
    """
    if folder is not None and not folder.is_dir():
        raise UsageError(f"--folder {str(folder)!r} is no folder")
    source = sources[0]
    if len(sources) == 1 and source.is_dir():
        return _of_folder(source)
    if len(sources) > 1 or source.suffix.lower() not in TABLE_SUFFIXES:
        return _of_files(sources)
    _check_file(source)
    table = load_table(source)
    if not len(table):
        raise UsageError(f"the table {str(source)!r} has no rows")
    path_column = path_column or _first(table, _PATH_COLUMNS)
    id_column = id_column or _first(table, _ID_COLUMNS)
    if path_column is not None:
        _check_column(table, path_column)
        base = source.parent if folder is None else folder
        # A missing entry becomes the path of no file, which the reading reports.
        paths = [base / (str(value) or "(no path)") for value in table[path_column]]
    if id_column is not None:
        _check_column(table, id_column)
    ids = (
        [str(value) for value in table[id_column or path_column]]
        if id_column or path_column
        else []
    )
    if path_column is not None:
        return Inputs(ids, paths, table)
    if folder is None or id_column is None:
        raise UsageError(
            f"no column of file paths in {str(source)!r} (it has {_shown(table)}): name it with "
            "--path-column, or give --folder and --id-column to find the files by id"
        )
    return Inputs(ids, [_file_of(folder, name) for name in ids], table)


def _check_file(path: Path) -> None:
    if not path.is_file():
        if path.is_dir():
            raise UsageError(f"{str(path)!r} is a folder; give one folder alone, or files")
        raise UsageError(f"{str(path)!r} is neither a folder nor a file")
    if path.suffix.lower() == ".tsv":
        raise UsageError(f"{str(path)!r} is separated by tabs; save it as .csv, with commas")


def _of_files(files: Sequence[Path]) -> Inputs:
    for path in files:
        _check_file(path)
        if path.suffix.lower() in TABLE_SUFFIXES:
            raise UsageError(f"{str(path)!r} is a table; give it alone")
    names = [path.name for path in files]
    if len(set(names)) < len(names):
        names = [path.as_posix() for path in files]
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        raise UsageError(f"{repeated[0]!r} is given twice; ids must tell the files apart")
    return Inputs(names, list(files))


def _of_folder(folder: Path) -> Inputs:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    paths = [path for path in files if _is_named_as_structure(path)]
    if not paths:
        raise UsageError(
            f"the folder {str(folder)!r} holds no structure files ({', '.join(PATTERNS)})"
        )
    ids = [path.relative_to(folder).as_posix() for path in paths]
    return Inputs(ids, paths, n_others=len(files) - len(paths))


def _is_named_as_structure(path: Path) -> bool:
    return any(fnmatchcase(path.name.lower(), pattern.lower()) for pattern in PATTERNS)


def _file_of(folder: Path, name: str) -> Path:
    """File of an id, whichever ending it has; as an id alone if there is none."""
    tried = [folder / f"{name}{ending}" for ending in _ENDINGS]
    return next((path for path in tried if path.is_file()), tried[1])


def _first(table: pd.DataFrame, names: tuple[str, ...]) -> str | None:
    return next((name for name in names if name in table.columns), None)


def _check_column(table: pd.DataFrame, name: str) -> None:
    if name not in table.columns:
        hint = did_you_mean(name, map(str, table.columns))
        raise UsageError(f"the table has no column {name!r}; it has {_shown(table)}{hint}")


def _shown(table: pd.DataFrame) -> str:
    names = [repr(str(name)) for name in table.columns]
    return ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
