"""Packages that only some parts need, imported when these are used."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from dssl_sklearn.exceptions import MissingDependencyError


def import_optional(module: str, caller: str, extra: str, advice: str = "") -> ModuleType:
    """Import a module of a package that may not be installed.

    Parameters
    ----------
    module : str
        Full name, such as ``"matplotlib.pyplot"``.
    caller : str
        Who needs it, for the message.
    extra : str
        Extra of this package that brings it.
    advice : str, default=""
        What else can be done, at the end of the message.

    Returns
    -------
    module
        That module.

    Raises
    ------
    MissingDependencyError
        If the package is not installed, or has no such module. An installed package that cannot
        be imported raises its own error, which installing it again would not cure.
    """
    package = module.split(".", maxsplit=1)[0]
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != package:
            raise  # something that the package itself needs
        raise MissingDependencyError(
            f'{caller} needs {package}: pip install "dssl_sklearn[{extra}]"{advice}'
        ) from error
