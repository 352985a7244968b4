"""How everything here is measured: CPU-seconds of one thread, interleaved repeats, peak memory.

Other programs on the machine slow the wall clock and leave the CPU clock of a process nearly alone,
so all figures are CPU-seconds unless they say otherwise. Candidates that are compared take turns,
so that a change of the machine's state meets all of them.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

# `common` is in the folder above.
sys.path.insert(1, str(Path(__file__).resolve().parents[1]))

from common import memory_mb

#: What the numerical libraries read when they are imported.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

Job = Callable[[], object]
#: Summary of repeats: median, min, max and their number n.
Spread = dict[str, float]


@dataclass(frozen=True)
class Settings:
    """What a run measures on.

    Attributes
    ----------
    quick : bool
        Fewer crystals and repeats, and without the slowest rows.
    structures : str or None
        npz corpus or folder of CIF files to measure on; None for the shipped elastic set.
    corpus : str
        npz file of the large corpus; its row is left out where the file is missing.
    seed : int
        Seed of samples, weights and views.
    """

    quick: bool = False
    structures: str | None = None
    corpus: str = "../shared/data/mp_unlabeled.npz"
    seed: int = 0

    @property
    def repeats(self) -> int:
        """How often each figure is measured."""
        return 2 if self.quick else 5

    def to_json(self) -> dict[str, Any]:
        """Values for JSON."""
        return asdict(self)


def interleaved(
    jobs: Mapping[str, Job], repeats: int, *, prepare: Mapping[str, Job] | None = None
) -> dict[str, list[float]]:
    """Time jobs in turns, after one untimed turn.

    Parameters
    ----------
    jobs : mapping of str to callable
        What to time.
    repeats : int
        Number of timed turns.
    prepare : mapping of str to callable, default=None
        Run untimed before every call of the job of this name.

    Returns
    -------
    dict of str to list of float
        CPU-seconds of each timed call.
    """
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for turn in range(repeats + 1):
        for name, job in jobs.items():
            if prepare and name in prepare:
                prepare[name]()
            gc.collect()
            start = time.process_time()
            job()
            elapsed = time.process_time() - start
            if turn:
                seconds[name].append(elapsed)
    return seconds


def spread(values: Sequence[float]) -> Spread:
    """Median, smallest and largest of some repeats."""
    return {
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
        "n": len(values),
    }


def rate(count: float, seconds: Sequence[float]) -> Spread:
    """Things per CPU-second over the repeats."""
    return spread([count / s for s in seconds])


def ratio(numerator: Sequence[float], denominator: Sequence[float]) -> Spread:
    """Ratio of two measurements, turn by turn."""
    return spread([a / b for a, b in zip(numerator, denominator, strict=True)])


def compared(crystals: Mapping[str, int], seconds: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Row of a table: ours and the plain form of the same maths.

    Parameters
    ----------
    crystals : mapping of str to int
        Crystals that each call of "ours" and of "plain" worked on.
    seconds : mapping of str to sequence of float
        CPU-seconds of the calls "ours" and "plain".

    Returns
    -------
    dict
        ``crystals``, ``per_second`` (crystals per CPU-second), ``plain_per_second`` and their
        ``ratio``.
    """
    each = {form: [s / crystals[form] for s in seconds[form]] for form in ("ours", "plain")}
    return {
        "crystals": dict(crystals),
        "per_second": rate(1, each["ours"]),
        "plain_per_second": rate(1, each["plain"]),
        "ratio": ratio(each["plain"], each["ours"]),
    }


# ---- other processes ---------------------------------------------------------------------------


def in_process(
    job: str,
    *args: Any,  # noqa: ANN401 - whatever the job takes
    env: Mapping[str, str] | None = None,
    timeout: float = 600,
) -> Any:  # noqa: ANN401 - whatever the job returns
    """Call a function of one of these scripts in a process of its own.

    Parameters
    ----------
    job : str
        ``"module:function"``.
    *args
        Arguments that JSON can hold.
    env : mapping of str to str, default=None
        Environment variables to add.
    timeout : float, default=600
        Seconds of the wall clock after which the process is ended.

    Returns
    -------
    object
        What the function returned, through JSON.

    Raises
    ------
    RuntimeError
        If it failed, with the last lines that it wrote, or took too long.
    """
    try:
        run = subprocess.run(  # noqa: S603 - our own script
            [sys.executable, Path(__file__), job, json.dumps(args)],
            env={**os.environ, **ONE_THREAD, **(env or {})},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"{job} took longer than {timeout:.0f} s") from error
    if run.returncode:
        raise RuntimeError(f"{job} failed: {' '.join(run.stderr.strip().splitlines()[-3:])}")
    return json.loads(run.stdout.strip().splitlines()[-1])


def peak_memory(job: Job) -> dict[str, float]:
    """Memory of this process around a call (Linux).

    The high-water mark of the process is reset before the call; ``ru_maxrss`` would remember the
    parent's.

    Parameters
    ----------
    job : callable
        What to watch.

    Returns
    -------
    dict
        ``before`` and ``peak`` resident memory in MB (1e6 bytes).
    """
    gc.collect()
    before = memory_mb("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    job()
    return {"before": before, "peak": memory_mb("VmHWM")}


def _main() -> None:
    """Run one job for `in_process`."""
    module, function = sys.argv[1].split(":")
    result = getattr(importlib.import_module(module), function)(*json.loads(sys.argv[2]))
    print(json.dumps(result))


if __name__ == "__main__":
    _main()
