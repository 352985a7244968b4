"""Checks of settings, and the names that a mistyped one may have meant."""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TypeGuard

import numpy as np

from dssl_sklearn.exceptions import InvalidInputError

#: Texts, in small letters, that say in a table that an entry is unknown: what pandas takes for it.
UNKNOWN_TEXTS = {"", "#n/a", "#na", "<na>", "-nan", "nan", "n/a", "na", "null", "none"}


def is_number(value: object) -> TypeGuard[float]:
    """Whether `value` is a finite real number, numpy's included and booleans not."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        return False
    return math.isfinite(value)


def check_number(name: str, value: object, *, zero: bool = False) -> None:
    """Raise ``InvalidInputError`` unless `value` is finite and above zero (or zero, if allowed)."""
    if not is_number(value) or value < 0 or (value == 0 and not zero):
        bound = ">= 0" if zero else "> 0"
        raise InvalidInputError(f"{name} must be a finite number {bound}, got {value!r}")


def check_probability(name: str, value: object) -> None:
    """Raise ``InvalidInputError`` unless `value` is in [0, 1)."""
    if not is_number(value) or not 0 <= value < 1:
        raise InvalidInputError(f"{name} must be a number in [0, 1), got {value!r}")


def check_integer(name: str, value: object, minimum: int = 1) -> None:
    """Raise ``InvalidInputError`` unless `value` is an integer of at least `minimum`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < minimum:
        raise InvalidInputError(f"{name} must be an integer >= {minimum}, got {value!r}")


def check_choice(name: str, value: object, choices: Collection[str]) -> None:
    """Raise ``InvalidInputError`` unless `value` is one of `choices`."""
    if not isinstance(value, str) or value not in choices:
        raise InvalidInputError(
            f"{name} must be {listed(choices)}, got {value!r}{did_you_mean(value, choices)}"
        )


def check_path(name: str, value: object) -> Path:
    """Return `value` as a path, or raise ``InvalidInputError`` if no file can have that name."""
    if not isinstance(value, str | os.PathLike):
        raise InvalidInputError(f"{name} must be a str or a path, got {value!r}")
    if "\0" in str(value):
        raise InvalidInputError(f"{name} must be without null bytes, got {str(value)!r}")
    return Path(value)


def listed(names: Collection[str]) -> str:
    """Return ``"one of 'a', 'b'"``."""
    return "one of " + ", ".join(map(repr, names))


def did_you_mean(value: object, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the nearest known name in either case, or nothing."""
    by_lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(str(value).lower(), by_lower, n=1)
    return f"; did you mean {by_lower[close[0]]!r}?" if close else ""
