"""What is looked at in a file's description before a network is built from it.

A file may come from anywhere. Its description chooses classes by name among those that are known,
and can ask for sizes: these must fit the tensors that are really there, so that a file of a few
bytes cannot ask for terabytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dssl_sklearn.exceptions import WeightsError
from dssl_sklearn.training.seeding import seeded
from dssl_sklearn.training.weights import under_prefix

#: More layers or members than any network has; each takes some milliseconds to build.
_MAX_REPEATS = 500
_SCALARS = (str, int, float, bool, type(None))


def check_description(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Refuse a description whose parts are of the wrong kind or size.

    Parameters
    ----------
    config : mapping
        Description of a pretrainer or predictor.
    tensors : mapping of str to Tensor
        Content of the file.

    Raises
    ------
    WeightsError
        With what is wrong.
    """
    for name in ("architecture", "params"):
        if not isinstance(config.get(name), dict):
            raise WeightsError(f"its description has no {name!r}")
    seed = config.get("seed")
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise WeightsError(f"its seed is {str(seed)[:80]}")
    history = config.get("history")
    if not isinstance(history, list) or not all(map(_is_epoch, history)):
        raise WeightsError("its history is no list of epochs")
    most = max((tensor.numel() for tensor in tensors.values()), default=0)
    for part in ("architecture", "head", "objectives", "kernel"):
        for key, value in _numbers(config.get(part), part):
            repeats = key in ("n_layers", "n_hidden_layers", "n_members")
            allowed = _MAX_REPEATS if repeats else max(most, 1000)
            if not math.isfinite(value) or abs(value) > allowed:
                raise WeightsError(f"{part} has {key}={value:.6g}, too much for its tensors")


def _is_epoch(epoch: object) -> bool:
    return isinstance(epoch, dict) and all(isinstance(v, _SCALARS) for v in epoch.values())


def _numbers(value: Any, key: str) -> Iterable[tuple[str, float]]:  # noqa: ANN401 - any JSON value
    """Numbers in nested values, each with the name it stands under."""
    if isinstance(value, dict):
        for name, entry in value.items():
            yield from _numbers(entry, name)
    elif isinstance(value, list):
        for entry in value:
            yield from _numbers(entry, key)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield key, float(value) if abs(value) < 1e300 else math.inf


def check_shapes(
    build: Callable[[], nn.Module], tensors: Mapping[str, Tensor], prefix: str
) -> None:
    """Refuse tensors that do not fit a network, without giving the network any memory.

    Parameters
    ----------
    build : callable
        Makes the network.
    tensors : mapping of str to Tensor
        Content of the file.
    prefix : str
        What the names of the network's tensors begin with.

    Raises
    ------
    WeightsError
        If names or shapes do not fit.
    """
    with seeded(0, "cpu"), torch.device("meta"):
        expected = build().state_dict()
    found = under_prefix(tensors, prefix)
    if odd := sorted(expected.keys() ^ found.keys()):
        raise WeightsError(f"it has other weights than described, for example {prefix + odd[0]!r}")
    # Heads that say which rows belong to which property take their number of rows from the file.
    of_any_length = tuple(name.removesuffix("owner") for name in found if name.endswith(".owner"))
    for name, tensor in expected.items():
        first = int(name.startswith(of_any_length))
        if found[name].shape[first:] != tensor.shape[first:] or found[name].dtype != tensor.dtype:
            raise WeightsError(
                f"{prefix + name!r} is {found[name].dtype} of shape {tuple(found[name].shape)}, "
                f"the description says {tensor.dtype} of shape {tuple(tensor.shape)}"
            )


def check_targets(targets: Any, n_outputs: Any) -> None:  # noqa: ANN401 - any JSON value
    """Refuse a description of targets that does not fit the outputs.

    Raises
    ------
    WeightsError
        If a value is neither one plain value nor one finite number or word per output.
    """
    for name, value in targets.items():
        values = value if isinstance(value, list) else [value]
        plain = all(isinstance(entry, _SCALARS) and entry is not None for entry in values)
        if not plain or (isinstance(value, list) and len(value) != n_outputs):
            raise WeightsError(f"{name!r} does not have one value for each of {n_outputs} outputs")
        numbers = [entry for entry in values if isinstance(entry, float)]
        if not all(map(math.isfinite, numbers)):
            raise WeightsError(f"{name!r} is not finite")
