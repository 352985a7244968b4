"""CSV and Parquet tables: read whole, written piece by piece and all or nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from dssl_sklearn._atomic import atomic_path
from dssl_sklearn._checks import UNKNOWN_TEXTS
from dssl_sklearn._optional import import_optional
from dssl_sklearn.cli.errors import UsageError
from dssl_sklearn.exceptions import DatasetError

TABLE_SUFFIXES = (".csv", ".parquet")
_WHOLE, _WITH_COMMA = r"[-+]?\d{1,18}", r"[-+]?\d+(,\d+)+(\.\d+)?"


def load_table(path: Path) -> pd.DataFrame:
    """Read a CSV or Parquet table, the entries of CSV as text: ids such as 0012 stay what they are.

    Raises
    ------
    DatasetError
        If the file cannot be read.
    MissingDependencyError
        If Parquet is asked for without pyarrow.
    """
    is_parquet = path.suffix.lower() == ".parquet"
    if is_parquet:
        check_parquet()
    try:
        if is_parquet:
            return pd.read_parquet(path).reset_index(drop=True)
        return pd.read_csv(path, dtype=str, keep_default_na=False)
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        raise DatasetError(
            f"the table {str(path)!r} cannot be read ({type(error).__name__}: {reason})"
        ) from error


def typed(column: pd.Series) -> pd.Series:
    """Targets in a column of text: numbers or truth values if all known entries are such.

    Among other text "None" is a class, such as a magnetic order.

    Raises
    ------
    UsageError
        If most entries are numbers with a comma.
    """
    text = column.dropna()
    if not text.map(lambda value: isinstance(value, str)).all():
        return column
    text = text.str.strip()
    lower = text.str.lower()
    known = ~lower.isin(UNKNOWN_TEXTS)
    numbers = pd.to_numeric(text[known], errors="coerce")
    if numbers.notna().all():
        whole = text[known].str.fullmatch(_WHOLE).all()
        return (numbers.astype("Int64") if whole else numbers).reindex(column.index)
    truth = {"true": True, "false": False}
    if lower[known].isin(truth).all():
        return lower[known].map(truth).astype(object).reindex(column.index)
    text = text[known | (lower == "none")]
    with_comma = text.str.fullmatch(_WITH_COMMA)
    if with_comma.mean() > 0.5:
        raise UsageError(
            f"the column {str(column.name)!r} holds numbers with a comma, such as "
            f"{text[with_comma].iloc[0]!r}; write them with a point, and without separators"
        )
    return text.reindex(column.index)


def check_parquet() -> None:
    """Make sure that pyarrow is there.

    Raises
    ------
    MissingDependencyError
        If it is not.
    """
    import_optional("pyarrow.parquet", "a Parquet file", "parquet", ", or use CSV")


def check_output(path: Path, *, force: bool, suffixes: tuple[str, ...] = TABLE_SUFFIXES) -> None:
    """Make sure that an output can be written, before any work is done.

    Raises
    ------
    UsageError
        If it exists and `force` is not set, its folder does not exist, or its suffix is unknown.
    MissingDependencyError
        If Parquet is asked for without pyarrow.
    """
    if path.suffix.lower() not in suffixes:
        raise UsageError(f"--out {str(path)!r} must end in {' or '.join(suffixes)}")
    if path.is_dir() or not path.parent.is_dir():
        raise UsageError(f"--out {str(path)!r} is not a file in an existing folder")
    if path.exists() and not force:
        raise UsageError(f"{str(path)!r} exists; give --force to replace it")
    if path.suffix.lower() == ".parquet":
        check_parquet()


@contextmanager
def table_writer(path: Path) -> Iterator[Callable[[pd.DataFrame], None]]:
    """Write a table piece by piece; the file appears when all are written.

    Parameters
    ----------
    path : Path
        File that ends in ``.csv`` or ``.parquet``.

    Yields
    ------
    callable
        Appends the rows of a DataFrame; all have the columns of the first.
    """
    with atomic_path(path) as part:
        if path.suffix.lower() == ".parquet":
            with _parquet_writer(part) as append:
                yield append
        else:
            with part.open("w", encoding="utf-8", newline="") as file:

                def append(frame: pd.DataFrame) -> None:
                    frame.to_csv(file, index=False, header=file.tell() == 0)

                yield append


@contextmanager
def _parquet_writer(path: Path) -> Iterator[Callable[[pd.DataFrame], None]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    writers: list[pq.ParquetWriter] = []

    def append(frame: pd.DataFrame) -> None:
        schema = writers[0].schema if writers else None
        rows = pa.Table.from_pandas(frame, schema=schema, preserve_index=False)
        if not writers:
            writers.append(pq.ParquetWriter(path, rows.schema))
        writers[0].write_table(rows)

    try:
        yield append
    finally:
        for writer in writers:
            writer.close()
