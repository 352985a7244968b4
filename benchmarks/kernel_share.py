"""Choose the share of the Gaussian process in a prediction, on validation rows.

    python benchmarks/kernel_share.py --labels 100 --draws 3
    python benchmarks/kernel_share.py --labels 100 --draws 3 --pretrained none
    python benchmarks/kernel_share.py --labels 800 --draws 2    # so many choose their share

Labels are drawn from four fifths of the formulas of a shipped set, errors are those on 300 crystals
of the last fifth. Each fit gives the errors for all shares, and for its own. Prints a table of the
mean change in percent of the error of the network alone, negative where better, and writes it as
JSON.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
from common import write_json
from shipped import LOADERS, drawn, parse_options

from dssl_sklearn import DSSLRegressor

SHARES = (0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)


def main() -> None:
    """Fit, print the table, write it."""
    options = parse_options(__doc__, Path("outputs/kernel_share.json"))
    pretrained = None if options.pretrained == "none" else options.pretrained
    found = {
        task: np.array(
            [
                errors(task, options.labels, draw, pretrained, options.epochs)
                for draw in range(options.draws)
            ]
        )
        for task in options.tasks
    }
    change = {task: 100 * (mae / mae[:, :1] - 1) for task, mae in found.items()}
    print("share |", " | ".join(found), "| mean")
    columns = [*map(str, SHARES), "own"]
    for column, share in enumerate(columns):
        row = [change[task][:, column].mean() for task in found]
        print(f"{share:>5} |", " | ".join(f"{v:+.1f}" for v in [*row, np.mean(row)]))
    content = {
        "settings": {k: v for k, v in vars(options).items() if k != "output"},
        "shares": columns,
        "mae": {task: mae.round(5).tolist() for task, mae in found.items()},
    }
    write_json(options.output, content)


def errors(
    task: str, n_labels: int, draw: int, pretrained: str | None, epochs: int | None
) -> list[float]:
    """Errors for all shares, and last for its own, from one fit."""
    load, target = LOADERS[task]
    structures, y = load(target=target, return_X_y=True)
    labeled, tested = drawn(structures, y, n_labels, draw)
    model = DSSLRegressor(pretrained=pretrained, max_epochs=epochs, random_state=draw)
    model.fit(*labeled)
    every = [*(with_share(model, share) for share in SHARES), model]
    return [float(np.abs(other.predict(tested[0]) - tested[1]).mean()) for other in every]


def with_share(model: DSSLRegressor, share: float) -> DSSLRegressor:
    """The same fit with another share of the Gaussian process."""
    other = copy.copy(model)
    if model.kernel_ is not None:
        other.kernel_ = replace(model.kernel_, share=np.array([share]))
    return other


if __name__ == "__main__":
    main()
