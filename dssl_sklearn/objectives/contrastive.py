"""Two random views of a crystal should have the same embedding, other crystals another one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from dssl_sklearn._checks import check_choice, check_integer, check_number
from dssl_sklearn.crystals.batch import CrystalBatch
from dssl_sklearn.exceptions import InvalidInputError
from dssl_sklearn.models.segments import full_precision
from dssl_sklearn.objectives._layers import projector
from dssl_sklearn.objectives.base import EncodedView, Objective, ObjectiveHead, Outcome
from dssl_sklearn.objectives.losses import barlow_loss, cosine_loss, ntxent_loss, vicreg_loss
from dssl_sklearn.views.perturbation import MoveKind
from dssl_sklearn.views.view import ViewSpec

#: Names of the losses.
ContrastiveLoss: TypeAlias = Literal["cosine", "ntxent", "barlow", "vicreg"]
CONTRASTIVE_LOSSES: tuple[ContrastiveLoss, ...] = get_args(ContrastiveLoss)


@dataclass(frozen=True)
class Contrastive(Objective):
    """Agreement of two independently perturbed views of each crystal.

    Parameters
    ----------
    weight : float, default=1.0
        Weight in the sum of the objectives.
    loss : {"cosine", "ntxent", "barlow", "vicreg"}, default="barlow"
        Loss on the projected embeddings. ``"cosine"`` is the paper's and only pulls views
        together, which lets the embedding collapse; the others hold its rank up.
    move : float, default=0.2
        Size of the random moves of the sites in angstrom.
    move_kind : {"gaussian", "sphere"}, default="gaussian"
        Normal in each coordinate, or a random direction of length `move` (as the paper has it).
    mask_ratio : float, default=0.0
        Share of sites whose element is hidden, in each view anew.
    strain : float, default=0.0
        Standard deviation of the entries of a random strain of the lattice.
    projector : tuple of int, default=(256, 256)
        Widths of the layers between crystal embedding and loss, dropped after pretraining; empty
        for none.
    temperature : float, default=0.1
        Temperature of ``"ntxent"``.
    redundancy : float, default=0.005
        Weight of the decorrelation in ``"barlow"``.

    Raises
    ------
    InvalidInputError
        If a setting is unknown or out of range, or nothing in it makes the views differ.
    """

    name: ClassVar[str] = "contrastive"

    loss: ContrastiveLoss = "barlow"
    move: float = 0.2
    move_kind: MoveKind = "gaussian"
    mask_ratio: float = 0.0
    strain: float = 0.0
    projector: tuple[int, ...] = (256, 256)
    temperature: float = 0.1
    redundancy: float = 0.005

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("loss", self.loss, CONTRASTIVE_LOSSES)
        check_number("temperature", self.temperature)
        check_number("redundancy", self.redundancy, zero=True)
        for width in self.projector:
            check_integer("projector", width)
        # A list would make the configuration unhashable.
        object.__setattr__(self, "projector", tuple(int(width) for width in self.projector))
        if self.move == self.mask_ratio == self.strain == 0:
            raise InvalidInputError(
                "move, mask_ratio and strain are all 0, so both views of a crystal are the same; "
                "set at least one of them"
            )

    def specs(self) -> tuple[ViewSpec, ...]:
        """Two views, drawn alike and independently."""
        first, second = (
            ViewSpec(self.mask_ratio, self.move, self.move_kind, self.strain, draw)
            for draw in (0, 1)
        )
        return first, second

    def make_head(self, site_width: int, crystal_width: int) -> ObjectiveHead:
        """Build the projector."""
        return ContrastiveHead(self, crystal_width)


class ContrastiveHead(ObjectiveHead):
    """Projector of the crystal embeddings, and the loss between the two views.

    Parameters
    ----------
    objective : Contrastive
        Settings.
    crystal_width : int
        Width of the crystal embeddings.
    """

    def __init__(self, objective: Contrastive, crystal_width: int) -> None:
        super().__init__()
        self.objective = objective
        self.projector = projector(crystal_width, objective.projector)

    def forward(self, encoded: Sequence[EncodedView], clean: CrystalBatch) -> Outcome:
        """Compute the loss, and the mean cosine between the two views of a crystal."""
        # The views pass one after the other, so that neither enters the other's normalization.
        first, second = (full_precision(self.projector(view.crystals)) for view in encoded)
        # Products of many features lose too much in half precision.
        with torch.autocast(first.device.type, enabled=False):
            loss = self._loss(first, second)
        cosine = F.cosine_similarity(first.detach(), second.detach(), dim=-1).mean()
        return Outcome(loss, {"cosine": cosine})

    def _loss(self, first: Tensor, second: Tensor) -> Tensor:
        match self.objective.loss:
            case "cosine":
                return cosine_loss(first, second)
            case "ntxent":
                return ntxent_loss(first, second, self.objective.temperature)
            case "barlow":
                return barlow_loss(first, second, self.objective.redundancy)
            case "vicreg":
                return vicreg_loss(first, second)
