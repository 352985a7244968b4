"""Run every method on the same folds."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state
from tqdm import tqdm

from dssl_sklearn._checks import check_integer, did_you_mean, listed
from dssl_sklearn._warnings import warn
from dssl_sklearn.crystals.builder import GraphBuilder
from dssl_sklearn.crystals.dataset import GraphDataset
from dssl_sklearn.crystals.inputs import as_sequence, read_crystals
from dssl_sklearn.estimators.targets import check_length, known_targets
from dssl_sklearn.evaluation.composition import composition_features, feature_source
from dssl_sklearn.evaluation.methods import Method, Start, graph_settings, make_methods
from dssl_sklearn.evaluation.result import PretrainingComparison
from dssl_sklearn.exceptions import InvalidInputError, NegativeTransferWarning
from dssl_sklearn.model_selection.folds import Rows, folds_of

if TYPE_CHECKING:
    from dssl_sklearn.estimators.pretrainer import DSSLPretrainer


@dataclass(frozen=True)
class _Split:
    """Rows of one fold with one number of labels."""

    fold: int
    train: Rows
    test: Rows


def compare_pretraining(
    structures: Any,  # noqa: ANN401 - any container of crystals
    y: ArrayLike,
    *,
    pretrained: str | os.PathLike[str] | DSSLPretrainer = "mp",
    cv: Any = 5,  # noqa: ANN401 - all that scikit-learn's cv= takes
    methods: Sequence[str] | None = None,
    label_counts: Sequence[int] | None = None,
    estimator_params: Mapping[str, Any] | None = None,
    n_jobs: int | None = None,
    random_state: int | np.random.RandomState | None = None,
    verbose: int = 0,
) -> PretrainingComparison:
    """Find out whether pretraining helps on your data, and whether a network is worth it at all.

    Every method is trained and tested on the same folds, and the network from scratch has the
    architecture, the recipe and the seed of the pretrained one, so that their difference fold by
    fold is that of the weights they start from.

    Parameters
    ----------
    structures : sequence of crystals of shape (n_structures,)
        Structures, ASE Atoms, structure dicts, paths of CIF or POSCAR files, or graphs.
    y : array-like of shape (n_structures,)
        One known number for each.
    pretrained : str, path or DSSLPretrainer, default="mp"
        The pretrained network: a name of shipped weights, a file, or a fitted pretrainer. An
        unfitted one is fitted inside each fold on the training structures.
    cv : int, splitter or iterable, default=5
        Folds. A number stands for that many shuffled ones; `dssl_sklearn.model_selection` has
        stricter splitters.
    methods : sequence of str, default=None
        Some of "median", "forest" (random forest on the composition), "svr" (tuned support vector
        regression on the composition), "scratch", "pretrained" and "embeddings" (tuned support
        vector regression on pretrained embeddings); None for all.
    label_counts : sequence of int, default=None
        Sizes of training sets for a learning curve: in each fold nested random subsets of its
        training part. None for all of the training part.
    estimator_params : mapping, default=None
        Arguments of both networks, such as ``{"max_epochs": 20}``.
    n_jobs : int or None, default=None
        Processes for pairs of method and fold, as in joblib.
    random_state : int, RandomState instance or None, default=None
        Seed of folds, subsets and methods.
    verbose : int, default=0
        1 shows a progress bar.

    Returns
    -------
    PretrainingComparison
        Errors of all folds, their summary, a report and a plot.

    Raises
    ------
    InvalidInputError
        If an argument has an unusable value.
    InvalidStructureError
        If any crystal cannot be used; the message lists all of them with the reasons.
    WeightsError
        If `pretrained` is unknown.

    Warns
    -----
    NegativeTransferWarning
        If the pretrained network is worse than the one from scratch by more than the 95 % interval
        of their paired difference.

    Examples
    --------
    >>> from dssl_sklearn.datasets import load_elasticity
    >>> from dssl_sklearn.evaluation import compare_pretraining
    >>> structures, y = load_elasticity(return_X_y=True)
    >>> comparison = compare_pretraining(
    ...     structures[:60], y[:60], cv=2, methods=["median", "embeddings"], random_state=0
    ... )
    >>> comparison.folds.columns.tolist()
    ['method', 'fold', 'n_labels', 'mae', 'fit_seconds']
    """
    check_length(y, len(as_sequence(structures, "structures")))
    targets = known_targets(y, "an error")
    start = Start.of(pretrained)
    params = dict(estimator_params or {})
    chosen = _chosen(make_methods(start, params), methods)
    seed = int(check_random_state(random_state).randint(2**31 - 1))
    splits = _splits(structures, targets, cv, label_counts, seed)
    tables, source = _features(structures, chosen, start, params)
    cells = [(name, split) for split in splits for name in chosen]
    jobs = (
        delayed(_cell)(
            name, chosen[name], split, table=tables[chosen[name].features], y=targets, seed=seed
        )
        for name, split in cells
    )
    run = Parallel(n_jobs=n_jobs, return_as="generator_unordered")(jobs)
    bar = tqdm(run, desc="method x fold", total=len(cells), disable=not verbose)
    result = PretrainingComparison(
        _tidy(list(bar), list(chosen)),
        titles={name: method.title for name, method in chosen.items()},
        pretrained=start.name,
        n_structures=len(targets),
        feature_source=source,
        is_curve=label_counts is not None,
    )
    if result.negative_transfer:
        warn(result.verdict(), NegativeTransferWarning)
    return result


def _chosen(known: dict[str, Method], methods: Sequence[str] | None) -> dict[str, Method]:
    if methods is None:
        return known
    if isinstance(methods, str) or not len(methods):
        raise InvalidInputError(f"methods is {methods!r}, expected a list, each {listed(known)}.")
    for name in methods:
        if name not in known:
            raise InvalidInputError(
                f"methods has {name!r}, expected {listed(known)}{did_you_mean(name, known)}"
            )
    return {name: known[name] for name in dict.fromkeys(methods)}


def _splits(
    structures: Any,  # noqa: ANN401
    y: NDArray[np.float64],
    cv: Any,  # noqa: ANN401
    label_counts: Sequence[int] | None,
    seed: int,
) -> list[_Split]:
    folds = folds_of(cv, structures, y, seed=seed)
    if label_counts is None:
        return [_Split(fold, train, test) for fold, (train, test) in enumerate(folds)]
    counts = sorted({_count(n) for n in np.atleast_1d(np.asarray(label_counts, dtype=object))})
    smallest = min(len(train) for train, _ in folds)
    if not counts or counts[-1] > smallest:
        raise InvalidInputError(
            f"label_counts={list(counts)} must hold one number at least and none above {smallest}, "
            "the training structures of the smallest fold."
        )
    splits = []
    for fold, (train, test) in enumerate(folds):
        # Every count takes the first rows of one order, so that small subsets are in large ones.
        order = np.random.default_rng([seed, fold]).permutation(train)
        splits += [_Split(fold, order[:n], test) for n in counts]
    return splits


def _count(value: Any) -> int:  # noqa: ANN401
    # Three inner folds and a spread of the targets need some labels.
    check_integer("label_counts", value, minimum=6)
    return int(value)


def _features(
    structures: Any,  # noqa: ANN401
    methods: Mapping[str, Method],
    start: Start,
    params: Mapping[str, Any],
) -> tuple[dict[str, Any], str]:
    """All that the methods read, a row for each crystal and from it alone; source of Magpie's."""
    kinds = {method.features for method in methods.values()}
    graphs = GraphBuilder(*graph_settings(start, params)).dataset(structures, "structures")
    tables: dict[str, Any] = {"graphs": graphs}
    source = ""
    if "composition" in kinds:
        source = feature_source()
        tables["composition"] = composition_features(read_crystals(graphs), source)
    if "embeddings" in kinds and start.fitted is not None:
        tables["embeddings"] = np.asarray(start.fitted.transform(graphs))
    return tables, source


def _cell(
    name: str,
    method: Method,
    split: _Split,
    *,
    table: Any,  # noqa: ANN401 - graphs or an array
    y: NDArray[np.float64],
    seed: int,
) -> dict[str, Any]:
    """Train and test one method on one fold; equal seeds within a fold make the runs paired."""
    try:
        model = method.make((seed + split.fold) % (2**31))
        began = time.perf_counter()
        model.fit(_take(table, split.train), y[split.train])
        seconds = time.perf_counter() - began
        predicted = np.asarray(model.predict(_take(table, split.test)))
    except Exception as error:
        error.add_note(f"In compare_pretraining: method {name!r}, fold {split.fold}.")
        raise
    mae = float(np.abs(predicted - y[split.test]).mean())
    return {
        "method": name,
        "fold": split.fold,
        "n_labels": len(split.train),
        "mae": mae,
        "fit_seconds": seconds,
    }


def _take(table: Any, rows: Rows) -> Any:  # noqa: ANN401
    return table.take(rows) if isinstance(table, GraphDataset) else table[rows]


def _tidy(rows: list[dict[str, Any]], methods: list[str]) -> pd.DataFrame:
    """Sort by method as asked for, then by fold and labels, whoever came first."""
    frame = pd.DataFrame(rows)
    order = frame["method"].map(methods.index)
    frame = frame.assign(order=order).sort_values(["order", "fold", "n_labels"])
    return frame.drop(columns="order").reset_index(drop=True)
