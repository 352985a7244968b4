"""What the displays share: matplotlib when it is first needed, colors, labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dssl_sklearn._optional import import_optional

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Colors that also color-blind readers tell apart (Okabe and Ito, https://jfly.uni-koeln.de/color),
#: without the yellow, which is faint on white.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
#: One marker per color, so that prints without color can be read, too.
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
#: Points, texts and lines that only give context.
GRAY = "0.6"
#: Continuous values; lightness rises with the value, for all readers.
SEQUENTIAL = "viridis"
#: Signed values, white at zero; its two ends differ in hue for color-blind readers.
DIVERGING = "PuOr_r"


def pyplot(caller: str) -> Any:  # noqa: ANN401 - a module
    """Import ``matplotlib.pyplot``.

    Parameters
    ----------
    caller : str
        Class that needs it, for the message.

    Raises
    ------
    MissingDependencyError
        If matplotlib is not installed.
    """
    return import_optional("matplotlib.pyplot", caller, "plot")


def axes_for(ax: Axes | None, caller: str, figsize: tuple[float, float]) -> Axes:
    """Take the user's axes, or those of a new figure.

    Parameters
    ----------
    ax : Axes or None
        What the user handed in.
    caller : str
        Class that draws.
    figsize : tuple of float
        Width and height of a new figure in inches.

    Returns
    -------
    Axes
        Where to draw.
    """
    plt = pyplot(caller)
    if ax is not None:
        return ax
    _, new = plt.subplots(figsize=figsize, layout="constrained")
    return new  # type: ignore[no-any-return]


def with_unit(name: str, unit: str | None) -> str:
    """Return ``"name (unit)"``, or the name alone."""
    return f"{name} ({unit})" if unit else name


def ink_on(face: Sequence[float]) -> str:
    """Black or white, whichever is easier to read on an RGB color (WCAG 2's luminance)."""
    rgb = np.array(face[:3])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    luminance = float(linear @ [0.2126, 0.7152, 0.0722])
    # Where both have the same contrast.
    return "black" if luminance > 0.179 else "white"
