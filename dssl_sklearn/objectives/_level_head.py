"""Predict given quantities of sites, or of crystals, from their embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from dssl_sklearn._checks import did_you_mean
from dssl_sklearn.crystals.properties import Level
from dssl_sklearn.exceptions import InvalidInputError
from dssl_sklearn.objectives._layers import scale_of

_Array = TypeVar("_Array", Tensor, NDArray[np.float32])


class LevelHead(nn.Module):
    """One or two layers from embeddings to the standardized numbers of a level's properties.

    How many numbers a property has is learned with the statistics, or read from a state.

    Parameters
    ----------
    level : {"site", "crystal"}
        What the properties belong to.
    names : sequence of str
        The properties.
    width : int
        Width of the embeddings.
    hidden : int
        Width of the hidden layer; 0 for none, a linear map.
    """

    mean: Tensor
    scale: Tensor
    owner: Tensor

    def __init__(self, level: Level, names: Sequence[str], width: int, hidden: int) -> None:
        super().__init__()
        self.level = level
        self.names = tuple(names)
        self.hidden = nn.Linear(width, hidden) if hidden else None
        self.output = nn.Linear(hidden or width, 1)
        self._set_sizes([1] * len(self.names))

    def fit_statistics(self, properties: Mapping[str, NDArray[np.float32]]) -> None:
        """Learn from the properties of the training crystals."""
        values = [self._rows(properties, name) for name in self.names]
        sizes = [rows.shape[1] for rows in values]
        if sizes != self.sizes:
            self._set_sizes(sizes)
        for name, rows in zip(self.names, values, strict=True):
            if not np.isfinite(rows).any():
                raise InvalidInputError(
                    f"Teacher: the {self.level} property {name!r} is known for no {self.level} of "
                    f"the training structures; {self._how_to_attach(name)}"
                )
        mean, scale = zip(*map(_mean_and_scale, values), strict=True)
        self.mean.copy_(torch.from_numpy(np.concatenate(mean)))
        self.scale.copy_(torch.from_numpy(np.concatenate(scale)))

    def forward(
        self, embeddings: Tensor, properties: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Compare predictions with the properties.

        Parameters
        ----------
        embeddings : Tensor of shape (n_rows, width)
            Embeddings of sites or crystals.
        properties : mapping of str to Tensor of shape (n_rows,) or (n_rows, k)
            Values that the teacher computed.

        Returns
        -------
        losses : Tensor of shape (n_properties,)
            Smooth L1 loss of each property, a mean over its known entries; 0 without one.
        errors : Tensor of shape (n_properties,)
            Mean absolute error of each property in standard deviations, detached; NaN without a
            known entry.

        Raises
        ------
        InvalidInputError
            If a property is missing or has more or fewer numbers than in training.
        """
        values = [self._rows(properties, name) for name in self.names]
        for name, rows, size in zip(self.names, values, self.sizes, strict=True):
            if rows.shape[1] != size:
                raise InvalidInputError(
                    f"Teacher: the {self.level} property {name!r} has {rows.shape[1]} number(s) "
                    f"per {self.level}, but {size} in training"
                )
        target = torch.cat(values, 1)
        known = target.isfinite()
        target = ((target - self.mean) / self.scale).where(known, 0.0)
        if self.hidden is not None:
            embeddings = F.silu(self.hidden(embeddings))
        predicted = self.output(embeddings)
        loss = F.smooth_l1_loss(predicted, target, reduction="none")
        error = (predicted.detach() - target).abs()
        n_known = self._per_property(known.to(loss.dtype))
        losses = self._per_property(loss * known) / n_known.clamp_min(1)
        return losses, self._per_property(error * known) / n_known

    def _per_property(self, values: Tensor) -> Tensor:
        """Sum over the rows and over the numbers of each property."""
        sums = values.sum(0)
        return sums.new_zeros(len(self.names)).index_add(0, self.owner, sums)

    def _rows(self, properties: Mapping[str, _Array], name: str) -> _Array:
        """Values of a property, shape (n_rows, k)."""
        if name not in properties:
            raise InvalidInputError(
                f"Teacher: the crystals have no {self.level} property {name!r}"
                f"{did_you_mean(name, properties)}; {self._how_to_attach(name)}"
            )
        values = properties[name]
        return values.reshape(len(values), -1)

    def _how_to_attach(self, name: str) -> str:
        return (
            "attach its values to the graphs, as in "
            f"dataset.with_properties({self.level}={{{name!r}: array}})"
        )

    def _set_sizes(self, sizes: list[int]) -> None:
        """Make room for properties of so many numbers."""
        like = self.output.weight
        owner = torch.tensor([place for place, size in enumerate(sizes) for _ in range(size)])
        self.sizes = sizes
        self.register_buffer("owner", owner.to(like.device))
        self.register_buffer("mean", like.new_zeros(len(owner)))
        self.register_buffer("scale", like.new_ones(len(owner)))
        self.output = nn.Linear(
            self.output.in_features, len(owner), device=like.device, dtype=like.dtype
        )

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        *args: Any,  # noqa: ANN401 - torch's
    ) -> None:
        # torch calls this before it loads the layers below: those of the saved sizes.
        owner = state_dict.get(prefix + "owner")
        # Else, torch says that it does not fit; a file may hold anything.
        if owner is not None and set(owner.reshape(-1).tolist()) == set(range(len(self.sizes))):
            sizes = torch.bincount(owner.reshape(-1).long()).tolist()
            if sizes != self.sizes:
                self._set_sizes(sizes)
        super()._load_from_state_dict(state_dict, prefix, *args)


def _mean_and_scale(
    rows: NDArray[np.float32],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of the known entries of each column; 1 for a constant one."""
    known = np.isfinite(rows)
    count = np.maximum(known.sum(0), 1)
    mean = rows.sum(0, dtype=np.float64, where=known) / count
    variance = np.square(rows - mean).sum(0, where=known) / count
    largest = np.abs(rows).max(0, where=known, initial=0.0)
    return mean, scale_of(np.sqrt(variance), largest)
