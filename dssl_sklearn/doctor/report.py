"""The report: a table for programs, a text for people."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from html import escape

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dssl_sklearn.doctor.findings import SEVERITIES, Finding

#: Positions that the summary lists for one check.
_MOST_SHOWN = 8


class DataReport:
    """What `diagnose` found.

    Parameters
    ----------
    findings : sequence of Finding
        All that was found.
    usable : ndarray of shape (n_structures,), bool
        Whether an estimator can use the structure.
    names : sequence of str, default=None
        Names of the structures.

    Attributes
    ----------
    table : pandas.DataFrame
        One row per finding, in the order of the structures: ``index`` (position in `X`; missing for
        what concerns the data as a whole, which comes first), ``check``, ``severity`` ("error",
        "warning", "info" or "ok"), ``message`` and ``advice``. A structure without any finding has
        one row with the check "none" and the severity "ok". With `names` there is a column
        ``name``, too.
    usable : ndarray of shape (n_structures,), bool
        Mask of the structures that an estimator can use.
    """

    def __init__(
        self,
        findings: Sequence[Finding],
        usable: NDArray[np.bool_],
        names: Sequence[str] | None = None,
    ) -> None:
        self.findings = _in_order(findings, len(usable))
        self.usable = usable
        self.names = None if names is None else [str(name) for name in names]

    @property
    def ok(self) -> bool:
        """Whether nothing is an error; warnings are worth a look all the same."""
        return not any(finding.severity == "error" for finding in self.findings)

    @cached_property
    def table(self) -> pd.DataFrame:
        """All findings, see the attributes of the class."""
        index = [finding.index for finding in self.findings]
        columns: dict[str, object] = {"index": pd.array(index, dtype="Int64")}
        if self.names is not None:
            columns["name"] = [None if i is None else self.names[i] for i in index]
        for field in ("check", "severity", "message", "advice"):
            columns[field] = [getattr(finding, field) for finding in self.findings]
        return pd.DataFrame(columns)

    def summary(self) -> str:
        """Say in a few lines what was found, how often and where, and what to do.

        Returns
        -------
        str
            Text of several lines, the most serious findings first.
        """
        n_bad = int((~self.usable).sum())
        lines = [f"{len(self.usable)} structures, {n_bad or 'none'} of them unusable"]
        groups = self._groups()
        if not groups:
            return lines[0] + "; nothing found"
        for severity, check, findings in groups:
            lines.append(f"\n{severity.upper()}: {check.replace('_', ' ')} ({len(findings)})")
            shown = findings[:_MOST_SHOWN]
            lines += [f"  {self._where(f)}{f.message.splitlines()[0]}" for f in shown]
            if len(findings) > len(shown):
                lines.append(f"  ... and {len(findings) - len(shown)} more, all in the table")
            lines.append(f"  -> {findings[0].advice}")
        return "\n".join(lines)

    def _groups(self) -> list[tuple[str, str, list[Finding]]]:
        """Findings by check, the most serious first."""
        by_check: dict[str, list[Finding]] = {}
        for finding in self.findings:
            if finding.severity != "ok":
                by_check.setdefault(finding.check, []).append(finding)
        groups = [(found[0].severity, check, found) for check, found in by_check.items()]
        groups.sort(key=lambda group: SEVERITIES.index(group[0]))
        return [(str(severity), check, found) for severity, check, found in groups]

    def _where(self, finding: Finding) -> str:
        if finding.index is None:
            return ""
        name = "" if self.names is None else f" ({self.names[finding.index]})"
        return f"structure {finding.index}{name}: "

    def __str__(self) -> str:
        return self.summary()

    def __repr__(self) -> str:
        counts = {
            severity: sum(finding.severity == severity for finding in self.findings)
            for severity in SEVERITIES[:-1]
        }
        text = ", ".join(f"{severity}={count}" for severity, count in counts.items())
        return f"DataReport(n_structures={len(self.usable)}, {text})"

    def _repr_html_(self) -> str:
        rows = []
        for severity, check, findings in self._groups():
            where = "; ".join(
                escape(self._where(f) + f.message.splitlines()[0]) for f in findings[:_MOST_SHOWN]
            )
            more = "; ..." if len(findings) > _MOST_SHOWN else ""
            cells = (severity, check.replace("_", " "), str(len(findings)))
            rows.append(
                "<tr>"
                + "".join(f"<td>{escape(cell)}</td>" for cell in cells)
                + f"<td>{where}{more}</td><td>{escape(findings[0].advice)}</td></tr>"
            )
        head = "".join(f"<th>{title}</th>" for title in ("", "check", "times", "found", "advice"))
        title = escape(self.summary().splitlines()[0])
        return f"<p>{title}</p><table><tr>{head}</tr>{''.join(rows)}</table>"


def _in_order(findings: Sequence[Finding], n_structures: int) -> list[Finding]:
    """Findings of the whole data, then those of each structure, with one "none" for a sound one."""
    sound = set(range(n_structures)) - {f.index for f in findings if f.index is not None}
    everything = [*findings, *(Finding(index, "none", "") for index in sound)]
    return sorted(
        everything,
        key=lambda f: (-1 if f.index is None else f.index, SEVERITIES.index(f.severity)),
    )
