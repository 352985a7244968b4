"""Objectives by name, and as the JSON that stands beside the weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

import numpy as np

from dssl_sklearn._checks import did_you_mean
from dssl_sklearn.exceptions import InvalidInputError
from dssl_sklearn.objectives.base import Objective
from dssl_sklearn.objectives.contrastive import Contrastive
from dssl_sklearn.objectives.denoising import Denoising
from dssl_sklearn.objectives.descriptors import Descriptors
from dssl_sklearn.objectives.displacement import Displacement
from dssl_sklearn.objectives.masked_atoms import MaskedAtoms
from dssl_sklearn.objectives.microproperty import Microproperty
from dssl_sklearn.objectives.teacher import Teacher

_ObjectiveClass = TypeVar("_ObjectiveClass", bound=type[Objective])

_CLASSES: dict[str, type[Objective]] = {
    cls.name: cls
    for cls in (
        MaskedAtoms,
        Microproperty,
        Contrastive,
        Denoising,
        Descriptors,
        Displacement,
        Teacher,
    )
}


def register_objective(cls: _ObjectiveClass) -> _ObjectiveClass:
    """Make an objective of your own known by its name, so that its weights can be saved.

    Parameters
    ----------
    cls : type
        Subclass of `Objective`, a frozen dataclass whose fields are numbers, strings, None or
        nested tuples of these, with a `name` that is not taken.

    Returns
    -------
    type
        The class itself, so that this works as a decorator.

    Raises
    ------
    InvalidInputError
        If another class has the name already.
    """
    known = _CLASSES.setdefault(cls.name, cls)
    # A module that is loaded twice makes its class anew; that is no conflict.
    if (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
        raise InvalidInputError(
            f"the objective name {cls.name!r} belongs to {known.__qualname__}; give "
            f"{cls.__qualname__} another one"
        )
    _CLASSES[cls.name] = cls
    return cls


def objective_class(name: str) -> type[Objective]:
    """Look up the class of an objective.

    Parameters
    ----------
    name : str
        Such as ``"mask"``.

    Returns
    -------
    type
        Subclass of `Objective`.

    Raises
    ------
    InvalidInputError
        If the name is unknown.
    """
    if name not in _CLASSES:
        known = ", ".join(map(repr, _CLASSES))
        raise InvalidInputError(
            f"objectives: unknown name {name!r}{did_you_mean(name, _CLASSES)} (known: {known})"
        )
    return _CLASSES[name]


def objective_to_config(objective: Objective) -> dict[str, Any]:
    """Describe an objective in values that strict JSON can hold.

    Parameters
    ----------
    objective : Objective
        Of a registered class.

    Returns
    -------
    dict
        ``"name"`` and the fields.

    Raises
    ------
    InvalidInputError
        If the class is not registered, so that the objective could not be read back.
    """
    if _CLASSES.get(objective.name) is not type(objective):
        raise InvalidInputError(
            f"objectives: {type(objective).__qualname__} cannot be saved, since loading would not "
            "find it; register the class with dssl_sklearn.objectives.register_objective"
        )
    settings = {f.name: _to_json(getattr(objective, f.name)) for f in fields(objective)}
    return {"name": objective.name, **settings}


def objective_from_config(config: Mapping[str, Any]) -> Objective:
    """Build the objective that `objective_to_config` described.

    Parameters
    ----------
    config : mapping of str to object
        ``"name"`` and any of the fields; those left out have their defaults.

    Returns
    -------
    Objective
        Equal to the one described.

    Raises
    ------
    InvalidInputError
        If the name or a field is unknown, or a value out of range.
    """
    settings = {key: _from_json(value) for key, value in config.items() if key != "name"}
    cls = objective_class(str(config.get("name")))
    known = [f.name for f in fields(cls)]
    for key in settings:
        if key not in known:
            raise InvalidInputError(
                f"objective {cls.name!r} has no setting {key!r}{did_you_mean(key, known)}"
            )
    return cls(**settings)


def _to_json(value: Any) -> Any:  # noqa: ANN401 - any plain value
    if isinstance(value, np.generic):
        return value.item()
    return [_to_json(entry) for entry in value] if isinstance(value, tuple) else value


def _from_json(value: Any) -> Any:  # noqa: ANN401 - any plain value
    return tuple(_from_json(entry) for entry in value) if isinstance(value, list) else value
