"""Coverage and width of conformal intervals, and errors out of the applicability domain.

    python benchmarks/uncertainty/coverage.py              # measure, then write page and results
    python benchmarks/uncertainty/coverage.py --page-only  # write the page from the results

For each target and seed, crystals are drawn for training and calibration, and intervals are tested
on all others: with a plain draw, as the guarantee asks for, and with whole formulas held out, where
it is tested on compositions unlike those of the calibration. The models are an SVR on embeddings of
the shipped weights ``"mp"``, and the fine-tuned network for a few targets and seeds. The sets of
matbench, which do not ship, are taken where ``--data`` holds them.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

# `common` is in the folder above.
sys.path.insert(1, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pandas as pd
from common import fill_page, versions, write_json
from numpy.typing import NDArray
from pymatgen.core import Structure
from scipy.stats import spearmanr
from sklearn.base import RegressorMixin
from sklearn.compose import TransformedTargetRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR
from tqdm import tqdm

from dssl_sklearn import DSSLPretrainer, DSSLRegressor
from dssl_sklearn.datasets import (
    fetch_matbench,
    load_dielectric,
    load_elasticity,
    load_formation_energy,
    load_piezoelectricity,
)
from dssl_sklearn.uncertainty import ApplicabilityDomain, ConformalRegressor

ROOT = Path(__file__).resolve().parents[2]
LEVELS = (0.8, 0.9, 0.95)
SHIPPED = {
    "log10 K, log10 GPa": (load_elasticity, "log10_K_VRH"),
    "log10 G, log10 GPa": (load_elasticity, "log10_G_VRH"),
    "refractive index n": (load_dielectric, "n"),
    "piezoelectric modulus, C/m2": (load_piezoelectricity, None),
    "formation energy, eV/atom": (load_formation_energy, "formation_energy"),
}
MATBENCH = {
    "jdft2d, meV/atom": "matbench_jdft2d",
    "phonons, 1/cm": "matbench_phonons",
}
#: Crystals for training and calibration together.
N_TRAIN = 400
#: Crystals taken of a larger set.
MAX_CRYSTALS = 1500
#: The network is measured on the first target, and with fewer crystals and seeds.
NETWORK_TARGETS = ("log10 K, log10 GPa", "refractive index n")
NETWORK_TRAIN, NETWORK_SEEDS = 150, 3

Array = NDArray[np.float64]
Rows = NDArray[np.intp]
Row = dict[str, Any]


def load(name: str, data: Path) -> tuple[list[Structure], Array] | None:
    """Crystals and targets, or None where the files are missing."""
    if name in SHIPPED:
        loader, target = SHIPPED[name]
        arguments: dict[str, Any] = {} if target is None else {"target": target}
        structures, y = loader(return_X_y=True, **arguments)
        return structures, np.asarray(y, dtype=np.float64)
    if not (data / f"{MATBENCH[name]}.json.gz").is_file():
        return None
    bunch = fetch_matbench(MATBENCH[name], data_home=data)
    return list(bunch.data), np.asarray(bunch.target, dtype=np.float64)


def draw(structures: list[Structure], n_train: int, seed: int, *, formulas: bool) -> Rows:
    """Rows for training and calibration; all crystals of a formula, if so wanted."""
    rng = np.random.default_rng(seed)
    if not formulas:
        return np.asarray(rng.permutation(len(structures))[:n_train])
    names = pd.Series([structure.reduced_formula for structure in structures])
    order = pd.Series(rng.permutation(names.unique())).reset_index().set_index(0)["index"]
    return np.asarray(np.argsort(names.map(order).to_numpy(), kind="stable")[:n_train])


def svr() -> RegressorMixin:
    """Support vectors on standardized embeddings and targets."""
    model = make_pipeline(StandardScaler(), SVR(C=10, epsilon=0.02))
    return TransformedTargetRegressor(model, transformer=StandardScaler())


def measure_intervals(model: ConformalRegressor, X: Any, y: Array, train: Rows) -> list[Row]:  # noqa: ANN401
    """Coverage and mean width of the intervals at every level, on all rows not in `train`."""
    test = np.setdiff1d(np.arange(len(y)), train)
    take = X.__getitem__ if isinstance(X, np.ndarray) else lambda rows: [X[row] for row in rows]
    model.set_params(confidence_level=list(LEVELS)).fit(take(train), y[train])
    y_pred, intervals = model.predict_interval(take(test))
    inside = (intervals[:, 0] <= y[test, None]) & (y[test, None] <= intervals[:, 1])
    return [
        {
            "level": level,
            "coverage": float(inside[:, k].mean()),
            "width": float(np.diff(intervals[..., k]).mean()),
            "mae": float(np.abs(y_pred - y[test]).mean()),
            "n_calibration": model.n_calibration_,
            "n_test": len(test),
        }
        for k, level in enumerate(LEVELS)
    ]


def measure_domain(
    structures: list[Structure], embeddings: Array, y: Array, train: Rows
) -> dict[str, float]:
    """Errors of the SVR on crystals in and out of the applicability domain."""
    test = np.setdiff1d(np.arange(len(y)), train)
    error = np.abs(svr().fit(embeddings[train], y[train]).predict(embeddings[test]) - y[test])
    domain = ApplicabilityDomain().fit([structures[row] for row in train])
    report = domain.report([structures[row] for row in test])
    outside = ~report["in_domain"].to_numpy()
    unseen = (report["unseen_elements"] != "").to_numpy()
    return {
        "share_outside": float(outside.mean()),
        "share_unseen": float(unseen.mean()),
        "mae_inside": float(error[~outside].mean()),
        "mae_outside": float(error[outside].mean()),
        "median_inside": float(np.median(error[~outside])),
        "median_outside": float(np.median(error[outside])),
        "spearman": float(spearmanr(report["relative_distance"], error).statistic),
    }


def measure(options: argparse.Namespace) -> Row:
    """All rows of the results."""
    pretrainer = DSSLPretrainer.from_pretrained("mp")
    intervals: list[Row] = []
    domains: list[Row] = []
    for target in tqdm(options.targets, desc="targets"):
        found = load(target, options.data)
        if found is None:
            warnings.warn(f"{target} is left out: no file in {options.data}", stacklevel=1)
            continue
        structures, y = found
        some = np.random.default_rng(0).permutation(len(y))[:MAX_CRYSTALS]
        structures, y = [structures[row] for row in some], y[some]
        embeddings = np.asarray(pretrainer.transform(structures), dtype=np.float64)
        for seed in range(options.seeds):
            for drawn, formulas in (("crystals", False), ("formulas", True)):
                train = draw(structures, N_TRAIN, seed, formulas=formulas)
                about = {"target": target, "seed": seed, "drawn": drawn, "model": "SVR"}
                for method in ("split", "cv+"):
                    model = ConformalRegressor(svr(), method=method, random_state=seed)
                    rows = measure_intervals(model, embeddings, y, train)
                    intervals += [{**about, "method": method, **row} for row in rows]
                if formulas:
                    domain = measure_domain(structures, embeddings, y, train)
                    domains.append({"target": target, "seed": seed, **domain})
        if target in NETWORK_TARGETS:
            intervals += measure_network(target, structures, y)
    return {
        "made": time.strftime("%Y-%m-%d"),
        "versions": versions("mapie", "scikit-learn", "torch"),
        "intervals": summary(intervals, ["target", "model", "drawn", "method", "level"]),
        "domains": summary(domains, ["target"]),
    }


def joined(results: Row, path: Path) -> Row:
    """New results with those of other targets in the file."""
    if not path.is_file():
        return results
    old = json.loads(path.read_text(encoding="utf-8"))
    new = {row["target"] for row in results["intervals"]}
    for kind in ("intervals", "domains"):
        kept = [row for row in old[kind] if row["target"] not in new]
        order = [*SHIPPED, *MATBENCH]
        rows = kept + results[kind]
        results[kind] = sorted(rows, key=lambda row: order.index(row["target"]))
    return results


def measure_network(target: str, structures: list[Structure], y: Array) -> list[Row]:
    """Split intervals around the fine-tuned network."""
    rows = []
    for seed in range(NETWORK_SEEDS):
        train = draw(structures, NETWORK_TRAIN, seed, formulas=False)
        network = DSSLRegressor(pretrained="mp", max_epochs=20, random_state=seed)
        model = ConformalRegressor(network, cv=2, random_state=seed)
        about = {"target": target, "seed": seed, "drawn": "crystals", "model": "network"}
        found = measure_intervals(model, structures, y, train)
        rows += [{**about, "method": "split", **row} for row in found]
    return rows


def summary(rows: list[Row], by: list[str]) -> list[Row]:
    """Means over the seeds, with the standard error of the first measured column."""
    table = pd.DataFrame(rows)
    groups = table.drop(columns="seed").groupby(by, sort=False)
    means = groups.mean()
    means.insert(0, "n_seeds", groups.size())
    first = means.columns[1]
    means.insert(2, f"{first}_error", groups[first].sem())
    return [{str(k): v for k, v in row.items()} for row in means.reset_index().to_dict("records")]


def interval_table(rows: list[Row]) -> str:
    """Coverage and width of every target, as Markdown."""
    head = "| target | model | method | " + " | ".join(f"{level:.0%}" for level in LEVELS) + " |"
    lines = [head, "|---" * (3 + len(LEVELS)) + "|"]
    table = pd.DataFrame(rows)
    for (target, model, method), group in table.groupby(["target", "model", "method"], sort=False):
        cells = [
            f"{row.coverage:.1%} ± {row.coverage_error:.1%} ({row.width:.3g})"
            for row in group.itertuples()
        ]
        lines.append(f"| {target} | {model} | {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def domain_table(rows: list[Row]) -> str:
    """Errors in and out of the domain, as Markdown."""
    head = (
        "| target | flagged | with unseen element | MAE in domain | MAE flagged | ratio of MAE "
        "| ratio of medians | rank correlation |"
    )
    lines = [head, "|---" * 8 + "|"]
    lines += [
        f"| {row['target']} | {row['share_outside']:.1%} | {row['share_unseen']:.1%} "
        f"| {row['mae_inside']:.3g} | {row['mae_outside']:.3g} "
        f"| {row['mae_outside'] / row['mae_inside']:.1f} "
        f"| {row['median_outside'] / row['median_inside']:.1f} | {row['spearman']:.2f} |"
        for row in rows
    ]
    return "\n".join(lines)


def write_page(results: Row, page: Path) -> None:
    """Put the tables between their comments."""
    rows = results["intervals"]
    tables = {
        "coverage": interval_table([row for row in rows if row["drawn"] == "crystals"]),
        "coverage-formulas": interval_table([row for row in rows if row["drawn"] == "formulas"]),
        "domain": domain_table(results["domains"]),
    }
    fill_page(page, tables)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5, help="draws of the training crystals")
    parser.add_argument(
        "--targets",
        nargs="+",
        choices=[*SHIPPED, *MATBENCH],
        default=[*SHIPPED, *MATBENCH],
        help="what to measure; results of the others are kept",
    )
    parser.add_argument("--data", type=Path, default=ROOT / "../shared/data")
    parser.add_argument(
        "--results", type=Path, default=ROOT / "benchmarks/results/uncertainty.json"
    )
    parser.add_argument("--page", type=Path, default=ROOT / "docs/guide/uncertainty.md")
    parser.add_argument("--page-only", action="store_true")
    options = parser.parse_args()
    if not options.page_only:
        results = joined(measure(options), options.results)
        write_json(options.results, results)
    write_page(json.loads(options.results.read_text(encoding="utf-8")), options.page)


if __name__ == "__main__":
    main()
