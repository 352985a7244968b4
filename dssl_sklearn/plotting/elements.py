"""Error per element on the periodic table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from dssl_sklearn._checks import check_integer
from dssl_sklearn._optional import import_optional
from dssl_sklearn.crystals.elements import ELEMENT_SYMBOLS
from dssl_sklearn.crystals.inputs import as_sequence, read_crystals
from dssl_sklearn.exceptions import InvalidInputError, InvalidStructureError
from dssl_sklearn.plotting._checks import column, paired
from dssl_sklearn.plotting._periodic_table import draw_table, text_scale
from dssl_sklearn.plotting.style import SEQUENTIAL, axes_for, pyplot, with_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class ElementErrorDisplay:
    """Mean absolute error over the crystals that contain an element, on the periodic table.

    Use `from_estimator` or `from_predictions` to make one. A crystal counts once for each of its
    elements, however many atoms of it there are.

    Parameters
    ----------
    errors : Series
        Mean absolute errors by symbol of the element.
    counts : Series
        Numbers of crystals by symbol.
    target_name : str, default="target"
        Name for the label.
    unit : str, default=None
        Unit for the label.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The table; the small number in a cell counts the crystals.
    colorbar_ : matplotlib Colorbar
        Scale of the errors.
    figure_ : matplotlib Figure
        Figure that holds them.
    """

    def __init__(
        self,
        *,
        errors: pd.Series,
        counts: pd.Series,
        target_name: str = "target",
        unit: str | None = None,
    ) -> None:
        self.errors = errors
        self.counts = counts
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
        target_name, unit : str
            For the label.
        ax : Axes, default=None
            Where to draw; None for a new figure.
        **plot_params
            Arguments of `plot`.

        Returns
        -------
        ElementErrorDisplay
            Drawn.

        Raises
        ------
        InvalidInputError, InvalidStructureError
            If values do not fit together or a crystal cannot be used.
        MissingDependencyError
            If matplotlib is not installed.
        """
        return cls.from_predictions(
            X,
            column(y, target),
            column(estimator.predict(X), target),
            target_name=target_name,
            unit=unit,
            ax=ax,
            **plot_params,
        )

    @classmethod
    def from_predictions(
        cls,
        X: Any,  # noqa: ANN401
        y_true: ArrayLike,
        y_pred: ArrayLike,
        *,
        target_name: str = "target",
        unit: str | None = None,
        ax: Axes | None = None,
        **plot_params: Any,  # noqa: ANN401
    ) -> Self:
        """Draw given predictions.

        Parameters
        ----------
        X : sequence of crystals
            Crystals, for their elements.
        y_true, y_pred : array-like of shape (n_structures,)
            True and predicted values; rows with NaN in one of them are left out.
        target_name, unit : str
            For the label.
        ax : Axes, default=None
            Where to draw; None for a new figure.
        **plot_params
            Arguments of `plot`.

        Returns
        -------
        ElementErrorDisplay
            Drawn.

        Raises
        ------
        InvalidInputError, InvalidStructureError
            If values do not fit together or a crystal cannot be used.
        MissingDependencyError
            If matplotlib is not installed.
        """
        items = as_sequence(X)
        true, predicted, known = paired(y_true, y_pred)
        if len(true) != len(items):
            raise InvalidInputError(
                f"X and y_true have inconsistent lengths: {len(items)} structures, "
                f"{len(true)} values"
            )
        rows = np.flatnonzero(known)
        table = pd.DataFrame(
            {
                "error": np.abs(predicted - true)[rows],
                "element": _elements(items, rows.tolist()),
            }
        ).explode("element")
        errors = table.groupby("element")["error"]
        display = cls(
            errors=errors.mean(), counts=errors.size(), target_name=target_name, unit=unit
        )
        return display.plot(ax, **plot_params)

    def plot(
        self,
        ax: Axes | None = None,
        *,
        min_count: int = 1,
        fmt: str = ".2g",
        cmap: str = SEQUENTIAL,
    ) -> Self:
        """Draw.

        Parameters
        ----------
        ax : Axes, default=None
            Where to draw; None for a new figure.
        min_count : int, default=1
            Leave the errors of elements in fewer crystals out: the mean of few says little.
        fmt : str, default=".2g"
            Format of the errors.
        cmap : str, default="viridis"
            Colors of the errors.

        Returns
        -------
        ElementErrorDisplay
            Itself.

        Raises
        ------
        InvalidInputError
            If no element occurs in `min_count` crystals.
        MissingDependencyError
            If matplotlib is not installed.
        """
        shown = self._shown(min_count)
        ax = axes_for(ax, type(self).__name__, (9.2, 5.4))
        plt = pyplot(type(self).__name__)
        norm = plt.Normalize(float(shown.min()), float(shown.max()))
        mappable = plt.cm.ScalarMappable(norm, cmap)
        draw_table(ax, shown, self.counts, mappable, fmt)
        # In the empty place above the transition metals.
        place = ax.inset_axes((0.19, 0.89, 0.4, 0.035))
        self.colorbar_ = ax.figure.colorbar(mappable, cax=place, orientation="horizontal")
        size = 10 * text_scale(ax)
        self.colorbar_.set_label(self._label(), size=size)
        place.tick_params(labelsize=size)
        self.ax_ = ax
        self.figure_: Figure = ax.get_figure(root=True)  # type: ignore[assignment]
        return self

    def interactive(self, *, min_count: int = 1, fmt: str = ".2g") -> Any:  # noqa: ANN401
        """Make the same table to hover over, with plotly.

        Parameters
        ----------
        min_count : int, default=1
            As for `plot`.
        fmt : str, default=".2g"
            As for `plot`.

        Returns
        -------
        plotly Figure
            What pymatviz's ``ptable_heatmap`` makes.

        Raises
        ------
        InvalidInputError
            If no element occurs in `min_count` crystals.
        MissingDependencyError
            If pymatviz is not installed.
        """
        shown = self._shown(min_count)
        advice = "; plot needs matplotlib only"
        pymatviz = import_optional("pymatviz", "interactive", "pymatviz", advice)
        counts = {symbol: f"{count} structures" for symbol, count in self.counts.items()}
        return pymatviz.ptable_heatmap(
            shown.to_dict(), fmt=fmt, hover_data=counts, colorbar={"title": self._label()}
        )

    def _shown(self, min_count: int) -> pd.Series:
        check_integer("min_count", min_count)
        shown = self.errors[self.counts >= min_count]
        if not len(shown):
            raise InvalidInputError(
                f"min_count={min_count}, but no element occurs in more than "
                f"{int(self.counts.max())} structures; lower it"
            )
        return shown

    def _label(self) -> str:
        return with_unit(f"mean absolute error of {self.target_name}", self.unit)


def _elements(items: Sequence[Any], rows: Sequence[int]) -> list[list[str]]:
    """Symbols of the elements of each of these crystals."""
    try:
        table = read_crystals([items[row] for row in rows])
    except InvalidStructureError as error:
        reasons = {rows[place]: reason for place, reason in error.reasons.items()}
        raise InvalidStructureError(reasons, len(items)) from None
    numbers = (np.unique(table[row].numbers) for row in range(len(table)))
    return [[ELEMENT_SYMBOLS[number] for number in of_crystal] for of_crystal in numbers]
