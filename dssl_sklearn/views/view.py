"""Views: what the network sees of a crystal during pretraining."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dssl_sklearn._checks import check_choice, check_number, is_number
from dssl_sklearn.crystals.batch import CrystalBatch
from dssl_sklearn.exceptions import InvalidInputError
from dssl_sklearn.views.masking import mask_sites
from dssl_sklearn.views.perturbation import MOVE_KINDS, MoveKind, move_sites, strain_lattice


@dataclass(frozen=True)
class ViewSpec:
    """How a view departs from the clean crystal. Objectives with equal specs share one view.

    Parameters
    ----------
    mask_ratio : float, default=0
        Share of sites whose element is hidden.
    move : float, default=0
        Size of the random moves of the sites in angstrom.
    move_kind : {"gaussian", "sphere"}, default="gaussian"
        Normal in each coordinate with standard deviation `move`, or a random direction with
        length exactly `move` (as the paper has it).
    strain : float, default=0
        Standard deviation of the entries of a random symmetric strain of the lattice.
    draw : int, default=0
        Tells apart views that are drawn alike but independently.

    Raises
    ------
    InvalidInputError
        If a number is not finite or out of range, or `move_kind` is unknown.
    """

    mask_ratio: float = 0.0
    move: float = 0.0
    move_kind: MoveKind = "gaussian"
    strain: float = 0.0
    draw: int = 0

    def __post_init__(self) -> None:
        if not is_number(self.mask_ratio) or not 0 <= self.mask_ratio <= 1:
            raise InvalidInputError(f"mask_ratio must be between 0 and 1, got {self.mask_ratio!r}")
        check_number("move", self.move, zero=True)
        check_number("strain", self.strain, zero=True)
        check_choice("move_kind", self.move_kind, MOVE_KINDS)
        if self.move == 0:
            # Without moves their kind means nothing and must not keep equal views apart.
            object.__setattr__(self, "move_kind", MOVE_KINDS[0])


@dataclass(frozen=True, eq=False)
class View:
    """One perturbed copy of a batch.

    Attributes
    ----------
    batch : CrystalBatch
        The perturbed crystals; masked sites have atomic number 0, distances follow the moves.
    masked : Tensor of shape (n_masked,), int64
        Indices of the masked sites, empty where nothing is masked.
    """

    batch: CrystalBatch
    masked: Tensor


def draw_view(batch: CrystalBatch, spec: ViewSpec, generator: torch.Generator) -> View:
    """Draw one new view of a batch; the batch itself is left alone.

    Parameters
    ----------
    batch : CrystalBatch
        Clean crystals.
    spec : ViewSpec
        What to change.
    generator : torch.Generator
        Source of randomness, on the batch's device.

    Returns
    -------
    View
        The perturbed copy, without site and crystal properties, and the sites masked in it.
    """
    moved = batch
    # Half-precision products would round distances by some 0.01 angstrom.
    with torch.autocast(batch.positions.device.type, enabled=False):
        if spec.strain > 0:
            moved = strain_lattice(moved, spec.strain, generator)
        if spec.move > 0:
            moved = move_sites(moved, spec.move, generator, kind=spec.move_kind)
    if spec.mask_ratio > 0:
        moved, masked = mask_sites(moved, spec.mask_ratio, generator)
    else:
        masked = torch.empty(0, dtype=torch.long, device=batch.numbers.device)
    # Targets must not travel with what the network sees.
    return View(_without_targets(moved), masked)


def draw_views(
    batch: CrystalBatch, specs: Iterable[ViewSpec], generator: torch.Generator
) -> dict[ViewSpec, View]:
    """Draw one view for each different spec.

    Parameters
    ----------
    batch : CrystalBatch
        Clean crystals; not changed.
    specs : iterable of ViewSpec
        Wanted views; equal specs share one.
    generator : torch.Generator
        Source of randomness, on the batch's device; it serves the specs in their order.

    Returns
    -------
    dict of ViewSpec to View
        In the order in which the specs first appear.
    """
    return {spec: draw_view(batch, spec, generator) for spec in dict.fromkeys(specs)}


def stack_views(views: Sequence[CrystalBatch]) -> CrystalBatch:
    """Join batches into one larger batch, so that the backbone runs once.

    Parameters
    ----------
    views : sequence of CrystalBatch
        At least one. Views of one batch, so that the network's output splits into equal parts.

    Returns
    -------
    CrystalBatch
        The sites, edges and crystals of all views, one view after the other, without
        site and crystal properties.

    Raises
    ------
    InvalidInputError
        If there is no view.
    """
    if not views:
        raise InvalidInputError("views is empty; an objective must ask for at least one view")
    if len(views) == 1:
        return _without_targets(views[0])
    first_site = list(itertools.accumulate((v.n_sites for v in views), initial=0))
    first_crystal = list(itertools.accumulate((v.n_crystals for v in views), initial=0))
    return CrystalBatch(
        numbers=torch.cat([v.numbers for v in views]),
        positions=torch.cat([v.positions for v in views]),
        lattice=torch.cat([v.lattice for v in views]),
        batch=torch.cat([v.batch + k for v, k in zip(views, first_crystal, strict=False)]),
        edge_index=torch.cat(
            [v.edge_index + k for v, k in zip(views, first_site, strict=False)], 1
        ),
        edge_shift=torch.cat([v.edge_shift for v in views]),
        edge_distance=torch.cat([v.edge_distance for v in views]),
        n_crystals=first_crystal[-1],
    )


def _without_targets(batch: CrystalBatch) -> CrystalBatch:
    return replace(batch, site_properties={}, crystal_properties={})
