"""What `pretrained` may be: shipped weights by name, a file, a fitted pretrainer."""

from __future__ import annotations

import json
import os
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sklearn.base import BaseEstimator
from sklearn.frozen import FrozenEstimator

from dssl_sklearn.exceptions import InvalidInputError, WeightsError

if TYPE_CHECKING:
    from dssl_sklearn.estimators.pretrainer import DSSLPretrainer


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


def resolve_pretrained(pretrained: Any) -> DSSLPretrainer | None:  # noqa: ANN401
    """Turn a value of `pretrained` into a fitted pretrainer.

    Parameters
    ----------
    pretrained : str, path-like, fitted DSSLPretrainer or None
        Name of shipped weights, file, or pretrainer, also a frozen one.

    Returns
    -------
    DSSLPretrainer or None
        Fitted, not to be changed by the caller; None for None.

    Raises
    ------
    WeightsError
        If a name or file is unknown or damaged.
    InvalidInputError
        If it is another object, or a pretrainer that is not fitted.
    """
    from dssl_sklearn.estimators.pretrainer import DSSLPretrainer

    if pretrained is None:
        return None
    if isinstance(pretrained, FrozenEstimator):
        pretrained = pretrained.estimator
    if isinstance(pretrained, str | os.PathLike):
        known = shipped_weights()
        if str(pretrained) in known:
            return DSSLPretrainer.load(known[str(pretrained)])
        if not Path(pretrained).is_file():
            names = ", ".join(map(repr, known)) or "none in this version"
            raise WeightsError(
                f"pretrained={os.fspath(pretrained)!r} is neither the name of shipped weights "
                f"({names}) nor a file"
            )
        return DSSLPretrainer.load(pretrained)
    if isinstance(pretrained, DSSLPretrainer):
        if is_fitted_pretrainer(pretrained):
            return pretrained
        raise InvalidInputError(
            "pretrained is a DSSLPretrainer that is not fitted; fit it first, or use a predictor, "
            "which fits it on its training structures."
        )
    raise InvalidInputError(
        f"pretrained is of type {type(pretrained).__name__}, expected the name of shipped weights, "
        "a path, a DSSLPretrainer or None."
    )
