"""The run card: what is worth knowing about fitted weights, in JSON beside them."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import dssl_sklearn
from dssl_sklearn._atomic import write_text
from dssl_sklearn._warnings import warn
from dssl_sklearn.estimators.base import CrystalEstimator
from dssl_sklearn.estimators.citations import BIBTEX, citation_keys, license_of
from dssl_sklearn.training.weights import plain

_LIBRARIES = ("torch", "torch-geometric", "pymatgen", "scikit-learn", "skorch")


def versions() -> dict[str, str]:
    """Versions of this package, of Python and of the libraries beneath."""
    return {
        "dssl_sklearn": dssl_sklearn.__version__,
        "python": platform.python_version(),
        **{name: version(name) for name in _LIBRARIES},
    }


def run_card(
    estimator: CrystalEstimator, name: str, description: Mapping[str, Any]
) -> dict[str, Any]:
    """Describe a fitted estimator.

    Parameters
    ----------
    estimator : CrystalEstimator
        Fitted.
    name : str
        Name of the weights.
    description : mapping
        What the file of weights says of itself.

    Returns
    -------
    dict
        Entries that JSON can hold.
    """
    record = estimator.fit_record_ or {}
    curves = [
        {k: v for k, v in epoch.items() if k.startswith(("train_", "valid_"))}
        for epoch in description["history"]
    ]
    keys = citation_keys(estimator)
    start = record.get("starts_from")
    return {
        "name": name,
        "class": description["class"],
        "data": {k: v for k, v in record.items() if k != "starts_from"},
        "starts_from": start,
        "architecture": description["architecture"],
        "objectives": [repr(o) for o in getattr(estimator, "objectives_", [])],
        "params": description["params"],
        "seed": description["seed"],
        "splits": {
            "validation_fraction": estimator._held_out_fraction(),  # noqa: SLF001 - the base's own
            "early_stopping": estimator.early_stopping,
            "n_iter_no_change": estimator.n_iter_no_change,
        },
        "epochs": len(curves),
        "scores": _scores(curves),
        "curves": curves,
        "seconds_of_training": round(
            sum(float(epoch.get("dur", 0.0)) for epoch in description["history"]), 3
        ),
        "machine": f"{platform.machine()}, {estimator.net_.device}",
        "versions": versions(),
        "license": license_of(record),
        "citations": {key: BIBTEX[key] for key in keys},
    }


def _scores(curves: list[dict[str, Any]]) -> dict[str, Any]:
    """Last and best value of the losses."""
    scores: dict[str, Any] = {}
    for name in ("train_loss", "valid_loss"):
        values = [epoch[name] for epoch in curves if isinstance(epoch.get(name), float | int)]
        if values:
            scores[name] = {
                "last": values[-1],
                "best": min(values),
                "best_epoch": values.index(min(values)) + 1,
            }
    return scores


def card_path(path: str | os.PathLike[str]) -> Path:
    """Where the card of a file of weights lies: its name with ``.json`` as suffix."""
    file = Path(path)
    beside = file.with_suffix(".json")
    return file.with_name(file.name + ".json") if beside == file else beside


def write_card(path: str | os.PathLike[str], card: Mapping[str, Any]) -> None:
    """Write the card of a file of weights, all or nothing.

    A file of that name which is no card stays as it is: the weights are worth more than their card,
    so that a card which cannot be written is a warning.

    Parameters
    ----------
    path : path-like
        File of the weights.
    card : mapping
        See `run_card`.
    """
    target = card_path(path)
    if target.exists() and not _is_card(target):
        warn(
            f"no run card written: {str(target)!r} exists and is none; save the weights under "
            "another name to get one",
        )
        return
    try:
        text = json.dumps(plain(card), indent=1, ensure_ascii=False, allow_nan=False)
        write_text(target, text + "\n")
    except OSError as error:
        warn(f"no run card written: {error}")


def _is_card(path: Path) -> bool:
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        return "dssl_sklearn" in card["versions"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False
