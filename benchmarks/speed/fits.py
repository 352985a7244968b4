"""How a cost grows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike


def power_law(x: ArrayLike, y: ArrayLike) -> float:
    """Exponent p of the power law ``y = c x^p`` that fits best on logarithmic axes.

    Parameters
    ----------
    x, y : array-like of shape (n,)
        Positive numbers.

    Returns
    -------
    float
        The exponent; 1 for a cost that grows in proportion.
    """
    return float(np.polyfit(np.log(np.asarray(x)), np.log(np.asarray(y)), 1)[0])


def last_exponent(x: Sequence[float], y: Sequence[float]) -> float:
    """Exponent between the last two points, where constant costs weigh least."""
    return power_law(x[-2:], y[-2:])
