"""Many crystal graphs in contiguous arrays, from which batches are cut."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dssl_sklearn.crystals.graph import Crystal, CrystalGraph
from dssl_sklearn.crystals.properties import as_rows, joined
from dssl_sklearn.crystals.ragged import pointer, ranges

if TYPE_CHECKING:
    from dssl_sklearn.crystals.batch import CrystalBatch

#: Arrays without a structure of their own, which are joined end to end.
_FLAT = ("numbers", "frac_coords", "lattice", "source", "target", "shift", "distance")


@dataclass(frozen=True, eq=False)
class GraphDataset:
    """Graphs of one set of crystals; crystal ``i`` owns sites ``site_ptr[i]:site_ptr[i + 1]``.

    Behaves as a sequence of `CrystalGraph`. Coordinates are wrapped into the cell, so that float32
    keeps its precision wherever the user's coordinates lay.

    Attributes
    ----------
    numbers : ndarray of shape (n_sites,), uint8
        Atomic numbers.
    frac_coords : ndarray of shape (n_sites, 3), float32
        Fractional coordinates in [0, 1].
    lattice : ndarray of shape (n_crystals, 3, 3), float32
        Lattice vectors as rows, in angstrom.
    site_ptr, edge_ptr : ndarray of shape (n_crystals + 1,), int64
        Where the sites and edges of each crystal begin.
    source, target : ndarray of shape (n_edges,), integer
        Ends of the edges, counted within their crystal.
    shift : ndarray of shape (n_edges, 3), integer
        Periodic image of the source.
    distance : ndarray of shape (n_edges,), float32
        Length of the edges in angstrom.
    cutoff : float
        Largest edge length in angstrom that the graphs were built with.
    max_neighbors : int
        Neighbors per site that the graphs were built with.
    site_properties : mapping of str to ndarray of shape (n_sites,) or (n_sites, k), float32
        Per-site quantities, NaN where unknown.
    crystal_properties : mapping of str to ndarray of shape (n_crystals,) or (n_crystals, k)
        Quantities of the whole crystals as float32, NaN where unknown.
    """

    numbers: NDArray[np.uint8]
    frac_coords: NDArray[np.float32]
    lattice: NDArray[np.float32]
    site_ptr: NDArray[np.int64]
    edge_ptr: NDArray[np.int64]
    source: NDArray[np.integer]
    target: NDArray[np.integer]
    shift: NDArray[np.integer]
    distance: NDArray[np.float32]
    cutoff: float
    max_neighbors: int
    site_properties: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    crystal_properties: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    @classmethod
    def from_graphs(cls, graphs: Sequence[CrystalGraph]) -> GraphDataset:
        """Gather graphs of equal settings.

        Parameters
        ----------
        graphs : sequence of CrystalGraph
            At least one, all built with the same cutoff and number of neighbors.

        Returns
        -------
        GraphDataset
            Copy of their arrays, with the properties that all of them have.

        Raises
        ------
        InvalidInputError
            If a property is a vector of different lengths.
        """
        from dssl_sklearn.crystals.graph_table import GraphTable

        return GraphTable.of(graphs).dataset()

    @classmethod
    def concatenate(cls, parts: Sequence[GraphDataset]) -> GraphDataset:
        """Join data sets of equal settings, with the properties that all of them have."""
        if len(parts) == 1:
            return parts[0]
        first = parts[0]
        arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _FLAT}
        return cls(
            **arrays,
            site_ptr=pointer(np.concatenate([np.diff(part.site_ptr) for part in parts])),
            edge_ptr=pointer(np.concatenate([np.diff(part.edge_ptr) for part in parts])),
            cutoff=first.cutoff,
            max_neighbors=first.max_neighbors,
            site_properties=joined([part.site_properties for part in parts]),
            crystal_properties=joined([part.crystal_properties for part in parts]),
        )

    def __len__(self) -> int:
        return len(self.lattice)

    def __iter__(self) -> Iterator[CrystalGraph]:
        return (self[index] for index in range(len(self)))

    @overload
    def __getitem__(self, index: int) -> CrystalGraph: ...

    @overload
    def __getitem__(self, index: slice) -> list[CrystalGraph]: ...

    def __getitem__(self, index: int | slice) -> CrystalGraph | list[CrystalGraph]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} is out of range for {len(self)} crystals")
        index = index % len(self)
        sites = slice(self.site_ptr[index], self.site_ptr[index + 1])
        edges = slice(self.edge_ptr[index], self.edge_ptr[index + 1])
        crystal = Crystal(
            self.numbers[sites].astype(np.int64),
            self.frac_coords[sites].astype(np.float64),
            self.lattice[index].astype(np.float64),
            {k: v[sites].astype(np.float64) for k, v in self.site_properties.items()},
            {k: np.asarray(v[index], np.float64) for k, v in self.crystal_properties.items()},
        )
        return CrystalGraph(
            crystal=crystal,
            source=self.source[edges].astype(np.int32),
            target=self.target[edges].astype(np.int32),
            shift=self.shift[edges].astype(np.int32),
            distance=self.distance[edges],
            cutoff=self.cutoff,
            max_neighbors=self.max_neighbors,
        )

    @property
    def n_sites(self) -> NDArray[np.int64]:
        """Number of sites of each crystal."""
        return np.diff(self.site_ptr)

    @property
    def n_edges(self) -> NDArray[np.int64]:
        """Number of edges of each crystal."""
        return np.diff(self.edge_ptr)

    def with_properties(
        self,
        *,
        site: Mapping[str, ArrayLike] | None = None,
        crystal: Mapping[str, ArrayLike] | None = None,
    ) -> GraphDataset:
        """Attach quantities to sites and crystals, such as targets that a teacher computed.

        Parameters
        ----------
        site : mapping to array-like of shape (n_sites,) or (n_sites, k), default=None
            Values of all sites under their name, one crystal after the other, NaN where unknown.
        crystal : mapping to array-like of shape (n_crystals,) or (n_crystals, k), default=None
            Values of all crystals under their name, NaN where unknown.

        Returns
        -------
        GraphDataset
            With the graphs of this one, and these quantities beside its own or in their place.

        Raises
        ------
        InvalidInputError
            If an array does not hold numbers or has another shape.
        """
        sites = as_rows("site", site or {}, len(self.numbers))
        crystals = as_rows("crystal", crystal or {}, len(self))
        return self._changed(
            site_properties={**self.site_properties, **sites},
            crystal_properties={**self.crystal_properties, **crystals},
        )

    def take(self, indices: ArrayLike) -> GraphDataset:
        """Cut out crystals.

        Parameters
        ----------
        indices : array-like of int of shape (n_chosen,) or of bool of shape (n_crystals,)
            Crystals in the order wanted, or a mask; negative indices count from the end.

        Returns
        -------
        GraphDataset
            Copy of their graphs and properties.

        Raises
        ------
        IndexError
            If an index is out of range.
        """
        chosen = np.asarray(indices)
        index = np.arange(len(self))[chosen if chosen.size else chosen.astype(np.int64)]
        n_sites, n_edges, sites, edges = self._rows(index)
        return self._changed(
            numbers=self.numbers[sites],
            frac_coords=self.frac_coords[sites],
            lattice=self.lattice[index],
            site_ptr=pointer(n_sites),
            edge_ptr=pointer(n_edges),
            source=self.source[edges],
            target=self.target[edges],
            shift=self.shift[edges],
            distance=self.distance[edges],
            site_properties={k: v[sites] for k, v in self.site_properties.items()},
            crystal_properties={k: v[index] for k, v in self.crystal_properties.items()},
        )

    def batch(self, indices: ArrayLike) -> CrystalBatch:
        """Cut out a batch.

        Parameters
        ----------
        indices : array-like of int of shape (n_crystals,)
            Crystals in the order wanted.

        Returns
        -------
        CrystalBatch
            Tensors on the CPU.
        """
        import torch

        from dssl_sklearn.crystals.batch import CrystalBatch

        index = np.asarray(indices, dtype=np.int64)
        n_sites, n_edges, sites, edges = self._rows(index)
        crystal_of_site = np.repeat(np.arange(len(index)), n_sites)
        first_site = np.repeat(np.cumsum(n_sites) - n_sites, n_edges)
        lattice = self.lattice[index]
        # einsum over sites beats a batched product of 1 x 3 with 3 x 3 matrices, and take gathers
        # rows four times as fast as an index does.
        frac_coords, cells = self.frac_coords.take(sites, 0), lattice.take(crystal_of_site, 0)
        positions = np.einsum("ni,nij->nj", frac_coords, cells)
        edge_index = np.empty((2, len(edges)), np.int64)
        np.add(self.source.take(edges), first_site, out=edge_index[0])
        np.add(self.target.take(edges), first_site, out=edge_index[1])
        return CrystalBatch(
            numbers=torch.from_numpy(self.numbers[sites].astype(np.int64)),
            positions=torch.from_numpy(positions),
            lattice=torch.from_numpy(lattice),
            batch=torch.from_numpy(crystal_of_site),
            edge_index=torch.from_numpy(edge_index),
            edge_shift=torch.from_numpy(self.shift.take(edges, 0).astype(np.float32)),
            edge_distance=torch.from_numpy(self.distance.take(edges)),
            n_crystals=len(index),
            site_properties={
                name: torch.from_numpy(values[sites])
                for name, values in self.site_properties.items()
            },
            crystal_properties={
                name: torch.from_numpy(values[index])
                for name, values in self.crystal_properties.items()
            },
        )

    def _changed(self, **changes: Any) -> GraphDataset:  # noqa: ANN401 - fields of any type
        """Copy with other fields; no longer what a subclass may stand for."""
        same = {f.name: getattr(self, f.name) for f in fields(self)}
        return GraphDataset(**{**same, **changes})

    def _rows(self, index: NDArray[np.int64]) -> tuple[NDArray[np.int64], ...]:
        """Numbers of sites and of edges of some crystals, and the rows of both."""
        n_sites = self.site_ptr[index + 1] - self.site_ptr[index]
        n_edges = self.edge_ptr[index + 1] - self.edge_ptr[index]
        sites = ranges(self.site_ptr[index], n_sites)
        edges = ranges(self.edge_ptr[index], n_edges)
        return n_sites, n_edges, sites, edges
