"""Rank pretext tasks by what they gain after 100 labels, on validation rows only.

    python benchmarks/compare_objectives.py --corpus ../shared/data/mp_unlabeled.npz

Every candidate pretrains the same network on the same crystals for the same number of epochs; then
log10 K, log10 G, n and the formation energy are learned from 100 labels, five draws each, and
predicted on validation rows. Rows are assigned by a hash of the reduced formula: a fifth is
reserved (never looked at here, for honest tests later), a fifth is the validation part, the rest
gives the labels. Formulas of validation and reserve are removed from the pretraining crystals. The
stiffness table is the prior one, from element data alone, so that no bulk modulus leaks into it.

Results are added to a JSON file as they come; a rerun goes on where the last one stopped.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from common import machine, versions, write_json
from shipped import SETS
from tqdm import tqdm

from dssl_sklearn import DSSLPretrainer, DSSLRegressor
from dssl_sklearn.crystals.stiffness import prior_stiffness
from dssl_sklearn.datasets import load_corpus
from dssl_sklearn.objectives import (
    Contrastive,
    Denoising,
    Descriptors,
    Displacement,
    MaskedAtoms,
    Microproperty,
)

PRIOR = prior_stiffness()
N_LABELS = 100
MAX_VALIDATION = 300
#: Target and the set that has it.
TARGETS = {
    "log10_K_VRH": "elasticity",
    "log10_G_VRH": "elasticity",
    "n": "dielectric",
    "formation_energy": "formation_energy",
}

#: Name -> objectives; None is the network from scratch, a string the name of shipped weights.
CANDIDATES: dict[str, Any] = {
    "scratch": None,
    "mask": [MaskedAtoms()],
    "stiffness": [Microproperty(values=PRIOR)],
    "valence": [Microproperty(values="valence")],
    "contrastive cosine (paper)": [Contrastive(loss="cosine", move=0.5, move_kind="sphere")],
    "contrastive barlow": [Contrastive(loss="barlow")],
    "contrastive vicreg": [Contrastive(loss="vicreg")],
    "contrastive ntxent": [Contrastive(loss="ntxent")],
    "paper's three": [
        MaskedAtoms(weight=0.1),
        Microproperty(weight=0.1, values=PRIOR),
        Contrastive(weight=1.0, loss="cosine", move=0.5, move_kind="sphere"),
    ],
    "paper's three + denoise": [
        MaskedAtoms(weight=0.1),
        Microproperty(weight=0.1, values=PRIOR),
        Contrastive(weight=1.0, loss="cosine", move=0.5, move_kind="sphere"),
        Denoising(),
    ],
    "descriptors": [Descriptors()],
    "displacement": [Displacement()],
    "descriptors + displacement + mask": [
        Descriptors(),
        Displacement(weight=0.3, move=0.1, mask_ratio=0.15),
        MaskedAtoms(weight=0.06, move=0.1, mask_ratio=0.15),
    ],
    "paper's three + descriptors": [
        MaskedAtoms(weight=0.1),
        Microproperty(weight=0.1, values=PRIOR),
        Contrastive(weight=1.0, loss="cosine", move=0.5, move_kind="sphere"),
        Descriptors(),
    ],
    "denoise": [Denoising()],
    "denoise, head sees the moved distance": [Denoising(sees_distance=True)],
    "denoise 0.1": [Denoising(move=0.1)],
    "denoise 0.4": [Denoising(move=0.4)],
    "denoise, strained": [Denoising(strain=0.1)],
    "denoise + element properties": [
        Denoising(strain=0.1),
        *(
            Microproperty(weight=0.2, values=name, mask_ratio=0.15, move=0.2)
            for name in (
                "electronegativity",
                "first_ionization_energy",
                "electron_affinity",
                "atomic_radius",
                "melting_point",
                "mendeleev_number",
            )
        ),
    ],
    "denoise + mask, one view": [
        Denoising(mask_ratio=0.15),
        MaskedAtoms(weight=0.1, move=0.2),
    ],
    "denoise + mask + stiffness, one view": [
        Denoising(mask_ratio=0.15),
        MaskedAtoms(weight=0.1, move=0.2),
        Microproperty(weight=0.1, values=PRIOR, move=0.2),
    ],
    "denoise + mask + stiffness + barlow": [
        Denoising(),
        MaskedAtoms(weight=0.1),
        Microproperty(weight=0.1, values=PRIOR),
        Contrastive(weight=0.1, loss="barlow"),
    ],
    "mp": "mp",
    "mp-distilled": "mp-distilled",
}


def part_of(formula: str) -> int:
    """0: reserved, 1: validation, 2 to 4: labels."""
    return hashlib.sha256(formula.encode()).digest()[0] % 5


def load_tasks() -> dict[str, dict[str, Any]]:
    """Structures, targets and the part of every row."""
    tasks = {}
    for target, name in TARGETS.items():
        structures, y = SETS[name](target=target, return_X_y=True)
        parts = np.array([part_of(s.composition.reduced_formula) for s in structures])
        tasks[target] = {"X": structures, "y": y, "parts": parts}
    return tasks


def pretraining_crystals(corpus_path: Path | None, n_crystals: int, max_sites: int) -> Any:  # noqa: ANN401
    """Crystals without any formula of validation or reserve."""
    shipped = [s for load in SETS.values() for s in load().data]
    held_out = {f for f in (s.composition.reduced_formula for s in shipped) if part_of(f) in (0, 1)}
    if corpus_path is None:
        return [s for s in shipped if s.composition.reduced_formula not in held_out]
    corpus = load_corpus(corpus_path)
    corpus = corpus[np.flatnonzero(corpus.n_sites <= max_sites)].without_formulas(held_out)
    rows = np.random.default_rng(0).permutation(len(corpus))[:n_crystals]
    return corpus[np.sort(rows)]


def evaluate(task: dict[str, Any], pretrainer: DSSLPretrainer | None, draw: int) -> float:
    """MAE on the validation rows after one draw of labels."""
    labeled = np.flatnonzero(task["parts"] >= 2)
    rows = np.random.default_rng(draw).choice(labeled, N_LABELS, replace=False)
    valid = np.flatnonzero(task["parts"] == 1)[:MAX_VALIDATION]
    # What pretraining does to the network; the process beside it would hide a part, and which
    # scale it chooses should not differ between rows.
    model = DSSLRegressor(
        pretrained=pretrainer, kernel_share=0, target_scale="linear", random_state=draw
    )
    model.fit([task["X"][row] for row in rows], task["y"][rows])
    predicted = model.predict([task["X"][row] for row in valid])
    return float(np.abs(predicted - task["y"][valid]).mean())


def summarize(results: dict[str, Any]) -> pd.DataFrame:
    """Mean gain over scratch in percent, paired by draw, with the standard error."""
    scratch = results["scratch"]["mae"]
    rows = {}
    for name, result in results.items():
        cells = {}
        gains = []
        for target, maes in result["mae"].items():
            gain = 100 * (1 - np.array(maes) / np.array(scratch[target][: len(maes)]))
            gains.append(gain.mean())
            error = gain.std(ddof=1) / len(gain) ** 0.5 if len(gain) > 1 else np.nan
            cells[target] = f"{np.mean(maes):.4f} ({gain.mean():+.1f} +- {error:.1f} %)"
        rows[name] = {**cells, "mean gain, %": round(float(np.mean(gains)), 1)}
    return pd.DataFrame(rows).T


def main() -> None:
    """Run the candidates that are still missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, default=None, help="mp_unlabeled.npz")
    parser.add_argument("--crystals", type=int, default=10_000)
    parser.add_argument("--max-sites", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--only", nargs="*", help="names of candidates")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path("outputs/compare_objectives.json"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    state = json.loads(args.output.read_text()) if args.output.exists() else {"results": {}}
    state["run"] = {
        "corpus": str(args.corpus), "crystals": args.crystals, "max_sites": args.max_sites,
        "epochs": args.epochs, "labels": N_LABELS, "machine": machine(), **versions("torch"),
    }  # fmt: skip
    tasks = load_tasks()
    crystals = pretraining_crystals(args.corpus, args.crystals, args.max_sites)
    for name in args.only or CANDIDATES:
        if name in state["results"]:
            continue
        pretrainer, start = None, time.perf_counter()
        if isinstance(CANDIDATES[name], str):
            pretrainer = DSSLPretrainer(pretrained=CANDIDATES[name], max_epochs=0).fit(crystals[:2])
        elif CANDIDATES[name] is not None:
            pretrainer = DSSLPretrainer(
                objectives=CANDIDATES[name], max_epochs=args.epochs, random_state=0
            ).fit(crystals)
        seconds = time.perf_counter() - start
        mae: dict[str, list[float]] = {target: [] for target in tasks}
        for target, task in tqdm(tasks.items(), desc=name, unit="task"):
            mae[target] = [evaluate(task, pretrainer, draw) for draw in range(args.draws)]
        result: dict[str, Any] = {"mae": mae, "seconds_of_pretraining": round(seconds)}
        if pretrainer is not None and len(pretrainer.history_):
            last = pretrainer.history_[-1]
            result["last_epoch"] = {
                k: float(v) for k, v in last.items() if k != "batches" and not isinstance(v, bool)
            }
        state["results"][name] = result
        write_json(args.output, state)
        print(summarize(state["results"]).to_string(), flush=True)


if __name__ == "__main__":
    main()
