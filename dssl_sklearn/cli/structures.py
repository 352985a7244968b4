"""Reading structure files with progress, and bad ones by their ids."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from tqdm import tqdm

from dssl_sklearn.cli.inputs import Inputs
from dssl_sklearn.crystals.builder import GraphBuilder
from dssl_sklearn.crystals.graph import (
    DEFAULT_CUTOFF,
    DEFAULT_MAX_NEIGHBORS,
    Crystal,
    CrystalGraph,
)
from dssl_sklearn.exceptions import DatasetError

#: Files that are read, and predicted, together.
CHUNK = 256
#: Bad files that a message names.
_MOST_SHOWN = 20


def read_graphs(
    inputs: Inputs, builder: GraphBuilder, *, skip: bool, quiet: bool, what: str
) -> Iterator[tuple[Inputs, list[CrystalGraph], dict[int, str]]]:
    """Read files piece by piece.

    Parameters
    ----------
    inputs : Inputs
        The files.
    builder : GraphBuilder
        Settings of the graphs.
    skip : bool
        Go on where a file cannot be used.
    quiet : bool
        Show no progress.
    what : str
        What is done, for the progress bar.

    Yields
    ------
    Inputs, list of CrystalGraph, dict of int to str
        Files of the piece, graphs of those that can be used, and the reasons against the others.

    Raises
    ------
    DatasetError
        If a file cannot be used and `skip` is not set.
    """
    bad: dict[str, str] = {}
    with tqdm(total=len(inputs), desc=what, unit="file", disable=quiet) as bar:
        for chunk in inputs.chunks(CHUNK):
            graphs, reasons = builder.usable_graphs([str(path) for path in chunk.paths])
            bad |= {chunk.ids[index]: reason for index, reason in reasons.items()}
            bar.update(len(chunk))
            if skip or not bad:
                yield chunk, graphs, reasons
    if not bad:
        return
    text = _listed(bad, len(inputs))
    if not skip:
        raise DatasetError(f"{text}\nCorrect them, or leave them out with --on-error skip.")
    print(f"dssl: warning: {text}", file=sys.stderr)


def load_crystals(inputs: Inputs, *, skip: bool, quiet: bool) -> tuple[list[Crystal], list[int]]:
    """Read all files to learn from.

    Returns
    -------
    list of Crystal
        Those that can be used.
    list of int
        Their positions.

    Raises
    ------
    DatasetError
        If a file cannot be used and `skip` is not set, or none can.
    """
    builder = GraphBuilder(DEFAULT_CUTOFF, DEFAULT_MAX_NEIGHBORS)
    crystals: list[Crystal] = []
    rows: list[int] = []
    done = 0
    for chunk, graphs, reasons in read_graphs(
        inputs, builder, skip=skip, quiet=quiet, what="reading"
    ):
        crystals += [graph.crystal for graph in graphs]
        rows += [done + index for index in range(len(chunk)) if index not in reasons]
        done += len(chunk)
    if not crystals:
        raise DatasetError("none of the structures can be used")
    return crystals, rows


def _listed(bad: dict[str, str], n_structures: int) -> str:
    lines = [f"  {name}: {reason}" for name, reason in bad.items()]
    if len(lines) > _MOST_SHOWN:
        lines[_MOST_SHOWN:] = [f"  ... and {len(bad) - _MOST_SHOWN} more"]
    return f"{len(bad)} of {n_structures} structures cannot be used:\n" + "\n".join(lines)
