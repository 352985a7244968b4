r"""Make the weights that ship with the package.

    python benchmarks/pretrain_weights.py mp --corpus ../shared/data/mp_unlabeled.npz
    python benchmarks/pretrain_weights.py mp-distilled --corpus ../shared/data/mp_unlabeled.npz \
        --targets outputs/chgnet

"mp" pretrains the default network on the unlabeled crystals of the Materials Project, without
labels; "mp-distilled" pretrains a wider one on those of them for which
``benchmarks/accuracy/chgnet_targets.py`` and ``chgnet_phonons.py`` computed what CHGNet 0.3.0 makes
of them, as a second teacher beside the crystals themselves. Neither sees a formula of the shipped
labeled sets, so that these stay honest benchmarks. After every epoch a checkpoint is written; the
same command goes on after an interruption. The result is written beside the package's other files,
together with a model card (JSON) of how it was made.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import machine, versions, write_json
from numpy.typing import NDArray
from shipped import SETS

import dssl_sklearn
from dssl_sklearn import DSSLPretrainer
from dssl_sklearn.crystals.builder import GraphBuilder
from dssl_sklearn.crystals.dataset import GraphDataset
from dssl_sklearn.crystals.graph import DEFAULT_CUTOFF, DEFAULT_MAX_NEIGHBORS
from dssl_sklearn.datasets import Corpus, load_corpus
from dssl_sklearn.objectives import Descriptors, Displacement, MaskedAtoms, Objective

#: Self-supervised: descriptors of the clean crystal, and where and what the sites of a perturbed
#: one were.
SELF_SUPERVISED = (
    Descriptors(),
    Displacement(weight=0.3, move=0.1, mask_ratio=0.15),
    MaskedAtoms(weight=0.06, move=0.1, mask_ratio=0.15),
)
#: Wide enough for the knowledge of a teacher with 412,525 weights; the default is 64.
DISTILLED_WIDTH = 96
OUTPUT = Path(dssl_sklearn.__file__).parent / "weights"


def main() -> None:
    """Pretrain, save, and write the card."""
    args = _arguments()
    torch.set_num_threads(args.threads)
    corpus, rows = training_crystals(args.corpus, args.max_sites)
    crystals: Corpus | GraphDataset = corpus
    objectives: list[Objective] = list(SELF_SUPERVISED)
    backbone_params: dict[str, Any] = {}
    kind = "purely self-supervised: no label of any kind was used"
    if args.name == "mp-distilled":
        from accuracy.distillation import TEACHERS, attach

        builder = GraphBuilder(DEFAULT_CUTOFF, DEFAULT_MAX_NEIGHBORS)
        crystals = attach(builder.dataset(corpus), rows, args.targets)
        objectives = [*TEACHERS, Descriptors(weight=0.5)]
        backbone_params = {"width": DISTILLED_WIDTH}
        kind = (
            "distilled: beside the descriptors of the crystals, quantities that CHGNet 0.3.0 "
            "computed were learned, a model trained on labels of density functional theory (B. "
            "Deng et al., Nat. Mach. Intell. 5, 1031, 2023); crystals of the labeled benchmarks "
            "were among its training data, though not among those of this network"
        )
    print(f"{len(crystals)} crystals, {crystals.n_sites.mean():.1f} sites on average", flush=True)

    start = time.perf_counter()
    pretrainer = DSSLPretrainer(
        backbone_params=backbone_params,
        objectives=objectives,
        max_epochs=args.epochs,
        validation_fraction=0.02,
        checkpoint_dir=args.checkpoints / args.name,
        random_state=0,
        verbose=1,
    ).fit(crystals)
    args.output.mkdir(exist_ok=True)
    pretrainer.save(args.output / f"{args.name}.safetensors")
    history = [
        {k: round(float(v), 5) for k, v in epoch.items() if k.startswith(("train_", "valid_"))}
        for epoch in pretrainer.history_
    ]
    card = {
        "name": args.name,
        "kind": kind,
        "command": f"python {' '.join(sys.argv)}",
        "data": {
            "source": "Materials Project, CC-BY 4.0 (A. Jain et al., APL Mater. 1, 011002, 2013)",
            "n_crystals": len(crystals),
            "max_sites": int(crystals.n_sites.max()),
            "drawn_from": {"n_crystals": len(corpus), "max_sites": args.max_sites},
            "left_out": "every reduced formula of the labeled sets that ship with the package",
        },
        "backbone_params": backbone_params,
        "objectives": [repr(objective) for objective in objectives],
        "epochs": args.epochs,
        "effective_rank": float(pretrainer.history_[-1]["effective_rank"]),
        "curves": history,
        "seconds_of_training": round(float(sum(epoch["dur"] for epoch in pretrainer.history_))),
        "seconds_of_this_call": round(time.perf_counter() - start),
        "machine": f"{machine()}, {args.threads} thread(s)",
        "versions": versions("torch"),
        "benchmark": "docs/accuracy.md",
        "limits": (
            "Inorganic, ordered, bulk crystals near equilibrium. Larger cells and the formulas of "
            "the labeled sets were not seen; molecules, surfaces and disordered crystals were not "
            "either."
        ),
        "license": "CC-BY 4.0, as the crystals it was trained on",
    }
    write_json(args.output / f"{args.name}.json", card)


def training_crystals(path: Path, max_sites: int) -> tuple[Corpus, NDArray[np.int64]]:
    """Crystals of the corpus that are small and of no benchmark, and their rows in the file."""
    benchmarks = {formula for load in SETS.values() for formula in load().formulas}
    everything = load_corpus(path)
    small = everything[np.flatnonzero(everything.n_sites <= max_sites)]
    corpus = small.without_formulas(benchmarks)
    row_of = {name: row for row, name in enumerate(everything.ids)}
    return corpus, np.array([row_of[name] for name in corpus.ids])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=["mp", "mp-distilled"])
    parser.add_argument("--corpus", type=Path, required=True, help="mp_unlabeled.npz")
    parser.add_argument("--targets", type=Path, default=Path("outputs/chgnet"))
    parser.add_argument("--max-sites", type=int, default=20, help="larger cells are left out")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--output", type=Path, default=OUTPUT, help="folder of the weights")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--checkpoints", type=Path, default=Path("outputs/checkpoints"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
