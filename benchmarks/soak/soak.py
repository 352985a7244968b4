"""Soak: pretrain, fine-tune, predict and search in turn, and look for leaks.

    python benchmarks/soak/soak.py --minutes 60

Every cycle draws parameters at random. After each one, garbage collected, the resident memory, open
file handles, threads and child processes of this process are noted. A straight line is fitted to
the second half of the cycles, when caches and the pools of the allocator have filled; a figure
leaks if its line rises by more than its allowance over the whole run.
"""

from __future__ import annotations

import argparse
import gc
import json
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from joblib.externals.loky import get_reusable_executor
from numpy.typing import NDArray
from sklearn.model_selection import GridSearchCV, cross_val_score

from dssl_sklearn import DSSLClassifier, DSSLPretrainer, DSSLRegressor
from dssl_sklearn.datasets import load_elasticity

RESULTS = Path(__file__).parents[1] / "results" / "soak.json"
#: What a figure may rise by over the run: memory in MB (heap fragmentation), handles, threads,
#: processes.
ALLOWANCE = {"rss_mb": 50.0, "files": 2.0, "threads": 2.0, "children": 1.0}


def main() -> None:
    """Run for the minutes asked for, and write figures and verdict."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    warnings.filterwarnings("ignore", category=UserWarning)
    torch.set_num_threads(1)
    rng = np.random.default_rng(args.seed)
    structures, y = load_elasticity(target="log10_K_VRH", return_X_y=True)
    small = [row for row, structure in enumerate(structures) if len(structure) <= 12]
    start, cycles = time.monotonic(), []
    while time.monotonic() - start < 60 * args.minutes:
        rows = rng.choice(small, size=int(rng.integers(24, 64)), replace=False)
        cycle([structures[row] for row in rows], y[rows], rng)
        cycles.append({"minutes": (time.monotonic() - start) / 60, **measured()})
        # After every cycle, so that a run that is cut short has its figures.
        write(args.output, cycles)
    print(json.dumps(json.loads(args.output.read_text(encoding="utf-8"))["figures"], indent=1))


def cycle(X: list[Any], y: NDArray[np.float64], rng: np.random.Generator) -> None:
    """Use all estimators once, with parameters drawn at random."""
    common: dict[str, Any] = {
        "max_epochs": int(rng.integers(1, 4)),
        "batch_size": int(rng.integers(4, 33)),
        "lr": float(10 ** rng.uniform(-4, -2)),
        "random_state": int(rng.integers(2**31)),
    }
    width = {"width": int(rng.integers(4, 33)), "n_layers": int(rng.integers(1, 4))}
    names = ["mask", "contrastive", "denoise", "displacement", "descriptors", "microproperty"]
    chosen = [str(name) for name in rng.choice(names, size=rng.integers(1, 4), replace=False)]
    pretrainer = DSSLPretrainer(
        **common,
        backbone_params=width,
        objectives=chosen,
        early_stopping=bool(rng.integers(2)),
    )
    with tempfile.TemporaryDirectory() as folder:
        pretrainer.set_params(checkpoint_dir=folder).fit(X)
        pretrainer.save(f"{folder}/pretrainer.safetensors")
        pretrainer = DSSLPretrainer.load(f"{folder}/pretrainer.safetensors")
    pretrainer.transform(X)
    n_members = int(rng.integers(1, 5))
    regressor = DSSLRegressor(**common, pretrained=pretrainer, n_members=n_members)
    regressor.fit(X, y).predict(X)
    classifier = DSSLClassifier(**common, pretrained=pretrainer, n_members=n_members)
    classifier.fit(X, y > np.median(y)).predict_proba(X)
    grid = {"freeze_epochs": [0, 1]}
    GridSearchCV(regressor, grid, cv=2, scoring="neg_mean_absolute_error").fit(X, y)
    # In processes of their own; seldom, since starting them takes long.
    if rng.random() < 0.1:
        cross_val_score(regressor, X, y, cv=2, n_jobs=2)


def measured() -> dict[str, float]:
    """Figures of this process."""
    # joblib keeps idle workers for some minutes.
    get_reusable_executor().shutdown(wait=True)
    gc.collect()
    process = psutil.Process()
    return {
        "rss_mb": process.memory_info().rss / 2**20,
        "files": process.num_fds(),
        "threads": process.num_threads(),
        "children": len(process.children(recursive=True)),
    }


def write(path: Path, cycles: list[dict[str, float]]) -> None:
    """Write all figures, their slopes and the verdict."""
    minutes = cycles[-1]["minutes"]
    later = cycles[len(cycles) // 2 :]
    figures: dict[str, dict[str, float | bool]] = {}
    for name, allowance in ALLOWANCE.items():
        values = [c[name] for c in later]
        times = [c["minutes"] for c in later]
        slope = float(np.polyfit(times, values, 1)[0]) if len(later) > 2 else 0.0
        rise = slope * minutes
        figures[name] = {
            "first": cycles[0][name],
            "middle": later[0][name],
            "last": cycles[-1][name],
            "highest": max(c[name] for c in cycles),
            "per_hour": 60 * slope,
            "leaks": rise > allowance,
        }
    result = {
        "minutes": minutes,
        "n_cycles": len(cycles),
        "leaks": any(f["leaks"] for f in figures.values()),
        "figures": figures,
        "cycles": cycles,
    }
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
