"""Tell the true length of every edge from a crystal whose sites were moved at random."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dssl_sklearn.crystals.batch import CrystalBatch
from dssl_sklearn.exceptions import InvalidInputError
from dssl_sklearn.models.layers import DistanceExpansion
from dssl_sklearn.objectives._checks import check_integer, check_number
from dssl_sklearn.objectives._layers import mean_where
from dssl_sklearn.objectives.base import EncodedView, Objective, ObjectiveHead, Outcome
from dssl_sklearn.views.view import ViewSpec

if TYPE_CHECKING:
    from dssl_sklearn.crystals.dataset import GraphDataset

#: Length of a common edge in angstrom: turns a strain into a change of length.
_COMMON_LENGTH = 3.0


def denoising_loss(predicted: Tensor, target: Tensor, counted: Tensor) -> Tensor:
    """Smooth L1 loss of the predicted changes of length.

    Parameters
    ----------
    predicted, target : Tensor of shape (n_edges,)
        Clean minus moved distance, in units of the moves.
    counted : Tensor of shape (n_edges,), bool
        Edges that take part.

    Returns
    -------
    Tensor of shape ()
        Mean over the counted edges, 0 if there is none.
    """
    return mean_where(F.smooth_l1_loss(predicted, target, reduction="none"), counted)


@dataclass(frozen=True)
class Denoising(Objective):
    """Distance denoising: undo random moves of the sites, edge by edge.

    The edges are those of the clean crystal; their lengths in the view follow the moves. The head
    predicts how far each is from its clean length, which asks the network to know where atoms want
    to sit, much as forces do.

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
    width : int, default=64
        Features per edge in the head.
    n_basis : int, default=32
        Gaussians that expand the moved distance.

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
    width: int = 64
    n_basis: int = 32

    def __post_init__(self) -> None:
        check_number("weight", self.weight, zero=True)
        check_integer("width", self.width)
        check_integer("n_basis", self.n_basis, minimum=2)
        self.specs()
        if self.unit == 0:
            raise InvalidInputError("move and strain are both 0; set one of them above 0")

    @property
    def unit(self) -> float:
        """Unit of the target in angstrom: `move`, with the change by the strain added to it."""
        return math.hypot(self.move, self.strain * _COMMON_LENGTH)

    def specs(self) -> tuple[ViewSpec, ...]:
        """One view with moved sites."""
        return (ViewSpec(mask_ratio=self.mask_ratio, move=self.move, strain=self.strain),)

    def make_head(self, site_width: int, crystal_width: int) -> ObjectiveHead:
        """Build the predictor on the edges."""
        return DenoisingHead(self, site_width)


class DenoisingHead(ObjectiveHead):
    r"""One hidden layer per edge, whose parts from the sites are computed once per site.

    .. math:: w \cdot \mathrm{SiLU}(W_s x_{source} + W_t x_{target} + W_e\, \mathrm{rbf}(d) + b) + c

    Parameters
    ----------
    objective : Denoising
        Settings.
    site_width : int
        Width of the site embeddings.
    """

    cutoff: Tensor

    def __init__(self, objective: Denoising, site_width: int) -> None:
        super().__init__()
        self.objective = objective
        width, n_basis = int(objective.width), int(objective.n_basis)
        # In units of the cutoff, which only the data tell.
        self.expansion = DistanceExpansion(n_basis, 1.0)
        self.register_buffer("cutoff", torch.tensor(8.0))
        self.from_source = nn.Linear(site_width, width, bias=False)
        self.from_target = nn.Linear(site_width, width)
        self.from_edge = nn.Linear(n_basis, width, bias=False)
        self.out = nn.Linear(width, 1)

    def fit_statistics(self, dataset: GraphDataset) -> None:
        """Take over the cutoff of the graphs."""
        self.cutoff.fill_(dataset.cutoff)

    def forward(self, encoded: Sequence[EncodedView], clean: CrystalBatch) -> Outcome:
        """Compute the loss, and the mean absolute error of the distances in angstrom."""
        (view,) = encoded
        moved = view.view.batch
        predicted = self._predict(view.sites, moved)
        change = clean.edge_distance - moved.edge_distance
        unit = self.objective.unit
        counted = self._counted(clean)
        error = (predicted.detach() * unit - change).abs()
        return Outcome(
            denoising_loss(predicted, change / unit, counted), {"mae": mean_where(error, counted)}
        )

    def _predict(self, sites: Tensor, moved: CrystalBatch) -> Tensor:
        source, target = moved.edge_index
        # index_select: its gradient is a plain sum, several times faster than that of indexing.
        hidden = self.from_edge(self.expansion(moved.edge_distance / self.cutoff))
        hidden = hidden + self.from_source(sites).index_select(0, source)
        hidden = hidden + self.from_target(sites).index_select(0, target)
        predicted: Tensor = self.out(F.silu(hidden))
        return predicted.squeeze(-1)

    def _counted(self, clean: CrystalBatch) -> Tensor:
        source, target = clean.edge_index
        if self.objective.strain > 0:
            return torch.ones_like(source, dtype=torch.bool)
        # A site and its own image move together: there is nothing to undo.
        return torch.ne(source, target)
