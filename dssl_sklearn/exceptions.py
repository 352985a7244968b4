"""Errors and warnings: one base class, each with the builtin parent that a caller expects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: So many unusable crystals are named with the reason in a message.
MOST_SHOWN = 20


class DSSLError(Exception):
    """Base of every error that this library raises on purpose."""


class Reason(str):
    """What is wrong with a crystal, with what else is known of where it stands.

    Attributes
    ----------
    where : str
        Such as its label in the index of a Series, or its formula; beside the position.
    """

    __slots__ = ("where",)
    where: str

    def __new__(cls, text: str, where: str) -> Reason:  # noqa: PYI034 - no subclasses
        """Make a text that remembers a place."""
        reason = super().__new__(cls, text)
        reason.where = where
        return reason

    def __getnewargs__(self) -> tuple[str, str]:  # type: ignore[override]
        return str(self), self.where


class InvalidStructureError(DSSLError, ValueError):
    """Some crystals handed in cannot be used.

    Parameters
    ----------
    reasons : mapping of int to str
        Position in the input -> what is wrong there and what to do.
    n_structures : int
        Length of the input.

    Attributes
    ----------
    reasons : dict of int to str
        All offenders, not only the first.
    """

    def __init__(self, reasons: Mapping[int, str], n_structures: int) -> None:
        self.reasons = dict(reasons)
        self.n_structures = n_structures
        lines = reason_lines(self.reasons)
        if (n_others := len(self.reasons) - MOST_SHOWN) > 0:
            lines.append(f"  and {n_others} more, see the attribute `reasons` of this error")
        super().__init__(
            f"X has {len(self.reasons)} unusable structure(s) of {n_structures}:\n"
            + "\n".join(lines)
        )

    def __reduce__(self) -> tuple[type[InvalidStructureError], tuple[dict[int, str], int]]:
        # Exceptions are pickled by their args; worker processes must hand this one back whole.
        return type(self), (self.reasons, self.n_structures)


def reason_lines(reasons: Mapping[int, str]) -> list[str]:
    """Lines of a message on the first unusable crystals, one for each reason."""
    places: dict[str, list[str]] = {}
    for index, reason in sorted(reasons.items())[:MOST_SHOWN]:
        where = f" ({reason.where})" if isinstance(reason, Reason) else ""
        places.setdefault(str(reason), []).append(f"{index}{where}")
    return [
        f"  structure{'s' if len(found) > 1 else ''} {', '.join(found)}: {reason}"
        for reason, found in places.items()
    ]


class InvalidInputError(DSSLError, ValueError):
    """An argument other than a single structure has an unusable value."""


class DatasetError(DSSLError, ValueError):
    """A data file is missing, truncated or not of the expected form."""


class WeightsError(DSSLError, ValueError):
    """A file of weights is missing, damaged, or of another kind or version."""


class MissingDependencyError(DSSLError, ImportError):
    """An optional package is needed for what was asked."""


# In this order, since ``MemoryError.__new__``, which some unpickle with, wants its own first.
class OutOfMemoryError(MemoryError, DSSLError):
    """The machine, or the limit of the process, has not enough memory for what was asked."""


class WorkerError(DSSLError, RuntimeError):
    """A process that built graphs for this one was killed."""


class IsolatedSiteWarning(UserWarning):
    """Some sites have no neighbor within the cutoff; it was widened for them."""


class NegativeTransferWarning(UserWarning):
    """Pretraining made a network worse, by more than chance explains."""


class SkippedStructuresWarning(UserWarning):
    """Some crystals cannot be used and were left out, as ``on_error="skip"`` asks for."""


class TrainingError(DSSLError, RuntimeError):
    """Training cannot go on, for example because the loss is no longer a number.

    Attributes
    ----------
    estimator : estimator or None
        Copy of the estimator whose `fit` failed, with the weights of its last good epoch; None if
        not even the first epoch was good.
    """

    estimator: Any = None
