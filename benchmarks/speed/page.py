"""The tables and the figure of docs/speed.md, from the results."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import fill_page
from targets import target_rows
from text import number, share, spread, table, timing_rows


def write_page(results: Path, docs: Path) -> None:
    """Replace the tables between the comments of the page, and draw the figure.

    Parameters
    ----------
    results : Path
        JSON file of a run.
    docs : Path
        Folder of ``speed.md``.
    """
    found: dict[str, Any] = json.loads(results.read_text(encoding="utf-8"))
    parts = [_machine(found), *target_rows(found)]
    for name, describe in _SECTIONS.items():
        if name in found:
            parts += ["", *describe(found[name])]
    fill_page(docs / "speed.md", {"measured": "\n".join(parts)})
    if "growth" in found:
        from figure import draw_growth

        draw_growth(found["growth"], docs / "images" / "speed_growth.svg")


def _machine(found: dict[str, Any]) -> str:
    """Say what was measured where; sections of different runs are told apart."""
    said: dict[str, list[str]] = {}
    loads = [section["run"]["load_average_before"] for section in found.values()]
    for name, section in found.items():
        run = section["run"]
        versions = ", ".join(f"{k} {v}" for k, v in run["versions"].items() if v)
        crystals = run["settings"]["structures"] or "shipped elastic set"
        size = ", **quick run**" if run["settings"]["quick"] else ""
        line = (
            f"{run['date']}, {run['cpu']}, {run['cores']} cores; Python {run['python']}, "
            f"{versions}; commit {run['commit']}; crystals: {crystals}; seed "
            f"{run['settings']['seed']}{size}"
        )
        said.setdefault(line, []).append(name)
    load = f"Processes ready to run when it began (load average): at most {max(loads):.1f}."
    if len(said) == 1:
        return f"{next(iter(said))}. {load}\n"
    lines = [f"- {', '.join(names)}: {line}." for line, names in said.items()]
    return "\n".join([*lines, "", load, ""])


def _networks(section: dict[str, Any]) -> list[str]:
    lines = ["## DeeperGATGNN, 15 layers, width 115, 4 heads", ""]
    lines += timing_rows(
        {
            "pretraining step, three views": section["pretraining"],
            "fine-tuning step": section["fine_tuning"],
            "prediction": section["prediction"],
            "pretraining, batch of 256": section.get("pretraining_paper_batch"),
            "fine-tuning, batch of 100": section.get("fine_tuning_paper_batch"),
        }
    )
    memory = section["memory"]
    sizes = [memory[form]["batch_sizes"] for form in ("ours", "plain")]
    ours, plain = (number(memory[form]["mb_per_crystal"]) for form in ("ours", "plain"))
    worst = max(section[name]["difference"] for name in ("pretraining", "fine_tuning"))
    lines += [
        "",
        (
            f"Memory per crystal of a pretraining batch: {ours} MB, plain form {plain} MB (peak "
            f"resident memory of a step, slope between batches of {sizes[0]} and {sizes[1]} "
            "crystals). Largest difference to the plain form in double precision, loss and all "
            f"gradients: {worst:.0e}, relative to the largest entry."
        ),
    ]
    return lines


def _epochs(section: dict[str, Any]) -> list[str]:
    gated, default = section["gated"], section["default"]
    names = {
        "pretraining": "pretraining epoch",
        "fine_tuning": "fine-tuning epoch",
        "prediction": "prediction",
    }
    lines = ["## Epochs through the estimators", "", "Gated network, 3 layers of width 64:", ""]
    lines += timing_rows({what: gated[name] for name, what in names.items()})
    lines += [
        "",
        (
            f"The default network (`{default['network']}`, {default['n_weights']:,} weights), "
            "beside the matrix products that it needs and this core's "
            f"{number(default['sgemm_gflops'])} Gflop/s in a float32 product of 1024 x 1024 "
            "matrices:"
        ),
        "",
    ]
    lines += table(
        ["", "crystals/s", "Mflop per crystal", "share of the core's matrix product rate"],
        [
            [
                what,
                spread(default[name]["per_second"]),
                number(default[name]["mflop_per_crystal"]),
                share(default[name]["share_of_sgemm"]["median"]),
            ]
            for name, what in names.items()
        ],
    )
    if process := section.get("process"):
        lines += [
            "",
            (
                "The rates above are those of the network alone. A default `DSSLRegressor` on "
                f"pretrained weights, fitted to {process['n_labels']:,} labels, compares with them "
                f"by its Gaussian process: {spread(process['fit_seconds'])} CPU-seconds of its "
                f"fit, and {spread(process['per_second'])} predictions per CPU-second, against "
                f"{spread(process['network_per_second'])} of its network alone."
            ),
        ]
    lines += ["", "Making the batches, as a share of a training step:", ""]
    lines += table(
        ["", "share", "microseconds per crystal"],
        [
            [what, share(row["share"]["median"]), spread(row["microseconds_per_crystal"])]
            for what, row in section["loader"].items()
        ],
    )
    return lines


def _graphs(section: dict[str, Any]) -> list[str]:
    lines = ["## Graphs from pymatgen Structures", ""]
    lines += timing_rows(
        {
            "`StructureToGraph`": section["graphs"],
            "the estimators' way, to the data set": section["dataset"],
        }
    )
    over = section["over_fastest_search"]
    lines += ["", "Bare neighbor searches of the same run (radius grown until 12 are found):", ""]
    lines += table(
        ["library", "crystals/s"],
        [[name, spread(row)] for name, row in section["searches"].items()],
    )
    lines += [
        "",
        (
            f"`StructureToGraph` takes {spread(over['graphs'])} times as long as the fastest of "
            f"them ({section['fastest_search']}), the way to the data set "
            f"{spread(over['dataset'])} times."
        ),
    ]
    return lines


def _cells(section: dict[str, Any]) -> list[str]:
    lines = ["## Large cells", ""]
    lines += table(
        ["sites", "edges", "CPU-seconds", "MB above rest", "MB of the process"],
        [
            [
                f"{row['sites']:,}",
                f"{row['edges']:,}",
                number(row["seconds"]),
                number(row["above_rest_mb"]),
                number(row["peak_mb"]),
            ]
            for row in section["cells"]
        ],
    )
    lines += [
        "",
        (
            f"Best straight line: {number(section['microseconds_per_site'])} microseconds per "
            f"site; exponent of the power law: {section['exponent']:.2f}."
        ),
    ]
    return lines


def _corpus(section: dict[str, Any]) -> list[str]:
    return [
        "## The corpus",
        "",
        (
            f"{section['crystals']:,} crystals ({section['sites']:,} sites, {section['edges']:,} "
            f"edges) from the file to the ready data set in {section['processes']} processes: "
            f"{section['wall_seconds']:.0f} s by the clock, {section['cpu_seconds']:.0f} "
            f"CPU-seconds, at most {section['peak_mb'] / 1e3:.2f} GB of all processes together."
        ),
    ]


def _imports(section: dict[str, Any]) -> list[str]:
    lines = ["## Import", ""]
    lines += table(
        ["statement", "CPU-seconds"],
        [
            [name, spread(row)]
            for name, row in section.items()
            if isinstance(row, dict) and "n" in row
        ],
    )
    lines += ["", f"Both together less sklearn alone: {section['over_sklearn']:.3f} s."]
    return lines


def _options(section: dict[str, Any]) -> list[str]:
    lines = ["## Compilation, half precision, threads, allocator", ""]
    lines += [
        (
            "Pretraining steps in a process of their own, microseconds per crystal. The clock "
            "counts what other programs take, too; two threads need two free cores to show "
            "anything."
        ),
        "",
    ]
    for network, rows in section.items():
        if network == "run":
            continue
        usual = rows["as it is"]["cpu"]["median"]
        body = []
        for name, row in rows.items():
            if "error" in row:
                body.append([name, f"fails: {row['error'][:80]}", "", "", ""])
                continue
            factor = usual / row["cpu"]["median"]
            cells = [spread(row["cpu"]), number(factor), spread(row["wall"]), number(row["first"])]
            body.append([name, *cells])
        head = [network, "CPU", "times as fast", "clock", "first step, CPU-seconds"]
        lines += [*table(head, body), ""]
    return lines[:-1]


def _growth(section: dict[str, Any]) -> list[str]:
    lines = ["## How cost grows", "", "![Cost against size](images/speed_growth.svg)", ""]
    lines += table(
        ["curve", "range", "exponent", "between the last two"],
        [
            [
                name,
                f"{curve['axis']} {curve['x'][0]} to {curve['x'][-1]}",
                f"{curve['exponent']:.2f}",
                f"{curve['last_exponent']:.2f}",
            ]
            for name, curve in section.items()
            if name != "run"
        ],
    )
    return lines


def _hot_spots(section: dict[str, Any]) -> list[str]:
    lines = ["## Where a pretraining epoch spends its time", ""]
    for network, row in section.items():
        if network == "run":
            continue
        lines += [
            (
                f"{network}: operators of torch {share(row['in_operators'])}, Python (torch's, "
                f"skorch's, ours) {share(row['outside'])}. Making batches is "
                f"{share(row['loader'])} of the epoch, the optimizer's steps "
                f"{share(row['optimizer'])}, each measured by itself."
            ),
            "",
            *table(
                ["operator", "calls", "share of the epoch"],
                [[f"`{o['name']}`", str(o["calls"]), share(o["share"])] for o in row["operators"]],
            ),
            "",
        ]
    return lines[:-1]


_SECTIONS: dict[str, Callable[[dict[str, Any]], list[str]]] = {
    "networks": _networks,
    "epochs": _epochs,
    "graphs": _graphs,
    "corpus": _corpus,
    "cells": _cells,
    "imports": _imports,
    "options": _options,
    "growth": _growth,
    "hot_spots": _hot_spots,
}
