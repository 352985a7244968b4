"""From what a user writes for `objectives` to configured objectives."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from dssl_sklearn._checks import check_number, is_number
from dssl_sklearn.exceptions import InvalidInputError
from dssl_sklearn.objectives._site_target import PropertyValues
from dssl_sklearn.objectives.base import Objective
from dssl_sklearn.objectives.contrastive import Contrastive, ContrastiveLoss
from dssl_sklearn.objectives.denoising import Denoising
from dssl_sklearn.objectives.displacement import Displacement
from dssl_sklearn.objectives.masked_atoms import MaskedAtoms
from dssl_sklearn.objectives.microproperty import Microproperty
from dssl_sklearn.objectives.registry import objective_class

_NameOrInstance: TypeAlias = str | Objective
#: What a user may write for `objectives`.
ObjectivesLike: TypeAlias = (
    _NameOrInstance
    | Iterable[_NameOrInstance | tuple[_NameOrInstance, float]]
    | Mapping[str, float]
)


def make_objectives(
    objectives: ObjectivesLike,
    *,
    mask_ratio: float = 0.15,
    move: float = 0.2,
    microproperty: PropertyValues = "stiffness",
    contrastive_loss: ContrastiveLoss = "barlow",
    share_view: bool = False,
) -> list[Objective]:
    """Configure the objectives that a user asked for.

    Parameters
    ----------
    objectives : str, Objective, iterable or mapping
        A name (``"mask"``, ``"microproperty"``, ``"contrastive"``, ``"denoise"``,
        ``"displacement"``, ``"descriptors"`` or that of a registered class), an instance, an
        iterable of names, instances and ``(name, weight)`` pairs, or a mapping of names to
        weights. Instances keep their own settings; names take those below and otherwise their
        defaults. `Teacher` needs the names of its properties and is given as an instance.
    mask_ratio : float, default=0.15
        Share of sites whose element is hidden, for masked atoms and microproperty.
    move : float, default=0.2
        Size of the moves in angstrom, for contrastive and denoising.
    microproperty : str, mapping or array-like, default="stiffness"
        Target of the microproperty objective, see `Microproperty`.
    contrastive_loss : {"cosine", "ntxent", "barlow", "vicreg"}, default="barlow"
        Loss of the contrastive objective.
    share_view : bool, default=False
        Whether all objectives by name look at one view, masked and moved at once (contrastive at a
        second draw, too; descriptors at the crystal as it is). Fewer views cost less; each task
        then meets the other's noise.

    Returns
    -------
    list of Objective
        In the order given.

    Raises
    ------
    InvalidInputError
        If a name is unknown, an entry is neither name nor objective, or a setting or a weight is
        out of range, or no weight is above 0.
    """
    named = _NamedSettings(mask_ratio, move, microproperty, contrastive_loss, share_view)
    made = [_make(entry, weight, named) for entry, weight in _entries(objectives)]
    if not any(objective.weight > 0 for objective in made):
        raise InvalidInputError("objectives: none has a weight above 0; pretraining needs one")
    return made


@dataclass(frozen=True, eq=False)
class _NamedSettings:
    """The settings that objectives given by name take."""

    mask_ratio: float
    move: float
    microproperty: PropertyValues
    contrastive_loss: ContrastiveLoss
    share_view: bool

    def build(self, name: str) -> Objective:
        cls = objective_class(name)
        moved_too = self.move if self.share_view else 0.0
        masked_too = self.mask_ratio if self.share_view else 0.0
        settings: dict[type[Objective], dict[str, Any]] = {
            MaskedAtoms: {"mask_ratio": self.mask_ratio, "move": moved_too},
            Microproperty: {
                "values": self.microproperty,
                "mask_ratio": self.mask_ratio,
                "move": moved_too,
            },
            Contrastive: {
                "loss": self.contrastive_loss,
                "move": self.move,
                "mask_ratio": masked_too,
            },
            Denoising: {"move": self.move, "mask_ratio": masked_too},
            Displacement: {"move": self.move, "mask_ratio": masked_too},
        }
        return cls(**settings.get(cls, {}))


def _make(entry: object, weight: float | None, named: _NamedSettings) -> Objective:
    if isinstance(entry, str):
        objective = named.build(entry)
    elif isinstance(entry, Objective):
        objective = entry
    else:
        hint = ""
        if is_number(entry):
            hint = "; a single pair of name and weight goes in a list"
        elif isinstance(entry, type) and issubclass(entry, Objective):
            hint = f"; write {entry.__name__}() for an instance"
        raise InvalidInputError(
            f"objectives: expected a name, an Objective, or a (name, weight) pair, got {entry!r}"
            + hint
        )
    if weight is None:
        return objective
    check_number(f"objectives: weight of {objective.name!r}", weight, zero=True)
    return replace(objective, weight=weight)


def _entries(objectives: object) -> list[tuple[object, float | None]]:
    """Pairs of what to build and its weight, None for its own."""
    if isinstance(objectives, Mapping):
        return list(objectives.items())
    if isinstance(objectives, str | Objective) or not isinstance(objectives, Iterable):
        return [(objectives, None)]
    return [
        (entry[0], entry[1]) if isinstance(entry, tuple) and len(entry) == 2 else (entry, None)
        for entry in objectives
    ]
