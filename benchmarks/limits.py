"""What predictions gain by a limit that many labels sit at, as the band gaps of metals do.

    python benchmarks/limits.py

No set that ships has many equal labels but for the energies above the hull, so that here a
property is what exceeds a threshold, 0 for the rest. Labels are drawn from four fifths of the
formulas, errors are those on the crystals of the last fifth (300 at most), as in
``shipped.py``. Each fit is judged with limit and margin, with the limit alone, and with
neither. Prints a table of mean absolute errors and writes it as JSON.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path
from typing import Any

import numpy as np
from common import environment, write_json
from shipped import drawn

from dssl_sklearn import DSSLRegressor
from dssl_sklearn.datasets import load_dielectric, load_formation_energy, load_piezoelectricity

#: Loader, target and threshold.
PROPERTIES = {
    "band gap beyond 2 eV": (load_dielectric, "band_gap", 2.0),
    "band gap beyond 1.2 eV": (load_dielectric, "band_gap", 1.2),
    "poly_total beyond 12": (load_dielectric, "poly_total", 12.0),
    "piezoelectric modulus beyond 0.3 C/m2": (load_piezoelectricity, "eij_max", 0.3),
    "energy above hull, eV/atom": (load_formation_energy, "e_above_hull", 0.0),
}
WAYS = ("neither", "limit", "limit and margin")


def main() -> None:
    """Fit, print the table, write it."""
    options = _options()
    found = []
    for name in PROPERTIES:
        for pretrained in options.pretrained:
            for n_labels in options.labels:
                draws = range(options.draws)
                mae, at_limit = zip(
                    *(errors(name, n_labels, draw, pretrained) for draw in draws), strict=True
                )
                row: dict[str, Any] = {
                    "property": name,
                    "labels": n_labels,
                    "pretrained": pretrained,
                }
                row["labels at the limit"] = float(np.mean(at_limit))
                row |= dict(zip(WAYS, np.transpose(mae).tolist(), strict=True))
                found.append(row)
                print(line(row), flush=True)
    write_json(options.output, {"draws": options.draws, **environment(), "mae": found})


def errors(
    name: str, n_labels: int, draw: int, pretrained: str
) -> tuple[tuple[float, float, float], float]:
    """Errors for the three ways, from one fit, and the share of labels at the limit."""
    load, target, threshold = PROPERTIES[name]
    structures, y = load(target=target, return_X_y=True)
    y = np.maximum(np.asarray(y, float) - threshold, 0)
    labeled, (X, expected) = drawn(structures, y, n_labels, draw)
    weights = None if pretrained == "none" else pretrained
    whole = DSSLRegressor(pretrained=weights, random_state=draw)
    whole.fit(*labeled)
    limit = copy.copy(whole)
    limit.y_floor_margin_ = np.zeros(1)
    neither = copy.copy(limit)
    neither.y_has_floor_ = np.zeros(1, bool)
    a, b, c = (
        float(np.abs(model.predict(X) - expected).mean()) for model in (neither, limit, whole)
    )
    return (a, b, c), float((labeled[1] == 0).mean())


def line(row: dict[str, Any]) -> str:
    """One row of the table in the documentation."""
    mae = [np.array(row[way]) for way in WAYS]
    deviation = mae[0].std(ddof=1) if len(mae[0]) > 1 else np.nan
    changes = [f"{100 * (np.mean(m) / np.mean(mae[0]) - 1):+.1f} %" for m in mae[1:]]
    at_limit = f"{100 * row['labels at the limit']:.0f} %"
    cells = [row["property"], row["labels"], row["pretrained"], at_limit]
    cells += [f"{mae[0].mean():.3g} ± {deviation:.2g}", *changes]
    return "| " + " | ".join(map(str, cells)) + " |"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--labels", type=int, nargs="+", default=[100, 400])
    add("--draws", type=int, default=3)
    add("--pretrained", nargs="+", default=["none", "mp-distilled"], help='weights, or "none"')
    add("--output", type=Path, default=Path("outputs/limits.json"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
