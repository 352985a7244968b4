"""Does learning logarithms of positive targets pay? Validation rows, few labels.

    python benchmarks/target_scale.py --labels 100 --draws 3
    python benchmarks/target_scale.py --labels 100 --draws 3 --pretrained none

For each task and draw a `DSSLRegressor` learns the labels with ``target_scale`` "linear", "log"
(where all targets are positive) and "auto", and predicts held-out formulas of the training part of
one split, those of ``shipped.py``. Prints mean absolute errors and writes JSON.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import environment, write_json
from shipped import LOADERS, drawn, parse_options

from dssl_sklearn import DSSLRegressor


def main() -> None:
    """Fit, print and write."""
    options = parse_options(__doc__, Path("outputs/target_scale.json"))
    torch.set_num_threads(1)
    pretrained = None if options.pretrained == "none" else options.pretrained
    results: dict[str, list[dict[str, Any]]] = {}
    for task in options.tasks:
        results[task] = [
            errors(task, options.labels, draw, pretrained, options.epochs)
            for draw in range(options.draws)
        ]
        for scale in results[task][0]:
            of_scale = [draw[scale]["mae"] for draw in results[task] if scale in draw]
            print(f"{task} {scale}: {np.mean(of_scale):.4g} +- {np.std(of_scale):.2g}", flush=True)
    content = {
        "labels": options.labels,
        "pretrained": options.pretrained,
        "mae": results,
        **environment(),
    }
    write_json(options.output, content)


def errors(
    task: str, n_labels: int, draw: int, pretrained: str | None, epochs: int | None
) -> dict[str, dict[str, Any]]:
    """Error with each scale, and whether logarithms were learned."""
    load, target = LOADERS[task]
    structures, y = load(target=target, return_X_y=True)
    labeled, (X, expected) = drawn(structures, y, n_labels, draw)
    found: dict[str, dict[str, Any]] = {}
    for scale in ("linear", "log", "auto"):
        if scale == "log" and np.min(y) <= 0:
            continue
        model = DSSLRegressor(
            pretrained=pretrained, target_scale=scale, max_epochs=epochs, random_state=draw
        ).fit(*labeled)
        wrong = np.abs(model.predict(X) - expected)
        found[scale] = {"mae": float(wrong.mean()), "is_log": bool(model.y_is_log_[0])}
    return found


if __name__ == "__main__":
    main()
