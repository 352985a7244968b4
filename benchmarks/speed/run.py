"""Measure speed and memory of everything in docs/speed.md.

    python benchmarks/speed/run.py                          # all tables, some ten minutes
    python benchmarks/speed/run.py --quick                  # fewer crystals and repeats, minutes
    python benchmarks/speed/run.py --only networks epochs
    python benchmarks/speed/run.py --structures my_cifs/    # on other crystals
    python benchmarks/speed/run.py --page                   # rewrite docs/speed.md, measure nothing

One thread; CPU-seconds of this process, so that other programs on the machine hardly matter (they
do matter for the caches: for figures to publish, have the machine to yourself). Every figure stands
beside a plain form of the same maths, measured in turns with it, after a check that both give the
same outputs and gradients. Results go to benchmarks/results/speed.json, those of quick runs and of
other crystals to outputs/speed.json.
"""

from __future__ import annotations

import argparse
import datetime as dt
import importlib
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

# `common` is in the folder above.
sys.path.insert(1, str(Path(__file__).resolve().parents[1]))

from common import commit, versions, write_json

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "speed.json"
#: Section -> module and function that measure it.
SECTIONS = {
    "imports": "imports:measure",
    "networks": "networks:measure",
    "epochs": "epochs:measure",
    "graphs": "graphs:measure",
    "cells": "cells:measure",
    "corpus": "cells:measure_corpus",
    "options": "options:measure",
    "growth": "growth:measure",
    "hot_spots": "hot_spots:measure",
}
_LIBRARIES = (
    "torch",
    "numpy",
    "scikit-learn",
    "skorch",
    "pymatgen",
    "vesin",
    "matscipy",
    "ase",
)


def main() -> None:
    """Measure the sections asked for, or write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), default=list(SECTIONS))
    parser.add_argument("--quick", action="store_true", help="fewer crystals and repeats")
    parser.add_argument("--structures", help="npz corpus, or folder of CIF files, to measure on")
    parser.add_argument("--corpus", default="../shared/data/mp_unlabeled.npz")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="where the results go")
    parser.add_argument("--page", action="store_true", help="write docs/speed.md, measure nothing")
    args = parser.parse_args()
    kept = not (args.quick or args.structures)
    output = args.output or (RESULTS if kept else Path("outputs/speed.json"))
    if args.page:
        importlib.import_module("page").write_page(args.output or RESULTS, ROOT / "docs")
        return
    _measure(args, output)


def _measure(args: argparse.Namespace, output: Path) -> None:
    # Before any of the numerical libraries is imported.
    measuring = importlib.import_module("measuring")
    os.environ.update(measuring.ONE_THREAD)
    settings = measuring.Settings(args.quick, args.structures, args.corpus, args.seed)
    run = _describe(settings)
    importlib.import_module("torch").set_num_threads(1)
    for name in args.only:
        module, function = SECTIONS[name].split(":")
        start = time.perf_counter()
        found = getattr(importlib.import_module(module), function)(settings)
        # A section without results, such as a corpus that is not there, keeps its old ones.
        if found:
            _store(output, name, {"run": run, **found})
        print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
    print(f"results in {output}")


def _store(output: Path, name: str, section: dict[str, Any]) -> None:
    """Write a section into the file, so that an interrupted run keeps what it has."""
    results = json.loads(output.read_text(encoding="utf-8")) if output.is_file() else {}
    results[name] = _rounded(section)
    write_json(output, results)


def _rounded(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Four significant digits are more than any of these measurements has."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: _rounded(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(entry) for entry in value]
    return value


def _describe(settings: Any) -> dict[str, Any]:  # noqa: ANN401 - its module is not imported here
    return {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "load_average_before": os.getloadavg()[0],
        "python": platform.python_version(),
        "versions": versions(*_LIBRARIES),
        "commit": commit(),
        "settings": settings.to_json(),
    }


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return platform.processor()
    lines = info.read_text(encoding="utf-8").splitlines()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    found = {key.strip(): value.strip() for key, value in fields.items()}
    family = f"family {found.get('cpu family', '?')}, model {found.get('model', '?')}"
    return f"{found.get('model name', 'unknown')} ({family})"


if __name__ == "__main__":
    main()
