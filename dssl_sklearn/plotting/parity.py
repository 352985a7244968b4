"""Predicted over true values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import gaussian_kde
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from dssl_sklearn.exceptions import InvalidInputError
from dssl_sklearn.plotting._checks import column, numbers, paired
from dssl_sklearn.plotting.style import COLORS, GRAY, SEQUENTIAL, axes_for, pyplot, with_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Points that the density is estimated from, and below which there is none worth a color.
_MAX_KERNELS, _MIN_KERNELS = 2000, 20


class ParityDisplay:
    """Predicted over true values, colored by the density of points, beside their errors.

    Use `from_estimator` or `from_predictions` to make one.

    Parameters
    ----------
    y_true, y_pred : ndarray of shape (n_structures,)
        Values; rows with NaN in one of them are left out.
    y_std : ndarray of shape (n_structures,), default=None
        Standard deviations of the predictions, drawn as error bars.
    target_name : str, default="target"
        Name for the axes.
    unit : str, default=None
        Unit for the axes and the legend.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Predicted over true.
    error_ax_ : matplotlib Axes or None
        Histogram of the errors.
    figure_ : matplotlib Figure
        Figure that holds both.
    mae_, rmse_, r2_ : float
        Scores on the rows that are drawn; R2 is NaN for a single one.

    Examples
    --------
    >>> from dssl_sklearn.plotting import ParityDisplay
    >>> display = ParityDisplay.from_predictions([1.0, 2.0, 3.0], [1.1, 1.9, 3.3], unit="eV")
    >>> round(display.mae_, 3), display.ax_.get_xlabel()
    (0.167, 'true target (eV)')
    """

    def __init__(
        self,
        *,
        y_true: NDArray[np.float64],
        y_pred: NDArray[np.float64],
        y_std: NDArray[np.float64] | None = None,
        target_name: str = "target",
        unit: str | None = None,
    ) -> None:
        self.y_true = y_true
        self.y_pred = y_pred
        self.y_std = y_std
        self.target_name = target_name
        self.unit = unit

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,  # noqa: ANN401 - any regressor
        X: Any,  # noqa: ANN401
        y: ArrayLike,
        *,
        target: int = 0,
        return_std: bool = False,
        target_name: str = "target",
        unit: str | None = None,
        ax: Axes | None = None,
        **plot_params: Any,  # noqa: ANN401
    ) -> Self:
        """Predict and draw.

        Parameters
        ----------
        estimator : estimator
            Fitted regressor.
        X : sequence of crystals
            As for its ``predict``, best crystals that it was not fitted on.
        y : array-like of shape (n_structures,) or (n_structures, n_targets)
            True values.
        target : int, default=0
            Column of `y` to show.
        return_std : bool, default=False
            Ask ``predict`` for standard deviations and draw them as error bars.
        target_name, unit : str
            For the labels.
        ax : Axes, default=None
            Where to draw; None for a new figure.
        **plot_params
            Arguments of `plot`.

        Returns
        -------
        ParityDisplay
            Drawn.

        Raises
        ------
        InvalidInputError
            If values do not fit together.
        MissingDependencyError
            If matplotlib is not installed.
        """
        predicted, std = estimator.predict(X, return_std=True) if return_std else (None, None)
        predicted = estimator.predict(X) if predicted is None else predicted
        return cls.from_predictions(
            column(y, target),
            column(predicted, target),
            y_std=None if std is None else column(std, target),
            target_name=target_name,
            unit=unit,
            ax=ax,
            **plot_params,
        )

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        y_pred: ArrayLike,
        *,
        y_std: ArrayLike | None = None,
        target_name: str = "target",
        unit: str | None = None,
        ax: Axes | None = None,
        **plot_params: Any,  # noqa: ANN401
    ) -> Self:
        """Draw given predictions, for example those of ``cross_val_predict``.

        Parameters
        ----------
        y_true, y_pred : array-like of shape (n_structures,)
            True and predicted values; rows with NaN in one of them are left out.
        y_std : array-like of shape (n_structures,), default=None
            Standard deviations of the predictions, drawn as error bars.
        target_name, unit : str
            For the labels.
        ax : Axes, default=None
            Where to draw; None for a new figure.
        **plot_params
            Arguments of `plot`.

        Returns
        -------
        ParityDisplay
            Drawn.

        Raises
        ------
        InvalidInputError
            If values do not fit together.
        MissingDependencyError
            If matplotlib is not installed.
        """
        true, predicted, known = paired(y_true, y_pred)
        std = None if y_std is None else numbers("y_std", y_std, len(true))
        if std is not None and (std < 0).any():
            raise InvalidInputError(f"y_std is negative at position {int(np.argmax(std < 0))}")
        display = cls(
            y_true=true[known],
            y_pred=predicted[known],
            y_std=None if std is None else std[known],
            target_name=target_name,
            unit=unit,
        )
        return display.plot(ax, **plot_params)

    def plot(
        self,
        ax: Axes | None = None,
        *,
        error_histogram: bool = True,
        cmap: str = SEQUENTIAL,
        scatter_kwargs: dict[str, Any] | None = None,
    ) -> Self:
        """Draw.

        Parameters
        ----------
        ax : Axes, default=None
            Where to draw; None for a new figure.
        error_histogram : bool, default=True
            Put the histogram of the errors to the right; with `ax` given, inside it.
        cmap : str, default="viridis"
            Colors of the density.
        scatter_kwargs : dict, default=None
            Arguments of matplotlib's ``scatter``.

        Returns
        -------
        ParityDisplay
            Itself.

        Raises
        ------
        MissingDependencyError
            If matplotlib is not installed.
        """
        self._score()
        ax, beside = self._axes(ax, error_histogram=error_histogram)
        both = np.concatenate([self.y_true, self.y_pred])
        margin = 0.04 * (np.ptp(both) or 1.0)
        limits = (both.min() - margin, both.max() + margin)
        ax.plot(limits, limits, color=GRAY, linewidth=1, zorder=1)
        if self.y_std is not None:
            ax.errorbar(
                self.y_true,
                self.y_pred,
                self.y_std,
                fmt="none",
                ecolor="0.75",
                elinewidth=0.8,
                zorder=1.5,
            )
        density = _density(self.y_true, self.y_pred)
        order = np.argsort(density)
        style: dict[str, Any] = {
            "s": 14,
            "linewidth": 0,
            "cmap": cmap,
            "zorder": 2,
            "rasterized": len(order) > 5000,
        }
        if np.ptp(density) == 0:
            style |= {"color": COLORS[0], "cmap": None}
        else:
            style["c"] = density[order]
        ax.scatter(
            self.y_true[order],
            self.y_pred[order],
            label=self._legend(),
            **(style | (scatter_kwargs or {})),
        )
        ax.set(xlim=limits, ylim=limits, aspect="equal")
        ax.set_xlabel(with_unit(f"true {self.target_name}", self.unit))
        ax.set_ylabel(with_unit(f"predicted {self.target_name}", self.unit))
        ax.legend(loc="upper left", handlelength=0, handletextpad=0, markerscale=0, frameon=False)
        self.error_ax_ = beside
        if beside is not None:
            self._draw_errors(beside)
        self.ax_ = ax
        self.figure_: Figure = ax.get_figure(root=True)  # type: ignore[assignment]
        return self

    def _score(self) -> None:
        self.mae_ = float(mean_absolute_error(self.y_true, self.y_pred))
        self.rmse_ = float(root_mean_squared_error(self.y_true, self.y_pred))
        # Of a single point there is none, and scikit-learn would warn.
        enough = len(self.y_true) > 1
        self.r2_ = float(r2_score(self.y_true, self.y_pred)) if enough else float("nan")

    def _legend(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        return (
            f"MAE {self.mae_:.3g}{unit}\nRMSE {self.rmse_:.3g}{unit}\n"
            f"$R^2$ {self.r2_:.3f}\n{len(self.y_true)} structures"
        )

    def _axes(self, ax: Axes | None, *, error_histogram: bool) -> tuple[Axes, Axes | None]:
        """Axes of the parity plot and of the histogram, which the user's axes hold inside."""
        name = type(self).__name__
        if not error_histogram:
            return axes_for(ax, name, (4.6, 4.4)), None
        if ax is not None:
            inside = ax.inset_axes((0.66, 0.06, 0.2, 0.42), zorder=5)
            inside.tick_params(labelsize="x-small")
            return ax, inside
        _, (new, beside) = pyplot(name).subplots(
            1, 2, figsize=(6.8, 4.4), width_ratios=(3, 1), layout="constrained"
        )
        new.set_anchor("E")
        beside.set_anchor("W")
        beside.set_box_aspect(3)
        return new, beside

    def _draw_errors(self, ax: Axes) -> None:
        error = self.y_pred - self.y_true
        # A few failures must not squeeze the others into one bar: they count in the last one.
        reach = 1.05 * max(float(np.quantile(np.abs(error), 0.99)), 1e-12)
        inside = np.clip(error, -reach, reach)
        n_bins = int(np.clip(np.sqrt(len(error)), 11, 41)) | 1
        bins = np.linspace(-reach, reach, n_bins + 1)
        ax.hist(inside, bins=bins.tolist(), orientation="horizontal", color=COLORS[0], alpha=0.75)
        ax.axhline(0, color=GRAY, linewidth=1)
        ax.axhline(error.mean(), color=COLORS[1], linewidth=1.5, linestyle="--")
        ax.set_title(f"mean {error.mean():+.2g}", color=COLORS[1], fontsize="small")
        ax.yaxis.tick_right()
        ax.yaxis.set_label_position("right")
        ax.set_ylim(-reach, reach)
        ax.spines[["top", "left"]].set_visible(False)
        # Inside the user's axes there is room for the numbers only.
        if ax.get_subplotspec() is not None:
            ax.set_xlabel("structures")
            ax.set_ylabel(with_unit("error, predicted minus true", self.unit))
        else:
            ax.set_xticks([])
            ax.set_ylabel("error", fontsize="x-small", labelpad=1)


def _density(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Relative density of points at each of them; constant where it says nothing."""
    points = np.stack([x, y])
    flat = np.ptp(x) == 0 or np.ptp(y) == 0
    if flat or points.shape[1] < _MIN_KERNELS or np.ptp(y - x) < 1e-9 * np.ptp(x):
        return np.ones(len(x))
    step = -(-points.shape[1] // _MAX_KERNELS)
    try:
        density: NDArray[np.float64] = gaussian_kde(points[:, ::step])(points)
    except np.linalg.LinAlgError:
        # All points on one line.
        return np.ones(len(x))
    relative: NDArray[np.float64] = density / density.max()
    return relative
