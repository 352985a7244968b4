"""Classes of crystals from few labels: `DSSLClassifier` beside what else could be used.

    python benchmarks/classification.py

Every draw takes its labels from the training part of a fold of whole formulas and is tested on the
test part. The table goes to ``docs/accuracy.md``, all numbers to
``benchmarks/results/classification.json``; a rerun goes on where the last one stopped.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accuracy.classical import FOREST
from accuracy.features import load_table
from accuracy.tasks import N_FOLDS, draw_labels, load_task
from common import environment, fill_page, write_json
from numpy.typing import NDArray
from sklearn.calibration import CalibratedClassifierCV
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from dssl_sklearn import DSSLClassifier

#: Title -> target, limits between classes.
TASKS: dict[str, tuple[str, list[float]]] = {
    "on the hull": ("e_above_hull", [1e-9]),
    "band gap above 2 eV": ("band_gap", [2.0]),
    "piezoelectric modulus above 0.5 C/m2": ("eij_max", [0.5]),
    "Poisson ratio above 0.29": ("poisson_ratio", [0.29]),
    "bulk modulus below 80, below 180 GPa, above": ("log10_K_VRH", np.log10([80, 180]).tolist()),
}
SCORES = ("ROC AUC", "accuracy", "log loss")
PRETRAINED = {
    "ours, from scratch": None,
    'ours, "mp"': "mp",
    'ours, "mp-distilled"': "mp-distilled",
}


def baselines(n_features: int, seed: int) -> dict[str, Any]:
    """Classifiers on composition and structure features, by title."""
    made = {
        "class shares": DummyClassifier(),
        "random forest": RandomForestClassifier(**FOREST, random_state=seed),
        "gradient boosting": HistGradientBoostingClassifier(
            learning_rate=0.05, max_iter=100, max_leaf_nodes=15, min_samples_leaf=5
        ),
        "SVC": CalibratedClassifierCV(SVC(C=10, gamma=0.2 / n_features), ensemble=False),
    }
    prepared = SimpleImputer(keep_empty_features=True), StandardScaler()
    return {title: make_pipeline(*prepared, model) for title, model in made.items()}


#: In the order of the tables.
METHODS = (*baselines(1, 0), *PRETRAINED)


def main() -> None:
    """Run what is missing, write results and table."""
    options = _options()
    torch.set_num_threads(1)
    found = json.loads(options.results.read_text()) if options.results.exists() else {"scores": {}}
    found |= {"labels": options.labels, **environment()}
    todo = [(title, split) for title in TASKS for split in range(N_FOLDS)]
    with threadpool_limits(1):
        for title, split in tqdm(todo, unit="draw"):
            key = f"{title}, {options.labels} labels, {split}"
            scores = found["scores"].get(key, {})
            if missing := [name for name in METHODS if name not in scores or name in options.again]:
                found["scores"][key] = scores | scores_of(title, split, missing, options)
                write_json(options.results, found)
    fill_page(options.page, {"classification": table(found["scores"], options.labels)})


def scores_of(
    title: str, split: int, methods: Collection[str], options: argparse.Namespace
) -> dict[str, list[float]]:
    """Scores of some methods on one draw."""
    target, limits = TASKS[title]
    task = load_task(target, options.data_dir)
    classes = np.digitize(task.y, limits)
    train, test = task.folds[split]
    rows = draw_labels(train, options.labels, split)

    def score(model: Any, X: Callable[[NDArray[np.int64]], Any]) -> list[float]:  # noqa: ANN401
        model.fit(X(rows), classes[rows])
        p = model.predict_proba(X(test))
        several = {"multi_class": "ovr"} if len(limits) > 1 else {}
        auc = roc_auc_score(classes[test], p if several else p[:, 1], **several)
        # A probability of 0 that comes true would count for infinity.
        safe = np.clip(p, 1e-3, None)
        safe /= safe.sum(axis=1, keepdims=True)
        hits = accuracy_score(classes[test], p.argmax(axis=1))
        return [round(float(value), 5) for value in (auc, hits, log_loss(classes[test], safe))]

    result = {}
    if classical := [name for name in methods if name not in PRETRAINED]:
        tables = [
            load_table(name, task.structures, options.features, quiet=True)
            for name in ("composition", "structure")
        ]
        features = np.hstack(tables)
        made = baselines(features.shape[1], split)
        result = {name: score(made[name], lambda chosen: features[chosen]) for name in classical}
    for name in (name for name in methods if name in PRETRAINED):
        model = DSSLClassifier(pretrained=PRETRAINED[name], random_state=split)
        result[name] = score(model, lambda chosen: [task.structures[row] for row in chosen])
    return result


def table(scores: dict[str, dict[str, list[float]]], n_labels: int) -> str:
    """Mean and standard deviation over the draws, a row for each method and score."""
    lines = []
    for column, score in enumerate(SCORES):
        lines += [f"| {score} | {' | '.join(TASKS)} |", "|---" * (len(TASKS) + 1) + "|"]
        for method in METHODS:
            cells = []
            for title in TASKS:
                of_task = f"{title}, {n_labels} labels, "
                values = [
                    found[method][column]
                    for key, found in scores.items()
                    if key.startswith(of_task)
                ]
                cells.append(f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}")
            lines.append(f"| {method} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines).rstrip()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--labels", type=int, default=100)
    add("--again", nargs="*", choices=METHODS, default=[], help="methods to run once more")
    add("--data-dir", type=Path, default=Path("../shared/data"))
    add("--features", type=Path, default=Path("outputs/accuracy/features"))
    add("--results", type=Path, default=Path("benchmarks/results/classification.json"))
    add("--page", type=Path, default=Path("docs/accuracy.md"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
