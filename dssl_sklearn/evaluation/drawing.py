"""Plots of a comparison."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

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
    summary = comparison.summary()
    for name, title in comparison.titles.items():
        curve = summary.loc[name]
        style = "-" if name in _PRETRAINED else "--"
        ax.errorbar(
            *(curve.index, curve["mae"], curve["std"]),
            label=title,
            linestyle=style,
            marker="o",
            markersize=4,
            capsize=2,
        )
    ax.set(xscale="log", yscale="log", xlabel="labels", ylabel="mean absolute error")
    ax.set_xticks(comparison.label_counts, [str(n) for n in comparison.label_counts])
    ax.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
    ax.set_title(f"pretrained: {comparison.pretrained}")
    ax.legend(frameon=False, fontsize="small")
    return ax
