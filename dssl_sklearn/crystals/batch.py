"""Several crystal graphs as one set of tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class CrystalBatch:
    """A batch of crystal graphs; the field names are torch-geometric's where it has one.

    Attributes
    ----------
    numbers : Tensor of shape (n_sites,), int64
        Atomic numbers; 0 stands for a masked site.
    positions : Tensor of shape (n_sites, 3), float
        Cartesian coordinates in angstrom.
    lattice : Tensor of shape (n_crystals, 3, 3), float
        Lattice vectors as rows, in angstrom.
    batch : Tensor of shape (n_sites,), int64
        Crystal of each site, ascending.
    edge_index : Tensor of shape (2, n_edges), int64
        Row 0 the neighbor (source), row 1 the center (target) of each edge; sorted by row 1.
    edge_shift : Tensor of shape (n_edges, 3), float
        Periodic image of the source, in lattice vectors.
    edge_distance : Tensor of shape (n_edges,), float
        Length of each edge in angstrom.
    n_crystals : int
        Number of crystals (torch-geometric's ``num_graphs``).
    site_properties : mapping of str to Tensor of shape (n_sites,) or (n_sites, k)
        Per-site targets, NaN where unknown.
    crystal_properties : mapping of str to Tensor of shape (n_crystals,) or (n_crystals, k)
        Targets of the whole crystals, NaN where unknown.
    """

    numbers: Tensor
    positions: Tensor
    lattice: Tensor
    batch: Tensor
    edge_index: Tensor
    edge_shift: Tensor
    edge_distance: Tensor
    n_crystals: int
    site_properties: Mapping[str, Tensor] = field(default_factory=dict)
    crystal_properties: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        # The training loop weighs a batch by its length.
        return self.n_crystals

    @property
    def n_sites(self) -> int:
        """Number of sites of all crystals together."""
        return self.numbers.shape[0]

    def to(self, *args: Any, **kwargs: Any) -> CrystalBatch:  # noqa: ANN401 - same as Tensor.to
        """Move to a device and cast the floating-point fields; arguments as of ``Tensor.to``."""
        no_cast = [a for a in args if not isinstance(a, torch.dtype)]
        no_cast_kwargs = {k: v for k, v in kwargs.items() if k != "dtype"}

        def move(value: Tensor) -> Tensor:
            if value.is_floating_point():
                return value.to(*args, **kwargs)
            return value.to(*no_cast, **no_cast_kwargs)

        moved: dict[str, Any] = {}
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, Tensor):
                moved[f.name] = move(value)
            elif isinstance(value, Mapping):
                moved[f.name] = {k: move(v) for k, v in value.items()}
        return replace(self, **moved)

    def crystals(self, first: int, last: int) -> CrystalBatch:
        """Cut out consecutive crystals.

        Parameters
        ----------
        first, last : int
            First crystal, and the one behind the last.

        Returns
        -------
        CrystalBatch
            Crystals ``first`` to ``last - 1``; views of the same memory but for the indices.
        """
        ends = torch.tensor([first, last], device=self.batch.device)
        site, last_site = torch.searchsorted(self.batch, ends).tolist()
        # Edges are sorted by their center.
        ends = torch.tensor([site, last_site], device=self.batch.device)
        edge, last_edge = torch.searchsorted(self.edge_index[1].contiguous(), ends).tolist()
        sites, edges = slice(site, last_site), slice(edge, last_edge)
        return CrystalBatch(
            numbers=self.numbers[sites],
            positions=self.positions[sites],
            lattice=self.lattice[first:last],
            batch=self.batch[sites] - first,
            edge_index=self.edge_index[:, edges] - site,
            edge_shift=self.edge_shift[edges],
            edge_distance=self.edge_distance[edges],
            n_crystals=last - first,
            site_properties={k: v[sites] for k, v in self.site_properties.items()},
            crystal_properties={k: v[first:last] for k, v in self.crystal_properties.items()},
        )

    def edge_vectors(self) -> Tensor:
        """Vectors from target to source, shape (n_edges, 3), from positions and images."""
        source, target = self.edge_index
        offset = row_times_matrix(self.edge_shift, self.lattice[self.batch[target]])
        # In this order the edge back has exactly the opposite vector, hence the same length.
        return self.positions[source] - self.positions[target] + offset


def row_times_matrix(rows: Tensor, matrices: Tensor) -> Tensor:
    """Multiply rows (..., 3) with matrices (..., 3, 3) in full precision.

    Matrix products may run in TF32 or, under autocast, in half precision, which is off by 0.01
    angstrom in a common cell.
    """
    x, y, z = rows.unsqueeze(-1).unbind(-2)
    return x * matrices[..., 0, :] + y * matrices[..., 1, :] + z * matrices[..., 2, :]
