"""Make the tables and figures of ``docs/accuracy.md``, and the README's table, from the results.

    python benchmarks/accuracy/report.py

Results of ``run.py`` in ``outputs/accuracy/*.jsonl`` are joined with those in
``benchmarks/results/accuracy.json``, which is written anew; the tables stand in the pages between
pairs of HTML comments, the text around them is left as it is.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

# ruff: noqa: E402 - the modules beside this one are a package that a script is outside of
sys.path[0] = str(Path(__file__).resolve().parents[1])

from common import fill_page

from accuracy.figure import draw_curves
from accuracy.methods import ALONE, Method, classical_methods, config_of
from accuracy.networks import PaperSettings, network_methods
from accuracy.store import Record, read_records
from accuracy.summary import latest, read_compact, series_of, write_compact
from accuracy.tables import (
    SCRATCH,
    Table,
    choice_table,
    cost_table,
    curve_table,
    error_table,
    gain_by_labels,
    gain_table,
    loss_lines,
    published_table,
    summary_table,
)
from accuracy.tasks import CURVE_SIZES, TASKS

_FEW_LABELS = 100
_PRETRAINED = "mp-distilled", "mp"
#: The paper's recipe from scratch.
PAPER = "paper"


def main() -> None:
    """Write the compact results, the page and its figure."""
    options = _options()
    records = read_compact(options.results)
    for path in sorted(options.out.glob("*.jsonl")):
        records += read_records(path)
    known = known_methods()
    records = latest(r for r in records if is_current(r, known))
    if not records:
        sys.exit("there are no results yet; run.py makes them")
    write_compact(options.results, records)
    titles = _titles(records, known)
    ours = [name for name, method in known.items() if method.ours]
    filled = contents(records, titles, ours)
    curves = series_of(records, "curves")
    if curves:
        # Ridge regressions are far behind, and hide the others.
        shown = {name: t for name, t in _whole(titles).items() if not name.endswith("ridge")}
        draw_curves(curves, shown, options.figure)
        link = os.path.relpath(options.figure, options.page.parent)
        filled["figure"] = f"![Mean absolute error against the number of labels]({link})"
    fill_page(options.page, filled)
    fill_page(options.readme, {"accuracy": filled["summary"]})
    print(f"{len(records)} results -> {options.results}, {options.page}")


def known_methods() -> dict[str, Method]:
    """All methods, for their order and titles."""
    return {
        **classical_methods(),
        **network_methods(PaperSettings(), Path("paper.safetensors"), _train_nothing),
    }


def is_current(record: Record, known: Mapping[str, Method]) -> bool:
    """Whether a result belongs to the defaults and weights that the page speaks of."""
    method = known.get(record["method"])
    return method is None or record["config"] == config_of(method.settings)


def _train_nothing() -> None:
    """A report needs no weights."""


def _titles(records: Sequence[Record], known: Mapping[str, Method]) -> dict[str, str]:
    """Titles of the methods with results, in the order of the benchmark."""
    found = {record["method"]: record["title"] for record in records}
    order = [*(name for name in known if name in found), *(n for n in found if n not in known)]
    return {name: found[name] for name in order}


def contents(
    records: Sequence[Record], titles: Mapping[str, str], ours: Sequence[str]
) -> dict[str, str]:
    """Make everything that the page takes.

    Parameters
    ----------
    records : sequence of dict
        One a cell.
    titles : mapping of str to str
        Title by method.
    ours : sequence of str
        Methods of this library.

    Returns
    -------
    dict of str to str
        Markdown by the name that stands in the page's comments.
    """
    folds, curves = series_of(records, "folds"), series_of(records, "curves")
    tasks = [name for name, spec in TASKS.items() if not spec.untouched]
    untouched = [name for name, spec in TASKS.items() if spec.untouched]
    shuffled, of_shuffled = series_of(records, "shuffled"), ["log10_K_VRH", "log10_G_VRH", "n"]
    whole = _whole(titles)
    alone = {name: title for name, title in titles.items() if name not in whole}

    def losses(series: Table, tasks: Sequence[str], size: int) -> str:
        return "\n".join(loss_lines(series, whole, ours, tasks, size)) or "Not run yet."

    of_alone = (tasks, 0, SCRATCH + ALONE), (tasks, _FEW_LABELS, SCRATCH + ALONE)
    of_paper = {name: title for name, title in titles.items() if name.startswith(PAPER)}
    curve_tables = [
        f"**{TASKS[task].title}** ({TASKS[task].unit})\n\n"
        + curve_table(curves, titles, task, CURVE_SIZES)
        for task in tasks
    ]
    return {
        "summary": _summary(records, titles, ours),
        "folds": error_table(folds, titles, tasks, 0),
        "folds-gain": gain_table(folds, whole, tasks, 0),
        "folds-gain-network": gain_table(folds, alone, *of_alone[0]),
        "folds-losses": losses(folds, tasks, 0),
        "published": published_table(folds, whole),
        "curves": "\n\n".join(curve_tables),
        "curves-gain": gain_table(curves, whole, tasks, _FEW_LABELS),
        "curves-gain-network": gain_table(curves, alone, *of_alone[1]),
        "curves-gain-paper": gain_table(curves, of_paper, tasks, _FEW_LABELS, PAPER),
        "curves-gain-labels": "\n\n".join(
            f"{titles[name]}:\n\n" + gain_by_labels(curves, name, tasks, CURVE_SIZES)
            for name in _PRETRAINED
            if name in titles
        ),
        "curves-losses": losses(curves, tasks, _FEW_LABELS),
        "shuffled": error_table(shuffled, whole, of_shuffled, 0),
        "shuffled-losses": losses(shuffled, of_shuffled, 0),
        "untouched-curves": error_table(curves, whole, untouched, _FEW_LABELS),
        "untouched-curves-gain": gain_table(curves, whole, untouched, _FEW_LABELS),
        "untouched-folds": error_table(folds, whole, untouched, 0),
        "untouched-folds-gain": gain_table(folds, whole, untouched, 0),
        "untouched-curves-losses": losses(curves, untouched, _FEW_LABELS),
        "untouched-folds-losses": losses(folds, untouched, 0),
        "choices": choice_table(records, titles, tasks),
        "cost": cost_table(folds, whole, tasks),
        "leaks": leak_lines(records),
    }


def _summary(records: Sequence[Record], titles: Mapping[str, str], ours: Sequence[str]) -> str:
    """The README's table: ours, fine-tuned as a whole, with few and with all labels."""
    tables = {
        str(_FEW_LABELS): (series_of(records, "curves"), _FEW_LABELS),
        "all": (series_of(records, "folds"), 0),
    }
    tasks = [name for name, spec in TASKS.items() if not spec.untouched]
    shown = {SCRATCH: "from scratch", **{name: f'`"{name}"`' for name in reversed(_PRETRAINED)}}
    others = {name: title for name, title in _whole(titles).items() if name not in ours}
    return summary_table(tables, {**others, **shown}, list(shown), tasks)


def _whole(titles: Mapping[str, str]) -> dict[str, str]:
    """Without the methods that are a part of another one."""
    return {name: title for name, title in titles.items() if not name.endswith(ALONE)}


def leak_lines(records: Sequence[Record]) -> str:
    """Say what the search for test formulas in the pretraining crystals has found."""
    checks = [(r["method"], r["task"], r["leak"]) for r in records if r["leak"]]
    lines = []
    for method in sorted({method for method, _, _ in checks}):
        of_method = [(task, leak) for name, task, leak in checks if name == method]
        if any("unchecked" in leak for _, leak in of_method):
            lines.append(f"- `{method}`: **not checked** in some cells, the corpus was not at hand")
            continue
        bad = sorted({task for task, leak in of_method if leak["in_pretraining"]})
        excluded = sorted({task for task, leak in of_method if leak["in_corpus_file"]})
        counts = {leak["count_agrees"] for _, leak in of_method}
        agrees = "**no**" if False in counts else "yes" if True in counts else "not compared"
        lines.append(
            f"- `{method}`: test formulas among the pretraining crystals: "
            f"{'**' + ', '.join(bad) + '**' if bad else 'none'}; in the corpus file, hence left "
            f"out of pretraining: {', '.join(excluded) or 'none'}; number of crystals as on the "
            f"card: {agrees}"
        )
    return "\n".join(lines) or "No method with shipped weights has been run yet."


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("outputs/accuracy"))
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results/accuracy.json"))
    parser.add_argument("--page", type=Path, default=Path("docs/accuracy.md"))
    parser.add_argument("--readme", type=Path, default=Path("README.md"))
    parser.add_argument("--figure", type=Path, default=Path("docs/images/learning_curves.svg"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
