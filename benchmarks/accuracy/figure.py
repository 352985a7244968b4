"""The learning curves as a figure."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from accuracy.summary import Series
from accuracy.tasks import CURVE_SIZES, TASKS

_COLUMNS = 4
_MARKERS = "osD^v<>Xp*hP"


def draw_curves(
    series: Mapping[tuple[str, str, int], Series], titles: Mapping[str, str], path: Path
) -> None:
    """Draw the mean error over the draws against the number of labels, one panel a task.

    Parameters
    ----------
    series : mapping of (task, method, n_labels) to Series
        Errors.
    titles : mapping of str to str
        Title by method.
    path : Path
        SVG file.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, StrMethodFormatter

    shown = [name for name, spec in TASKS.items() if not spec.untouched]
    tasks = [task for task in shown if any(key[0] == task for key in series)]
    if not tasks:
        return
    n_rows = -(-(len(tasks) + 1) // _COLUMNS)  # one panel is left for the legend
    figure = Figure(figsize=(3.4 * _COLUMNS, 3.0 * n_rows), layout="constrained")
    panels = figure.subplots(n_rows, _COLUMNS, squeeze=False).ravel()
    colors = mpl.colormaps["tab20"]
    for axes in panels[len(tasks) :]:
        axes.set_axis_off()
    for axes, task in zip(panels, tasks, strict=False):
        for index, (name, marker) in enumerate(zip(titles, cycle(_MARKERS), strict=False)):
            sizes = [size for size in CURVE_SIZES if (task, name, size) in series]
            if not sizes:
                continue
            found = [series[task, name, size] for size in sizes]
            axes.errorbar(
                sizes,
                [s.mean for s in found],
                yerr=np.nan_to_num([s.deviation for s in found]),
                label=titles[name],
                color=colors(index % colors.N),
                marker=marker,
                markersize=4,
                linewidth=1,
                elinewidth=0.5,
            )
        axes.set(xscale="log", yscale="log", title=TASKS[task].title, xlabel="labels")
        axes.set_ylabel(f"MAE, {TASKS[task].unit}")
        axes.set_xticks(CURVE_SIZES, [str(size) for size in CURVE_SIZES])
        # A decade or less: the powers of ten alone would leave the axis empty.
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.minorticks_off()
    handles: dict[str, Any] = {}
    for axes in panels[: len(tasks)]:
        handles |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    panels[len(tasks)].legend(handles.values(), handles.keys(), loc="center", frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Without the date, so that equal results make equal files.
    with mpl.rc_context({"svg.hashsalt": "accuracy"}):
        figure.savefig(path, metadata={"Date": None})
