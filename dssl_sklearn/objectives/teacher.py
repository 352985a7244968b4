"""Predict what a teacher, another model, computed on the crystals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from dssl_sklearn._checks import check_integer
from dssl_sklearn.crystals.batch import CrystalBatch
from dssl_sklearn.crystals.properties import Level
from dssl_sklearn.exceptions import InvalidInputError
from dssl_sklearn.objectives._level_head import LevelHead
from dssl_sklearn.objectives.base import EncodedView, Objective, ObjectiveHead, Outcome

if TYPE_CHECKING:
    from dssl_sklearn.crystals.dataset import GraphDataset


@dataclass(frozen=True)
class Teacher(Objective):
    """Distillation: quantities of sites and crystals that another model computed.

    The numbers come with the crystals, ``dataset.with_properties(site=..., crystal=...)``; each may
    be a scalar or a vector and NaN where the teacher had no answer. They are learned in units of
    their standard deviation in training, and every quantity has the same share of the loss, however
    long its vector. Give some of them another weight with a second `Teacher`.

    Weights that learned from a teacher hold what it learned from labels: this is no
    self-supervision.

    Parameters
    ----------
    weight : float, default=1.0
        Weight in the sum of the objectives.
    site : tuple of str, default=()
        Site properties to predict from the site embeddings.
    crystal : tuple of str, default=()
        Crystal properties to predict from the crystal embeddings.
    move : float, default=0.0
        Standard deviation of random moves of the sites in the view, in angstrom; the targets stay
        those of the clean crystal.
    mask_ratio : float, default=0.0
        Share of sites whose element is hidden in the view.
    hidden : int, default=64
        Width of the hidden layer of the heads; 0 for linear ones, which leave what was learned
        along directions of the embeddings, where few labels suffice to find it. What linear heads
        say of a crystal, the Gaussian process of a `DSSLRegressor` compares crystals by, too.

    Raises
    ------
    InvalidInputError
        If a number is out of range, no property is named, or one is named twice.

    References
    ----------
    .. [1] G. Hinton, O. Vinyals and J. Dean, "Distilling the Knowledge in a Neural Network",
       arXiv:1503.02531 (2015).
    """

    name: ClassVar[str] = "teacher"

    site: tuple[str, ...] = ()
    crystal: tuple[str, ...] = ()
    move: float = 0.0
    mask_ratio: float = 0.0
    hidden: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        check_integer("hidden", self.hidden, minimum=0)
        for level in ("site", "crystal"):
            object.__setattr__(self, level, _checked_names(level, getattr(self, level)))
        names = [*self.site, *self.crystal]
        if not names:
            raise InvalidInputError(
                "Teacher: site and crystal are both empty; name the properties to learn, as in "
                "Teacher(crystal=('energy',))"
            )
        for name in names:
            if names.count(name) > 1:
                raise InvalidInputError(
                    f"Teacher: the property {name!r} is named twice; the history needs different "
                    "names, those of site and crystal properties taken together"
                )

    @property
    def site_properties(self) -> tuple[str, ...]:
        """Names of the site properties."""
        return self.site

    def make_head(self, site_width: int, crystal_width: int) -> ObjectiveHead:
        """Build the predictors of the sites and of the crystals."""
        return TeacherHead(self, site_width, crystal_width)


class TeacherHead(ObjectiveHead):
    """One predictor of all site properties and one of all crystal properties.

    Parameters
    ----------
    objective : Teacher
        Settings.
    site_width, crystal_width : int
        Widths of the embeddings.
    """

    def __init__(self, objective: Teacher, site_width: int, crystal_width: int) -> None:
        super().__init__()
        hidden = int(objective.hidden)
        self.site: LevelHead | None = None
        self.crystal: LevelHead | None = None
        if objective.site:
            self.site = LevelHead("site", objective.site, site_width, hidden)
        if objective.crystal:
            self.crystal = LevelHead("crystal", objective.crystal, crystal_width, hidden)

    def fit_statistics(self, dataset: GraphDataset) -> None:
        """Learn how many numbers each property has, their means and standard deviations."""
        if self.site is not None:
            self.site.fit_statistics(dataset.site_properties)
        if self.crystal is not None:
            self.crystal.fit_statistics(dataset.crystal_properties)

    def answers(self) -> nn.Linear | None:
        """Map to the crystal properties in their deviations; None with a hidden layer."""
        if self.crystal is None or self.crystal.hidden is not None:
            return None
        return self.crystal.output

    def forward(self, encoded: Sequence[EncodedView], clean: CrystalBatch) -> Outcome:
        """Compute the loss, and the mean absolute error of each property in its deviations."""
        (view,) = encoded
        losses: list[Tensor] = []
        metrics: dict[str, Tensor] = {}
        for head, embeddings, properties in (
            (self.site, view.sites, clean.site_properties),
            (self.crystal, view.crystals, clean.crystal_properties),
        ):
            if head is not None:
                loss, error = head(embeddings, properties)
                losses.append(loss)
                metrics |= {f"{name}_mae": error[k] for k, name in enumerate(head.names)}
        return Outcome(torch.cat(losses).mean(), metrics)


def _checked_names(level: Level, names: object) -> tuple[str, ...]:
    if isinstance(names, list | tuple) and all(isinstance(name, str) for name in names):
        return tuple(names)
    hint = f"; write {level}=({names!r},) for one" if isinstance(names, str) else ""
    raise InvalidInputError(f"Teacher: {level} must be a tuple of names, got {names!r}{hint}")
