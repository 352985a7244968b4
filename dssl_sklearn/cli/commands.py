"""What the commands do; heavy libraries are imported when one of them runs."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dssl_sklearn.cli.errors import DATA_PROBLEM, OK, UsageError
from dssl_sklearn.cli.inputs import PATTERNS, Inputs, find_inputs
from dssl_sklearn.cli.tables import check_output, table_writer
from dssl_sklearn.exceptions import DatasetError

if TYPE_CHECKING:
    from dssl_sklearn.crystals.graph import CrystalGraph
    from dssl_sklearn.estimators.property import PropertyEstimator

_WEIGHTS = (".safetensors",)
#: Columns of results beside the predictions.
_TAKEN = ("id", "error")


def doctor(args: Namespace) -> int:
    """Report what is wrong with structures and targets."""
    from dssl_sklearn.doctor import diagnose

    inputs = _inputs(args)
    y = pd.DataFrame({name: inputs.column(name) for name in args.target}) if args.target else None
    if args.out is not None:
        check_output(args.out, force=args.force)
    _say(args, f"looking at {len(inputs)} structures")
    report = diagnose(inputs.paths, y, task=args.task, cutoff=args.cutoff, names=inputs.ids)
    print(report.summary())
    if args.out is not None:
        with table_writer(args.out) as append:
            append(report.table.rename(columns={"name": "id"}))
        _say(args, f"wrote {args.out}")
    return OK if report.ok else DATA_PROBLEM


def pretrain(args: Namespace) -> int:
    """Learn from structures without labels."""
    from dssl_sklearn.cli.structures import load_crystals
    from dssl_sklearn.estimators.pretrainer import DSSLPretrainer

    check_output(args.out, force=args.force, suffixes=_WEIGHTS)
    inputs = _inputs(args)
    pretrainer = DSSLPretrainer(**_training(args))
    crystals, _ = load_crystals(inputs, skip=args.on_error == "skip", quiet=args.quiet)
    pretrainer.fit(crystals).save(args.out)
    _say(args, f"pretrained on {len(crystals)} structures; wrote {args.out}")
    return OK


def fit(args: Namespace) -> int:
    """Learn a property from labeled structures."""
    from dssl_sklearn.cli.structures import load_crystals
    from dssl_sklearn.doctor.targets import looks_like_classes
    from dssl_sklearn.estimators.classifier import DSSLClassifier
    from dssl_sklearn.estimators.regressor import DSSLRegressor

    check_output(args.out, force=args.force, suffixes=_WEIGHTS)
    inputs = _inputs(args)
    columns = [inputs.column(name) for name in args.target]
    classes = args.task == "classification"
    if args.task == "auto":
        texts = [column for column in columns if looks_like_classes(column)]
        classes = bool(texts)
        for column in texts:
            _check_repeated(column)
    if classes and len(columns) > 1:
        raise UsageError("a classifier learns one --target at a time")
    crystals, rows = load_crystals(inputs, skip=args.on_error == "skip", quiet=args.quiet)
    y = columns[0] if len(columns) == 1 else pd.concat(columns, axis=1)
    model: PropertyEstimator = (DSSLClassifier if classes else DSSLRegressor)(**_training(args))
    model.fit(crystals, y.iloc[rows])
    model.save(args.out)
    n_labels = (model.fit_record_ or {}).get("n_labels")
    _say(args, f"fitted {type(model).__name__} on {n_labels} labels; wrote {args.out}")
    return OK


def _check_repeated(column: pd.Series) -> None:
    """Refuse texts of which most stand once: no classes, but numbers with a unit, or file names."""
    known = column.dropna()
    if known.nunique() > 0.5 * len(known) > 2:
        raise UsageError(
            f"--target {column.name} has {known.nunique()} different texts in {len(known)} rows, "
            f"such as {known.iloc[0]!r}: numbers must stand without a unit; if these are classes, "
            "say --task classification"
        )


def predict(args: Namespace) -> int:
    """Predict a property."""
    check_output(args.out, force=args.force)
    inputs = _inputs(args)
    model = _load_predictor(args.model)

    def rows_of(graphs: list[CrystalGraph]) -> dict[str, Any]:
        return _predictions(model, graphs)

    return _stream(args, inputs, model, rows_of, "predicting")


def embed(args: Namespace) -> int:
    """Turn structures into vectors."""
    from dssl_sklearn.estimators.pretrainer import DSSLPretrainer

    check_output(args.out, force=args.force)
    inputs = _inputs(args)
    pretrainer = DSSLPretrainer.from_pretrained(args.weights)
    names = [f"embedding_{k}" for k in range(pretrainer.n_features_out_)]

    def rows_of(graphs: list[CrystalGraph]) -> dict[str, Any]:
        return dict(zip(names, pretrainer.transform(graphs).T, strict=True))

    return _stream(args, inputs, pretrainer, rows_of, "embedding")


def _inputs(args: Namespace) -> Inputs:
    inputs = find_inputs(
        args.data,
        path_column=args.path_column,
        id_column=args.id_column,
        folder=args.folder,
    )
    if inputs.n_others:
        n_files = len(inputs) + inputs.n_others
        _say(
            args,
            f"{inputs.n_others} of {n_files} files in {str(args.data[0])!r} are left alone: their "
            f"names are not {', '.join(PATTERNS)}",
        )
    return inputs


def _say(args: Namespace, text: str) -> None:
    if not args.quiet:
        print(text, file=sys.stderr)


def _training(args: Namespace) -> dict[str, Any]:
    """Arguments of an estimator that trains."""
    # The paper's network is another one than that of the weights that ship.
    pretrained = args.pretrained
    if pretrained is None:
        pretrained = "none" if args.recipe == "paper" else "mp"
    return {
        "recipe": args.recipe,
        "pretrained": None if pretrained == "none" else pretrained,
        "max_epochs": args.epochs,
        "batch_size": args.batch_size,
        "lr": args.lr,
        "device": args.device,
        "random_state": args.seed,
        "verbose": 0 if args.quiet else 1,
    }


def _load_predictor(path: Path) -> PropertyEstimator:
    from dssl_sklearn.estimators.classifier import DSSLClassifier
    from dssl_sklearn.estimators.regressor import DSSLRegressor
    from dssl_sklearn.training.weights import read_weights

    if not path.is_file():
        raise UsageError(f"there is no model {str(path)!r}; `dssl fit` makes one")
    kind = read_weights(path)[1].get("class")
    classes = {cls.__name__: cls for cls in (DSSLRegressor, DSSLClassifier)}
    if kind not in classes:
        raise UsageError(f"{str(path)!r} holds a {kind}, which predicts nothing; see `dssl embed`")
    return classes[kind].load(path)


def _predictions(model: Any, graphs: list[CrystalGraph]) -> dict[str, Any]:  # noqa: ANN401
    """Columns of predictions under the names of the targets."""
    names = (model.fit_record_ or {}).get("targets")
    names = [f"predicted_{name}" if name in _TAKEN else name for name in names or ()]
    if hasattr(model, "classes_"):
        probabilities = model.predict_proba(graphs)
        labels = [str(label) for label in model.classes_[probabilities.argmax(axis=1)]]
        of_classes = zip(model.classes_, probabilities.T, strict=True)
        name = names[0] if names else "prediction"
        return {name: labels, **{f"probability_{label}": p for label, p in of_classes}}
    values = np.asarray(model.predict(graphs)).reshape(len(graphs), -1)
    n_targets = values.shape[1]
    if len(names) != n_targets:
        names = ["prediction"] if n_targets == 1 else [f"prediction_{k}" for k in range(n_targets)]
    return dict(zip(names, values.T, strict=True))


def _stream(
    args: Namespace,
    inputs: Inputs,
    estimator: Any,  # noqa: ANN401
    rows_of: Any,  # noqa: ANN401
    what: str,
) -> int:
    """Write what an estimator makes of the structures, piece by piece, with their ids."""
    from dssl_sklearn.cli.structures import read_graphs
    from dssl_sklearn.crystals.builder import GraphBuilder

    architecture = estimator.architecture_
    builder = GraphBuilder(architecture.cutoff, architecture.max_neighbors, use_cache=False)
    skip = args.on_error == "skip"
    pieces = read_graphs(inputs, builder, skip=skip, quiet=args.quiet, what=what)
    waiting: list[pd.DataFrame] = []
    columns: list[str] = []
    with table_writer(args.out) as append:
        for chunk, graphs, reasons in pieces:
            frame = pd.DataFrame({"id": chunk.ids})
            if skip:
                frame["error"] = [reasons.get(index, "") for index in range(len(chunk))]
            if graphs:
                rows = [index for index in range(len(chunk)) if index not in reasons]
                results = {name: pd.Series(v, index=rows) for name, v in rows_of(graphs).items()}
                columns = ["id", *results, *frame.columns[1:]]
                frame = frame.join(pd.DataFrame(results))
            waiting.append(frame)
            # Columns, and their types in a Parquet file, are only known from the first result.
            if columns:
                append(pd.concat(waiting, ignore_index=True).reindex(columns=columns))
                waiting = []
        if not columns:
            raise DatasetError("none of the structures can be used")
    _say(args, f"wrote {len(inputs)} rows to {args.out}")
    return OK
