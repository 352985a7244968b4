"""Damaged and hostile files of weights: every one is refused with `WeightsError`, or is unharmed.

    python benchmarks/robustness/fuzz_files.py --inputs 100000

Three kinds of inputs are made from small files of a regressor, a classifier and a pretrainer:
changed bytes (flips, cuts, insertions, headers that claim other sizes); changed headers of
safetensors (names, shapes, offsets, duplicates, depth); and changed descriptions and tensors that
carry a right checksum, as an attacker would write them. Any other exception, more than `--memory`
MB more than at the start, or more than `--seconds` for one input ends the run with the input kept.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import resource
import struct
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from dssl_sklearn import DSSLClassifier, DSSLPretrainer, DSSLRegressor
from dssl_sklearn.datasets import load_elasticity
from dssl_sklearn.exceptions import WeightsError
from dssl_sklearn.training.weights import _checksum, read_weights

TINY: dict[str, Any] = {
    "backbone_params": {"width": 4, "n_layers": 1, "n_basis": 4},
    "max_epochs": 1,
    "batch_size": 4,
    "random_state": 0,
    "device": "cpu",
}
CLASSES = (DSSLRegressor, DSSLClassifier, DSSLPretrainer)
#: Values that are put in place of others.
ODD: list[Any] = [
    None, True, -1, 0, 1, 2, 3.5, 1e9, 1e308, 10**9, 10**18, 10**400, -(10**18), "", "x", "../../x",
    "/etc/passwd", "\x00", "os.system", [], {}, [[]], [None], {"": {}}, [10**9] * 3, "nan",
    "a" * 5000,
]  # fmt: skip


def seeds(folder: Path) -> dict[type[Any], bytes]:
    """One small file of each kind."""
    X, y = load_elasticity(target="log10_K_VRH", return_X_y=True)
    found = {}
    for cls in CLASSES:
        extra = {"objectives": "mask"} if cls is DSSLPretrainer else {"head_params": {"hidden": 4}}
        path = folder / cls.__name__
        cls(**TINY, **extra).fit(X[:8], y[:8] > y[:8].mean()).save(path)
        found[cls] = path.read_bytes()
    return found


def changed_bytes(content: bytes, draw: random.Random) -> bytes:
    """Flip, cut, insert, repeat, or claim another size of the header."""
    data = bytearray(content)
    for _ in range(draw.randint(1, 5)):
        kind, place = draw.randrange(5), draw.randrange(len(data) + 1)
        if kind == 0 and place < len(data):
            data[place] ^= 1 << draw.randrange(8)
        elif kind == 1:
            del data[place : place + draw.choice([1, 8, 100, 10**9])]
        elif kind == 2:
            data[place:place] = draw.randbytes(draw.choice([1, 8, 100]))
        elif kind == 3:
            data[place:place] = data[place : place + draw.choice([1, 8, 1000])]
        else:
            size = draw.choice([0, 1, 2**31, 2**63 - 1, 2**64 - 1, draw.randrange(2**20)])
            data[:8] = struct.pack("<Q", size)
        if not data:
            break
    return bytes(data)


def changed_header(content: bytes, draw: random.Random) -> bytes:
    """Change the header of safetensors."""
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    names = [name for name in header if name != "__metadata__"]
    name = draw.choice(names)
    kind = draw.randrange(7)
    if kind == 0:
        header[name]["shape"] = draw.choice([[2**62], [2**32, 2**32], [-1], [0], [], [1e9], "x"])
    elif kind == 1:
        header[name]["data_offsets"] = draw.choice([[0, 2**63], [8, 0], [-8, 8], [0], "x", [0, 4]])
    elif kind == 2:
        header[name]["dtype"] = draw.choice(["F64", "I8", "X9", 3, None, "BOOL", "F8_E5M2"])
    elif kind == 3:
        header[draw.choice(["../../etc/passwd", "", "\x00", "a" * 10**5])] = header.pop(name)
    elif kind == 4:
        header["__metadata__"] = copy.deepcopy(draw.choice(ODD))
    elif kind == 5:
        header["__metadata__"]["dssl_sklearn"] = draw.choice(
            ["[" * 10**5, "{" * 10**5, '{"a":' * 10**4, "1" * 10**5, '{"format_version": NaN}']
        )
    text = json.dumps(header)
    if kind == 6:
        entry = json.dumps(name) + ":"
        text = text.replace(entry, entry + json.dumps(header[name]) + "," + entry, 1)
    new = text.encode()
    return struct.pack("<Q", len(new)) + new + content[8 + length :]


def changed_content(content: bytes, draw: random.Random, folder: Path) -> bytes:
    """Change the description or the tensors, with a right checksum."""
    path = folder / "whole"
    path.write_bytes(content)
    tensors, config = read_weights(path)
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    for _ in range(draw.randint(1, 3)):
        if draw.random() < 0.75:
            _change_value(config, draw)
            continue
        name = draw.choice(list(tensors))
        tensors[name] = _changed_tensor(tensors[name], draw.randrange(6))
    text = json.dumps(config)
    return save(tensors, {"dssl_sklearn": text, "checksum": _checksum(text, tensors)})


def _changed_tensor(tensor: torch.Tensor, kind: int) -> torch.Tensor:
    """NaN, another shape or another type."""
    if kind == 0 and tensor.is_floating_point():
        return torch.full_like(tensor, torch.nan)
    if kind == 1:
        return tensor.reshape(-1)[:-1].clone()
    if kind == 2:
        return tensor[None].clone()
    if kind == 3:
        return tensor.double()
    return tensor.new_zeros(0) if kind == 4 else tensor.new_zeros(3, 5, 7)


def _change_value(value: Any, draw: random.Random) -> None:  # noqa: ANN401 - any JSON value
    """Replace, drop or add one entry somewhere in nested values."""
    while True:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        if not keys:
            return
        key = draw.choice(keys)
        if isinstance(value[key], dict | list) and value[key] and draw.random() < 0.8:
            value = value[key]
            continue
        kind = draw.randrange(4)
        if kind == 0 and isinstance(value, dict):
            del value[key]
        elif kind == 1 and isinstance(value, dict):
            value[draw.choice(["callbacks", "pretrained", "net_params", "checkpoint_dir", "x"])] = (
                copy.deepcopy(draw.choice(ODD))
            )
        else:
            value[key] = copy.deepcopy(draw.choice(ODD))
        return


def try_one(cls: type[Any], path: Path) -> str:
    """Load a file; what came of it."""
    try:
        estimator = cls.load(path)
    except WeightsError:
        return "refused"
    # What is not seen as damaged must be harmless.
    if (
        estimator.get_params()["pretrained"] is not None
        or estimator.callbacks
        or estimator.net_params
    ):
        raise AssertionError("a file brought parameters that it must not bring")
    if getattr(estimator, "checkpoint_dir", None) is not None:
        raise AssertionError("a file said where to write")
    return "loaded"


def main() -> None:
    """Make inputs and try them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=20.0, help="most CPU time for one input")
    parser.add_argument("--memory", type=float, default=500.0, help="most further memory in MB")
    parser.add_argument("--keep", type=Path, default=Path("failing-input"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    draw = random.Random(arguments.seed)  # noqa: S311 - inputs of a fuzzer
    counts: Counter[str] = Counter()
    slowest = 0.0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "input.safetensors"
        originals = seeds(folder)
        first = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for number in range(arguments.inputs):
            if number % 10_000 == 9_999:
                print(number + 1, dict(counts), flush=True)
            cls = draw.choice(CLASSES)
            kind = draw.choices(["bytes", "header", "content"], [5, 4, 1])[0]
            if kind == "bytes":
                content = changed_bytes(originals[cls], draw)
            elif kind == "header":
                content = changed_header(originals[cls], draw)
            else:
                content = changed_content(originals[cls], draw, folder)
            path.write_bytes(content)
            begin = time.process_time()
            try:
                counts[f"{kind}: {try_one(cls, path)}"] += 1
                taken = time.process_time() - begin
                grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - first) / 1024
                slowest = max(slowest, taken)
                assert taken < arguments.seconds, f"{taken:.1f} s"  # noqa: S101 - of a fuzzer
                assert grown < arguments.memory, f"{grown:.0f} MB more memory"  # noqa: S101
            except BaseException:
                arguments.keep.write_bytes(content)
                print(f"{cls.__name__}, {kind}: kept as {arguments.keep} after {dict(counts)}")
                raise
    figures = {"inputs": sum(counts.values()), **dict(sorted(counts.items()))}
    print(json.dumps({**figures, "slowest (s)": round(slowest, 3), "memory (MB)": round(grown)}))


if __name__ == "__main__":
    main()
