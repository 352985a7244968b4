"""What files of earlier versions look like in today's terms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor


def with_members(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a predictor written before heads came in several, as those of one member.

    Parameters
    ----------
    tensors : mapping of str to Tensor
        Content of the file.

    Returns
    -------
    dict of str to Tensor
        Weights of shape (1, n_in, n_out) and biases of shape (1, 1, n_out) in place of the layers
        of one head.
    """
    old = "model.head.layers."
    found = {name: tensor for name, tensor in tensors.items() if not name.startswith(old)}
    steps = sorted({int(name.removeprefix(old).split(".")[0]) for name in tensors.keys() - found})
    for layer, step in enumerate(steps):
        found[f"model.head.weights.{layer}"] = tensors[f"{old}{step}.weight"].T[None].contiguous()
        found[f"model.head.biases.{layer}"] = tensors[f"{old}{step}.bias"][None, None]
    return found


def with_scale(targets: Mapping[str, Any]) -> dict[str, Any]:
    """Description of the targets of a predictor written before what is missing was kept.

    A regressor from before logarithms were learned or limits of a target were respected, or a
    classifier from before it had a Gaussian process.

    Parameters
    ----------
    targets : mapping of str to JSON value
        As the file has it.

    Returns
    -------
    dict of str to JSON value
        With what is missing: a linear scale, whose predictions know no limits; equal shares of the
        classes.
    """
    if "classes_" in targets and "class_prior_" not in targets:
        classes = targets["classes_"]
        n_classes = len(classes) if isinstance(classes, list) else 1
        return {**targets, "class_prior_": [1 / n_classes] * n_classes}
    if "y_mean_" not in targets:
        return dict(targets)
    mean = targets["y_mean_"]
    n_targets = len(mean) if isinstance(mean, list) else 1
    never, none = [False] * n_targets, [0.0] * n_targets
    missing = {
        "y_is_log_": never,
        "y_min_": mean,
        "y_max_": mean,
        "y_has_floor_": never,
        "y_has_ceiling_": never,
        "y_floor_margin_": none,
        "y_ceiling_margin_": none,
    }
    # What the file does say stands first, so that complaints name that.
    return {**targets, **{name: value for name, value in missing.items() if name not in targets}}
