"""Error over the number of labels, per method."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import pandas as pd

from dssl_sklearn._checks import check_choice
from dssl_sklearn.exceptions import InvalidInputError
from dssl_sklearn.plotting.style import COLORS, MARKERS, axes_for, with_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Spread = Literal["std", "range"]
_COLUMNS = ("method", "n_labels", "mae")


class LearningCurveDisplay:
    """Mean absolute error over the number of labels, a curve per method, with its spread.

    Use `from_frame` to make one, for example of the ``folds`` of
    `dssl_sklearn.evaluation.compare_pretraining`.

    Parameters
    ----------
    frame : DataFrame
        Columns ``method``, ``n_labels`` and ``mae``; a row per fold or draw of the labels.
    target_name : str, default=None
        Name for the label.
    unit : str, default=None
        Unit for the label.

    Attributes
    ----------
    summary_ : DataFrame
        Columns ``method``, ``n_labels``, ``mean``, ``std``, ``min``, ``max`` and ``count``.
    ax_ : matplotlib Axes
        The curves.
    figure_ : matplotlib Figure
        Figure that holds them.

    Examples
    --------
    >>> import pandas as pd
    >>> from dssl_sklearn.plotting import LearningCurveDisplay
    >>> folds = pd.DataFrame(
    ...     {"method": "network", "n_labels": [50, 50, 100, 100], "mae": [0.4, 0.6, 0.2, 0.4]}
    ... )
    >>> LearningCurveDisplay.from_frame(folds, unit="eV").summary_["mean"].round(2).tolist()
    [0.5, 0.3]
    """

    def __init__(
        self, *, frame: pd.DataFrame, target_name: str | None = None, unit: str | None = None
    ) -> None:
        self.frame = frame
        self.target_name = target_name
        self.unit = unit

    @classmethod
    def from_frame(
        cls,
        frame: pd.DataFrame,
        *,
        target_name: str | None = None,
        unit: str | None = None,
        ax: Axes | None = None,
        **plot_params: Any,  # noqa: ANN401
    ) -> Self:
        """Draw.

        Parameters
        ----------
        frame : DataFrame
            Columns ``method``, ``n_labels`` and ``mae``; a row per fold or draw of the labels.
        target_name, unit : str, default=None
            For the label.
        ax : Axes, default=None
            Where to draw; None for a new figure.
        **plot_params
            Arguments of `plot`.

        Returns
        -------
        LearningCurveDisplay
            Drawn.

        Raises
        ------
        InvalidInputError
            If a column is missing or holds no numbers, or there is no row.
        MissingDependencyError
            If matplotlib is not installed.
        """
        if not isinstance(frame, pd.DataFrame):
            raise InvalidInputError(
                f"frame must be a pandas DataFrame, got {type(frame).__name__}; a comparison holds "
                "it as `folds`"
            )
        missing = [name for name in _COLUMNS if name not in frame]
        if missing:
            raise InvalidInputError(
                f"frame lacks the column {missing[0]!r}; it has {list(map(str, frame))} and needs "
                f"{list(_COLUMNS)}"
            )
        for name in _COLUMNS[1:]:
            if not pd.api.types.is_numeric_dtype(frame[name]):
                raise InvalidInputError(
                    f"frame has the column {name!r} of type {frame[name].dtype}, expected numbers"
                )
        if not frame["mae"].notna().any():
            raise InvalidInputError("frame has no row with a known 'mae'; there is nothing to draw")
        return cls(frame=frame, target_name=target_name, unit=unit).plot(ax, **plot_params)

    def plot(self, ax: Axes | None = None, *, spread: Spread = "std", log: bool = True) -> Self:
        """Draw.

        Parameters
        ----------
        ax : Axes, default=None
            Where to draw; None for a new figure.
        spread : {"std", "range"}, default="std"
            Band around the means: one standard deviation, or from the least to the greatest.
        log : bool, default=True
            Draw both axes on logarithmic scales, on which power laws are straight.

        Returns
        -------
        LearningCurveDisplay
            Itself.

        Raises
        ------
        InvalidInputError
            If `spread` is unknown.
        MissingDependencyError
            If matplotlib is not installed.
        """
        check_choice("spread", spread, ("std", "range"))
        ax = axes_for(ax, type(self).__name__, (5.6, 4.0))
        groups = self.frame.groupby(["method", "n_labels"], sort=False)["mae"]
        summary = groups.agg(["mean", "std", "min", "max", "count"]).reset_index()
        self.summary_ = summary.sort_values("n_labels", kind="stable", ignore_index=True)
        for number, method in enumerate(self.frame["method"].unique()):
            rows = self.summary_[self.summary_["method"] == method]
            self._draw_curve(ax, rows, str(method), number, spread)
        if log:
            self._set_log(ax)
        name = f"MAE of {self.target_name}" if self.target_name else "MAE"
        ax.set_xlabel("number of labels")
        ax.set_ylabel(with_unit(name, self.unit))
        ax.grid(visible=True, color="0.9", linewidth=0.6)
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False)
        self.ax_ = ax
        self.figure_: Figure = ax.get_figure(root=True)  # type: ignore[assignment]
        return self

    def _draw_curve(
        self, ax: Axes, rows: pd.DataFrame, method: str, number: int, spread: Spread
    ) -> None:
        color, marker = COLORS[number % len(COLORS)], MARKERS[number % len(MARKERS)]
        labels, mean = rows["n_labels"].to_numpy(), rows["mean"].to_numpy()
        ax.plot(labels, mean, color=color, marker=marker, markersize=5, label=method)
        if spread == "std":
            # Of a single fold there is no deviation.
            std = rows["std"].fillna(0.0).to_numpy()
            low, high = mean - std, mean + std
        else:
            low, high = rows["min"].to_numpy(), rows["max"].to_numpy()
        if len(rows) > 1:
            ax.fill_between(labels, low, high, color=color, alpha=0.15, linewidth=0)
        else:
            error = np.stack([mean - low, high - mean])
            ax.errorbar(labels, mean, error, color=color, capsize=3)

    def _set_log(self, ax: Axes) -> None:
        from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

        ax.set_xscale("log")
        ax.set_yscale("log")
        counts = np.unique(self.frame["n_labels"].to_numpy())
        ax.set_xticks(counts, [f"{count:g}" for count in counts])
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.xaxis.set_minor_locator(LogLocator(subs=()))
        # Errors span less than a decade as a rule: plain numbers, and more of them than powers.
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 4, 5, 7)))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda error, _: f"{error:g}"))
        ax.yaxis.set_minor_formatter(NullFormatter())
