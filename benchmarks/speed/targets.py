"""What was aimed at, and what was reached."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from text import number, table


@dataclass(frozen=True)
class Target:
    """One aim.

    Attributes
    ----------
    what : str
        Description.
    authors : str
        Figure of the authors' code, measured on one CPU thread of such a machine.
    aim : float
        Figure to reach.
    unit : str
        Unit of `aim`, written behind it.
    path : tuple of str
        Keys that lead to our figure in the results.
    at_most : bool, default=False
        Whether less is better.
    """

    what: str
    authors: str
    aim: float
    unit: str
    path: tuple[str, ...]
    at_most: bool = False


TARGETS = (
    Target(
        "pretraining step, three views, 15 x 115", "6.8 /s", 25, "/s", ("networks", "pretraining")
    ),
    Target("fine-tuning step, 15 x 115", "14.6 /s", 60, "/s", ("networks", "fine_tuning")),
    Target("prediction, 15 x 115", "32.5 /s", 150, "/s", ("networks", "prediction")),
    Target(
        "memory per crystal of a pretraining batch, 15 x 115",
        "73 MB",
        6,
        "MB",
        ("networks", "memory"),
        at_most=True,
    ),
    Target("pretraining epoch, gated 3 x 64", "", 1000, "/s", ("epochs", "gated", "pretraining")),
    Target("fine-tuning epoch, gated 3 x 64", "", 1200, "/s", ("epochs", "gated", "fine_tuning")),
    Target("prediction, gated 3 x 64", "", 4000, "/s", ("epochs", "gated", "prediction")),
    Target("graphs from Structures, whole shells", "680 /s", 8000, "/s", ("graphs", "graphs")),
    Target(
        "graphs, over the bare search of the fastest library",
        "",
        1.5,
        "times",
        ("graphs", "over_fastest_search", "graphs"),
        at_most=True,
    ),
    Target(
        "corpus of 119,337 crystals on 2 cores, by the clock",
        "",
        120,
        "s",
        ("corpus", "wall_seconds"),
        at_most=True,
    ),
    Target("corpus, memory", "", 3000, "MB", ("corpus", "peak_mb"), at_most=True),
    Target("cell of 10,000 sites", "N x N", 2, "s", ("cells", "10000", "seconds"), at_most=True),
    Target(
        "cell of 10,000 sites, memory",
        "N x N",
        500,
        "MB",
        ("cells", "10000", "peak_mb"),
        at_most=True,
    ),
    Target(
        "`import dssl_sklearn` over sklearn",
        "",
        0.3,
        "s",
        ("imports", "over_sklearn"),
        at_most=True,
    ),
    Target(
        "loader share of a training step, worst of three",
        "",
        5,
        "%",
        ("epochs", "loader_percent"),
        at_most=True,
    ),
)


def target_rows(found: dict[str, Any]) -> list[str]:
    """Table of all aims with what was measured.

    Parameters
    ----------
    found : dict
        Results of all sections.

    Returns
    -------
    list of str
        Lines of Markdown.
    """
    body = []
    for target in TARGETS:
        entry = _look_up(_with_derived(found), target.path)
        ours, times = _figures(entry)
        if ours is None:
            body.append([target.what, target.authors, _aim(target), "not measured", "", ""])
            continue
        reached = ours <= target.aim if target.at_most else ours >= target.aim
        cells = [f"{number(ours)} {target.unit}", times, "yes" if reached else "**no**"]
        body.append([target.what, target.authors, _aim(target), *cells])
    head = ["what", "authors' code", "aim", "ours", "times the plain form", "reached"]
    return table(head, body)


def _aim(target: Target) -> str:
    sign = "<" if target.at_most else ">"
    return f"{sign} {target.aim:,g} {target.unit}"


def _with_derived(found: dict[str, Any]) -> dict[str, Any]:
    """Add the figures that no section holds under one key."""
    derived = dict(found)
    if "cells" in found:
        near = min(found["cells"]["cells"], key=lambda row: abs(row["sites"] - 10_000))
        # The cell is as near to 10,000 sites as cubes of four come.
        derived["cells"] = {"10000": near}
    if "epochs" in found:
        shares = [row["share"]["median"] for row in found["epochs"]["loader"].values()]
        derived["epochs"] = {**found["epochs"], "loader_percent": 100 * max(shares)}
    return derived


def _look_up(found: Mapping[str, Any], path: tuple[str, ...]) -> Any:  # noqa: ANN401
    entry: Any = found
    for key in path:
        if key not in entry:
            return None
        entry = entry[key]
    return entry


def _figures(entry: Any) -> tuple[float | None, str]:  # noqa: ANN401
    """Our figure, and how many times the plain form it is."""
    if not isinstance(entry, dict):
        return entry, ""
    if "ours" in entry:
        return entry["ours"]["mb_per_crystal"], f"1 / {number(entry['ratio'])}"
    if "per_second" in entry:
        return entry["per_second"]["median"], number(entry["ratio"]["median"])
    return entry["median"], ""
