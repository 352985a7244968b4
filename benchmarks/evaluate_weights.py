"""Compare pretrained weights with the network from scratch after 100 labels, on validation rows.

    python benchmarks/evaluate_weights.py mp path/to/other.safetensors

The rows, draws and tasks are those of ``compare_objectives.py``: a fifth of the formulas stays
reserved, and weights whose pretraining saw a formula of the shipped sets must not be judged here.
"""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path
from typing import Any

import torch
from compare_objectives import evaluate, load_tasks, summarize
from tqdm import tqdm

import dssl_sklearn
from dssl_sklearn import DSSLPretrainer


def main() -> None:
    """Fine-tune from each file of weights and from scratch, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", nargs="+", help="names of shipped weights, or files")
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path("outputs/evaluate_weights.json"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    tasks = load_tasks()
    results: dict[str, Any] = {}
    for name in ["scratch", *args.weights]:
        pretrainer = None if name == "scratch" else DSSLPretrainer.from_pretrained(name)
        mae = {
            target: [evaluate(task, pretrainer, draw) for draw in range(args.draws)]
            for target, task in tqdm(tasks.items(), desc=name, unit="task")
        }
        results[name] = {"mae": mae}
        print(summarize(results).to_string(), flush=True)
    run = {
        "machine": f"{platform.machine()}, {args.threads} thread(s)",
        "torch": torch.__version__,
        "dssl_sklearn": dssl_sklearn.__version__,
    }
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps({"run": run, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
