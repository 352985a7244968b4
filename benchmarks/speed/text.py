"""Numbers and tables as Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any


def number(value: float) -> str:
    """Write a number with three significant digits."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = 2 - math.floor(math.log10(abs(value)))
    return f"{round(value, digits):,.{max(0, digits)}f}"


def share(value: float) -> str:
    """Write a share in percent."""
    return f"{100 * value:.1f} %"


def spread(row: Mapping[str, float]) -> str:
    """Write the median, and smallest and largest in parentheses."""
    return f"{number(row['median'])} ({number(row['min'])} to {number(row['max'])})"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table."""
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(cells) + " |" for cells in lines]


def timing_rows(rows: Mapping[str, Mapping[str, Any] | None]) -> list[str]:
    """Table of ours and the plain form; rows that were not measured are left out."""
    body = []
    for what, row in rows.items():
        if row is None:
            continue
        compared = ["", ""]
        if "ratio" in row:
            compared = [spread(row["plain_per_second"]), spread(row["ratio"])]
        body.append([what, spread(row["per_second"]), *compared])
    return table(["", "crystals/s", "plain form", "times the plain form"], body)
