"""Tables in Markdown, best methods marked, losses said."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from accuracy.store import Record
from accuracy.summary import Series, paired_difference, usual_choice
from accuracy.tasks import TASKS

Table = dict[tuple[str, str, int], Series]

SCRATCH = "scratch"
N_FOLDS = 5
NOTHING = "-"
#: Mean absolute errors on matbench's official folds as others published them.
PUBLISHED = {
    "jdft2d": {
        "dummy": 67.3,
        "random forest, Magpie": 50.0,
        "CGCNN": 49.2,
        "DeeperGATGNN, trained by the DSSL authors": 48.1,
        "DeeperGATGNN, leaderboard": 45.5,
        "Crystal Twins": 46.8,
        "ALIGNN": 43.4,
        "DSSL": 36.3,
        "MODNet": 33.2,
    },
    "phonons": {
        "dummy": 324.0,
        "random forest, Magpie": 67.6,
        "CGCNN": 57.4,
        "Crystal Twins": 48.9,
        "DeeperGATGNN, trained by the DSSL authors": 39.1,
        "DeeperGATGNN, leaderboard": 33.1,
        "ALIGNN": 29.5,
        "MegNet": 28.8,
        "DSSL": 28.6,
    },
}


def error_table(series: Table, titles: Mapping[str, str], tasks: Sequence[str], size: int) -> str:
    """Errors of all methods on some tasks.

    Parameters
    ----------
    series : dict of (task, method, n_labels) to Series
        Errors.
    titles : mapping of str to str
        Title by method, in the order of the rows.
    tasks : sequence of str
        Columns.
    size : int
        Number of labels, 0 for whole training parts.

    Returns
    -------
    str
        Mean +- standard deviation; the best mean of a column, among those with all folds, is bold.
    """
    columns = {}
    for task in tasks:
        column = {name: series.get((task, name, size)) for name in titles}
        columns[f"{TASKS[task].title}, {TASKS[task].unit}"] = error_column(column)
    return layout("method", titles, columns)


def curve_table(series: Table, titles: Mapping[str, str], task: str, sizes: Sequence[int]) -> str:
    """Errors of all methods on one task, a column for each number of labels."""
    columns = {
        f"{size} labels": error_column({name: series.get((task, name, size)) for name in titles})
        for size in sizes
        if any((task, name, size) in series for name in titles)
    }
    return layout("method", titles, columns)


def gain_table(
    series: Table,
    titles: Mapping[str, str],
    tasks: Sequence[str],
    size: int,
    reference: str = SCRATCH,
) -> str:
    """Paired differences to a method, ours from scratch, in percent, negative where better."""
    others = {name: title for name, title in titles.items() if name != reference}
    columns = {
        TASKS[task].title: {name: gain_cell(series, task, name, size, reference) for name in others}
        for task in tasks
    }
    columns["mean"] = {name: _mean_gain(series, tasks, name, size, reference) for name in others}
    return layout("method", others, columns)


def gain_by_labels(series: Table, method: str, tasks: Sequence[str], sizes: Sequence[int]) -> str:
    """Paired differences of a method to ours from scratch, a row for each number of labels."""
    columns = {
        TASKS[task].title: {
            str(size): gain_cell(series, task, method, size, SCRATCH) for size in sizes
        }
        for task in tasks
    }
    columns["mean"] = {
        str(size): _mean_gain(series, tasks, method, size, SCRATCH) for size in sizes
    }
    return layout("labels", {str(size): str(size) for size in sizes}, columns)


def gain_cell(series: Table, task: str, method: str, size: int, reference: str) -> str:
    """Write a paired difference in percent, bold where its interval leaves out zero."""
    found, other = (series.get((task, name, size), Series()) for name in (method, reference))
    paired = paired_difference(found, other)
    if paired is None:
        return NOTHING
    n_folds = len(found.mae.keys() & other.mae.keys())
    mark = "**" if paired.is_better or paired.is_worse else ""
    few = "" if n_folds == N_FOLDS else f" ({n_folds} folds)"
    width = f" ± {paired.half_width:.1f}" if n_folds > 1 else ""
    return f"{mark}{paired.mean:+.1f}{width}{mark}{few}"


def _mean_gain(series: Table, tasks: Sequence[str], method: str, size: int, reference: str) -> str:
    """Write the mean of the paired differences where no task is missing."""
    pairs = [
        paired_difference(
            series.get((task, method, size), Series()),
            series.get((task, reference, size), Series()),
        )
        for task in tasks
    ]
    found = [pair.mean for pair in pairs if pair is not None]
    return f"{sum(found) / len(found):+.1f}" if len(found) == len(tasks) else NOTHING


def error_column(column: Mapping[str, Series | None]) -> dict[str, str]:
    """Write the errors of the methods on one task; see `error_table`."""
    whole = {n: s.mean for n, s in column.items() if s is not None and len(s.mae) == N_FOLDS}
    best = min(whole, key=whole.__getitem__) if len(whole) > 1 else None
    cells = {}
    for name, found in column.items():
        if found is None:
            cells[name] = NOTHING
            continue
        text = significant(found.mean)
        if len(found.mae) > 1:
            text += f" ± {significant(found.deviation, like=found.mean)}"
        mark = "**" if name == best else ""
        few = "" if len(found.mae) == N_FOLDS else f" ({len(found.mae)} of {N_FOLDS})"
        cells[name] = f"{mark}{text}{mark}{few}"
    return cells


def loss_lines(
    series: Table, titles: Mapping[str, str], ours: Iterable[str], tasks: Sequence[str], size: int
) -> list[str]:
    """Say for each task by how much our best method is behind the best other one, or ahead.

    Parameters
    ----------
    series, titles, tasks, size
        As for `error_table`.
    ours : iterable of str
        Methods of this library.

    Returns
    -------
    list of str
        One line for each task that both sides have run in full.
    """
    ours = set(ours)
    lines = []
    for task in tasks:
        whole = _with_all_folds(series, titles, task, size)
        own = {name: found for name, found in whole.items() if name in ours}
        others = {name: found for name, found in whole.items() if name not in ours}
        if not (own and others):
            continue
        best, rival = _best(own), _best(others)
        paired = paired_difference(own[best], others[rival])
        if paired is None:
            continue
        verdict = "we lose" if paired.mean > 0 else "ahead"
        clear = "" if paired.is_better or paired.is_worse else ", within the noise"
        lines.append(
            f"- {TASKS[task].title}: **{verdict}** by {abs(paired.mean):.1f} "
            f"± {paired.half_width:.1f} %{clear} ({titles[best]}, against {titles[rival]})"
        )
    return lines


def summary_table(
    tables: Mapping[str, tuple[Table, int]],
    titles: Mapping[str, str],
    ours: Sequence[str],
    tasks: Sequence[str],
) -> str:
    """Errors of ours beside those of the best other method, a row for each task and table.

    Parameters
    ----------
    tables : mapping of str to (Table, int)
        Series, and the number of labels to take from them, by what the rows say of it.
    titles, tasks
        As for `error_table`.
    ours : sequence of str
        Methods of this library; each has a column.

    Returns
    -------
    str
        Mean +- standard deviation, the best of a row bold; only methods with all folds.
    """
    own = [name for name in titles if name in ours]
    lines = [
        f"| property | labels | best other method | {' | '.join(titles[name] for name in own)} |",
        "|---" * (3 + len(own)) + "|",
    ]
    for task in tasks:
        for labels, (series, size) in tables.items():
            whole = _with_all_folds(series, titles, task, size)
            others = {name: found for name, found in whole.items() if name not in ours}
            if not (others and all(name in whole for name in own)):
                continue
            rival = _best(others)
            errors = error_column({name: whole[name] for name in (rival, *own)})
            errors[rival] += f" ({titles[rival]})"
            what = f"{TASKS[task].title}, {TASKS[task].unit}"
            lines.append(f"| {' | '.join([what, labels, *errors.values()])} |")
    return "\n".join(lines)


def _with_all_folds(
    series: Table, titles: Mapping[str, str], task: str, size: int
) -> dict[str, Series]:
    found = {name: series.get((task, name, size), Series()) for name in titles}
    return {name: of_method for name, of_method in found.items() if len(of_method.mae) == N_FOLDS}


def _best(series: Mapping[str, Series]) -> str:
    return min(series, key=lambda name: series[name].mean)


def published_table(series: Table, titles: Mapping[str, str]) -> str:
    """Our errors on the official folds in one order with those that others published."""
    parts = []
    for task, published in PUBLISHED.items():
        rows = [(mae, f"{name} (published)") for name, mae in published.items()]
        for name, title in titles.items():
            found = series.get((task, name, 0))
            if found is not None and len(found.mae) == N_FOLDS:
                rows.append((found.mean, f"**{title}**"))
        lines = [f"| {TASKS[task].title} | MAE, {TASKS[task].unit} |", "|---|---|"]
        lines += [f"| {title} | {significant(mae)} |" for mae, title in sorted(rows)]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def cost_table(series: Table, titles: Mapping[str, str], tasks: Sequence[str]) -> str:
    """Mean CPU-seconds of a fit on a whole training part with the prediction of its test part."""
    columns = {}
    for task in tasks:
        cells = {}
        for name in titles:
            found = series.get((task, name, 0))
            seconds = list(found.cpu_seconds.values()) if found else []
            cells[name] = significant(sum(seconds) / len(seconds)) if seconds else NOTHING
        columns[TASKS[task].title] = cells
    return layout("method", titles, columns)


def choice_table(records: Sequence[Record], titles: Mapping[str, str], tasks: Sequence[str]) -> str:
    """What tuning chose most often on whole training parts."""
    columns = {}
    for task in tasks:
        columns[TASKS[task].title] = {
            name: usual_choice(
                [
                    record
                    for record in records
                    if (record["table"], record["task"], record["method"]) == ("folds", task, name)
                ]
            )
            or NOTHING
            for name in titles
        }
    tuned = [name for name in titles if any(c[name] != NOTHING for c in columns.values())]
    return layout("method", {name: titles[name] for name in tuned}, columns)


def layout(head: str, rows: Mapping[str, str], columns: Mapping[str, Mapping[str, str]]) -> str:
    """Lay out a Markdown table.

    Parameters
    ----------
    head : str
        Title of the first column.
    rows : mapping of str to str
        Title by row.
    columns : mapping of str to mapping of str to str
        Cells by row, by title of the column.

    Returns
    -------
    str
        The table; rows without any content are left out.
    """
    lines = [f"| {' | '.join([head, *columns])} |", "|---" * (1 + len(columns)) + "|"]
    for name, title in rows.items():
        cells = [column[name] for column in columns.values()]
        if any(cell != NOTHING for cell in cells):
            lines.append(f"| {' | '.join([title, *cells])} |")
    return "\n".join(lines) if len(lines) > 2 else "Not run yet."


def significant(value: float, *, like: float | None = None, digits: int = 3) -> str:
    """Write a number with three significant digits, or with the decimals that another one gets."""
    size = abs(value if like is None else like)
    decimals = 0
    while size and size < 10 ** (digits - 1) and decimals < 6:
        size *= 10
        decimals += 1
    return f"{value:.{decimals}f}"
