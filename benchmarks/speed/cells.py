"""Graphs of large cells, and of the large corpus: time, memory, growth."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from fits import power_law
from measuring import Settings, in_process, peak_memory
from pymatgen.core import Lattice, Structure
from samples import CUTOFF, MAX_NEIGHBORS

from dssl_sklearn.crystals.builder import GraphBuilder
from dssl_sklearn.datasets import load_corpus

_SITES = (1000, 2000, 5000, 10_000, 20_000)
_SITES_QUICK = (1000, 4000, 10_000)


def measure(settings: Settings) -> dict[str, Any]:
    """Measure cells of thousands of sites, each in a process of its own.

    Returns
    -------
    dict
        "cells": seconds and memory for each number of sites; "exponent": of the time; and the
        straight line through the memory.
    """
    sizes = _SITES_QUICK if settings.quick else _SITES
    rows = [in_process("cells:large_cell", size, settings.seed) for size in sizes]
    n_sites = np.array([row["sites"] for row in rows])
    slope, rest = np.polyfit(n_sites, [row["seconds"] for row in rows], 1)
    return {
        "cells": rows,
        "exponent": power_law(n_sites, [row["seconds"] for row in rows]),
        "microseconds_per_site": slope * 1e6,
        "seconds_at_zero": rest,
    }


def large_cell(n_sites: int, seed: int) -> dict[str, float]:
    """Build the graph of one random cell of the density of a metal.

    Parameters
    ----------
    n_sites : int
        Approximate number of sites.
    seed : int
        Seed of the displacements.

    Returns
    -------
    dict
        Sites, edges, CPU-seconds (median of three), and the process's memory in MB: peak, and how
        far it is above what was in use before.
    """
    # A face-centered lattice whose sites are moved at random: no two distances are equal.
    repeats = round((n_sites / 4) ** (1 / 3))
    base = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    corners = np.stack(np.meshgrid(*[np.arange(repeats)] * 3), -1).reshape(-1, 1, 3)
    frac = ((corners + base) / repeats).reshape(-1, 3)
    length = 4.05 * repeats
    frac += np.random.default_rng(seed).normal(scale=0.1, size=frac.shape) / length
    structure = Structure(Lattice.cubic(length), ["Al"] * len(frac), frac)
    builder = GraphBuilder(CUTOFF, MAX_NEIGHBORS, use_cache=False)
    builder.dataset([Structure(Lattice.cubic(4.05), ["Al"] * 4, base)])  # imports, first calls
    memory = peak_memory(lambda: builder.dataset([structure]))
    seconds = []
    for _ in range(3):
        start = time.process_time()
        graphs = builder.dataset([structure])
        seconds.append(time.process_time() - start)
    return {
        "sites": len(frac),
        "edges": int(graphs.n_edges.sum()),
        "seconds": float(np.median(seconds)),
        "peak_mb": memory["peak"],
        "above_rest_mb": memory["peak"] - memory["before"],
    }


# ---- corpus ------------------------------------------------------------------------------------


def measure_corpus(settings: Settings) -> dict[str, Any]:
    """Measure the whole corpus, from its file to the ready data set, in two processes.

    Returns
    -------
    dict
        Wall-clock seconds, CPU-seconds of all processes, peak memory of all processes together in
        MB (shared pages counted in each), crystals and edges; empty where the file is missing, and
        in quick runs.
    """
    if settings.quick or not Path(settings.corpus).is_file():
        return {}
    with _watched() as peak:
        result: dict[str, Any] = in_process("cells:corpus", settings.corpus, 2, timeout=1800)
    return {**result, "peak_mb": peak["mb"]}


def corpus(path: str, n_jobs: int) -> dict[str, float]:
    """Build the data set of a corpus.

    Parameters
    ----------
    path : str
        npz file.
    n_jobs : int
        Processes.

    Returns
    -------
    dict
        Wall-clock and CPU-seconds, crystals, sites and edges.
    """
    start, cpu = time.perf_counter(), _cpu_of_all()
    crystals = load_corpus(path)
    graphs = GraphBuilder(CUTOFF, MAX_NEIGHBORS, n_jobs=n_jobs, use_cache=False).dataset(crystals)
    wall = time.perf_counter() - start
    # The time of child processes is counted once they have ended.
    if "joblib.externals.loky" in sys.modules:
        sys.modules["joblib.externals.loky"].get_reusable_executor().shutdown(wait=True)
    return {
        "processes": n_jobs,
        "wall_seconds": wall,
        "cpu_seconds": _cpu_of_all() - cpu,
        "crystals": len(graphs),
        "sites": int(graphs.site_ptr[-1]),
        "edges": int(graphs.edge_ptr[-1]),
    }


def _cpu_of_all() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


@contextmanager
def _watched(interval: float = 0.1) -> Iterator[dict[str, float]]:
    """Watch the memory of this process's descendants."""
    peak = {"mb": 0.0}
    done = threading.Event()

    def watch() -> None:
        while not done.wait(interval):
            peak["mb"] = max(peak["mb"], _memory_of_descendants(os.getpid()))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


def _memory_of_descendants(root: int) -> float:
    children: dict[int, list[int]] = defaultdict(list)
    pages: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            # The name, in parentheses, may hold spaces.
            fields = (entry / "stat").read_text(encoding="ascii").rpartition(")")[2].split()
            pages[int(entry.name)] = int((entry / "statm").read_text(encoding="ascii").split()[1])
        except (OSError, IndexError):
            continue  # it has just ended
        children[int(fields[1])].append(int(entry.name))
    total, stack = 0, list(children[root])
    while stack:
        pid = stack.pop()
        total += pages.get(pid, 0)
        stack += children[pid]
    return total * 4096 / 1e6
