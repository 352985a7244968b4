"""What going on from the shipped weights on one's own unlabeled crystals gives.

    python benchmarks/continued_pretraining.py

For each task and draw, 100 labels of a training part are learned from the shipped weights as they
are, and after further epochs of self-supervised pretraining on all crystals of that training part,
without their labels. Both are tested on the whole test part: its crystals are in neither. Folds and
draws are those of ``benchmarks/accuracy``.

Results go to ``benchmarks/results/continued_pretraining.json`` as they come; a rerun goes on where
the last one stopped. The table is printed.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accuracy.summary import Series, paired_difference
from accuracy.tasks import TASKS, Task, draw_labels, load_task
from common import environment, write_json

from dssl_sklearn import DSSLPretrainer, DSSLRegressor

N_LABELS = 100
OUTPUT = Path(__file__).parent / "results" / "continued_pretraining.json"


def main() -> None:
    """Compute what is missing and print the table."""
    args = _arguments()
    torch.set_num_threads(1)
    state: dict[str, Any] = {"results": []}
    if args.output.exists():
        state = json.loads(args.output.read_text(encoding="utf-8"))
    state |= environment()
    state["machine"] += ", one thread"
    done = {(r["task"], r["draw"], r["epochs"]) for r in state["results"]}
    for name in args.tasks:
        task = load_task(name, args.data_dir)
        for draw in range(args.draws):
            for epochs in (0, args.epochs):
                if (name, draw, epochs) in done:
                    continue
                mae = error(task, draw, epochs)
                state["results"].append({"task": name, "draw": draw, "epochs": epochs, "mae": mae})
                write_json(args.output, state)
                print(f"{name}, draw {draw}, {epochs} epochs: {mae:.4g}", flush=True)
    print(table(state["results"], args.epochs))


def error(task: Task, draw: int, epochs: int) -> float:
    """MAE on the test part after so many epochs on the training part's crystals."""
    train, test = task.folds[draw]
    pool = [task.structures[row] for row in train]
    pretrainer = DSSLPretrainer(pretrained="mp", max_epochs=epochs, random_state=draw).fit(pool)
    rows = draw_labels(train, N_LABELS, draw)
    model = DSSLRegressor(pretrained=pretrainer, random_state=draw)
    model.fit([task.structures[row] for row in rows], task.y[rows])
    predicted = model.predict([task.structures[row] for row in test])
    return float(np.abs(predicted - task.y[test]).mean())


def table(results: list[dict[str, Any]], epochs: int) -> str:
    """Markdown: errors without and with the further epochs, and their paired difference."""
    lines = [
        f'| task | "mp" as it is | after {epochs} epochs on the pool | difference, % |',
        "|---|---|---|---|",
    ]
    for name in dict.fromkeys(result["task"] for result in results):
        of_task = [result for result in results if result["task"] == name]
        plain, further = (
            Series({r["draw"]: r["mae"] for r in of_task if r["epochs"] == n}) for n in (0, epochs)
        )
        paired = paired_difference(further, plain)
        cells = [f"{s.mean:.4g}" for s in (plain, further)]
        gap = "" if paired is None else f"{paired.mean:+.1f} ± {paired.half_width:.1f}"
        lines.append(f"| {TASKS[name].title} | {' | '.join(cells)} | {gap} |")
    return "\n".join(lines)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--tasks", nargs="+", choices=list(TASKS), default=["jdft2d", "phonons", "log10_K_VRH", "n"]
    )
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=20, help="of further pretraining")
    parser.add_argument("--data-dir", type=Path, default=Path("../shared/data"))
    parser.add_argument("--output", type=Path, default=OUTPUT)
    return parser.parse_args()


if __name__ == "__main__":
    main()
