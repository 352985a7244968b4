"""Predict the vectors by which the sites of a crystal were moved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from dssl_sklearn._checks import check_integer
from dssl_sklearn.crystals.batch import CrystalBatch
from dssl_sklearn.exceptions import InvalidInputError
from dssl_sklearn.models.segments import mean_over_sites, segment_count, segment_sum
from dssl_sklearn.objectives._layers import EdgeHead
from dssl_sklearn.objectives.base import EncodedView, Objective, ObjectiveHead, Outcome


@dataclass(frozen=True)
class Displacement(Objective):
    r"""Displacement denoising: which vector every site was moved by.

    For small moves about the positions of least energy this is learning the forces of a crystal,
    up to a factor [1]_. The network knows distances only, so the head gives every edge a number and
    adds up the directions: :math:`\hat u_i \propto \sum_j s_{ij}\, \hat r_{ij}`, which turns with
    the crystal.

    Parameters
    ----------
    weight : float, default=1.0
        Weight in the sum of the objectives.
    move : float, default=0.1
        Standard deviation of the moves per coordinate, in angstrom.
    mask_ratio : float, default=0.0
        Share of sites whose element is hidden in the same view.
    width : int, default=64
        Features per edge in the head.
    n_basis : int, default=40
        Gaussians that expand the moved length of an edge.

    Raises
    ------
    InvalidInputError
        If a number is out of range, or `move` is 0.

    References
    ----------
    .. [1] Zaidi et al., "Pre-training via Denoising for Molecular Property Prediction", ICLR 2023.
    """

    name: ClassVar[str] = "displacement"

    move: float = 0.1
    mask_ratio: float = 0.0
    width: int = 64
    n_basis: int = 40

    def __post_init__(self) -> None:
        super().__post_init__()
        check_integer("width", self.width)
        check_integer("n_basis", self.n_basis, minimum=2)
        if self.move == 0:
            raise InvalidInputError("move is 0, which leaves nothing to predict; set it above 0")

    def make_head(self, site_width: int, crystal_width: int) -> ObjectiveHead:
        """Build the predictor on the edges."""
        return DisplacementHead(self, site_width)


class DisplacementHead(EdgeHead):
    r"""Numbers of an `EdgeHead` from both sites and the moved length, summed along the edges.

    .. math:: \frac{\hat u_i}{\sigma} = \frac{1}{\sqrt{|N(i)|}} \sum_{j \in N(i)}
              s_{ij} \frac{r_{ij}}{d_{ij}}

    The loss is the mean squared error in units of the size of the moves. The mean move of all sites
    of a crystal is left out of the target, since it changes nothing.

    Parameters
    ----------
    objective : Displacement
        Settings.
    site_width : int
        Width of the site embeddings.
    """

    def __init__(self, objective: Displacement, site_width: int) -> None:
        super().__init__(site_width, int(objective.width), int(objective.n_basis))
        self.move = float(objective.move)

    def forward(self, encoded: Sequence[EncodedView], clean: CrystalBatch) -> Outcome:
        """Compute the loss, and the share of the moves' variance that is explained."""
        (view,) = encoded
        moved = view.view.batch
        moves = (moved.positions - clean.positions) / self.move
        target = moves - mean_over_sites(moves, clean).index_select(0, clean.batch)
        loss = F.mse_loss(self._predict(view.sites, moved), target)
        variance = target.square().mean()
        # In cells of one site nothing moves against anything.
        explained = 1 - loss.detach() / variance.clamp_min(1e-6)
        return Outcome(loss, {"explained": explained})

    def _predict(self, sites: Tensor, moved: CrystalBatch) -> Tensor:
        """Moves in units of their size, shape (n_sites, 3)."""
        strength = self.of_edges(sites, moved)
        direction = moved.edge_vectors() / moved.edge_distance.clamp_min(1e-3).unsqueeze(1)
        target = moved.edge_index[1]
        total = segment_sum(strength * direction.to(strength.dtype), target, moved.n_sites)
        return total / segment_count(target, moved.n_sites).sqrt()
