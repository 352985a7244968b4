"""Many crystal graphs in contiguous arrays, from which batches are cut."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dssl_sklearn.crystals.graph import Crystal, CrystalGraph

if TYPE_CHECKING:
    from dssl_sklearn.crystals.batch import CrystalBatch


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
    site_properties : dict of str to ndarray of shape (n_sites,), float32
        Per-site quantities.
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
            Copy of their arrays.
        """
        crystals = [graph.crystal for graph in graphs]
        n_sites = np.array([len(crystal) for crystal in crystals])
        n_edges = np.array([graph.n_edges for graph in graphs])
        frac = np.concatenate([crystal.frac_coords for crystal in crystals])
        wrap = np.floor(frac).astype(np.int64)
        source = np.concatenate([graph.source for graph in graphs])
        target = np.concatenate([graph.target for graph in graphs])
        shift = np.concatenate([graph.shift for graph in graphs]).astype(np.int64)
        if wrap.any():
            start = np.repeat(np.cumsum(n_sites) - n_sites, n_edges)
            shift += wrap[start + source] - wrap[start + target]
        names = sorted(set.intersection(*(set(c.site_properties) for c in crystals)))
        return cls(
            numbers=np.concatenate([c.numbers for c in crystals]).astype(np.uint8),
            frac_coords=(frac - wrap).astype(np.float32),
            lattice=np.stack([c.lattice for c in crystals]).astype(np.float32),
            site_ptr=_pointer(n_sites),
            edge_ptr=_pointer(n_edges),
            source=_narrow(source),
            target=_narrow(target),
            shift=_narrow(shift),
            distance=np.concatenate([graph.distance for graph in graphs]),
            cutoff=graphs[0].cutoff,
            max_neighbors=graphs[0].max_neighbors,
            site_properties={
                name: np.concatenate([c.site_properties[name] for c in crystals]).astype(np.float32)
                for name in names
            },
        )

    @classmethod
    def concatenate(cls, parts: Sequence[GraphDataset]) -> GraphDataset:
        """Join data sets of equal settings."""
        if len(parts) == 1:
            return parts[0]
        first = parts[0]
        joined = {
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in (
                "numbers",
                "frac_coords",
                "lattice",
                "source",
                "target",
                "shift",
                "distance",
            )
        }
        return cls(
            **joined,
            site_ptr=_pointer(np.concatenate([np.diff(part.site_ptr) for part in parts])),
            edge_ptr=_pointer(np.concatenate([np.diff(part.edge_ptr) for part in parts])),
            cutoff=first.cutoff,
            max_neighbors=first.max_neighbors,
            site_properties={
                name: np.concatenate([part.site_properties[name] for part in parts])
                for name in first.site_properties
                if all(name in part.site_properties for part in parts)
            },
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
        n_sites = self.site_ptr[index + 1] - self.site_ptr[index]
        n_edges = self.edge_ptr[index + 1] - self.edge_ptr[index]
        sites = _ranges(self.site_ptr[index], n_sites)
        edges = _ranges(self.edge_ptr[index], n_edges)
        crystal_of_site = np.repeat(np.arange(len(index)), n_sites)
        first_site = np.repeat(np.cumsum(n_sites) - n_sites, n_edges)
        lattice = self.lattice[index]
        # einsum over sites beats a batched product of 1 x 3 with 3 x 3 matrices.
        positions = np.einsum("ni,nij->nj", self.frac_coords[sites], lattice[crystal_of_site])
        edge_index = np.stack([self.source[edges] + first_site, self.target[edges] + first_site])
        return CrystalBatch(
            numbers=torch.from_numpy(self.numbers[sites].astype(np.int64)),
            positions=torch.from_numpy(positions),
            lattice=torch.from_numpy(lattice),
            batch=torch.from_numpy(crystal_of_site),
            edge_index=torch.from_numpy(edge_index),
            edge_shift=torch.from_numpy(self.shift[edges].astype(np.float32)),
            edge_distance=torch.from_numpy(self.distance[edges]),
            n_crystals=len(index),
            site_properties={
                name: torch.from_numpy(values[sites])
                for name, values in self.site_properties.items()
            },
        )


def _pointer(counts: NDArray[np.integer]) -> NDArray[np.int64]:
    return np.concatenate(([0], np.cumsum(counts, dtype=np.int64)))


def _narrow(values: NDArray[np.integer]) -> NDArray[np.integer]:
    """Smallest signed type that holds the values: edges dominate the memory of a large corpus."""
    if not values.size:
        return values.astype(np.int8)
    peak = max(abs(int(values.min())), abs(int(values.max())))
    return values.astype(np.min_scalar_type(-peak - 1))


def _ranges(start: NDArray[np.int64], count: NDArray[np.int64]) -> NDArray[np.int64]:
    """Concatenated ``arange(start[i], start[i] + count[i])``."""
    end = np.cumsum(count)
    offsets: NDArray[np.int64] = np.repeat(start - (end - count), count)
    return np.arange(end[-1]) + offsets
