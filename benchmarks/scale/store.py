"""Measure the graph store and the streams: memory, throughput, size; and write docs/guide/scale.md.

``python benchmarks/scale/store.py`` builds a store of the large corpus (once), measures each part
in a process of its own and writes ``benchmarks/results/scale.json`` and the table of the page. The
machine may be shared: compared figures take turns in one process, and are CPU-seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

# `common` is in the folder above.
sys.path.insert(1, str(Path(__file__).resolve().parents[1]))

from common import fill_page, machine, write_json

ROOT = Path(__file__).parents[2]


def main() -> None:
    """Run the parts that are asked for, each in its own process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", default=str(ROOT.parent / "shared/data/mp_unlabeled.npz"))
    parser.add_argument("--store", default=str(Path(tempfile.gettempdir()) / "dssl_scale_store"))
    parser.add_argument("--results", default=str(ROOT / "benchmarks/results/scale.json"))
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--streamed", type=int, nargs="+", default=[20_000, 100_000])
    parser.add_argument("--parts", nargs="*", default=["build", "memory", "speed", "formats"])
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        from parts import PARTS

        name, _, size = args.child.partition(":")
        print(json.dumps(PARTS[name](args, int(size or 0))))
        return
    results = Path(args.results)
    found: dict[str, Any] = json.loads(results.read_text()) if results.is_file() else {}
    found = {k: v for k, v in found.items() if not k.startswith("stream:")}
    jobs = [*args.parts, *(f"stream:{n}" for n in args.streamed)]
    for job in jobs:
        found[job] = _in_own_process(job)
        found[job]["run"] = {
            "date": time.strftime("%Y-%m-%d"),
            "cpu": machine(),
            "load_average_after": os.getloadavg()[0],
        }
        write_json(results, found)
        print(job, found[job], flush=True)
    write_page(found, ROOT / "docs/guide/scale.md")


def _in_own_process(job: str) -> dict[str, Any]:
    command = [sys.executable, __file__, *sys.argv[1:], "--child", job]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(  # noqa: S603 - this script
        command, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def write_page(found: dict[str, Any], page: Path) -> None:
    """Replace the table between the comments of the page.

    Parameters
    ----------
    found : dict
        Results by the names of the parts.
    page : Path
        Markdown file.
    """
    rows = [["what", "measured"]]
    if "build" in found:
        b = found["build"]
        rows += [
            ["crystals, sites, edges", f"{b['crystals']:,}, {b['sites']:,}, {b['edges']:,}"],
            ["size on disk", (f"{b['bytes'] / 1e6:.0f} MB ({b['bytes'] / b['crystals']:.0f} bytes "
             "a crystal)")],
            ["opening it, all checksums / sizes only",
             f"{b['open_verified_cpu_s']:.1f} / {b['open_cpu_s']:.2f} CPU-seconds"],
        ]  # fmt: skip
        if b["build_cpu_s"] is not None:
            rate = b["crystals"] / b["build_cpu_s"]
            rows.append(["building it", f"{b['build_cpu_s']:.0f} CPU-seconds ({rate:,.0f}/s)"])
    if "memory" in found:
        m = found["memory"]
        rows.append(
            [f"`DSSLPretrainer().fit(store)`, first {m['steps']} steps: peak resident memory",
             (f"{m['peak_mb']:.0f} MB (anonymous at most {m['anon_mb']:.0f} MB, mapped files at "
             f"most {m['file_mb']:.0f} MB)")]
        )  # fmt: skip
    if "speed" in found:
        s = found["speed"]
        rows += [
            ["training steps, store against memory",
             (f"{s['store_per_cpu_s']:.0f} against {s['memory_per_cpu_s']:.0f} crystals per "
             f"CPU-second: {100 * s['ratio']:.0f} % ({s['steps']} steps each, in turns; by wall "
             f"clock {100 * s['wall_ratio']:.0f} %)")],
            ["cutting batches of 64 at random, store against memory",
             (f"{s['store_batches_per_cpu_s']:,.0f} against {s['memory_batches_per_cpu_s']:,.0f} "
             "crystals per CPU-second")],
        ]  # fmt: skip
    if "formats" in found:
        f = found["formats"]
        rows.append(
            [(f"batches of 64 at random of {f['crystals']:,}, store against torch-geometric's "
             "`SQLiteDatabase`"),
             (f"{f['store_per_cpu_s']:,.0f} against {f['sqlite_per_cpu_s']:,.0f} crystals per "
             f"CPU-second; {f['store_bytes']:.0f} against {f['sqlite_bytes']:.0f} bytes a crystal")]
        )  # fmt: skip
    for name, s in found.items():
        if name.startswith("stream:"):
            rows.append(
                [f"`predict_iter`, {s['crystals']:,} generated crystals of 2 to 8 sites",
                 f"peak {s['peak_mb']:.0f} MB, {s['per_cpu_s']:.0f} crystals per CPU-second"]
            )  # fmt: skip
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|---|---|")
    fill_page(page, {"measured": "\n".join(lines)})


if __name__ == "__main__":
    main()
