"""Shards of a graph store that is being built, and how they become one set of arrays."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from dssl_sklearn._atomic import atomic_path
from dssl_sklearn.crystals.build_part import BuildPart
from dssl_sklearn.crystals.builder import CHUNK, GraphBuilder, build_slice
from dssl_sklearn.crystals.dataset import GraphDataset
from dssl_sklearn.crystals.store_files import (
    LAYOUT,
    SKIPPED,
    hashed_file,
    property_file,
    write_header,
)
from dssl_sklearn.exceptions import DatasetError, InvalidInputError

_ABOUT = "about"
_LEVELS = ("site", "crystal")


@dataclass(frozen=True)
class Shard:
    """What is to be known of a shard without reading its graphs.

    Attributes
    ----------
    path : str
        Its npz file.
    start : int
        Position of its first crystal in the input.
    n_structures : int
        Crystals of the input that it stands for.
    mark : str
        Fingerprint by which a rerun knows the crystals again.
    reasons : dict of int to str
        Positions, counted from `start`, of crystals that cannot be used.
    isolated : list of int
        Positions, counted from `start`, for which the cutoff was widened.
    counts : dict of str to int
        Usable crystals, their sites and edges.
    dtypes : dict of str to str
        Types of the arrays.
    widths : dict of str to dict of str to list of int
        Shapes of the rows of each quantity, by level and name.
    """

    path: str
    start: int
    n_structures: int
    mark: str
    reasons: dict[int, str]
    isolated: list[int]
    counts: dict[str, int]
    dtypes: dict[str, str]
    widths: dict[str, dict[str, list[int]]]

    @classmethod
    def read(cls, folder: Path, number: int) -> Self | None:
        """Read the description of a shard, None if there is no whole one."""
        path = _path(folder, number)
        try:
            with np.load(path, allow_pickle=False) as archive:
                about = json.loads(archive[_ABOUT].tobytes())
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            return None
        reasons = {int(index): reason for index, reason in about.pop("reasons").items()}
        return cls(**{**about, "reasons": reasons, "path": str(path)})

    def array(self, name: str) -> NDArray[Any]:
        """Read one array.

        Raises
        ------
        DatasetError
            If the shard is damaged; it is removed, so that a rerun builds it anew.
        """
        try:
            with np.load(self.path, allow_pickle=False) as archive:
                found: NDArray[Any] = archive[name]
        except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            Path(self.path).unlink(missing_ok=True)
            raise DatasetError(
                f"the shard {self.path!r} is damaged ({error}) and was removed; call "
                "GraphStore.build again"
            ) from error
        return found


def settings_of(builder: GraphBuilder) -> dict[str, Any]:
    """Settings of the graphs, as JSON can hold them."""
    return {
        "cutoff": builder.cutoff,
        "max_neighbors": builder.max_neighbors,
        "site_properties": list(builder.site_properties),
    }


def _path(folder: Path, number: int) -> Path:
    return folder / f"{number:08d}.npz"


def write_shard(
    folder: Path, number: int, builder: GraphBuilder, items: Sequence[Any], mark: str
) -> Shard:
    """Build the graphs of at most `CHUNK` crystals and write them, all or nothing."""
    if isinstance(items, GraphDataset):
        part = BuildPart(dataset=builder.dataset(items))
    else:
        part = build_slice(builder, items, as_dataset=True)
    arrays: dict[str, NDArray[Any]] = {}
    if part.dataset is not None:
        rows = np.setdiff1d(np.arange(len(items)), np.fromiter(part.reasons, np.int64))
        arrays = {**_arrays(part.dataset), "positions": rows + number * CHUNK}
    path = _path(folder, number)
    shard = Shard(
        str(path),
        number * CHUNK,
        len(items),
        mark,
        dict(sorted(part.reasons.items())),
        part.isolated,
        {
            "n_crystals": len(arrays.get("lattice", ())),
            "n_sites": len(arrays.get("numbers", ())),
            "n_edges": len(arrays.get("source", ())),
        },
        {name: values.dtype.str for name, values in arrays.items()},
        {
            level: {name: list(values.shape[1:]) for name, values in _of(part.dataset, level)}
            for level in _LEVELS
        },
    )
    about = np.frombuffer(json.dumps(asdict(shard)).encode(), dtype=np.uint8)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **{_ABOUT: about, **arrays})  # type: ignore[arg-type]
    return shard


def _of(dataset: GraphDataset | None, level: str) -> Iterable[tuple[str, NDArray[np.float32]]]:
    return [] if dataset is None else getattr(dataset, f"{level}_properties").items()


def _arrays(dataset: GraphDataset) -> dict[str, NDArray[Any]]:
    """Arrays of a shard by the names they have there."""
    arrays = {name: getattr(dataset, name) for name in LAYOUT if name != "positions"}
    for level in _LEVELS:
        arrays |= {f"{level}/{name}": values for name, values in _of(dataset, level)}
    return arrays


def all_skipped(shards: Sequence[Shard]) -> dict[int, str]:
    """Positions in the whole input that cannot be used, with the reasons."""
    return {shard.start + i: reason for shard in shards for i, reason in shard.reasons.items()}


def join_shards(folder: Path, shards: Sequence[Shard], builder: GraphBuilder) -> None:
    """Write the arrays of all shards one after the other, and the header last."""
    used = [shard for shard in shards if shard.counts["n_crystals"]]
    counts = {name: sum(shard.counts[name] for shard in used) for name in used[0].counts}
    lengths = {**counts, "n_pointers": counts["n_crystals"] + 1}
    checksums = {}
    for name, (dtypes, rows, shape) in LAYOUT.items():
        dtype = np.result_type(*(shard.dtypes[name] for shard in used)).newbyteorder("<").str
        if dtype not in dtypes:
            raise DatasetError(f"{name} came as {dtype}, expected one of {dtypes}")
        parts = _pointers(used, name) if name.endswith("_ptr") else (s.array(name) for s in used)
        checksums[f"{name}.npy"] = _write(folder, name, dtype, (lengths[rows], *shape), parts)
    about: dict[str, list[Any]] = {}
    for level in _LEVELS:
        shared = _shared(used, level)
        about[level] = [[name, width] for name, width in shared.items()]
        for k, (name, width) in enumerate(shared.items()):
            stored, shape = property_file(level, k), (lengths[f"n_{level}s"], *width)
            parts = (shard.array(f"{level}/{name}") for shard in used)
            checksums[f"{stored}.npy"] = _write(folder, stored, "<f4", shape, parts)
    with hashed_file(folder / SKIPPED) as file:
        file.write(json.dumps(all_skipped(shards)).encode())
    checksums[SKIPPED] = file.checksum()
    header = {
        **settings_of(builder),
        "n_structures": sum(shard.n_structures for shard in shards),
        "checksums": checksums,
    }
    write_header(folder, {**header, **counts, **about})


def _write(
    folder: Path, name: str, dtype: str, shape: tuple[int, ...], parts: Iterable[NDArray[Any]]
) -> str:
    with hashed_file(folder / f"{name}.npy") as file:
        file.begin_array(dtype, shape)
        for part in parts:
            file.write_rows(part, dtype)
    return file.checksum()


def _pointers(shards: Sequence[Shard], name: str) -> Iterator[NDArray[np.int64]]:
    """Pointers of the shards, each counted from the beginning of the store."""
    end = 0
    yield np.zeros(1, dtype=np.int64)
    for shard in shards:
        pointer = shard.array(name)[1:] + end
        end = int(pointer[-1])
        yield pointer


def _shared(shards: Sequence[Shard], level: str) -> dict[str, list[int]]:
    """Quantities that all shards have, with the shapes of their rows."""
    names = [n for n in shards[0].widths[level] if all(n in s.widths[level] for s in shards)]
    for name in names:
        widths = {tuple(shard.widths[level][name]) for shard in shards}
        if len(widths) > 1:
            raise InvalidInputError(
                f"property {name!r} has rows of different shapes {sorted(widths)}; give it the "
                "same one in all crystals"
            )
    return {name: shards[0].widths[level][name] for name in names}
