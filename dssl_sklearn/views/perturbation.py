"""Move sites and strain lattices; distances are recomputed on the fixed edges."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from dssl_sklearn.crystals.batch import CrystalBatch, row_times_matrix

#: Distributions of the random moves.
MoveKind: TypeAlias = Literal["gaussian", "sphere"]
MOVE_KINDS: tuple[MoveKind, ...] = get_args(MoveKind)

#: Keeps the square root differentiable and the direction defined for coinciding sites.
_TINY = 1e-12


def _distances(vectors: Tensor) -> Tensor:
    return vectors.square().sum(-1).clamp_min(_TINY).sqrt()


def move_sites(
    batch: CrystalBatch,
    size: float,
    generator: torch.Generator,
    kind: MoveKind = "gaussian",
) -> CrystalBatch:
    """Move every site at random.

    Parameters
    ----------
    batch : CrystalBatch
        Crystals; not changed.
    size : float
        Angstrom: standard deviation per coordinate ("gaussian") or length ("sphere").
    generator : torch.Generator
        Source of randomness, on the batch's device.
    kind : {"gaussian", "sphere"}, default="gaussian"
        Distribution of the moves.

    Returns
    -------
    CrystalBatch
        Same edges, new positions and distances.
    """
    positions = batch.positions
    moves = torch.randn(
        positions.shape, generator=generator, dtype=positions.dtype, device=positions.device
    )
    if kind == "sphere":
        moves = moves / _distances(moves)[:, None]
    moved = replace(batch, positions=positions + size * moves)
    return replace(moved, edge_distance=_distances(moved.edge_vectors()))


def strain_lattice(batch: CrystalBatch, size: float, generator: torch.Generator) -> CrystalBatch:
    """Strain every lattice, and the sites with it, by a random symmetric strain.

    Parameters
    ----------
    batch : CrystalBatch
        Crystals; not changed.
    size : float
        Standard deviation of the six independent entries of the strain tensor.
    generator : torch.Generator
        Source of randomness, on the batch's device.

    Returns
    -------
    CrystalBatch
        Same edges, new lattices, positions and distances.
    """
    lattice = batch.lattice
    noise = torch.randn(
        lattice.shape, generator=generator, dtype=lattice.dtype, device=lattice.device
    )
    upper = noise.triu() * size
    strain = upper + upper.triu(1).transpose(1, 2)
    deform = torch.eye(3, dtype=lattice.dtype, device=lattice.device) + strain
    positions = row_times_matrix(batch.positions, deform[batch.batch])
    strained_lattice = row_times_matrix(lattice, deform.unsqueeze(1))
    strained = replace(batch, lattice=strained_lattice, positions=positions)
    return replace(strained, edge_distance=_distances(strained.edge_vectors()))
