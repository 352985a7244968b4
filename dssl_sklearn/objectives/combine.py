"""Several pretext tasks as one loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from dssl_sklearn.crystals.batch import CrystalBatch
from dssl_sklearn.exceptions import InvalidInputError
from dssl_sklearn.models.layers import linear_layer
from dssl_sklearn.objectives.base import EncodedView, Objective, ObjectiveHead
from dssl_sklearn.views.view import ViewSpec

if TYPE_CHECKING:
    from dssl_sklearn.crystals.dataset import GraphDataset


class WeightedObjectives(nn.Module):
    """Heads of several objectives and the weighted sum of their losses.

    Parameters
    ----------
    objectives : sequence of Objective
        At least one with a weight above 0; those with weight 0 are left out.
    site_width : int
        Width of the site embeddings.
    crystal_width : int
        Width of the crystal embeddings.

    Attributes
    ----------
    objectives : dict of str to Objective
        By unique name: the objective's own, with ``_2``, ``_3`` and so on from the second of a
        name on.
    heads : ModuleDict
        Trainable parts, by the same names.
    has_statistics : bool
        Whether they have constants of training crystals, of their own or of what they start from.

    Raises
    ------
    InvalidInputError
        If no objective has a weight above 0.
    """

    def __init__(
        self, objectives: Sequence[Objective], site_width: int, crystal_width: int
    ) -> None:
        super().__init__()
        # Names are given out before the weights are looked at, so that a weight renames nothing.
        named = zip(_unique_names(objectives), objectives, strict=True)
        self.objectives = {name: objective for name, objective in named if objective.weight > 0}
        if not self.objectives:
            raise InvalidInputError("objectives: at least one must have a weight above 0")
        self.heads = nn.ModuleDict(
            {
                name: objective.make_head(site_width, crystal_width)
                for name, objective in self.objectives.items()
            }
        )
        self.has_statistics = False

    def specs(self) -> tuple[ViewSpec, ...]:
        """Views that the objectives need, each once, in the order of the objectives."""
        wanted = (spec for objective in self.objectives.values() for spec in objective.specs())
        return tuple(dict.fromkeys(wanted))

    def fit_statistics(self, dataset: GraphDataset) -> None:
        """Let every head learn its constants from the training crystals."""
        for name in self.objectives:
            self._head(name).fit_statistics(dataset)
        self.has_statistics = True

    def answers(self) -> nn.Linear | None:
        """Join the `ObjectiveHead.answers` of all heads in one layer; None without any."""
        layers = [layer for name in self.objectives if (layer := self._head(name).answers())]
        if not layers:
            return None
        weight = torch.cat([layer.weight for layer in layers])
        return linear_layer(weight.detach(), torch.cat([layer.bias for layer in layers]).detach())

    def forward(
        self, encoded: Mapping[ViewSpec, EncodedView], clean: CrystalBatch
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Add up the losses.

        Parameters
        ----------
        encoded : mapping of ViewSpec to EncodedView
            What the network made of each view in `specs`.
        clean : CrystalBatch
            The crystals that the views were drawn from.

        Returns
        -------
        total : Tensor of shape ()
            Weighted sum of the losses.
        terms : dict of str to Tensor of shape ()
            Detached: ``<name>_loss``, without its weight, and ``<name>_<metric>``.
        """
        losses: list[Tensor] = []
        terms: dict[str, Tensor] = {}
        for name, objective in self.objectives.items():
            outcome = self._head(name)([encoded[spec] for spec in objective.specs()], clean)
            losses.append(objective.weight * outcome.loss)
            terms[f"{name}_loss"] = outcome.loss.detach()
            terms |= {f"{name}_{key}": value.detach() for key, value in outcome.metrics.items()}
        return torch.stack(losses).sum(), terms

    def _head(self, name: str) -> ObjectiveHead:
        head = self.heads[name]
        assert isinstance(head, ObjectiveHead)  # noqa: S101 - what make_head promises, for mypy
        return head


def _unique_names(objectives: Sequence[Objective]) -> list[str]:
    names: list[str] = []
    for objective in objectives:
        candidates = (objective.name if k == 1 else f"{objective.name}_{k}" for k in count(1))
        names.append(next(name for name in candidates if name not in names))
    return names
