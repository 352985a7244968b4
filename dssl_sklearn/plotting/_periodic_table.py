"""Where the elements stand in the periodic table, and drawing it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dssl_sklearn.crystals.elements import ELEMENT_SYMBOLS
from dssl_sklearn.plotting.style import ink_on

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable

#: First element of each period, and one past the last.
_PERIODS = (1, 3, 11, 19, 37, 55, 87, 119)
#: Elements of a period that stand at the left, above the transition metals' columns.
_N_LEFT = 2
#: Rows of the lanthanides and actinides, apart from the others by a gap.
_F_BLOCK_ROW = {6: 8.4, 7: 9.4}
#: An empty cell, and one without enough crystals.
_NO_VALUE = "0.94"
#: Inches across the table from which on texts have their full size.
_FULL_WIDTH = 7.0


def table_position(number: int) -> tuple[float, float]:
    """Row and column of an element in the table with 18 columns.

    Parameters
    ----------
    number : int
        Atomic number, 1 to 103.

    Returns
    -------
    row, column : float
        From 1; lanthanides and actinides (Lu and Lr in group 3) stand in the rows 8.4 and 9.4.

    Examples
    --------
    >>> table_position(26), table_position(8), table_position(57)
    ((4, 8), (2, 16), (8.4, 4))
    """
    period = int(np.searchsorted(_PERIODS, number, side="right"))
    place = number - _PERIODS[period - 1] + 1
    length = _PERIODS[period] - _PERIODS[period - 1]
    if place <= _N_LEFT and number != 2:
        return period, place
    from_right = length - place
    if from_right < 16:
        return period, 18 - from_right
    return _F_BLOCK_ROW[period], place + 1


def text_scale(ax: Axes) -> float:
    """Size of texts that fit the cells, in units of that in a figure of its own, at most 1."""
    figure: Any = ax.get_figure(root=True)
    return float(min(1.0, ax.get_position().width * figure.get_figwidth() / _FULL_WIDTH))


def draw_table(
    ax: Axes, values: pd.Series, counts: pd.Series, mappable: ScalarMappable, fmt: str
) -> None:
    """Draw a cell per element: symbol, value, and number of crystals.

    Parameters
    ----------
    ax : Axes
        Where to draw; its limits and frame are set.
    values : Series
        Values by symbol; other elements stay empty.
    counts : Series
        Numbers of crystals by symbol.
    mappable : ScalarMappable
        Value to color.
    fmt : str
        Format of the values, such as ".2f".
    """
    from matplotlib.patches import Rectangle

    scale = text_scale(ax)
    for number, symbol in enumerate(ELEMENT_SYMBOLS[1:], start=1):
        row, column = table_position(number)
        known = symbol in values.index
        face: Any = mappable.to_rgba(np.array(values[symbol])) if known else _NO_VALUE
        ax.add_patch(
            Rectangle((column - 0.47, row - 0.47), 0.94, 0.94, facecolor=face, edgecolor="none")
        )
        ink = ink_on(face) if known else "0.55"
        ax.text(column - 0.4, row - 0.12, symbol, color=ink, fontsize=9 * scale, fontweight="bold")
        if symbol in counts.index:
            ax.text(
                column + 0.41,
                row - 0.17,
                f"{counts[symbol]}",
                color=ink,
                fontsize=5.5 * scale,
                ha="right",
            )
        if known:
            text = format(float(values[symbol]), fmt)
            ax.text(column, row + 0.32, text, color=ink, fontsize=7.5 * scale, ha="center")
    ax.set(xlim=(0.4, 18.6), ylim=(10.0, 0.4), aspect="equal")
    ax.axis("off")
