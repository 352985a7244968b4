"""Fitted estimators to files of weights and back."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np
from sklearn.utils.validation import check_is_fitted
from skorch.history import History

from dssl_sklearn._checks import check_path
from dssl_sklearn.estimators.base import CrystalEstimator
from dssl_sklearn.estimators.card import run_card, versions, write_card
from dssl_sklearn.estimators.citations import BIBTEX, citation_keys
from dssl_sklearn.estimators.kernel_part import KernelPart
from dssl_sklearn.estimators.older_files import with_members, with_scale
from dssl_sklearn.estimators.pretrained import shipped_record, shipped_weights
from dssl_sklearn.estimators.recipes import PRETRAIN_RECIPES
from dssl_sklearn.estimators.untrusted import check_description, check_shapes, check_targets
from dssl_sklearn.exceptions import DSSLError, WeightsError
from dssl_sklearn.models.architecture import Architecture
from dssl_sklearn.models.encoder import CrystalEncoder, PropertyModel
from dssl_sklearn.objectives import WeightedObjectives, objective_from_config
from dssl_sklearn.training.seeding import seeded
from dssl_sklearn.training.weights import load_state, read_weights, write_weights

if TYPE_CHECKING:
    from torch import Tensor

    from dssl_sklearn.estimators.pretrainer import DSSLPretrainer
    from dssl_sklearn.estimators.property import PropertyEstimator

_Pretrainer = TypeVar("_Pretrainer", bound="DSSLPretrainer")
_Predictor = TypeVar("_Predictor", bound="PropertyEstimator")

#: Not written: data, code, what the file replaces (but for names of shipped weights), and what
#: belongs to the machine.
_LEFT_OUT = {"pretrained", "unlabeled", "callbacks", "net_params", "device", "n_jobs"} | {
    "checkpoint_dir"
}
#: Arguments of a pretrainer that its objectives are made from.
_OF_OBJECTIVES = {"objectives", "mask_ratio", "move", "microproperty", "contrastive_loss"}
#: What a malformed description makes fail.
_MALFORMED = (
    DSSLError,
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    RuntimeError,
)


class Persistent(CrystalEstimator, ABC):
    """Base of the estimators whose trained network can be saved and loaded."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write weights, settings and history into one safetensors file, without pickle.

        Beside it goes a run card for people and other programs, with the suffix ``.json``:
        versions, parameters, seed, fingerprint of the data, losses, time, license and citations.
        Loading does not need it. A file of that name that is no run card is left alone, with a
        warning.

        Parameters
        ----------
        path : path-like
            File to write, such as ``"mine.safetensors"``.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        WeightsError
            If the file cannot be written or a part cannot be described in it.
        InvalidInputError
            If `path` is no path.
        """
        check_is_fitted(self, "net_")
        check_path("path", path)
        description = _describe(self)
        tensors, own = self._contents()
        write_weights(path, tensors, description | own)
        write_card(path, run_card(self, Path(path).stem, description))

    def cite(self, data: str | Iterable[str] = ()) -> str:
        """Print and return the works to cite, as BibTeX.

        Which ones depends on what was used (fitted), or would be (not fitted): the method, the
        backbone, tabulated stiffnesses, and the data and models behind pretrained weights.

        Parameters
        ----------
        data : str or iterable of str, default=()
            Data sets that were learned from, which an estimator cannot know: among "matbench",
            "elasticity", "dielectric", "piezoelectricity" and "formation_energy".

        Returns
        -------
        str
            BibTeX entries.

        Raises
        ------
        InvalidInputError
            If a data set is unknown.
        """
        keys = citation_keys(self, data)
        text = "\n\n".join(BIBTEX[key] for key in keys)
        print(text)  # noqa: T201 - what it is for
        return text

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a fitted estimator that `save` wrote.

        It has the parameters that it was saved with, but for data, code, folders and `pretrained`
        (unless that is the name of shipped weights): set these again before you fit it anew. While
        another thread trains, loading waits, as all threads share torch's random numbers.

        Parameters
        ----------
        path : path-like
            File to read.

        Returns
        -------
        estimator
            Fitted; embeds or predicts as the one that was saved.

        Raises
        ------
        WeightsError
            If the file is missing, damaged, or not of this kind.
        InvalidInputError
            If `path` is no path.
        """
        check_path("path", path)
        return cls._read(path)

    @abstractmethod
    def _contents(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors of the file, and what its description says beside `_describe`."""

    @classmethod
    @abstractmethod
    def _read(cls, path: str | os.PathLike[str]) -> Self:
        """Fitted estimator from a file."""


def load_pretrainer(cls: type[_Pretrainer], path: str | os.PathLike[str]) -> _Pretrainer:
    """Read a fitted pretrainer; see `DSSLPretrainer.load`."""
    source = os.fspath(path)
    tensors, config = _read(path, cls)
    with _explained(source):
        objectives = [objective_from_config(c) for c in config["objectives"]]
        architecture = Architecture(**config["architecture"])
        params = config["params"]
        if not params.keys() >= _OF_OBJECTIVES or isinstance(params["objectives"], list):
            # What was given does not fit into JSON; the objectives made from it stand for it.
            params = {k: v for k, v in params.items() if k not in _OF_OBJECTIVES}
            params["objectives"] = objectives
        pretrainer = cls(**params)
        pretrainer._validate_params()
        recipe = pretrainer._with_recipe(PRETRAIN_RECIPES[pretrainer.recipe])

        def heads(encoder: CrystalEncoder) -> WeightedObjectives:
            return WeightedObjectives(objectives, encoder.site_width, encoder.crystal_width)

        check_shapes(architecture.build, tensors, "encoder.")
        check_shapes(lambda: heads(architecture.build()), tensors, "objectives.")
        with seeded(0, "cpu"):
            encoder = architecture.build()
            criterion = heads(encoder)
        load_state(encoder, tensors, "encoder.", source)
        load_state(criterion, tensors, "objectives.", source, buffers_finite=False)
        criterion.has_statistics = bool(config.get("has_statistics", True))
        net = pretrainer._make_net(encoder, criterion, recipe, 1, config["seed"])
        net.initialize()
        net.history = History(config["history"])
    record = shipped_record(path) or config.get("data")
    return pretrainer._set_fitted(net, architecture, objectives, record)


def load_predictor(cls: type[_Predictor], path: str | os.PathLike[str]) -> _Predictor:
    """Read a fitted predictor; see `DSSLRegressor.load`."""
    source = os.fspath(path)
    tensors, config = _read(path, cls)
    with _explained(source):
        architecture = Architecture(**config["architecture"])
        predictor = cls(**config["params"])
        predictor._validate_params()
        head = config["head"]
        targets = with_scale(config["targets"])
        check_targets(targets, head["n_outputs"])
        if "n_members" not in head:
            tensors = with_members(tensors)
        check_shapes(lambda: PropertyModel(architecture.build(), **head), tensors, "model.")
        for name in predictor._target_state:
            value = targets[name]
            setattr(predictor, name, np.array(value) if isinstance(value, list) else value)
        with seeded(0, "cpu"):
            net = predictor._make_net(architecture.build(), config["head"], 1, config["seed"])
            net.initialize()
        load_state(net.module_, tensors, "model.", source)
        net.history = History(config["history"])
        if (kernel := config.get("kernel")) is not None:
            n_outputs = head["n_outputs"]
            predictor.kernel_ = KernelPart.from_file(tensors, kernel, n_outputs, source)
    return predictor._set_fitted(net, architecture, config["head"], config.get("data"))


def _describe(estimator: CrystalEstimator) -> dict[str, Any]:
    params = _kept(estimator.get_params(deep=False))
    return {
        "class": type(estimator).__name__,
        "architecture": estimator.architecture_.to_config(),
        "params": _jsonable(params),
        "seed": estimator.net_.seed,
        "data": estimator.fit_record_,
        "history": [
            _jsonable({k: v for k, v in epoch.items() if k != "batches"})
            for epoch in estimator.history_
        ],
        "versions": versions(),
    }


def _read(
    path: str | os.PathLike[str], cls: type[CrystalEstimator]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors, config = read_weights(path)
    if config.get("class") != cls.__name__:
        raise WeightsError(
            f"{os.fspath(path)!r} holds a {str(config.get('class'))[:80]}, not a {cls.__name__}"
        )
    try:
        check_description(config, tensors)
    except WeightsError as error:
        raise WeightsError(
            f"{os.fspath(path)!r} has a description that does not fit: {error}"
        ) from error
    # Nothing that a file says may decide where later calls read or write, or what code they run.
    return tensors, {**config, "params": _kept(config["params"])}


def _kept(params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters that a file holds."""
    kept = {name: value for name, value in params.items() if name not in _LEFT_OUT}
    start = params.get("pretrained")
    return {**kept, "pretrained": start} if start in list(shipped_weights()) else kept


@contextmanager
def _explained(source: str) -> Iterator[None]:
    """Turn what a malformed description makes fail into one error."""
    try:
        yield
    except _MALFORMED as error:
        if isinstance(error, WeightsError) and repr(source) in str(error):
            raise
        raise WeightsError(f"{source!r} has a description that does not fit: {error}") from error


def _jsonable(params: Mapping[str, Any]) -> dict[str, Any]:
    """Keep the entries that JSON can hold."""
    scalars = (str, int, float, bool, type(None), np.generic)

    def holds(value: Any) -> bool:  # noqa: ANN401
        if isinstance(value, list | tuple):
            return all(map(holds, value))
        if isinstance(value, Mapping):
            return all(isinstance(k, str) and holds(v) for k, v in value.items())
        return isinstance(value, scalars)

    return {name: value for name, value in params.items() if holds(value)}
