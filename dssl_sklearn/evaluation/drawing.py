"""Plots of a comparison."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dssl_sklearn.plotting import LearningCurveDisplay

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from dssl_sklearn.evaluation.result import PretrainingComparison

#: Methods that use the pretrained weights stand out.
_PRETRAINED = ("pretrained", "embeddings")


def draw_bars(comparison: PretrainingComparison, ax: Axes) -> Axes:
    """Draw a bar for each method, with its folds as points."""
    names = list(comparison.titles)
    means = comparison.summary()["mae"]
    places = np.arange(len(names))
    colors = ["C0" if name in _PRETRAINED else "0.7" for name in names]
    ax.barh(places, means[names], color=colors, height=0.7)
    for place, name in zip(places, names, strict=True):
        errors = comparison.folds.loc[comparison.folds["method"] == name, "mae"]
        ax.plot(errors, np.full(len(errors), place), "k.", markersize=4)
    ax.set_yticks(places, [comparison.titles[name] for name in names])
    ax.invert_yaxis()
    ax.set(xlabel="mean absolute error", title=f"pretrained: {comparison.pretrained}")
    return ax


def draw_curves(comparison: PretrainingComparison, ax: Axes) -> Axes:
    """Draw mean and standard deviation of each method over the number of labels."""
    named = comparison.folds.assign(method=comparison.folds["method"].map(comparison.titles))
    LearningCurveDisplay.from_frame(named, ax=ax)
    ax.set_title(f"pretrained: {comparison.pretrained}")
    return ax
