"""Tell the true length of every edge from a crystal whose sites were moved at random."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from dssl_sklearn._checks import check_integer
from dssl_sklearn.crystals.batch import CrystalBatch
from dssl_sklearn.exceptions import InvalidInputError
from dssl_sklearn.objectives._layers import EdgeHead
from dssl_sklearn.objectives.base import EncodedView, Objective, ObjectiveHead, Outcome

if TYPE_CHECKING:
    from dssl_sklearn.crystals.dataset import GraphDataset


@dataclass(frozen=True)
class Denoising(Objective):
    """Distance denoising: tell the clean length of every edge of a crystal whose sites were moved.

    The edges are those of the clean crystal; their lengths in the view follow the moves. The head
    sees the embeddings of the two sites of an edge only, so that the network must put into them
    where atoms want to sit, much as forces do. A head that also sees the moved length can correct
    it edge by edge with little help of the embeddings, which then gain nothing
    (``benchmarks/compare_objectives.py``).

    Parameters
    ----------
    weight : float, default=1.0
        Weight in the sum of the objectives.
    move : float, default=0.2
        Standard deviation of the moves per coordinate, in angstrom.
    mask_ratio : float, default=0.0
        Share of sites whose element is hidden in the same view.
    strain : float, default=0.0
        Standard deviation of the entries of a random strain of the lattice; the clean distances
        are those of the unstrained crystal.
    sees_distance : bool, default=False
        Whether the head sees the moved length of the edge.
    width : int, default=64
        Features per edge in the head.
    n_basis : int, default=32
        Gaussians that expand the moved length, if the head sees it.

    Raises
    ------
    InvalidInputError
        If a number is out of range, or `move` and `strain` are both 0.

    References
    ----------
    .. [1] Zaidi et al., "Pre-training via Denoising for Molecular Property Prediction", ICLR 2023.
    .. [2] Liu et al., "Molecular Geometry Pretraining with SE(3)-Invariant Denoising Distance
       Matching", ICLR 2023.
    """

    name: ClassVar[str] = "denoise"

    move: float = 0.2
    mask_ratio: float = 0.0
    strain: float = 0.0
    sees_distance: bool = False
    width: int = 64
    n_basis: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        check_integer("width", self.width)
        check_integer("n_basis", self.n_basis, minimum=2)
        if self.move == self.strain == 0:
            raise InvalidInputError("move and strain are both 0; set one of them above 0")

    def make_head(self, site_width: int, crystal_width: int) -> ObjectiveHead:
        """Build the predictor on the edges."""
        return DenoisingHead(self, site_width)


class DenoisingHead(EdgeHead):
    r"""The clean length of every edge, :math:`m + s\, s_{ij}` with the numbers of an `EdgeHead`.

    Here m and s are mean and standard deviation of the clean distances in training. The loss is
    smooth L1 in units of s.

    Parameters
    ----------
    objective : Denoising
        Settings.
    site_width : int
        Width of the site embeddings.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, objective: Denoising, site_width: int) -> None:
        n_basis = int(objective.n_basis) if objective.sees_distance else None
        super().__init__(site_width, int(objective.width), n_basis)
        self.register_buffer("mean", torch.tensor(0.0))
        self.register_buffer("scale", torch.tensor(1.0))

    def fit_statistics(self, dataset: GraphDataset) -> None:
        """Learn the cutoff of the graphs, and mean and spread of their distances."""
        super().fit_statistics(dataset)
        self.mean.fill_(float(dataset.distance.mean(dtype="f8")))
        self.scale.fill_(max(float(dataset.distance.std(dtype="f8")), 1e-3))

    def forward(self, encoded: Sequence[EncodedView], clean: CrystalBatch) -> Outcome:
        """Compute the loss, and the mean absolute error of the distances in angstrom."""
        (view,) = encoded
        predicted = self.of_edges(view.sites, view.view.batch).squeeze(-1)
        target = (clean.edge_distance - self.mean) / self.scale
        error = (predicted.detach() - target).abs().mean() * self.scale
        return Outcome(F.smooth_l1_loss(predicted, target), {"mae": error})
