"""Building a module that a user chose by name, class or instance."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn

from dssl_sklearn._checks import check_choice, did_you_mean, listed
from dssl_sklearn.exceptions import InvalidInputError


def build_module(
    argument: str,
    choice: str | nn.Module | type[nn.Module],
    known: Mapping[str, type[nn.Module]],
    *args: Any,  # noqa: ANN401 - whatever the class takes
    **params: Any,  # noqa: ANN401
) -> nn.Module:
    """Make the module that a user chose by name, class or instance.

    Parameters
    ----------
    argument : str
        Name of the user's argument, for messages.
    choice : str, nn.Module or type
        Name in `known`, class to instantiate, or module to copy.
    known : mapping of str to type
        Classes by name.
    *args, **params
        Arguments of the class; a module given as such takes no `params`.

    Returns
    -------
    nn.Module
        New module with an integer ``width``; a deep copy where a module was given.

    Raises
    ------
    InvalidInputError
        If the name or a parameter is unknown, a class lacks a required parameter, or the module
        has no integer attribute ``width``.
    """
    if isinstance(choice, nn.Module):
        if params:
            raise InvalidInputError(
                f"{argument} is a module, which takes no further parameters; got "
                f"{', '.join(sorted(params))}. Set them when the module is made"
            )
        module = copy.deepcopy(choice)
    else:
        module = _instantiate(argument, choice, known, *args, **params)
    width = getattr(module, "width", None)
    if isinstance(width, bool) or not isinstance(width, int) or width < 1:
        raise InvalidInputError(
            f"{argument} of class {type(module).__name__} must have an integer attribute `width` "
            f"(the size of its output), got {width!r}"
        )
    return module


def _instantiate(
    argument: str,
    choice: str | type[nn.Module],
    known: Mapping[str, type[nn.Module]],
    *args: Any,  # noqa: ANN401
    **params: Any,  # noqa: ANN401
) -> nn.Module:
    if isinstance(choice, type) and issubclass(choice, nn.Module):
        cls = choice
    else:
        if not isinstance(choice, str):
            raise InvalidInputError(
                f"{argument} must be {listed(known)}, a torch module or its class, got {choice!r}"
            )
        check_choice(argument, choice, known)
        cls = known[choice]
    _check_arguments(argument, cls, *args, **params)
    return cls(*args, **params)


def _check_arguments(
    argument: str,
    cls: type[nn.Module],
    *args: Any,  # noqa: ANN401
    **params: Any,  # noqa: ANN401
) -> None:
    signature = inspect.signature(cls)
    parameters = list(signature.parameters.values())
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        allowed = [p.name for p in parameters[len(args) :]]
        for name in params:
            if name not in allowed:
                raise InvalidInputError(
                    f"{argument} {cls.__name__} has no parameter {name!r}"
                    f"{did_you_mean(name, allowed)}; it takes {', '.join(allowed) or 'none'}"
                )
    try:
        signature.bind(*args, **params)
    except TypeError as error:
        raise InvalidInputError(f"{argument} {cls.__name__}: {error}") from error
