"""Many crystals in contiguous arrays of full precision."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, NamedTuple, Protocol, Self, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from dssl_sklearn.crystals.graph import Crystal
from dssl_sklearn.crystals.properties import joined, one_row
from dssl_sklearn.crystals.ragged import pointer, ranges


class Sites(NamedTuple):
    """One crystal on its way into a table: values site by site, so far without arrays of their own.

    Attributes
    ----------
    numbers : sequence of int of length n_sites
        Atomic numbers.
    frac_coords : sequence of ndarray of shape (3,), of length n_sites
        Fractional coordinates.
    lattice : ndarray of shape (3, 3)
        Lattice vectors as rows, in angstrom.
    site_properties : mapping of str to ndarray of shape (n_sites,)
        Per-site quantities.
    crystal_properties : mapping of str to ndarray
        Quantities of the whole crystal.
    """

    numbers: Sequence[int] | NDArray[np.int64]
    frac_coords: Sequence[NDArray[np.float64]] | NDArray[np.float64]
    lattice: NDArray[np.float64]
    site_properties: Mapping[str, NDArray[np.float64]] = {}
    crystal_properties: Mapping[str, NDArray[np.float64]] = {}


@dataclass(frozen=True, eq=False)
class CrystalTable:
    """A sequence of crystals as flat arrays; number ``i`` owns the sites ``ptr[i]:ptr[i + 1]``.

    Attributes
    ----------
    numbers : ndarray of shape (n_sites,), int64
        Atomic numbers.
    frac_coords : ndarray of shape (n_sites, 3), float64
        Fractional coordinates as given.
    lattice : ndarray of shape (n_crystals, 3, 3), float64
        Lattice vectors as rows, in angstrom.
    ptr : ndarray of shape (n_crystals + 1,), int64
        Where the sites of each crystal begin.
    site_properties : mapping of str to ndarray of shape (n_sites,) or (n_sites, k), float64
        Per-site quantities, NaN where unknown.
    crystal_properties : mapping of str to ndarray of shape (n_crystals,) or (n_crystals, k)
        Quantities of the whole crystals as float64, NaN where unknown.
    """

    numbers: NDArray[np.int64]
    frac_coords: NDArray[np.float64]
    lattice: NDArray[np.float64]
    ptr: NDArray[np.int64]
    site_properties: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    crystal_properties: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    @classmethod
    def of(cls, crystals: Sequence[Crystal | Sites]) -> CrystalTable:
        """Copy crystals into one table, with the properties that all of them have."""
        if not crystals:
            return cls(
                np.empty(0, dtype=np.int64),
                np.empty((0, 3)),
                np.empty((0, 3, 3)),
                np.zeros(1, dtype=np.int64),
            )
        return cls(
            np.fromiter(chain.from_iterable([c.numbers for c in crystals]), dtype=np.int64),
            # One array of all sites is made faster than one for each crystal.
            np.array(
                list(chain.from_iterable([c.frac_coords for c in crystals])), dtype=np.float64
            ),
            np.array([c.lattice for c in crystals], dtype=np.float64, order="C"),
            pointer([len(c.numbers) for c in crystals]),
            joined([c.site_properties for c in crystals], np.float64),
            joined([one_row(c.crystal_properties) for c in crystals], np.float64)
            if crystals[0].crystal_properties
            else {},
        )

    def __len__(self) -> int:
        return len(self.lattice)

    def __iter__(self) -> Iterator[Crystal]:
        return map(self.__getitem__, range(len(self)))

    @property
    def n_sites(self) -> NDArray[np.int64]:
        """Number of sites of each crystal."""
        return np.diff(self.ptr)

    def __getitem__(self, index: int) -> Crystal:
        """One crystal, as views of the table."""
        index = range(len(self))[index]  # counts from the end, and ends
        sites = slice(self.ptr[index], self.ptr[index + 1])
        return Crystal(
            self.numbers[sites],
            self.frac_coords[sites],
            self.lattice[index],
            {name: values[sites] for name, values in self.site_properties.items()},
            {name: np.asarray(values[index]) for name, values in self.crystal_properties.items()},
        )

    def crystal_table(self, start: int, stop: int) -> CrystalTable:
        """The crystals from `start` to before `stop`, as views of the table."""
        sites = slice(self.ptr[start], self.ptr[stop])
        return CrystalTable(
            self.numbers[sites],
            self.frac_coords[sites],
            self.lattice[start:stop],
            self.ptr[start : stop + 1] - self.ptr[start],
            {name: values[sites] for name, values in self.site_properties.items()},
            {name: values[start:stop] for name, values in self.crystal_properties.items()},
        )

    def with_properties(self, names: Sequence[str]) -> CrystalTable:
        """These crystals with exactly the named site properties, NaN where unknown."""
        unknown = np.full(len(self.numbers), np.nan)
        properties = {name: self.site_properties.get(name, unknown) for name in names}
        return replace(self, site_properties=properties)

    def take(self, rows: NDArray[np.int64]) -> CrystalTable:
        """Copy of some crystals, in the order of `rows`; the table itself if that is all."""
        if is_all(rows, len(self)):
            return self
        n_sites = self.n_sites[rows]
        sites = ranges(self.ptr[rows], n_sites)
        return CrystalTable(
            self.numbers[sites],
            self.frac_coords[sites],
            self.lattice[rows],
            pointer(n_sites),
            {name: values[sites] for name, values in self.site_properties.items()},
            {name: values[rows] for name, values in self.crystal_properties.items()},
        )

    @classmethod
    def concatenate(cls, tables: Sequence[CrystalTable]) -> CrystalTable:
        """Join tables, with the properties that all of them have."""
        return cls(
            np.concatenate([table.numbers for table in tables]),
            np.concatenate([table.frac_coords for table in tables]),
            np.concatenate([table.lattice for table in tables]),
            pointer(np.concatenate([table.n_sites for table in tables])),
            joined([table.site_properties for table in tables], np.float64),
            joined([table.crystal_properties for table in tables], np.float64),
        )

    def arrays(self) -> list[NDArray[np.generic]]:
        """All arrays of the table."""
        flat = (self.numbers, self.frac_coords, self.lattice, self.ptr)
        return [*flat, *self.site_properties.values(), *self.crystal_properties.values()]


@runtime_checkable
class Tabular(Protocol):
    """A collection that hands out its crystals as tables."""

    def crystal_table(self, start: int, stop: int) -> CrystalTable:
        """The crystals from `start` to before `stop`."""
        ...


def is_all(rows: NDArray[np.int64], length: int) -> bool:
    """Whether the rows are all of a table, in order."""
    return len(rows) == length and bool((rows == np.arange(length)).all())


class _Rows(Protocol):
    """A table of any kind, here of crystals or of graphs."""

    def __len__(self) -> int: ...

    def take(self, rows: NDArray[np.int64]) -> Self: ...


_Table = TypeVar("_Table", bound=_Rows)


def without(
    table: _Table, of_row: Sequence[Any], wrong: Container[int]
) -> tuple[_Table, list[Any]]:
    """The rows of a table that are not wrong, and what stands for each of them."""
    rows = [row for row in range(len(table)) if row not in wrong]
    return table.take(np.array(rows, dtype=np.int64)), [of_row[row] for row in rows]
