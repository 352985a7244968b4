"""The contract of a pretext task: its views, its head, its loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor, nn

from dssl_sklearn._checks import check_number
from dssl_sklearn.crystals.batch import CrystalBatch
from dssl_sklearn.views.view import View, ViewSpec

if TYPE_CHECKING:
    from dssl_sklearn.crystals.dataset import GraphDataset


@dataclass(frozen=True, eq=False)
class EncodedView:
    """A view and what the network made of it.

    Attributes
    ----------
    view : View
        What the network saw.
    sites : Tensor of shape (n_sites, site_width)
        Site embeddings of the backbone.
    crystals : Tensor of shape (n_crystals, crystal_width)
        Crystal embeddings of the readout.
    """

    view: View
    sites: Tensor
    crystals: Tensor


@dataclass(frozen=True, eq=False)
class Outcome:
    """Value of one objective on one batch.

    Attributes
    ----------
    loss : Tensor of shape ()
        Differentiable loss, before its weight.
    metrics : mapping of str to Tensor of shape ()
        Figures to log beside the loss (detached), such as ``"accuracy"``.
    """

    loss: Tensor
    metrics: Mapping[str, Tensor] = field(default_factory=dict)


class ObjectiveHead(nn.Module, ABC):
    """Trainable part of an objective: turns encoded views into a loss."""

    def fit_statistics(self, dataset: GraphDataset) -> None:
        """Learn constants (mean and scale of a target, say) from training crystals into buffers."""

    def answers(self) -> nn.Linear | None:
        """Map from a crystal embedding to what the head learned to say of the whole crystal.

        None, by default, where that is not linear, or follows from the structure without learning.
        """
        return None

    @abstractmethod
    def forward(self, encoded: Sequence[EncodedView], clean: CrystalBatch) -> Outcome:
        """Compute the loss from the encoded views, in the order of ``Objective.specs()``."""


@dataclass(frozen=True)
class Objective(ABC):
    """One pretext task: a small immutable configuration that makes its head.

    Subclasses are frozen dataclasses whose fields are plain values, so that they can be cloned,
    compared, and written to the JSON beside the weights.
    """

    #: Name in `objectives`, in the history (``<name>_loss``) and in weight files.
    name: ClassVar[str]

    weight: float = 1.0
    # Of the one view of `specs`. No fields yet: subclasses make fields of those that may be set.
    mask_ratio = 0.0
    move = 0.0
    strain = 0.0

    def __post_init__(self) -> None:
        check_number("weight", self.weight, zero=True)
        self.specs()

    def specs(self) -> tuple[ViewSpec, ...]:
        """Views that the objective needs: one, the clean crystal but for what its fields change."""
        return (ViewSpec(mask_ratio=self.mask_ratio, move=self.move, strain=self.strain),)

    @abstractmethod
    def make_head(self, site_width: int, crystal_width: int) -> ObjectiveHead:
        """Build the trainable part for embeddings of these widths."""

    @property
    def site_properties(self) -> tuple[str, ...]:
        """Names of the per-site properties of the structures that the loss reads."""
        return ()
