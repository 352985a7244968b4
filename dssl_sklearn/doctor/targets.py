"""Checks of the targets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dssl_sklearn.doctor.findings import Finding

#: Labels below which a score is mostly luck.
_FEW_LABELS = 50
#: Examples of a class below which it cannot be in training and test parts of five folds.
_RARE = 5
#: Skewness beyond which a distribution counts as skewed, and labels needed to tell.
_SKEWED, _ENOUGH = 1.5, 20
#: Robust standard deviations from the median beyond which a target is an outlier.
_FAR = 6.0
#: Difference of the targets of equal crystals, over the spread of all targets, that is a conflict.
_CONFLICT = 0.05


def target_columns(
    y: Any,  # noqa: ANN401
    n_structures: int,
    names: Sequence[str] | None,
) -> tuple[list[tuple[str, pd.Series]], list[Finding]]:
    """Split targets into named columns, or say why they cannot be matched with the structures."""
    try:
        length = len(y)
        frame = y if isinstance(y, pd.DataFrame) else pd.DataFrame(_plain(y))
    except Exception as error:  # noqa: BLE001 - no targets must end the report
        return [], [Finding(None, "bad_targets", f"y of type {type(y).__name__}: {error}")]
    if length != n_structures:
        message = f"{n_structures} structures, but {length} targets"
        return [], [Finding(None, "length_mismatch", message)]
    if names is None and isinstance(y, pd.Series) and y.name is not None:
        names = [str(y.name)]
    if names is None:
        labels = [str(label) for label in frame.columns]
        is_named = isinstance(y, pd.DataFrame)
        names = labels if is_named else ["y"] if len(labels) == 1 else [f"y{k}" for k in labels]
    if len(names) != frame.shape[1]:
        message = f"y has {frame.shape[1]} columns, but {len(names)} names are given"
        return [], [Finding(None, "bad_targets", message)]
    names = [str(name) for name in names]
    # Equal names are told apart.
    names = [f"{n} (column {k})" if names.count(n) > 1 else n for k, n in enumerate(names)]
    columns = [_dense(frame.iloc[:, k].reset_index(drop=True)) for k in range(frame.shape[1])]
    return list(zip(names, columns, strict=True)), []


def _plain(y: Any) -> Any:  # noqa: ANN401
    return y.to_numpy() if isinstance(y, pd.Series) else list(y) if isinstance(y, tuple) else y


def _dense(column: pd.Series) -> pd.Series:
    return pd.Series(np.asarray(column)) if isinstance(column.dtype, pd.SparseDtype) else column


def check_column(
    name: str,
    column: pd.Series,
    task: Literal["auto", "regression", "classification"],
    usable: NDArray[np.bool_],
    duplicates: list[list[int]],
) -> list[Finding]:
    """Look at the targets in one column; that they cannot be looked at is a finding, too."""
    try:
        classes = task == "classification" or (task == "auto" and looks_like_classes(column))
        check = check_classes if classes else check_numbers
        return list(check(name, column, usable, duplicates))
    except Exception as error:  # noqa: BLE001 - no targets must end the report
        return [Finding(None, "bad_targets", f"{name}: {error}")]


def looks_like_classes(column: pd.Series) -> bool:
    """Whether a column holds classes: text that is no number, or truth values."""
    known = column.dropna()
    if known.map(lambda value: isinstance(value, bool | np.bool_)).all() and len(known):
        return True
    return len(known) > 0 and bool(pd.to_numeric(known, errors="coerce").isna().mean() > 0.5)


def check_classes(
    name: str, column: pd.Series, usable: NDArray[np.bool_], duplicates: list[list[int]]
) -> Iterator[Finding]:
    """Look at the labels of a classification."""
    known = column.notna().to_numpy()
    for index in np.flatnonzero(~known).tolist():
        yield Finding(index, "missing_target", f"{name} is missing")
    counts = column[known & usable].value_counts()
    yield from _few(name, int(counts.sum()))
    if len(counts) == 1:
        yield Finding(None, "one_class", f"{name} is {counts.index[0]!r} everywhere")
    elif len(counts):
        for label, count in counts[counts < _RARE].items():
            yield Finding(None, "rare_class", f"{name} is {label!r} in {count} structure(s) only")
    for group in duplicates:
        labeled = [index for index in group if known[index]]
        for index in labeled[1:]:
            first, second = column[labeled[0]], column[index]
            if first != second:
                message = f"{name} is {second!r}, of the same crystal {labeled[0]} {first!r}"
                yield Finding(index, "conflicting_duplicate", message)


def check_numbers(
    name: str, column: pd.Series, usable: NDArray[np.bool_], duplicates: list[list[int]]
) -> Iterator[Finding]:
    """Look at the values of a regression."""
    values = pd.to_numeric(column, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    is_missing = column.isna().to_numpy()
    for index in np.flatnonzero(is_missing).tolist():
        yield Finding(index, "missing_target", f"{name} is missing")
    for index in np.flatnonzero(np.isnan(values) & ~is_missing).tolist():
        yield Finding(index, "not_a_number", f"{name} is {column[index]!r}")
    for index in np.flatnonzero(np.isinf(values)).tolist():
        yield Finding(index, "infinite_target", f"{name} is {values[index]}")
    rows = np.flatnonzero(np.isfinite(values) & usable)
    yield from _few(name, len(rows))
    if not len(rows):
        return
    if len(rows) > 1 and np.ptp(values[rows]) <= 1e-12 * np.abs(values[rows]).max():
        yield Finding(None, "constant_target", f"{name} is {values[rows[0]]:g} everywhere")
        return
    yield from _distribution(name, values, rows)
    yield from _conflicts(name, values, duplicates)


def _few(name: str, n_labels: int) -> Iterator[Finding]:
    if n_labels == 0:
        yield Finding(None, "no_labels", f"{name} is known for no usable structure")
    elif n_labels < _FEW_LABELS:
        yield Finding(None, "few_labels", f"{name} is known for {n_labels} usable structure(s)")


def _distribution(
    name: str, values: NDArray[np.float64], rows: NDArray[np.intp]
) -> Iterator[Finding]:
    """Skew, with a look at logarithms, and outliers on the better of both scales."""
    from scipy.stats import median_abs_deviation, skew

    known = values[rows]
    of_log = ""
    if len(rows) >= _ENOUGH and abs(found := float(skew(known))) > _SKEWED:
        text = f"{name} has skewness {found:.1f}"
        if known.min() > 0 and abs(in_log := float(skew(np.log10(known)))) < abs(found) / 2:
            known, of_log = np.log10(known), "log10 of "
            text += f", its log10 {in_log:.1f}; it spans {np.ptp(known):.1f} decades"
            yield Finding(None, "log10_target", text)
        else:
            yield Finding(None, "skewed_target", text)
    scale = median_abs_deviation(known, scale="normal")
    # Of few values, or where most are equal, there is no scale to judge the others by.
    if scale > 0 and len(rows) >= _ENOUGH:
        z = (known - np.median(known)) / scale
        for place in np.flatnonzero(np.abs(z) > _FAR).tolist():
            index = int(rows[place])
            message = (
                f"{name} is {values[index]:.4g}: {of_log}it is {abs(z[place]):.0f} robust standard "
                "deviations from the median"
            )
            yield Finding(index, "outlier", message)


def _conflicts(
    name: str, values: NDArray[np.float64], duplicates: list[list[int]]
) -> Iterator[Finding]:
    """Equal crystals whose targets differ by more than a small share of the spread of all."""
    finite = values[np.isfinite(values)]
    spread = float(np.subtract(*np.quantile(finite, [0.95, 0.05])))
    for group in duplicates:
        known = [index for index in group if np.isfinite(values[index])]
        for index in known[1:]:
            difference = abs(values[index] - values[known[0]])
            if difference > _CONFLICT * spread:
                message = (
                    f"{name} is {values[index]:.4g}, but {values[known[0]]:.4g} for the same "
                    f"crystal at {known[0]}"
                )
                yield Finding(index, "conflicting_duplicate", message)
