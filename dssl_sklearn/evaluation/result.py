"""What `compare_pretraining` found, as tables, text and a plot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dssl_sklearn.evaluation.drawing import draw_bars, draw_curves
from dssl_sklearn.evaluation.paired import PairedDifference
from dssl_sklearn.exceptions import InvalidInputError
from dssl_sklearn.plotting.style import axes_for

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Method that the others are compared with, and the one under test.
_REFERENCE = "scratch"
_TESTED = "pretrained"


class PretrainingComparison:
    """Errors of several methods on the same folds, made by `compare_pretraining`.

    Parameters
    ----------
    folds : DataFrame
        See the attribute.
    titles : mapping of str to str
        Names of the methods for people.
    pretrained : str
        Which pretrained network it was.
    n_structures : int
        How many crystals took part.
    feature_source : str
        What made the features of compositions, empty if nothing did.
    is_curve : bool
        Whether several numbers of labels were asked for.

    Attributes
    ----------
    folds : DataFrame of shape (n_methods * n_folds * n_counts, 5)
        One row for each method, fold and number of labels: ``method``, ``fold``, ``n_labels``,
        ``mae`` (in the unit of y) and ``fit_seconds``.
    """

    def __init__(
        self,
        folds: pd.DataFrame,
        *,
        titles: Mapping[str, str],
        pretrained: str,
        n_structures: int,
        feature_source: str,
        is_curve: bool,
    ) -> None:
        self.folds = folds
        self.titles = dict(titles)
        self.pretrained = pretrained
        self.n_structures = n_structures
        self.feature_source = feature_source
        self.is_curve = is_curve

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(methods={list(self.titles)}, "
            f"n_folds={self.folds['fold'].nunique()}, pretrained={self.pretrained!r}, "
            f"negative_transfer={self.negative_transfer})"
        )

    # ---- numbers ---------------------------------------------------------------------------

    def summary(self) -> pd.DataFrame:
        """Summarize the folds.

        Returns
        -------
        DataFrame
            One row for each method, or for each method and ``n_labels`` of a learning curve.
            ``mae`` and ``std`` are mean and standard deviation over the folds, ``fit_seconds`` the
            mean time of a fit; ``vs_scratch`` is the paired difference to the network from
            scratch in the unit of y, negative where the method is better, with its 95 % interval
            ``vs_scratch_low`` to ``vs_scratch_high``, and the three with ``_percent`` are the same
            in percent of the error from scratch. NaN where there is nothing to compare with.
        """
        by = ["method", "n_labels"] if self.is_curve else ["method"]
        # Sorting keys alone keeps the order of the methods.
        grouped = self.folds.groupby(by, sort=False)
        table = pd.DataFrame(
            {
                "mae": grouped["mae"].mean(),
                "std": grouped["mae"].std(),
                "fit_seconds": grouped["fit_seconds"].mean(),
            }
        )
        return table.join(pd.DataFrame([self._versus(key) for key in table.index], table.index))

    def _versus(self, key: Any) -> dict[str, float]:  # noqa: ANN401 - a label of the summary
        method, n_labels = key if self.is_curve else (key, None)
        found = None if method == _REFERENCE else self.difference(method, n_labels)
        values = (found.mean, found.low, found.high) if found else (float("nan"),) * 3
        names = ("vs_scratch", "vs_scratch_low", "vs_scratch_high")
        row = dict(zip(names, values, strict=True))
        for name, value in zip(names, values, strict=True):
            row[f"{name}_percent"] = found.percent(value) if found else float("nan")
        return row

    def difference(
        self, method: str = _TESTED, n_labels: int | None = None
    ) -> PairedDifference | None:
        """Compare a method with the network from scratch fold by fold.

        Parameters
        ----------
        method : str, default="pretrained"
            One of the methods.
        n_labels : int, default=None
            A point of the learning curve; None for the largest.

        Returns
        -------
        PairedDifference or None
            Of the mean absolute errors; None if either method is missing.

        Raises
        ------
        InvalidInputError
            If this number of labels was not asked for.
        """
        folds = self.folds
        if self.is_curve:
            counts = self.label_counts
            wanted = counts[-1] if n_labels is None else n_labels
            if wanted not in counts:
                raise InvalidInputError(f"n_labels is {n_labels!r}, expected one of {counts}.")
            folds = folds[folds["n_labels"] == wanted]
        errors = folds.pivot_table(index="fold", columns="method", values="mae")
        if method not in errors or _REFERENCE not in errors:
            return None
        return PairedDifference.of(errors[method], errors[_REFERENCE])

    @property
    def label_counts(self) -> list[int]:
        """Points of the learning curve, empty without one."""
        return sorted(self.folds["n_labels"].unique().tolist()) if self.is_curve else []

    def _tested(self) -> dict[int | None, PairedDifference]:
        """Differences of the pretrained network, by number of labels."""
        counts: list[int | None] = [*self.label_counts] or [None]
        found = {n: self.difference(n_labels=n) for n in counts}
        return {n: difference for n, difference in found.items() if difference is not None}

    @property
    def negative_transfer(self) -> bool:
        """Whether pretraining made the network worse beyond the interval, at any label count."""
        return any(difference.is_worse for difference in self._tested().values())

    # ---- words -----------------------------------------------------------------------------

    def verdict(self) -> str:
        """Say in a sentence or two whether pretraining helped.

        Returns
        -------
        str
            One line for each number of labels.
        """
        tested = self._tested()
        if not tested:
            return "Whether pretraining helps needs both methods, 'scratch' and 'pretrained'."
        return "\n".join(
            (f"With {n} labels: " if n is not None else "") + _sentence(difference)
            for n, difference in tested.items()
        )

    def report(self) -> str:
        """Write everything down as text.

        Returns
        -------
        str
            A table of the methods, the verdict, and what is best.
        """
        summary = self.summary()
        shown = pd.DataFrame(
            {
                "MAE": summary["mae"].map("{:.4g}".format),
                "std": summary["std"].map("{:.2g}".format),
                "vs scratch": [_interval(row) for _, row in summary.iterrows()],
                "fit, s": summary["fit_seconds"].map("{:.3g}".format),
            }
        )
        names = shown.index.get_level_values("method").map(self.titles)
        shown.insert(0, "", names)
        if self.is_curve:
            shown.insert(1, "labels", shown.index.get_level_values("n_labels"))
        n_folds = self.folds["fold"].nunique()
        title = f"Mean absolute error of {self.n_structures} structures over {n_folds} folds"
        lines = [
            f"{title}; pretrained: {self.pretrained}.",
            "",
            shown.to_string(index=False),
            "",
            self.verdict(),
            self._best(),
        ]
        if self.feature_source:
            lines.append(f"Features of compositions: {self.feature_source}.")
        lines.append(
            "Differences are paired by fold, with a 95 % interval of Student's t; folds share "
            "training structures, so that it is somewhat too narrow."
        )
        return "\n".join(lines)

    def _best(self) -> str:
        errors = self.folds
        if self.is_curve:
            errors = errors[errors["n_labels"] == self.label_counts[-1]]
        means = errors.groupby("method")["mae"].mean()
        best = str(means.idxmin())
        return (
            f"Lowest error{' with the most labels' if self.is_curve else ''}: {self.titles[best]}."
        )

    # ---- plot ------------------------------------------------------------------------------

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the errors: a bar for each method, or a learning curve.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None for a new figure.

        Returns
        -------
        matplotlib Axes
            Bars with the folds as points, or mean and standard deviation over the number of labels
            on logarithmic axes.

        Raises
        ------
        MissingDependencyError
            If matplotlib is not installed.
        """
        draw = draw_curves if self.is_curve else draw_bars
        return draw(self, axes_for(ax, "PretrainingComparison.plot", (6.4, 3.6)))


def _sentence(difference: PairedDifference) -> str:
    change, low, high = map(difference.percent, (difference.mean, difference.low, difference.high))
    interval = f"95 % interval {low:+.1f} to {high:+.1f} %"
    if difference.is_better:
        return f"Pretraining helped: it changed the error by {change:+.1f} % ({interval})."
    if difference.is_worse:
        return (
            f"Negative transfer: pretraining changed the error by {change:+.1f} % ({interval}); "
            "use the network from scratch, or weights from crystals more like yours."
        )
    if not np.isfinite(difference.half_width):
        return f"A single fold ({change:+.1f} %) cannot tell pretraining from chance; use more."
    return (
        f"Pretraining made no difference beyond noise: {change:+.1f} % ({interval}); more folds "
        "or fewer labels would show more."
    )


def _interval(row: Any) -> str:  # noqa: ANN401 - a row of the summary
    if np.isnan(row["vs_scratch_percent"]):
        return ""
    return (
        f"{row['vs_scratch_percent']:+.1f} % "
        f"[{row['vs_scratch_low_percent']:+.1f}, {row['vs_scratch_high_percent']:+.1f}]"
    )
