"""Kill real trainings with SIGKILL at random times and see that a rerun ends with the same weights.

    python benchmarks/robustness/kill_training.py --kills 30

Each case is trained once without interruption and without checkpoints. Then the same call with
`checkpoint_dir` is started again and again in a process of its own and killed after a random time,
until the wanted number of kills is reached, and left alone the last time. Weights, history length
and predictions must be equal to the last bit, and nothing but one whole checkpoint file for each
training may lie in the folder.

The processes are forked from one that has imported everything, so that kills hit the training and
not the imports.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dssl_sklearn import DSSLClassifier, DSSLPretrainer, DSSLRegressor
from dssl_sklearn.datasets import load_elasticity
from dssl_sklearn.training.weights import read_weights

TINY: dict[str, Any] = {
    "backbone_params": {"width": 8, "n_layers": 1, "n_basis": 6},
    "batch_size": 8,
    "random_state": 0,
    "device": "cpu",
}
PAPER: dict[str, Any] = {
    **TINY,
    "recipe": "paper",
    "backbone_params": {"width": 8, "n_layers": 2, "n_heads": 2},
}

#: Estimators to train; the targets of each are made by `targets`.
CASES: dict[str, Callable[[], Any]] = {
    "pretrainer": lambda: DSSLPretrainer(**TINY, max_epochs=12),
    "pretrainer, early stopping": lambda: DSSLPretrainer(
        **TINY, max_epochs=30, lr=0.1, early_stopping=True, validation_fraction=0.3,
        n_iter_no_change=3,
    ),
    "regressor": lambda: DSSLRegressor(**TINY, max_epochs=20, head_params={"dropout": 0.2}),
    "regressor, early stopping, frozen first": lambda: DSSLRegressor(
        **TINY, max_epochs=40, lr=0.02, freeze_epochs=6, early_stopping=True,
        validation_fraction=0.3, n_iter_no_change=8,
    ),
    "regressor, the paper's, plateau": lambda: DSSLRegressor(**PAPER, max_epochs=16, lr=0.5),
    "regressor, on a pretrainer": lambda: DSSLRegressor(
        pretrained=DSSLPretrainer(**TINY, max_epochs=8), max_epochs=8, batch_size=8,
        random_state=0, device="cpu", freeze_epochs=2,
    ),
    "classifier": lambda: DSSLClassifier(**TINY, max_epochs=20),
}  # fmt: skip


def load(n_crystals: int) -> tuple[list[Any], Any]:
    """Small crystals, and targets."""
    structures, y = load_elasticity(target="log10_K_VRH", return_X_y=True)
    rows = [row for row, structure in enumerate(structures) if len(structure) <= 6][:n_crystals]
    return [structures[row] for row in rows], y[rows]


def fit(case: str, X: list[Any], y: Any, folder: Path | None) -> Any:  # noqa: ANN401
    """Train a case."""
    estimator = CASES[case]().set_params(checkpoint_dir=folder)
    return estimator.fit(X, y > np.median(y) if isinstance(estimator, DSSLClassifier) else y)


def learned(estimator: Any) -> str:  # noqa: ANN401
    """Fingerprint of all that was learned."""
    digest = hashlib.sha256()
    nets = [estimator.net_]
    if hasattr(estimator, "pretrainer_"):
        nets.append(estimator.pretrainer_.net_)
    for net in nets:
        for part in (net.module_, net.criterion_):
            for name, value in part.state_dict().items():
                digest.update(name.encode() + value.contiguous().numpy().tobytes())
        losses = net.history[:, "train_loss"]
        digest.update(json.dumps(losses).encode())
    return digest.hexdigest()


def run_and_kill(work: Callable[[], None], after: float | None) -> tuple[bool, float]:
    """Fork, do the work in the child, and kill it after a time unless it is done by then."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:  # noqa: BLE001 - the child ends here, whatever it met
            traceback.print_exc()
        finally:
            os._exit(code)
    begin = time.monotonic()
    while after is None or time.monotonic() - begin < after:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            if status:
                raise SystemExit(f"a training failed with status {status}")
            return True, time.monotonic() - begin
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False, after


def state(folder: Path) -> tuple[int, int]:
    """Epochs in the checkpoints of a folder, all of which must be whole, and parts of files."""
    paths = list(folder.glob("*"))
    whole = [path for path in paths if path.suffix == ".safetensors"]
    n_epochs = sum(len(read_weights(path)[1]["history"]) for path in whole)
    return n_epochs, len(paths) - len(whole)


def check(case: str, n_kills: int, draw: random.Random, n_crystals: int) -> dict[str, Any]:
    """Kill one case; returns figures, or raises with what went wrong."""
    X, y = load(n_crystals)
    with tempfile.TemporaryDirectory() as name:
        folder, result = Path(name) / "checkpoints", Path(name) / "result"

        def work_without() -> None:
            result.write_text(learned(fit(case, X, y, None)))

        run_and_kill(work_without, None)
        expected = result.read_text()
        result.unlink()

        def work() -> None:
            result.write_text(learned(fit(case, X, y, folder)))

        _, whole = run_and_kill(work, None)
        if result.read_text() != expected:
            raise SystemExit(f"{case}: checkpoints alone change the weights")
        kills, epochs, partial, rounds = 0, [], 0, 0
        while kills < n_kills:
            shutil.rmtree(folder)
            result.unlink(missing_ok=True)
            rounds += 1
            # Some kills per training, so that goings-on are killed as well.
            for _ in range(min(draw.randint(1, 4), n_kills - kills)):
                if run_and_kill(work, draw.uniform(0, whole))[0]:
                    break
                kills += 1
                done, unfinished = state(folder)
                epochs.append(done)
                partial += unfinished
            run_and_kill(work, None)
            if result.read_text() != expected:
                raise SystemExit(f"{case}: other weights after kills in epochs {epochs}")
            if state(folder)[1]:
                raise SystemExit(f"{case}: parts of files are left behind")
    return {"case": case, "kills": kills, "trainings": rounds, "epochs at kills": epochs,
            "killed while writing": partial, "seconds of one": round(whole, 2)}  # fmt: skip


def main() -> None:
    """Run the cases one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=30, help="kills in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--short", action="store_true", help="fewer crystals")
    parser.add_argument("--case", action="append", choices=list(CASES))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    draw = random.Random(arguments.seed)  # noqa: S311 - times to kill at
    cases = arguments.case or list(CASES)
    for place, case in enumerate(cases):
        n_kills = arguments.kills // len(cases) + (place < arguments.kills % len(cases))
        print(json.dumps(check(case, n_kills, draw, 16 if arguments.short else 32)))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
