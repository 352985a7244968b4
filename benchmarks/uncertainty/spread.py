"""How well the standard deviation that a regressor returns tells the size of its errors.

    python benchmarks/uncertainty/spread.py              # measure, then write page and results
    python benchmarks/uncertainty/spread.py --page-only  # write the page from the results

Labels are drawn from four fifths of the formulas of a shipped set, 300 crystals of the last fifth
are predicted with all defaults, as in ``shipped.py``.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

# `common` and `shipped` are in the folder above.
sys.path.insert(1, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from common import environment, fill_page, write_json
from scipy.stats import spearmanr
from shipped import LOADERS, drawn

from dssl_sklearn import DSSLRegressor

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "spread.json"
WEIGHTS = ("mp", "mp-distilled")
N_LABELS = (100, 400)
N_DRAWS = 3
FIGURES = ("one", "two", "rank")


def main() -> None:
    """Measure, write results and page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--page-only", action="store_true", help="measure nothing")
    if not parser.parse_args().page_only:
        torch.set_num_threads(1)
        rows = [
            {"task": task, "labels": n_labels, "weights": weights, "draws": draws}
            for task in LOADERS
            for n_labels in N_LABELS
            for weights in WEIGHTS
            if (draws := [measure(task, n_labels, weights, draw) for draw in range(N_DRAWS)])
        ]
        write_json(RESULTS, {**environment(), "rows": rows})
    page = ROOT / "docs" / "guide" / "uncertainty.md"
    fill_page(page, {"spread": table(json.loads(RESULTS.read_text(encoding="utf-8"))["rows"])})


def measure(task: str, n_labels: int, weights: str, draw: int) -> dict[str, float]:
    """Share of the errors within one and two deviations, and the rank correlation of both."""
    load, target = LOADERS[task]
    structures, y = load(target=target, return_X_y=True)
    labeled, (tested, known) = drawn(structures, y, n_labels, draw)
    model = DSSLRegressor(pretrained=weights, random_state=draw).fit(*labeled)
    predictions, deviations = model.predict(tested, return_std=True)
    errors = np.abs(predictions - known)
    print(task, n_labels, weights, draw, flush=True)
    return {
        "one": float(np.mean(errors < deviations)),
        "two": float(np.mean(errors < 2 * deviations)),
        "rank": float(spearmanr(errors, deviations).statistic),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Means and standard deviations over the draws."""
    lines = [
        "| property | labels | weights | within one (normal: 68 %) | within two (95 %) | rank |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        values = {name: np.array([draw[name] for draw in row["draws"]]) for name in FIGURES}
        one, two = (
            f"{100 * values[name].mean():.0f} ± {100 * values[name].std(ddof=1):.0f} %"
            for name in ("one", "two")
        )
        rank = f"{values['rank'].mean():.2f} ± {values['rank'].std(ddof=1):.2f}"
        names = [row["task"], str(row["labels"]), f'`"{row["weights"]}"`']
        lines.append("| " + " | ".join([*names, one, two, rank]) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
