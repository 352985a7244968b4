"""Checks of settings that the objectives share."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Sequence
from typing import TypeGuard

import numpy as np

from dssl_sklearn.exceptions import InvalidInputError


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


def check_integer(name: str, value: object, minimum: int = 1) -> None:
    """Raise ``InvalidInputError`` unless `value` is an integer of at least `minimum`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < minimum:
        raise InvalidInputError(f"{name} must be an integer >= {minimum}, got {value!r}")


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Raise ``InvalidInputError`` unless `value` is one of `choices`."""
    if value not in choices:
        known = ", ".join(map(repr, choices))
        hint = did_you_mean(str(value), choices)
        raise InvalidInputError(f"{name} must be one of {known}, got {value!r}{hint}")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the nearest known name, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
