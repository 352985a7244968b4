"""Make the weights that ship with the package.

    python benchmarks/pretrain_weights.py --corpus ../shared/data/mp_unlabeled.npz

Pretrains the default network on the unlabeled crystals of the Materials Project, without labels and
without any formula of the shipped labeled sets, so that these stay honest benchmarks. After every
epoch a checkpoint is written; the same command goes on after an interruption. The result is written
beside the package's other files, together with a model card (JSON) of how it was made.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from pathlib import Path

import numpy as np
import torch

import dssl_sklearn
from dssl_sklearn import DSSLPretrainer
from dssl_sklearn.datasets import (
    load_corpus,
    load_dielectric,
    load_elasticity,
    load_formation_energy,
    load_piezoelectricity,
)
from dssl_sklearn.objectives import Denoising, Microproperty

#: Tabulated properties of the hidden elements that the network must tell.
PROPERTIES = (
    "electronegativity",
    "first_ionization_energy",
    "electron_affinity",
    "atomic_radius",
    "melting_point",
    "mendeleev_number",
)
OUTPUT = Path(dssl_sklearn.__file__).parent / "weights"


def main() -> None:
    """Pretrain, save, and write the card."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True, help="mp_unlabeled.npz")
    parser.add_argument("--max-sites", type=int, default=30, help="larger cells are left out")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--checkpoints", type=Path, default=Path("outputs/checkpoints"))
    parser.add_argument("--name", default="mp")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    loaders = (load_elasticity, load_dielectric, load_piezoelectricity, load_formation_energy)
    benchmarks = {formula for load in loaders for formula in load().formulas}
    corpus = load_corpus(args.corpus)
    corpus = corpus[np.flatnonzero(corpus.n_sites <= args.max_sites)].without_formulas(benchmarks)
    print(f"{len(corpus)} crystals, {corpus.n_sites.mean():.1f} sites on average", flush=True)

    start = time.perf_counter()
    pretrainer = DSSLPretrainer(
        objectives=[
            Denoising(move=0.2, strain=0.1),
            *(
                Microproperty(weight=0.2, values=name, mask_ratio=0.15, move=0.2)
                for name in PROPERTIES
            ),
        ],
        max_epochs=args.epochs,
        validation_fraction=0.02,
        checkpoint_dir=args.checkpoints,
        random_state=0,
        verbose=2,
    ).fit(corpus)
    OUTPUT.mkdir(exist_ok=True)
    pretrainer.save(OUTPUT / f"{args.name}.safetensors")

    last = pretrainer.history_[-1]
    card = {
        "name": args.name,
        "kind": "purely self-supervised: no label of any kind was used",
        "command": f"python {' '.join(sys.argv)}",
        "data": {
            "source": "Materials Project, CC-BY 4.0 (A. Jain et al., APL Mater. 1, 011002, 2013)",
            "n_crystals": len(corpus),
            "max_sites": args.max_sites,
            "left_out": "every reduced formula of the labeled sets that ship with the package",
        },
        "epochs": args.epochs,
        "final": {
            name: float(last[name])
            for name in ("train_loss", "valid_loss", "valid_denoise_mae", "effective_rank")
        },
        "valid_loss_per_epoch": [float(epoch["valid_loss"]) for epoch in pretrainer.history_],
        "seconds_of_training": round(float(sum(epoch["dur"] for epoch in pretrainer.history_))),
        "seconds_of_this_call": round(time.perf_counter() - start),
        "machine": f"{platform.machine()}, {args.threads} thread(s)",
        "versions": {"torch": torch.__version__, "dssl_sklearn": dssl_sklearn.__version__},
        "limits": (
            "First, short training (minutes on one core). After 100 labels it is level with the "
            "network from scratch within noise: see benchmarks/evaluate_weights.py and "
            "benchmarks/results/evaluate_weights.json. Cells of more than max_sites were not seen."
        ),
        "license": "CC-BY 4.0, as the crystals it was trained on",
    }
    (OUTPUT / f"{args.name}.json").write_text(json.dumps(card, indent=1) + "\n")


if __name__ == "__main__":
    main()
