"""Predict descriptors of structure and chemistry that follow from the crystal itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dssl_sklearn.crystals.batch import CrystalBatch
from dssl_sklearn.models.descriptors import describe, element_table
from dssl_sklearn.objectives.base import EncodedView, Objective, ObjectiveHead, Outcome

if TYPE_CHECKING:
    from dssl_sklearn.crystals.dataset import GraphDataset

#: Descriptors further from the mean than this, in standard deviations, are cut.
_LARGEST_TARGET = 5.0
#: Crystals that mean and standard deviation are learned from.
_N_STATISTICS = 2048


@dataclass(frozen=True)
class Descriptors(Objective):
    r"""Structure descriptors: local environments and global figures of the crystal itself.

    All targets are computed from the clean crystal and tables of the elements; no label enters.
    With bond weights that fall with the distance beyond the atomic radii,
    :math:`w_{ij} = \exp((r_i + r_j - d_{ij}) / 0.4)`, as bond valences do [1]_, a site is
    described by

    - the logarithms of :math:`\sum_j w_{ij}` and of its effective number of neighbors
      :math:`(\sum_j w_{ij})^2 / \sum_j w_{ij}^2`;
    - weighted mean and deviation of :math:`d_{ij}` and :math:`d_{ij} / (r_i + r_j)`;
    - the weighted means over its neighbors of twelve element properties, and of their absolute
      differences to its own (`DESCRIBED_PROPERTIES` and the prior stiffness);

    and a crystal by mean and deviation over its sites of all these and of the element properties
    themselves, and by the logarithms of volume per atom, packing fraction, and stiffness, valence
    electrons and bond weights per volume. Both are predicted linearly from the embeddings, in
    units of their standard deviation in training: what describes a crystal then lies along
    directions of its embedding, where few labels suffice to find it.

    Parameters
    ----------
    weight : float, default=1.0
        Weight in the sum of the objectives.
    mask_ratio : float, default=0.0
        Share of sites whose element is hidden in the view.
    move : float, default=0.0
        Standard deviation of random moves of the sites in the view, in angstrom; the targets stay
        those of the clean crystal.

    Raises
    ------
    InvalidInputError
        If a number is out of range.

    References
    ----------
    .. [1] I. D. Brown and D. Altermatt, Acta Cryst. B 41, 244 (1985).
    """

    name: ClassVar[str] = "descriptors"

    mask_ratio: float = 0.0
    move: float = 0.0

    def make_head(self, site_width: int, crystal_width: int) -> ObjectiveHead:
        """Build the linear predictors of the sites and of the crystals."""
        return DescriptorsHead(site_width, crystal_width)


class DescriptorsHead(ObjectiveHead):
    """Linear maps from embeddings to standardized descriptors.

    Parameters
    ----------
    site_width, crystal_width : int
        Widths of the embeddings.
    """

    elements: Tensor

    def __init__(self, site_width: int, crystal_width: int) -> None:
        super().__init__()
        self.register_buffer("elements", element_table(), persistent=False)
        n_properties = self.elements.shape[1] - 3
        n_site = 6 + 2 * n_properties
        self.site = _StandardizedTarget(site_width, n_site)
        self.crystal = _StandardizedTarget(crystal_width, 5 + 2 * (n_site + n_properties))

    def fit_statistics(self, dataset: GraphDataset) -> None:
        """Learn mean and standard deviation of every descriptor."""
        count = min(len(dataset), _N_STATISTICS)
        chosen = np.linspace(0, len(dataset) - 1, count).astype(np.int64)
        batch = dataset.batch(chosen).to(self.elements.device)
        of_sites, of_crystals = describe(batch, self.elements)
        self.site.fit_statistics(of_sites)
        self.crystal.fit_statistics(of_crystals)

    def forward(self, encoded: Sequence[EncodedView], clean: CrystalBatch) -> Outcome:
        """Compute the loss: smooth L1, sites and crystals with equal shares."""
        (view,) = encoded
        with torch.no_grad():
            of_sites, of_crystals = describe(clean, self.elements)
        site = self.site(view.sites, of_sites)
        crystal = self.crystal(view.crystals, of_crystals)
        return Outcome(site + crystal, {"site": site.detach(), "crystal": crystal.detach()})


class _StandardizedTarget(nn.Module):
    """Linear predictor of targets in units of their standard deviation."""

    mean: Tensor
    scale: Tensor

    def __init__(self, width: int, n_targets: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, n_targets)
        self.register_buffer("mean", torch.zeros(n_targets))
        self.register_buffer("scale", torch.ones(n_targets))

    def fit_statistics(self, targets: Tensor) -> None:
        self.mean.copy_(targets.mean(0))
        spread = targets.std(0, correction=0)
        # What never varies must not be blown up to unit variance.
        self.scale.copy_(spread.where(spread > 1e-3 * targets.abs().mean(0).clamp_min(1e-3), 1.0))

    def forward(self, embeddings: Tensor, targets: Tensor) -> Tensor:
        standardized = ((targets - self.mean) / self.scale).clamp(-_LARGEST_TARGET, _LARGEST_TARGET)
        return F.smooth_l1_loss(self.linear(embeddings), standardized)
