"""Checkpoints after every epoch, from which an interrupted training goes on exactly."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skorch import NeuralNet
from skorch.callbacks import Callback
from skorch.history import History
from torch import Tensor

from dssl_sklearn._atomic import probe_folder, remove_leftovers
from dssl_sklearn._checks import check_path
from dssl_sklearn.exceptions import InvalidInputError, WeightsError
from dssl_sklearn.training.callbacks import StopEarly
from dssl_sklearn.training.data import CrystalDataset
from dssl_sklearn.training.nets import CrystalNet
from dssl_sklearn.training.schedules import CosineSchedule, PlateauSchedule
from dssl_sklearn.training.weights import load_state, plain, prefixed, read_weights, write_weights

#: What a malformed description makes fail.
_MALFORMED = (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError)


def fingerprint(net: NeuralNet, dataset: CrystalDataset, settings: Mapping[str, Any]) -> str:
    """Fingerprint of a training: crystals, targets, settings and first weights decide its result.

    Parameters
    ----------
    net : NeuralNet
        Initialized, before its first epoch, or before it goes on from an earlier training.
    dataset : CrystalDataset
        What it will be trained on.
    settings : mapping of str to object
        All else that the result depends on.

    Returns
    -------
    str
        24 hexadecimal digits, the same in every process.

    Raises
    ------
    InvalidInputError
        If a setting looks different in every process, such as a function.
    """
    digest = hashlib.blake2b(digest_size=12)
    text = json.dumps(plain(settings), sort_keys=True, default=repr)
    if found := re.search(r"[^\s\"'(=]* at 0x[0-9a-f]+", text):
        raise InvalidInputError(
            f"checkpoint_dir: a rerun could not be told from another training, since a setting "
            f"holds {found[0]!r}, an object that is a new one in every process; give a value or a "
            "class instead, or checkpoint_dir=None"
        )
    digest.update(text.encode())
    graphs = dataset.graphs
    for name in ("numbers", "frac_coords", "lattice", "site_ptr", "edge_ptr", "distance"):
        _update(digest, name, getattr(graphs, name))
    for group in (graphs.site_properties, graphs.crystal_properties, dataset.targets):
        for name in sorted(group):
            _update(digest, name, np.asarray(group[name]))
    for module in (net.module_, net.criterion_):
        state = module.state_dict()
        for name in sorted(state):
            _update(digest, name, state[name].detach().cpu().numpy())
    # Nothing in a first training: moments and epochs of an earlier one.
    for place, moments in net.optimizer_.state_dict()["state"].items():
        for name in sorted(moments):
            _update(digest, f"{place}.{name}", np.asarray(moments[name].detach().cpu()))
    if net.history:
        digest.update(str(len(net.history)).encode())
    return digest.hexdigest()


def _update(digest: hashlib.blake2b, name: str, values: NDArray[Any]) -> None:
    digest.update(f"{name},{values.dtype},{values.shape}".encode())
    # No copy, also of an array that is mapped from disk.
    digest.update(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)


def train_resumably(net: CrystalNet, dataset: CrystalDataset, checkpoint: Checkpoint) -> None:
    """Run the epochs that are left after the last checkpoint, all of them without one.

    Parameters
    ----------
    net : NeuralNet
        Initialized; `max_epochs` is the number of epochs behind those in its history.
    dataset : CrystalDataset
        What it is trained on.
    checkpoint : Checkpoint
        Of this training.

    Raises
    ------
    WeightsError
        If the folder cannot be written to, or its checkpoint is damaged.
    """
    if net.writes_files:
        checkpoint.prepare()
    max_epochs, n_before = net.max_epochs, len(net.history)
    if checkpoint.restore(net):
        return
    # Last of all callbacks: what the others record belongs into the checkpoint.
    net.callbacks_.append(("checkpoint", checkpoint))
    try:
        net.set_params(max_epochs=max(0, n_before + max_epochs - len(net.history)))
        net.partial_fit(dataset)
    finally:
        net.set_params(max_epochs=max_epochs)
        net.callbacks_.remove(("checkpoint", checkpoint))


class Checkpoint(Callback):
    """Write the state of the training after every epoch; all that is random follows from the epoch.

    Parameters
    ----------
    folder : path-like
        Where checkpoints lie; made if missing.
    name : str
        Fingerprint of the training: another one gets another file.
    """

    def __init__(self, folder: str | os.PathLike[str], name: str) -> None:
        self.folder = folder
        self.name = name

    @property
    def path(self) -> Path:
        """File of this training."""
        return Path(self.folder) / f"{self.name}.safetensors"

    def prepare(self) -> None:
        """Make the folder, and fail now rather than after the first epoch if it is of no use.

        Raises
        ------
        WeightsError
            If the folder cannot be made or written to.
        InvalidInputError
            If no folder can have that name.
        """
        try:
            check_path("checkpoint_dir", self.folder).mkdir(parents=True, exist_ok=True)
            remove_leftovers(self.path)
            probe_folder(self.path)
        except OSError as error:
            raise WeightsError(
                f"cannot write to checkpoint_dir {os.fspath(self.folder)!r}: {error}; choose "
                "another folder or make room"
            ) from error

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:  # noqa: ANN401
        """Write the checkpoint, all or nothing."""
        self._write(net, finished=False)

    def on_train_end(self, net: NeuralNet, **kwargs: Any) -> None:  # noqa: ANN401
        """Write the result, which early stopping may have taken from an earlier epoch."""
        self._write(net, finished=True)

    def _write(self, net: NeuralNet, *, finished: bool) -> None:
        if not net.writes_files:
            return
        tensors = prefixed("module.", net.module_.state_dict())
        tensors |= prefixed("criterion.", net.criterion_.state_dict())
        config: dict[str, Any] = {"class": "checkpoint", "training": self.name}
        config |= {"finished": finished, "history": plain_history(net), "optimizer": {}}
        for index, state in net.optimizer_.state_dict()["state"].items():
            of_tensors = {key: value for key, value in state.items() if isinstance(value, Tensor)}
            tensors |= prefixed(f"optimizer.{index}.", of_tensors)
            config["optimizer"][str(index)] = {
                k: v for k, v in state.items() if k not in of_tensors
            }
        if (stop := _early_stopping(net)) and not finished:
            config["early_stopping"], best = stop.state()
            tensors |= best
        write_weights(self.path, tensors, config)

    def restore(self, net: NeuralNet) -> bool:
        """Bring an initialized net to where the last checkpoint was, if there is one.

        Parameters
        ----------
        net : NeuralNet
            Net of the same training, before its first epoch; those in its history are of an
            earlier one.

        Returns
        -------
        bool
            Whether nothing is left to do.

        Raises
        ------
        WeightsError
            If the checkpoint is damaged or of another training.
        """
        if not self.path.exists():
            return False
        try:
            return self._restore(net)
        except (WeightsError, *_MALFORMED) as error:
            cause = error.__cause__
            if isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError):
                # Too many open files, a network folder that is away: the checkpoint may be whole.
                raise
            raise WeightsError(
                f"the checkpoint {str(self.path)!r} cannot be used ({error}); remove it to begin "
                "this training anew"
            ) from error

    def _restore(self, net: NeuralNet) -> bool:
        tensors, config = read_weights(self.path)
        if (config.get("class"), config.get("training")) != ("checkpoint", self.name):
            raise WeightsError("it belongs to another training")
        history = History(
            {name: math.nan if value is None else value for name, value in epoch.items()}
            for epoch in config["history"]
        )
        epochs = history[len(net.history) :]
        n_steps = sum(epoch["train_batch_count"] for epoch in epochs)
        load_state(net.module_, tensors, "module.", str(self.path))
        load_state(net.criterion_, tensors, "criterion.", str(self.path), buffers_finite=False)
        _restore_optimizer(net, tensors, config["optimizer"])
        net.history = history
        for _, callback in net.callbacks_:
            if isinstance(callback, CosineSchedule):
                callback.first_step = n_steps
            if isinstance(callback, PlateauSchedule):
                callback.losses_before = [epoch["train_loss"] for epoch in epochs]
        finished = bool(config["finished"])
        if (stop := _early_stopping(net)) and not finished:
            stop.resume(config["early_stopping"], tensors)
        return finished


def plain_history(net: NeuralNet) -> list[dict[str, Any]]:
    """History by epochs, without the batches."""
    return [{k: v for k, v in epoch.items() if k != "batches"} for epoch in net.history]


def _early_stopping(net: NeuralNet) -> StopEarly | None:
    found = (callback for _, callback in net.callbacks_ if isinstance(callback, StopEarly))
    return next(found, None)


def _restore_optimizer(
    net: NeuralNet, tensors: Mapping[str, Tensor], others: Mapping[str, Mapping[str, Any]]
) -> None:
    """Load the optimizer's state, after a check of its shapes, which torch does not make."""
    state: dict[int, dict[str, Any]] = {int(index): dict(of) for index, of in others.items()}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".", 2)
            state.setdefault(int(index), {})[key] = tensor.clone()
    optimizer = net.optimizer_
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for place, of_parameter in state.items():
        for key, value in of_parameter.items():
            if isinstance(value, Tensor) and value.shape not in ((), parameters[place].shape):
                raise WeightsError(f"{key!r} of parameter {place} has shape {tuple(value.shape)}")
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
