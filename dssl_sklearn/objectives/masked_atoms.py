"""Predict the element of hidden sites from their surroundings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F

from dssl_sklearn._checks import check_number
from dssl_sklearn.crystals.batch import CrystalBatch
from dssl_sklearn.crystals.elements import MAX_ATOMIC_NUMBER
from dssl_sklearn.objectives._layers import site_mlp
from dssl_sklearn.objectives.base import EncodedView, Objective, ObjectiveHead, Outcome


@dataclass(frozen=True)
class MaskedAtoms(Objective):
    """Masked-atom prediction: which element sits on a hidden site.

    Parameters
    ----------
    weight : float, default=1.0
        Weight in the sum of the objectives.
    mask_ratio : float, default=0.15
        Share of sites whose element is hidden.
    move : float, default=0.0
        Standard deviation of random moves of the sites in the same view, in angstrom.

    Raises
    ------
    InvalidInputError
        If a number is out of range.

    References
    ----------
    .. [1] Hu et al., "Strategies for Pre-training Graph Neural Networks", ICLR 2020.
    """

    name: ClassVar[str] = "mask"

    mask_ratio: float = 0.15
    move: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("mask_ratio", self.mask_ratio)

    def make_head(self, site_width: int, crystal_width: int) -> ObjectiveHead:
        """Build the classifier of the masked sites."""
        return MaskedAtomsHead(site_width)


class MaskedAtomsHead(ObjectiveHead):
    """Two layers from the embedding of a masked site to its element.

    Parameters
    ----------
    site_width : int
        Width of the site embeddings.
    """

    def __init__(self, site_width: int) -> None:
        super().__init__()
        self.classifier = site_mlp(site_width, MAX_ATOMIC_NUMBER)

    def forward(self, encoded: Sequence[EncodedView], clean: CrystalBatch) -> Outcome:
        """Compute the cross entropy, and the share of masked sites that are recognized."""
        (view,) = encoded
        masked = view.view.masked
        element = clean.numbers[masked] - 1
        logits = self.classifier(view.sites.index_select(0, masked))
        accuracy = (logits.detach().argmax(-1) == element).float().mean()
        return Outcome(F.cross_entropy(logits, element), {"accuracy": accuracy})
