"""Files of weights: tensors as safetensors, everything else as JSON in its header. No pickle."""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from dssl_sklearn.exceptions import WeightsError

#: Raised when the layout of files changes; older ones stay readable.
FORMAT_VERSION = 1
_KEY = "dssl_sklearn"
_CHECKSUM_KEY = "checksum"


def write_weights(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], config: Mapping[str, Any]
) -> None:
    """Write tensors and their description into one file, all or nothing.

    Parameters
    ----------
    path : path-like
        File to write; an existing one is replaced only by a complete new one.
    tensors : mapping of str to Tensor
        State of the networks.
    config : mapping
        Description; NaN becomes null.

    Raises
    ------
    WeightsError
        If the file cannot be written, or the description is not JSON.
    """
    target = Path(path)
    try:
        text = json.dumps(plain({**config, "format_version": FORMAT_VERSION}), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise WeightsError(f"cannot describe the weights as JSON: {error}") from error
    # A copy of each: safetensors refuses tied weights, which share their memory.
    state = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    data = save(state, {_KEY: text, _CHECKSUM_KEY: _checksum(text, state)})
    try:
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            # mkstemp makes a private file; give it the mode that open() would.
            umask = os.umask(0)
            os.umask(umask)
            Path(temporary).chmod(0o666 & ~umask)
            Path(temporary).replace(target)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise WeightsError(f"cannot write {os.fspath(path)!r}: {error}") from error


def read_weights(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a file that `write_weights` wrote.

    Parameters
    ----------
    path : path-like
        File to read.

    Returns
    -------
    dict of str to Tensor
        Tensors on the CPU.
    dict
        Description.

    Raises
    ------
    WeightsError
        If the file is missing, damaged, from another program, or of a newer format.
    """
    shown = os.fspath(path)
    if not Path(path).is_file():
        raise WeightsError(f"no such file of weights: {shown!r}")
    try:
        with safe_open(shown, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise WeightsError(f"{shown!r} is damaged or no safetensors file: {error}") from error
    try:
        config = json.loads(metadata[_KEY])
        version = config["format_version"]
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise WeightsError(f"{shown!r} was not written by dssl_sklearn's save") from error
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise WeightsError(
            f"{shown!r} has format version {version}, this dssl_sklearn reads up to "
            f"{FORMAT_VERSION}; update the package"
        )
    if metadata.get(_CHECKSUM_KEY) != _checksum(metadata[_KEY], tensors):
        raise WeightsError(f"{shown!r} is damaged: its content does not fit its checksum")
    return tensors, config


def prefixed(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Put a prefix before the names of a state, for `load_state` to find it again."""
    return {prefix + name: tensor for name, tensor in state.items()}


def load_state(module: nn.Module, tensors: Mapping[str, Tensor], prefix: str, source: str) -> None:
    """Load the tensors under a prefix into a module.

    Raises
    ------
    WeightsError
        If names or shapes do not fit.
    """
    state = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise WeightsError(
            f"the weights in {source!r} do not fit their description: {error}"
        ) from error


def _checksum(text: str, tensors: Mapping[str, Tensor]) -> str:
    """Fingerprint of the whole content: a flipped bit in a weight is still a weight."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name},{tensor.dtype},{tuple(tensor.shape)}".encode())
        # A copy has stride 1, which bytes are read by; empty and expanded tensors may have another.
        flat = tensor.reshape(-1).clone(memory_format=torch.contiguous_format)
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def plain(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Replace what strict JSON cannot hold: NaN by null, tuples by lists, numpy's scalars."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
