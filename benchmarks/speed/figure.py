"""Figure of the curves."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def draw_growth(curves: dict[str, Any], path: Path) -> None:
    """Draw cost against size on logarithmic axes, a panel for each kind of size.

    Parameters
    ----------
    curves : dict
        As the growth section holds them.
    path : Path
        SVG file to write.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    axes_of: dict[str, list[str]] = {}
    for name, curve in curves.items():
        if name != "run":
            axes_of.setdefault(curve["axis"], []).append(name)
    # The same results give the same file.
    with mpl.rc_context({"svg.hashsalt": "speed", "font.size": 9}):
        figure = Figure(figsize=(3.2 * len(axes_of), 3.2), layout="constrained")
        panels = figure.subplots(1, len(axes_of), squeeze=False)[0]
        for panel, (axis, names) in zip(panels, axes_of.items(), strict=True):
            for name in names:
                curve = curves[name]
                seconds = [point["median"] for point in curve["seconds"]]
                panel.loglog(curve["x"], seconds, "o-", label=name.partition(", ")[0])
            x = curves[names[0]]["x"]
            lowest = min(point["median"] for n in names for point in curves[n]["seconds"])
            panel.loglog(x, [lowest * v / x[-1] for v in x], ":", color="gray", label="linear")
            panel.set_xlabel(axis)
            # Marks of a logarithmic axis of less than two decades would run into each other.
            panel.set_xticks(x, labels=[f"{v:g}" for v in x], minor=False)
            panel.set_xticks([], minor=True)
            panel.legend(frameon=False, fontsize=7)
        panels[0].set_ylabel("CPU-seconds")
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None})
