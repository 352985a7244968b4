"""From what a user writes for `objectives` to configured objectives."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
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
#: What objectives given by name take from the user's settings.
_Settings: TypeAlias = dict[type[Objective], dict[str, Any]]


def make_objectives(
    objectives: ObjectivesLike,
    *,
    mask_ratio: float = 0.15,
    move: float = 0.2,
    microproperty: PropertyValues = "stiffness",
    contrastive_loss: ContrastiveLoss = "barlow",
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
    settings: _Settings = {
        MaskedAtoms: {"mask_ratio": mask_ratio},
        Microproperty: {"values": microproperty, "mask_ratio": mask_ratio},
        Contrastive: {"loss": contrastive_loss, "move": move},
        Denoising: {"move": move},
        Displacement: {"move": move},
    }
    made = [_make(entry, weight, settings) for entry, weight in _entries(objectives)]
    if not any(objective.weight > 0 for objective in made):
        raise InvalidInputError("objectives: none has a weight above 0; pretraining needs one")
    return made


def _make(entry: object, weight: float | None, settings: _Settings) -> Objective:
    if isinstance(entry, str):
        cls = objective_class(entry)
        objective = cls(**settings.get(cls, {}))
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
