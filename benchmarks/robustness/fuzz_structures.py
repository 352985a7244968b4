"""Hostile crystals: each ends in a documented error or in embeddings that are finite.

    python benchmarks/robustness/fuzz_structures.py --inputs 5000

Cells of extreme lengths and angles, left-handed and skewed ones, 1 to `--sites` sites, duplicated,
clustered and unwrapped ones, slabs in vacuum, NaN and infinite entries, dicts with wrong values,
and the text of CIF files with garbage go through the public door (`transform` of a pretrainer).
The address space is limited, so that an explosion of memory is a `MemoryError`, and an alarm ends
what takes too long. Any exception but `InvalidStructureError` ends the run with the seed of the
input.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import signal
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pymatgen.core import Lattice, Structure

from dssl_sklearn import DSSLPretrainer
from dssl_sklearn.crystals.graph import Crystal
from dssl_sklearn.exceptions import InvalidStructureError

_LENGTHS = (1e-3, 0.05, 0.3, 1.0, 2.0, 3.0, 5.0, 12.0, 60.0, 1e3, 1e4)
_ODD = (np.nan, np.inf, -np.inf, 1e308, -1e308, 1e-308, 1e7)
_ELEMENTS = ("H", "C", "O", "Na", "Fe", "Cs", "U", "Lr")


def lattice(draw: random.Random) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Lattice vectors as rows."""
    lengths = [draw.choice(_LENGTHS) * draw.uniform(0.8, 1.25) for _ in range(3)]
    if draw.random() < 0.5:
        lengths = [lengths[0] * draw.uniform(0.5, 2) for _ in range(3)]
    kind = draw.randrange(5)
    angles = [90.0] * 3
    if kind == 1:
        angles = [draw.uniform(20, 119) for _ in range(3)]
    elif kind == 2:
        angles = [draw.choice([0.01, 1, 5, 60, 119.9, 175, 179.99]) for _ in range(3)]
    with np.errstate(all="ignore"):
        matrix = np.array(Lattice.from_parameters(*lengths, *angles).matrix)
    if kind == 3:
        matrix = np.array([[draw.randint(-4, 4) for _ in range(3)] for _ in range(3)]) @ matrix
    if kind == 4:
        matrix = matrix[[1, 0, 2]] * draw.choice([1, -1])
    if draw.random() < 0.03:
        matrix[draw.randrange(3), draw.randrange(3)] = draw.choice(_ODD)
    return matrix


def sites(draw: random.Random, most: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Fractional coordinates."""
    n_sites = min(most, draw.choice([1, 1, 2, 2, 3, 5, 8, 12, 30, 40, 41, 60, 200, 1000, 10_000]))
    rng = np.random.default_rng(draw.randrange(2**32))
    side = int(np.ceil(n_sites ** (1 / 3)))
    # Sites on a grid keep their distance, so that large crystals get through.
    grid = np.stack(np.meshgrid(*[np.arange(side)] * 3), axis=-1).reshape(-1, 3) / side
    frac = grid[:n_sites] + rng.normal(scale=0.02 / side, size=(n_sites, 3))
    kind = draw.randrange(8)
    if kind == 0:
        frac = rng.random((n_sites, 3))
    elif kind == 1:
        frac[rng.integers(n_sites)] = frac[0]
    elif kind == 2:
        frac[:, draw.randrange(3)] *= draw.choice([1e-3, 0.05, 0.3])
    elif kind == 3:
        frac *= draw.choice([0.0, 1e-6, 1e-3, 0.1])
    elif kind == 4:
        frac += rng.integers(-3, 4, size=frac.shape) * draw.choice([1, 1000, 300_000, 10**7])
    if draw.random() < 0.03:
        frac[rng.integers(n_sites), rng.integers(3)] = draw.choice(_ODD)
    return frac


def crystal(draw: random.Random, most: int, folder: Path) -> Any:  # noqa: ANN401 - what a user gives
    """One crystal of any accepted kind."""
    matrix, frac = lattice(draw), sites(draw, most)
    kind = draw.randrange(10)
    if kind < 5 or len(frac) > 300:
        numbers = np.array([draw.choice([1, 6, 8, 11, 26, 55, 92, 103]) for _ in frac])
        if draw.random() < 0.02:
            numbers[0] = draw.choice([0, -1, 104, 2**40])
        return Crystal(numbers, frac, matrix)
    with np.errstate(all="ignore"):
        structure = Structure(Lattice(matrix), [draw.choice(_ELEMENTS) for _ in frac], frac)
    if kind < 7:
        return structure
    if kind == 7:
        record = structure.as_dict()
        place = draw.choice(["lattice", "sites", "matrix", "species", "abc"])
        value: Any = draw.choice([None, "x", [], {}, -1, 1e400, [None] * 3, "\x00" * 100])
        if place in record:
            record[place] = value
        elif place == "matrix":
            record["lattice"]["matrix"] = value
        else:
            record["sites"][0][place] = value
        return record
    path = folder / "input.cif"
    path.write_bytes(cif(structure, draw))
    return path


def cif(structure: Structure, draw: random.Random) -> bytes:
    """Text of a CIF file, spoiled in some places."""
    try:
        text = str(structure.to(fmt="cif"))
    except Exception:  # noqa: BLE001 - pymatgen cannot write every cell
        text = "data_x\n_cell_length_a 3\nloop_\n_atom_site_type_symbol\nNa\n"
    data = bytearray(text.encode())
    garbage = (b"nan", b"inf", b"1e999", b"-1", b"?", b".", b"'", b";\n", b"loop_\n", b"\x00\xff",
               b"#", b"9" * 400, b"x,y,z", b"1/0", b"(" * 500,
               b"\n_cell_length_a 1e-9\n")  # fmt: skip
    for _ in range(draw.choice([1, 1, 2, 5])):
        place = draw.randrange(len(data) + 1)
        data[place : place + draw.choice([0, 0, 1, 5, 30])] = draw.choice(garbage)
    return bytes(data)


def _too_long(*_: object) -> None:
    raise TimeoutError("an input took too long")


def main() -> None:
    """Make inputs and embed them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=5000)
    parser.add_argument("--first", type=int, default=0, help="seed of the first input")
    parser.add_argument("--sites", type=int, default=10_000)
    parser.add_argument("--memory", type=float, default=3.0, help="further address space in GB")
    parser.add_argument("--seconds", type=int, default=120, help="most CPU time for one input")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    embed = DSSLPretrainer(pretrained="mp", max_epochs=0, device="cpu").fit(
        [Structure(Lattice.cubic(3.0), ["Po"], [[0, 0, 0]])]
    )
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = used + int(arguments.memory * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
    signal.signal(signal.SIGVTALRM, _too_long)
    counts: Counter[str] = Counter()
    slowest = (0.0, -1)
    with tempfile.TemporaryDirectory() as name:
        for seed in range(arguments.first, arguments.first + arguments.inputs):
            draw = random.Random(seed)  # noqa: S311 - inputs of a fuzzer
            item = crystal(draw, arguments.sites, Path(name))
            begin = time.process_time()
            signal.setitimer(signal.ITIMER_VIRTUAL, arguments.seconds)
            try:
                embedding = embed.transform([item])
                assert np.isfinite(embedding).all(), "an embedding is not finite"  # noqa: S101
                counts["embedded"] += 1
            except InvalidStructureError as error:
                words = error.reasons[0].split()
                counts["refused: " + " ".join(w for w in words if w.isalpha())[:30]] += 1
            except BaseException:
                print(f"seed {seed}: {type(item).__name__}", flush=True)
                raise
            finally:
                signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            slowest = max(slowest, (time.process_time() - begin, seed))
            if seed % 1000 == 999:
                print(seed + 1, counts["embedded"], "embedded", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"inputs": arguments.inputs, **dict(counts.most_common(25)),
                      "slowest (s, seed)": slowest, "peak (GB)": round(peak, 2)}))  # fmt: skip


if __name__ == "__main__":
    main()
