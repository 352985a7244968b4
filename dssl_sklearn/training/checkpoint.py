"""Checkpoints after every epoch, from which an interrupted training goes on exactly."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from skorch import NeuralNet
from skorch.callbacks import Callback
from skorch.history import History
from torch import Tensor

from dssl_sklearn.crystals.dataset import GraphDataset
from dssl_sklearn.exceptions import WeightsError
from dssl_sklearn.training.schedules import CosineSchedule, PlateauSchedule
from dssl_sklearn.training.weights import load_state, plain, prefixed, read_weights, write_weights


def fingerprint(
    graphs: GraphDataset, settings: Mapping[str, Any], weights: Mapping[str, Tensor]
) -> str:
    """Fingerprint of a training: crystals, settings and initial weights decide its result."""
    digest = hashlib.blake2b(digest_size=12)
    digest.update(json.dumps(plain(settings), sort_keys=True, default=repr).encode())
    for name in ("numbers", "frac_coords", "lattice", "site_ptr", "edge_ptr", "distance"):
        digest.update(getattr(graphs, name).tobytes())
    for properties in (graphs.site_properties, graphs.crystal_properties):
        for name in sorted(properties):
            digest.update(name.encode())
            digest.update(properties[name].tobytes())
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(weights[name].detach().cpu().numpy().tobytes())
    return digest.hexdigest()


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

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:  # noqa: ANN401
        """Write the checkpoint, all or nothing."""
        tensors = prefixed("module.", net.module_.state_dict())
        tensors |= prefixed("criterion.", net.criterion_.state_dict())
        for index, state in net.optimizer_.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{key}": value for key, value in state.items()}
        try:
            Path(self.folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WeightsError(f"cannot make checkpoint_dir {self.folder!r}: {error}") from error
        write_weights(self.path, tensors, {"class": "checkpoint", "history": plain_history(net)})

    def restore(self, net: NeuralNet) -> int:
        """Bring an initialized net to where the last checkpoint was.

        Parameters
        ----------
        net : NeuralNet
            Net of the same training, before its first epoch.

        Returns
        -------
        int
            Epochs done, 0 without a checkpoint.

        Raises
        ------
        WeightsError
            If the checkpoint is damaged.
        """
        if not self.path.is_file():
            return 0
        tensors, config = read_weights(self.path)
        load_state(net.module_, tensors, "module.", str(self.path))
        load_state(net.criterion_, tensors, "criterion.", str(self.path))
        state = net.optimizer_.state_dict()
        state["state"] = _optimizer_state(tensors)
        net.optimizer_.load_state_dict(state)
        net.history = History(config["history"])
        n_steps = sum(epoch["train_batch_count"] for epoch in net.history)
        for _, callback in net.callbacks_:
            if isinstance(callback, CosineSchedule):
                callback.first_step = n_steps
            if isinstance(callback, PlateauSchedule):
                callback.losses_before = net.history[:, "train_loss"]
        return len(net.history)


def plain_history(net: NeuralNet) -> list[dict[str, Any]]:
    """History by epochs, without the batches."""
    return [{k: v for k, v in epoch.items() if k != "batches"} for epoch in net.history]


def _optimizer_state(tensors: Mapping[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".", 2)
            state.setdefault(int(index), {})[key] = tensor.clone()
    return state
