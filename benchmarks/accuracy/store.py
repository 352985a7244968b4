"""Results on disk: appended whole, claimed by one process at a time, read back after a crash."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Record = dict[str, Any]
#: What names a result; the configuration is that of the method.
KEY = ("table", "task", "method", "split", "n_labels", "config")


def cell_key(record: Record) -> tuple[Any, ...]:
    """What a record is the result of; equal for a cell and its rerun with equal settings."""
    return tuple(record[name] for name in KEY)


def append_record(path: Path, record: Record) -> None:
    """Add one line to a file that several processes write, whole or not at all.

    Parameters
    ----------
    path : Path
        The file; it and its folder are made if needed.
    record : dict
        JSON values.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(record).encode() + b"\n"
    with path.open("ab+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        # A line that a crash cut short must not swallow the next one.
        if file.tell() and not _ends_line(file.fileno(), file.tell()):
            line = b"\n" + line
        os.write(file.fileno(), line)
        os.fsync(file.fileno())


def _ends_line(descriptor: int, size: int) -> bool:
    return os.pread(descriptor, 1, size - 1) == b"\n"


def read_records(path: Path) -> list[Record]:
    """Read all whole lines of a file of results; none where it does not exist."""
    if not path.exists():
        return []
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:  # cut short by a crash
            continue
        if isinstance(record, dict) and set(KEY) <= record.keys():
            records.append(record)
    return records


@contextmanager
def claim(folder: Path, name: str) -> Iterator[bool]:
    """Claim a piece of work for this process.

    The claim ends with the block, or with the process, however it ends.

    Parameters
    ----------
    folder : Path
        Where claims are kept; common to the processes that share the work.
    name : str
        What is claimed, fit for the name of a file.

    Yields
    ------
    bool
        Whether it is ours; False where another process has it. The work may have been finished
        just before, so look at the results once more.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    with path.open("w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        try:
            yield True
        finally:
            path.unlink(missing_ok=True)
