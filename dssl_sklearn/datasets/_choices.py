"""Naming what can be chosen when a choice is unknown."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def unknown_choice(argument: str, value: object, known: Iterable[str]) -> str:
    """Say that a name is unknown, what is known, and which one was probably meant.

    Parameters
    ----------
    argument : str
        Name of the argument.
    value : object
        What was found.
    known : iterable of str
        What may be given.

    Returns
    -------
    str
        Message of the error.

    Examples
    --------
    >>> unknown_choice("target", "k_vrh", ["K_VRH", "G_VRH"])
    "target='k_vrh' is unknown, did you mean 'K_VRH'? Known are: 'K_VRH', 'G_VRH'."
    """
    names = list(known)
    by_lower = {name.lower(): name for name in names}
    close = difflib.get_close_matches(str(value).lower(), by_lower, n=1)
    hint = f", did you mean {by_lower[close[0]]!r}?" if close else "."
    return f"{argument}={value!r} is unknown{hint} Known are: {', '.join(map(repr, names))}."
