"""Pretrained weights: what ships with the package, and whether a pretrainer is fitted."""

from __future__ import annotations

import json
import os
from importlib.resources import files
from pathlib import Path
from typing import Any

from sklearn.base import BaseEstimator


def is_fitted_pretrainer(pretrained: object) -> bool:
    """Whether this is an estimator that holds trained weights."""
    return isinstance(pretrained, BaseEstimator) and hasattr(pretrained, "net_")


def shipped_weights() -> dict[str, Path]:
    """Weights inside the package: name -> file."""
    folder = Path(str(files("dssl_sklearn"))) / "weights"
    return {path.stem: path for path in sorted(folder.glob("*.safetensors"))}


def shipped_record(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Record of what shipped weights were fitted on, by their card; None for other files.

    Parameters
    ----------
    path : path-like
        File of weights.

    Returns
    -------
    dict or None
        With the entries ``weights`` (the name), ``source``, ``n_structures``, ``n_learned_from``,
        ``license`` and ``starts_from``.
    """
    named = {file.resolve(): name for name, file in shipped_weights().items()}
    name = named.get(Path(path).resolve())
    card_path = Path(path).with_suffix(".json")
    if name is None or not card_path.is_file():
        return None
    card = json.loads(card_path.read_text(encoding="utf-8"))
    start, data = card.get("starts_from"), card.get("data", {})
    return {
        "weights": name,
        "source": data.get("source"),
        "n_structures": data.get("n_crystals"),
        "n_learned_from": data.get("n_crystals"),
        "license": card.get("license"),
        "starts_from": shipped_record(shipped_weights()[start]) if start else None,
    }
