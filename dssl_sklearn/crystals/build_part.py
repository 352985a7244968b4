"""Graphs of one chunk of an input, and what is to be said about its crystals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from dssl_sklearn._warnings import warn
from dssl_sklearn.crystals.dataset import GraphDataset
from dssl_sklearn.crystals.graph import CrystalGraph
from dssl_sklearn.exceptions import InvalidStructureError, IsolatedSiteWarning


@dataclass
class BuildPart:
    """Result of one chunk.

    Attributes
    ----------
    graphs : list of CrystalGraph
        Graphs of the usable crystals in order, where objects were asked for.
    reasons : dict of int to str
        Positions of the others, with what is wrong.
    isolated : list of int
        Positions of crystals for whose sites the cutoff was widened.
    dataset : GraphDataset or None
        The graphs in flat arrays, where these were asked for; None if there are none.
    """

    graphs: list[CrystalGraph] = field(default_factory=list)
    reasons: dict[int, str] = field(default_factory=dict)
    isolated: list[int] = field(default_factory=list)
    dataset: GraphDataset | None = None

    def shift(self, start: int) -> None:
        """Count positions from the beginning of an input in which the chunk begins at `start`."""
        self.reasons = {start + index: reason for index, reason in self.reasons.items()}
        self.isolated = [start + index for index in self.isolated]


def all_reasons(parts: Sequence[BuildPart]) -> dict[int, str]:
    """Reasons of all parts, in the order of the positions."""
    reasons = {index: reason for part in parts for index, reason in part.reasons.items()}
    return dict(sorted(reasons.items()))


def report(parts: Sequence[BuildPart], n_structures: int, *, skip: bool) -> None:
    """Raise for unusable crystals unless they are skipped, and warn of isolated sites.

    Raises
    ------
    InvalidStructureError
        Naming every crystal that cannot be used, unless `skip` is set.
    """
    reasons = all_reasons(parts)
    if reasons and not skip:
        raise InvalidStructureError(reasons, n_structures)
    warn_isolated([index for part in parts for index in part.isolated])


def warn_isolated(isolated: Sequence[int]) -> None:
    """Warn of crystals, given by their positions, for whose sites the cutoff was widened."""
    if not isolated:
        return
    shown = ", ".join(map(str, isolated[:10])) + (", ..." if len(isolated) > 10 else "")
    warn(
        f"{len(isolated)} structure(s) have sites without a neighbor within the cutoff "
        f"(positions {shown}); the cutoff was widened to their nearest neighbors. "
        "Raise `cutoff` or look at these cells if this is not intended.",
        IsolatedSiteWarning,
    )
