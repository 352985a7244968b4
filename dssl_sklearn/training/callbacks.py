"""Callbacks of our own beside skorch's: term averages, effective rank, progress."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from typing import Any

import torch
from skorch import NeuralNet
from skorch.callbacks import Callback, EarlyStopping
from torch import Tensor
from tqdm.auto import tqdm

from dssl_sklearn.exceptions import InvalidInputError
from dssl_sklearn.objectives.diagnostics import effective_rank
from dssl_sklearn.training.nets import EncodedBatch
from dssl_sklearn.training.weights import prefixed, under_prefix

#: skorch's own batch records, averaged by skorch.
_SKORCH_KEYS = {"train_loss", "valid_loss", "train_batch_size", "valid_batch_size"}
#: Embeddings kept for the effective rank: enough to estimate it, few enough to be cheap.
_MAX_EMBEDDINGS = 1024
#: State of early stopping beside the best weights.
_STOP_STATE = ("misses_", "dynamic_threshold_", "best_epoch_")
#: Attributes of early stopping that hold the best weights -> prefix of their names in a file.
_BEST_WEIGHTS = {"best_model_weights_": "best_module.", "best_criterion_": "best_criterion."}


def copy_callbacks(callbacks: Sequence[Any]) -> list[Any]:
    """Check and copy the user's callbacks: skorch initializes instances, fit must not change them.

    Parameters
    ----------
    callbacks : sequence
        Callbacks, plain or as ``(name, callback)``.

    Returns
    -------
    list
        The same as new instances with the same parameters, see `renew_callbacks`.

    Raises
    ------
    InvalidInputError
        If an entry is no callback.
    """
    for entry in callbacks:
        callback = entry[1] if isinstance(entry, tuple) and len(entry) == 2 else entry
        is_class = isinstance(callback, type) and issubclass(callback, Callback)
        if not is_class and not isinstance(callback, Callback):
            raise InvalidInputError(
                f"callbacks holds {entry!r}, expected skorch callbacks or (name, callback) pairs"
            )
    return [renew_callbacks(entry) for entry in callbacks]


def renew_callbacks(callbacks: Any) -> Any:  # noqa: ANN401 - what users hand in, right or wrong
    """Make unused callbacks with the same parameters.

    The parameters themselves are not copied: the writer of TensorBoard and the run of a tracker
    cannot be, and a copy of them would not be what the user looks at.

    Parameters
    ----------
    callbacks : Callback, list, tuple or object
        A callback, or a nest of them. Anything else comes back as it is.

    Returns
    -------
    object
        Of the same form.
    """
    if isinstance(callbacks, list | tuple):
        return type(callbacks)(map(renew_callbacks, callbacks))
    if isinstance(callbacks, Callback):
        return type(callbacks)(**callbacks.get_params(deep=False))
    return callbacks


class TermLog(Callback):
    """Average every loss term and metric of the epoch, weighted by the crystals of each batch."""

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:  # noqa: ANN401
        """Record the averages under the names of the terms."""
        batches = net.history[-1]["batches"]
        names = {name for batch in batches for name in batch} - _SKORCH_KEYS
        names = {name for name in names if name.startswith(("train_", "valid_"))}
        for name in sorted(names):
            size = f"{name.split('_', 1)[0]}_batch_size"
            # A term is NaN where a batch had nothing to say on it, such as no known target.
            rows = [
                (batch[name], batch[size])
                for batch in batches
                if name in batch and not math.isnan(batch[name])
            ]
            total = sum(weight for _, weight in rows)
            mean = sum(v * w for v, w in rows) / total if total else math.nan
            net.history.record(name, mean)


class FreezeFirst(Callback):
    """Keep some parameters as they are in the first epochs, and the statistics of their modules.

    Unlike skorch's pair of callbacks it says anew at every epoch what is frozen, so that a training
    which goes on from a checkpoint has the same parameters frozen.

    Parameters
    ----------
    pattern : str
        Names of the parameters, and of running means and variances, as for ``fnmatch``.
    n_epochs : int
        Epochs in which they are frozen.
    """

    _statistics: list[tuple[Tensor, Tensor]]

    def __init__(self, pattern: str, n_epochs: int) -> None:
        self.pattern = pattern
        self.n_epochs = n_epochs

    def on_epoch_begin(self, net: NeuralNet, **kwargs: Any) -> None:  # noqa: ANN401
        """Freeze or release."""
        frozen = len(net.history) <= self.n_epochs
        for name, parameter in net.get_all_learnable_params():
            if fnmatch(name, self.pattern):
                parameter.requires_grad = not frozen
        buffers = net.module_.named_buffers() if frozen else ()
        self._statistics = [(b, b.clone()) for name, b in buffers if fnmatch(name, self.pattern)]

    def on_batch_end(self, net: NeuralNet, **kwargs: Any) -> None:  # noqa: ANN401
        """Take back what the batch did to running statistics: torch knows no frozen ones."""
        for buffer, before in self._statistics:
            buffer.copy_(before)

    def on_train_end(self, net: NeuralNet, **kwargs: Any) -> None:  # noqa: ANN401
        """Forget the statistics: they are in the network."""
        self._statistics = []


class StopEarly(EarlyStopping):
    """skorch's early stopping, which brings the heads of the best epoch back with the network.

    skorch's own restores the module only; the heads of pretraining live in the criterion.
    """

    best_criterion_: dict[str, Tensor] | None = None
    _before: dict[str, Any] | None = None

    def on_train_begin(self, net: NeuralNet, **kwargs: Any) -> None:  # noqa: ANN401
        """Forget the last training, or go on where `resume` left it."""
        super().on_train_begin(net, **kwargs)
        self.best_criterion_ = None
        if self._before is not None:
            self.__dict__.update(self._before)
            self._before = None

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """What an interrupted training needs: plain values, and the weights of the best epoch."""
        values = {name: getattr(self, name) for name in _STOP_STATE}
        tensors: dict[str, Tensor] = {}
        for name, prefix in _BEST_WEIGHTS.items():
            tensors |= prefixed(prefix, getattr(self, name) or {})
        return values, tensors

    def resume(self, values: dict[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Begin the next training with what `state` returned.

        Raises
        ------
        KeyError
            If a value is missing.
        """
        before = {name: values[name] for name in _STOP_STATE}
        # Infinite before the first epoch that counts, which JSON does not know.
        if before["dynamic_threshold_"] is None:
            before["dynamic_threshold_"] = math.inf
        for name, prefix in _BEST_WEIGHTS.items():
            before[name] = under_prefix(tensors, prefix) or None
        self._before = before

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:  # noqa: ANN401
        """Keep the criterion of an epoch that is the best so far."""
        super().on_epoch_end(net, **kwargs)
        if self.misses_ == 0:
            self.best_criterion_ = copy.deepcopy(net.criterion_.state_dict())

    def on_train_end(self, net: NeuralNet, **kwargs: Any) -> None:  # noqa: ANN401
        """Go back to the best epoch."""
        super().on_train_end(net, **kwargs)
        if self.best_criterion_ is not None:
            net.criterion_.load_state_dict(self.best_criterion_)

    def __getstate__(self) -> dict[str, Any]:
        # As skorch does with the module: a pickle needs the weights once.
        return {**super().__getstate__(), "best_criterion_": None}


class EmbeddingRank(Callback):
    """Effective rank of the embeddings of the first view, of validation where there is one.

    A rank near 1 says that pretraining made all crystals alike (collapse).
    """

    def on_epoch_begin(self, net: NeuralNet, **kwargs: Any) -> None:  # noqa: ANN401
        """Forget the embeddings of the last epoch."""
        self.embeddings_: dict[bool, list[Tensor]] = {True: [], False: []}

    def on_batch_end(
        self,
        net: NeuralNet,
        batch: Any = None,  # noqa: ANN401
        training: bool = False,  # noqa: FBT001, FBT002 - skorch's signature
        y_pred: EncodedBatch | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        """Keep some embeddings."""
        kept = self.embeddings_[training]
        if y_pred is not None and sum(map(len, kept)) < _MAX_EMBEDDINGS:
            kept.append(next(iter(y_pred.views.values())).crystals.detach())

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:  # noqa: ANN401
        """Record the effective rank."""
        kept = self.embeddings_[False] or self.embeddings_[True]
        if kept:
            net.history.record("effective_rank", effective_rank(torch.cat(kept)))
        self.embeddings_ = {True: [], False: []}


class Progress(Callback):
    """One bar over all epochs that moves with every batch and shows the losses.

    Parameters
    ----------
    description : str
        What is being trained.
    """

    def __init__(self, description: str) -> None:
        self.description = description

    def on_train_begin(self, net: NeuralNet, **kwargs: Any) -> None:  # noqa: ANN401
        """Open the bar."""
        self.bar_ = tqdm(
            total=net.max_epochs,
            desc=self.description,
            unit="epoch",
            disable=not net.writes_files,
            bar_format="{desc}: {percentage:3.0f}%|{bar}| {n:.1f}/{total} epochs "
            "[{elapsed}<{remaining}{postfix}]",
        )
        self.n_done_ = 0

    def on_epoch_begin(self, net: NeuralNet, dataset_train: Any = None, **kwargs: Any) -> None:  # noqa: ANN401
        """Learn how many batches an epoch has."""
        self.n_batches_ = max(1, -(-len(dataset_train) // net.batch_size))

    def on_batch_end(self, net: NeuralNet, training: bool = False, **kwargs: Any) -> None:  # noqa: ANN401, FBT001, FBT002
        """Move the bar by one batch, short of the end of the epoch."""
        if training and self.bar_.n + 1 / self.n_batches_ < self.n_done_ + 1:
            self.bar_.update(1 / self.n_batches_)

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:  # noqa: ANN401
        """Complete the epoch and show its losses."""
        self.n_done_ += 1
        self.bar_.update(self.n_done_ - self.bar_.n)
        last = net.history[-1]
        shown = {name: last[name] for name in ("train_loss", "valid_loss") if name in last}
        self.bar_.set_postfix({name: f"{value:.4f}" for name, value in shown.items()})

    def on_train_end(self, net: NeuralNet, **kwargs: Any) -> None:  # noqa: ANN401
        """Close the bar."""
        self.bar_.close()

    def __getstate__(self) -> dict[str, Any]:
        # A bar holds the terminal's stream and cannot travel to another process.
        return {k: v for k, v in self.__dict__.items() if k != "bar_"}
