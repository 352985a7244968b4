"""Crystal graphs in a folder on disk, for corpora larger than memory."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dssl_sklearn._checks import check_path
from dssl_sklearn.crystals.dataset import GraphDataset
from dssl_sklearn.crystals.elements import MAX_ATOMIC_NUMBER
from dssl_sklearn.crystals.graph import DEFAULT_CUTOFF, DEFAULT_MAX_NEIGHBORS
from dssl_sklearn.crystals.store_build import build_store
from dssl_sklearn.crystals.store_files import (
    LAYOUT,
    SKIPPED,
    damaged,
    file_checksum,
    open_array,
    property_file,
    read_header,
    read_regular,
    refuse_if_unread,
)

#: Crystals that are looked at together when a store is verified.
_BLOCK = 8192
_COUNTS = ("n_crystals", "n_sites", "n_edges", "n_structures")


class GraphStore(GraphDataset):
    """Graphs of a folder that `build` wrote, read from disk as they are needed.

    A `GraphDataset` whose arrays are mapped into memory: the operating system reads the pages that
    a batch touches and drops them when memory runs short. `fit`, `transform` and `predict` of all
    estimators take a store in place of a list of crystals. Copies and pickles hold the path only,
    so that worker processes open the store themselves.

    Parameters
    ----------
    path : str or path-like
        The folder.
    verify : bool, default=True
        Read all files once and compare them with their checksums and each other. Without it, only
        the header and the sizes of the files are checked.

    Attributes
    ----------
    path : Path
        The folder, absolute.
    positions : ndarray of shape (n_crystals,), int64
        Where the crystals stood in what was handed to `build`; targets of the crystals of a store
        that skipped some are ``y[store.positions]``.
    n_structures : int
        Length of what was handed to `build`.

    Raises
    ------
    DatasetError
        If the folder is no store, unfinished, damaged, or of a newer format.
    InvalidInputError
        If `path` is no path.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> from dssl_sklearn.crystals.store import GraphStore
    >>> from dssl_sklearn.datasets import load_elasticity
    >>> structures = load_elasticity(return_X_y=True)[0][:5]
    >>> store = GraphStore.build(mkdtemp() + "/elastic", structures)
    >>> len(store), store.cutoff
    (5, 8.0)
    """

    path: Path
    positions: NDArray[np.int64]
    n_structures: int

    def __init__(self, path: str | os.PathLike[str], *, verify: bool = True) -> None:
        folder = check_path("path", path).expanduser().absolute()
        header = _Header.read(folder)
        arrays: dict[str, Any] = header.arrays(folder)
        if verify:
            _verify(folder, header, arrays)
        _check_pointers(folder, arrays, header.counts)
        positions = arrays.pop("positions")
        properties: dict[str, Any] = {
            f"{level}_properties": {
                name: arrays.pop(property_file(level, k)) for k, name in enumerate(names)
            }
            for level, names in header.properties.items()
        }
        super().__init__(
            **arrays, **properties, cutoff=header.cutoff, max_neighbors=header.max_neighbors
        )
        own = {
            "path": folder,
            "positions": positions,
            "n_structures": header.counts["n_structures"],
            "_checksums": header.checksums,
        }
        for name, value in own.items():
            object.__setattr__(self, name, value)

    @classmethod
    def build(
        cls,
        path: str | os.PathLike[str],
        X: Iterable[Any],
        *,
        cutoff: float = DEFAULT_CUTOFF,
        max_neighbors: int = DEFAULT_MAX_NEIGHBORS,
        site_properties: Sequence[str] = (),
        on_error: Literal["raise", "skip"] = "raise",
        n_jobs: int | None = None,
        verbose: int = 0,
    ) -> GraphStore:
        """Build the graphs of crystals into a folder, or go on where an earlier call stopped.

        Graphs are written in shards of 1,024 crystals, each whole or not at all, and joined at the
        end. After an interruption the same call builds only what is missing. On a finished
        store it builds nothing and opens it.

        Parameters
        ----------
        path : str or path-like
            Folder of the store; made if missing. Its free space must hold the graphs twice.
        X : sequence or iterable of crystals
            Whatever `fit` takes, or any iterable such as a generator, of which no more than some
            shards are held at a time.
        cutoff : float, default=8.0
            Largest edge length in angstrom.
        max_neighbors : int, default=12
            Neighbors per site before completion of the last shell.
        site_properties : sequence of str, default=()
            Per-site quantities of the structures to keep.
        on_error : {"raise", "skip"}, default="raise"
            What to do about crystals that cannot be used: an error at the first shard that has
            some, or leave them out (`skipped` says which and why).
        n_jobs : int or None, default=None
            Processes, as in joblib.
        verbose : int, default=0
            Show a progress bar if above 0.

        Returns
        -------
        GraphStore
            The finished store.

        Raises
        ------
        InvalidInputError
            If an argument has an unusable value, the folder holds other files, or graphs of other
            settings or other crystals.
        InvalidStructureError
            If crystals cannot be used, with ``on_error="raise"``, or none can.
        DatasetError
            If the folder cannot be written to, or holds a damaged store.
        """
        folder = check_path("path", path).expanduser().absolute()
        build_store(
            folder,
            X,
            cutoff=cutoff,
            max_neighbors=max_neighbors,
            site_properties=site_properties,
            on_error=on_error,
            n_jobs=n_jobs,
            verbose=verbose,
        )
        return cls(folder)

    @cached_property
    def skipped(self) -> dict[int, str]:
        """Positions in what was handed to `build` that were left out, with the reasons."""
        try:
            data = json.loads(read_regular(self.path / SKIPPED, 2**34))
            return {int(index): str(reason) for index, reason in data.items()}
        except (OSError, ValueError, AttributeError, RecursionError) as error:
            refuse_if_unread(self.path, error)
            raise damaged(self.path, f"{SKIPPED}: {error}") from error

    def __repr__(self) -> str:
        counts = f"n_crystals={len(self)}, n_sites={len(self.numbers)}, n_edges={len(self.source)}"
        return f"{type(self).__name__}({str(self.path)!r}: {counts}, cutoff={self.cutoff})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (str(self.path), self._checksums)

    _checksums: dict[str, str]


def _reopen(path: str, checksums: dict[str, str]) -> GraphStore:
    """Open a store that another process has verified."""
    store = GraphStore(path, verify=False)
    if store._checksums != checksums:  # noqa: SLF001 - of the class above
        raise damaged(store.path, "it is another one than when this copy was made")
    return store


class _Header(NamedTuple):
    """Checked content of the header."""

    cutoff: float
    max_neighbors: int
    counts: dict[str, int]
    properties: dict[str, list[str]]
    widths: dict[str, list[list[int]]]
    checksums: dict[str, str]

    @classmethod
    def read(cls, folder: Path) -> _Header:
        header = read_header(folder)
        try:
            counts = {name: int(header[name]) for name in _COUNTS}
            if min(counts.values()) < 1 or max(counts.values()) >= 2**62:
                raise ValueError("counts are out of range")  # noqa: TRY301
            found = cls(
                float(header["cutoff"]),
                int(header["max_neighbors"]),
                counts,
                {level: [str(n) for n, _ in header[level]] for level in ("site", "crystal")},
                {
                    level: [[int(k) for k in width] for _, width in header[level]]
                    for level in ("site", "crystal")
                },
                {str(name): str(value) for name, value in header["checksums"].items()},
            )
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise damaged(folder, f"header.json: {error!r}") from error
        return found

    def arrays(self, folder: Path) -> dict[str, NDArray[Any]]:
        """Map all arrays, by the names of their files."""
        lengths = {**self.counts, "n_pointers": self.counts["n_crystals"] + 1}
        found = {
            name: open_array(folder, name, dtypes, (lengths[rows], *shape))
            for name, (dtypes, rows, shape) in LAYOUT.items()
        }
        for level, widths in self.widths.items():
            for k, width in enumerate(widths):
                name, shape = property_file(level, k), (lengths[f"n_{level}s"], *width)
                found[name] = open_array(folder, name, ("<f4",), shape)
        return found


def _check_pointers(
    folder: Path, arrays: Mapping[str, NDArray[Any]], counts: Mapping[str, int]
) -> None:
    """Make sure that no crystal reaches outside of the arrays."""
    for name, end in (("site_ptr", "n_sites"), ("edge_ptr", "n_edges")):
        pointer = arrays[name]
        ascending = all(
            (np.diff(pointer[start : start + _BLOCK + 1]) > 0).all()
            for start in range(0, len(pointer) - 1, _BLOCK)
        )
        if pointer[0] != 0 or pointer[-1] != counts[end] or not ascending:
            raise damaged(folder, f"{name}.npy does not divide {counts[end]} rows")


def _verify(folder: Path, header: _Header, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Compare all files with their checksums, and the edges with the sites."""
    files = [f"{name}.npy" for name in arrays] + [SKIPPED]
    for name in files:
        try:
            checksum = file_checksum(folder / name)
        except (OSError, ValueError) as error:
            refuse_if_unread(folder, error)
            raise damaged(folder, f"{name}: {error}") from error
        if header.checksums.get(name) != checksum:
            raise damaged(folder, f"{name} does not fit its checksum")
    _check_pointers(folder, arrays, header.counts)
    n_crystals = header.counts["n_crystals"]
    for start in range(0, n_crystals, _BLOCK):
        if not _is_sound(arrays, start, min(start + _BLOCK, n_crystals)):
            raise damaged(folder, f"impossible values among the crystals from {start} on")


def _is_sound(arrays: Mapping[str, NDArray[Any]], start: int, stop: int) -> bool:
    """Whether elements, coordinates and edges of some crystals can be those of crystals."""
    sites = slice(arrays["site_ptr"][start], arrays["site_ptr"][stop])
    edges = slice(arrays["edge_ptr"][start], arrays["edge_ptr"][stop])
    n_sites = np.diff(arrays["site_ptr"][start : stop + 1])
    of_edge = np.repeat(n_sites, np.diff(arrays["edge_ptr"][start : stop + 1]))
    numbers, distance = arrays["numbers"][sites], arrays["distance"][edges]
    ends = (arrays["source"][edges], arrays["target"][edges])
    return bool(
        numbers.min() >= 1
        and numbers.max() <= MAX_ATOMIC_NUMBER
        and np.isfinite(arrays["frac_coords"][sites]).all()
        and np.isfinite(arrays["lattice"][start:stop]).all()
        and np.isfinite(distance).all()
        and distance.min() > 0
        and all(end.min() >= 0 and (end < of_edge).all() for end in ends)
    )
