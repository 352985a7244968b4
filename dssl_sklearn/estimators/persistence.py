"""Fitted estimators to files of weights and back."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from dssl_sklearn._checks import check_path
from dssl_sklearn.estimators.base import CrystalEstimator
from dssl_sklearn.estimators.card import run_card, versions, write_card
from dssl_sklearn.estimators.citations import BIBTEX, citation_keys
from dssl_sklearn.estimators.pretrained import shipped_weights
from dssl_sklearn.estimators.untrusted import check_description
from dssl_sklearn.exceptions import DSSLError, WeightsError
from dssl_sklearn.training.weights import read_weights, write_weights

#: Not written: data, code, what the file replaces (but for names of shipped weights), and what
#: belongs to the machine.
_LEFT_OUT = {"pretrained", "unlabeled", "callbacks", "net_params", "device", "n_jobs"} | {
    "checkpoint_dir"
}
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
        source = os.fspath(path)
        tensors, config = _read(source, cls.__name__)
        with _explained(source):
            return cls._from_file(tensors, config, source)

    @abstractmethod
    def _contents(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors of the file, and what its description says beside `_describe`."""

    @classmethod
    @abstractmethod
    def _from_file(cls, tensors: dict[str, Tensor], config: dict[str, Any], path: str) -> Self:
        """Fitted estimator from the content of a file, of which only the form has been checked."""


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


def _read(source: str, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and description of a file that holds an estimator of the class with this name."""
    tensors, config = read_weights(source)
    if config.get("class") != name:
        raise WeightsError(f"{source!r} holds a {str(config.get('class'))[:80]}, not a {name}")
    with _explained(source):
        check_description(config, tensors)
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
