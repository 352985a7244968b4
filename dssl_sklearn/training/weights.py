"""Files of weights: tensors as safetensors, everything else as JSON in its header. No pickle.

A file that comes from elsewhere is not trusted: its size, its header and its checksum are looked at
before any network is built from it. The checksum finds damage; it proves nothing about who wrote
the file, so that whatever reads the description checks its values as well.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from dssl_sklearn._atomic import atomic_path
from dssl_sklearn.exceptions import WeightsError

#: Raised when the layout of files changes; older ones stay readable.
FORMAT_VERSION = 1
_KEY = "dssl_sklearn"
_CHECKSUM_KEY = "checksum"
#: Largest file and largest header that are read: far beyond the networks of this library.
MAX_BYTES = 2 * 2**30
MAX_HEADER_BYTES = 16 * 2**20


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
    try:
        text = json.dumps(plain({**config, "format_version": FORMAT_VERSION}), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise WeightsError(f"cannot describe the weights as JSON: {error}") from error
    # A copy of each: safetensors refuses tied weights, which share their memory.
    state = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    data = save(state, {_KEY: text, _CHECKSUM_KEY: _checksum(text, state)})
    if len(data) > MAX_BYTES or len(text) > MAX_HEADER_BYTES // 2:
        raise WeightsError(f"cannot write {os.fspath(path)!r}: too large to be read back")
    try:
        with atomic_path(path) as part:
            part.write_bytes(data)
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
    try:
        _check_header(Path(path))
        with safe_open(shown, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise WeightsError(f"no such file of weights: {shown!r}") from error
    except OSError as error:
        raise WeightsError(f"cannot read {shown!r}: {error}") from error
    except (SafetensorError, ValueError, RuntimeError, RecursionError) as error:
        raise WeightsError(f"{shown!r} is damaged or no safetensors file: {error}") from error
    try:
        config = _parse_json(metadata[_KEY])
        version = config["format_version"]
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise WeightsError(f"{shown!r} was not written by dssl_sklearn's save") from error
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise WeightsError(f"{shown!r} was not written by dssl_sklearn's save")
    if version > FORMAT_VERSION:
        raise WeightsError(
            f"{shown!r} has format version {version}, this dssl_sklearn reads up to "
            f"{FORMAT_VERSION}; update the package"
        )
    if metadata.get(_CHECKSUM_KEY) != _checksum(metadata[_KEY], tensors):
        raise WeightsError(f"{shown!r} is damaged: its content does not fit its checksum")
    return tensors, config


def _check_header(path: Path) -> None:
    """Refuse what is too large or ambiguous, before safetensors maps and checks the rest.

    Raises
    ------
    OSError, ValueError, RecursionError
        With the reason.
    """
    if not path.is_file():
        raise FileNotFoundError(path)
    n_bytes = path.stat().st_size
    if n_bytes > MAX_BYTES:
        raise ValueError(f"{n_bytes} bytes, expected at most {MAX_BYTES}")
    with path.open("rb") as file:
        start = file.read(8)
        if len(start) < 8:
            raise ValueError(f"it has only {n_bytes} bytes")
        (n_header,) = struct.unpack("<Q", start)
        if n_header > min(n_bytes - 8, MAX_HEADER_BYTES):
            raise ValueError(f"a header of {n_header} bytes in a file of {n_bytes}")
        _parse_json(file.read(n_header).decode())


def _parse_json(text: str) -> Any:  # noqa: ANN401 - any JSON value
    """Parse strict JSON: no name twice, which readers understand differently, and no NaN."""

    def once(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in pairs:
            if name in found:
                raise ValueError(f"the name {name[:80]!r} comes twice")
            found[name] = value
        return found

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is no JSON")

    return json.loads(text, object_pairs_hook=once, parse_constant=refuse)


def prefixed(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Put a prefix before the names of a state, for `load_state` to find it again."""
    return {prefix + name: tensor for name, tensor in state.items()}


def under_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Take the tensors under a prefix, without it."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def load_state(
    module: nn.Module,
    tensors: Mapping[str, Tensor],
    prefix: str,
    source: str,
    *,
    buffers_finite: bool = True,
) -> None:
    """Load the tensors under a prefix into a module.

    Parameters
    ----------
    module : nn.Module
        Where to.
    tensors : mapping of str to Tensor
        Content of a file.
    prefix : str
        What the names in the file begin with.
    source : str
        The file, for messages.
    buffers_finite : bool, default=True
        Whether NaN and infinite entries are refused in the buffers as well as in the parameters;
        tables of targets, for example, have them where nothing is known.

    Raises
    ------
    WeightsError
        If names or shapes do not fit, or entries are not finite.
    """
    state = under_prefix(tensors, prefix)
    checked: dict[str, Tensor] = dict(module.named_parameters())
    if buffers_finite:
        checked |= dict(module.named_buffers())
    for name in checked.keys() & state.keys():
        if not bool(state[name].isfinite().all()):
            raise WeightsError(f"the weights {prefix + name!r} in {source!r} are not all finite")
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
        flat = tensor.reshape(-1)
        if flat.stride() != (1,):
            # Bytes are read by stride 1; empty and expanded tensors may have another.
            flat = flat.clone(memory_format=torch.contiguous_format)
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
