"""Building a graph store: shards in parallel, each whole or not at all, then one set of arrays."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from tqdm import tqdm

from dssl_sklearn._atomic import write_text
from dssl_sklearn._checks import check_choice, check_integer, check_number
from dssl_sklearn.crystals.build_part import warn_isolated
from dssl_sklearn.crystals.builder import CHUNK, GraphBuilder
from dssl_sklearn.crystals.cache import content_keys
from dssl_sklearn.crystals.chunks import in_chunks
from dssl_sklearn.crystals.files import UnusableCrystalError
from dssl_sklearn.crystals.graph import CrystalGraph
from dssl_sklearn.crystals.reading import read_sites
from dssl_sklearn.crystals.store_files import HEADER, read_header
from dssl_sklearn.crystals.store_shards import (
    Shard,
    all_skipped,
    join_shards,
    settings_of,
    write_shard,
)
from dssl_sklearn.crystals.table import CrystalTable
from dssl_sklearn.crystals.workers import count_workers, explained_kill
from dssl_sklearn.exceptions import DatasetError, InvalidInputError, InvalidStructureError

_SHARDS = "shards"
_SETTINGS = "settings.json"


def build_store(
    folder: Path,
    X: Iterable[Any],
    *,
    cutoff: float,
    max_neighbors: int,
    site_properties: Sequence[str],
    on_error: str,
    n_jobs: int | None,
    verbose: int,
) -> None:
    """Write a store into a folder, see `GraphStore.build`."""
    check_number("cutoff", cutoff)
    check_integer("max_neighbors", max_neighbors)
    check_choice("on_error", on_error, ("raise", "skip"))
    count_workers(n_jobs)
    builder = GraphBuilder(
        float(cutoff),
        int(max_neighbors),
        site_properties=tuple(site_properties),
        use_cache=False,
    )
    pieces = in_chunks(X, CHUNK)
    try:
        if _is_finished(folder, builder):
            shutil.rmtree(folder / _SHARDS, ignore_errors=True)
            return
        _begin(folder, builder)
        shards = _build_shards(
            folder / _SHARDS, builder, pieces, skip=on_error == "skip", n_jobs=n_jobs, bar=verbose
        )
        _say_of(shards)
        join_shards(folder, shards, builder)
        shutil.rmtree(folder / _SHARDS)
    except OSError as error:
        raise DatasetError(f"cannot write the graph store {str(folder)!r}: {error}") from error


def _is_finished(folder: Path, builder: GraphBuilder) -> bool:
    if not (folder / HEADER).exists():
        return False
    header = read_header(folder)
    _compare(folder, header, builder)
    return True


def _begin(folder: Path, builder: GraphBuilder) -> None:
    """Make the folders, or check that those of an earlier call are of the same settings."""
    shards = folder / _SHARDS
    settings = shards / _SETTINGS
    if settings.exists():
        try:
            found = json.loads(settings.read_text(encoding="utf-8"))
        except ValueError as error:
            raise DatasetError(f"{str(settings)!r} is damaged; remove {str(folder)!r}") from error
        _compare(folder, found, builder)
        return
    if folder.exists() and any(entry.name != _SHARDS for entry in folder.iterdir()):
        raise InvalidInputError(
            f"path={str(folder)!r} holds other files; give a new folder, or an empty one"
        )
    shards.mkdir(parents=True, exist_ok=True)
    write_text(settings, json.dumps(settings_of(builder)))


def _compare(folder: Path, found: dict[str, Any], builder: GraphBuilder) -> None:
    for name, wanted in settings_of(builder).items():
        if found.get(name) != wanted:
            raise InvalidInputError(
                f"the graph store {str(folder)!r} has {name}={found.get(name)!r}, asked for was "
                f"{name}={wanted!r}; give the same, or another path"
            )


def _build_shards(
    folder: Path,
    builder: GraphBuilder,
    pieces: Iterator[Sequence[Any]],
    *,
    skip: bool,
    n_jobs: int | None,
    bar: int,
) -> list[Shard]:
    """Build the shards that are missing, and describe all of them."""
    tasks = (
        delayed(_shard)(folder, builder, items, number, skip=skip)
        for number, items in enumerate(pieces)
    )
    # As a generator, so that a long input is drawn no faster than shards are built.
    parallel = Parallel(n_jobs=n_jobs, return_as="generator", pre_dispatch="2 * n_jobs")
    progress = tqdm(desc="graphs", unit="crystal", disable=not bar)
    with progress, explained_kill("; finished shards are kept"):
        shards = []
        for shard in parallel(tasks):
            shards.append(shard)
            progress.update(shard.n_structures)
    if not shards:
        raise InvalidInputError("X is empty, expected at least one structure.")
    return shards


def _shard(
    folder: Path, builder: GraphBuilder, items: Sequence[Any], number: int, *, skip: bool
) -> Shard:
    """Describe a shard; one that is not there is built."""
    mark = _mark(builder, items)
    shard = Shard.read(folder, number)
    start = number * CHUNK
    if shard is not None and shard.mark != mark:
        raise InvalidInputError(
            f"the graph store {str(folder.parent)!r} was begun from other crystals: those from "
            f"position {start} on differ; give the same X, or another path"
        )
    # What could not be used may have been repaired since.
    if shard is None or (shard.reasons and not skip):
        shard = write_shard(folder, number, builder, items, mark)
    if shard.reasons and not skip:
        raise InvalidStructureError(all_skipped([shard]), start + len(items))
    return shard


def _mark(builder: GraphBuilder, items: Sequence[Any]) -> str:
    """Fingerprint of the first and the last crystal and of the number of crystals."""
    if isinstance(items, CrystalTable):
        ends = items.take(np.array([0, len(items) - 1]))
        table = ends.with_properties(builder.site_properties)
    else:
        table = CrystalTable.of(
            [found for item in (items[0], items[-1]) for found in _sites(builder, item)]
        )
    keys = content_keys(table, builder.cutoff, builder.max_neighbors)
    return f"{len(items)}:" + ",".join(key.hex() for key in keys)


def _sites(builder: GraphBuilder, item: Any) -> list[Any]:  # noqa: ANN401 - whatever is handed in
    try:
        if isinstance(item, CrystalGraph):
            return [item.crystal]
        return [read_sites(item, builder.site_properties)]
    except UnusableCrystalError:
        return []


def _say_of(shards: Sequence[Shard]) -> None:
    """Warn of isolated sites; raise if no crystal can be used."""
    n_structures = sum(shard.n_structures for shard in shards)
    if not any(shard.counts["n_crystals"] for shard in shards):
        raise InvalidStructureError(all_skipped(shards), n_structures)
    isolated = [shard.start + index for shard in shards for index in shard.isolated]
    warn_isolated(isolated)
