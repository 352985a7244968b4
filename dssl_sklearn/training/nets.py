"""The skorch nets: only seams are overridden, the training loop is skorch's for every task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dis import opmap
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skorch import NeuralNet
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from dssl_sklearn.crystals.batch import CrystalBatch
from dssl_sklearn.objectives.base import EncodedView
from dssl_sklearn.training.data import (
    Batch,
    CrystalDataset,
    EdgeBudgetSampler,
    edge_counts,
    prediction_batch_size,
)
from dssl_sklearn.views.view import ViewSpec, draw_views, stack_views

#: Seed of the views that validation and scoring look at, the same in every epoch.
_VALIDATION_SEED = 20_240_311


def _as_is(batch: Batch) -> Batch:
    """Collate nothing: the data set cuts whole batches."""
    return batch


class CrystalNet(NeuralNet):
    """What pretraining and fine-tuning share: batches of crystals and repeatable randomness.

    Parameters
    ----------
    *args, **kwargs
        As for ``skorch.NeuralNet``.
    seed : int, default=0
        All that is random in epoch ``e`` (order, views, dropout) follows from ``(seed, e)``, so
        that a run which goes on from epoch ``e`` repeats an uninterrupted one.
    """

    def __init__(self, *args: Any, seed: int = 0, **kwargs: Any) -> None:  # noqa: ANN401
        self.seed = seed
        super().__init__(*args, **kwargs)

    def get_dataset(self, X: CrystalDataset, y: object = None) -> CrystalDataset:
        """Take the data set as it is (skorch would index a list of structures as columns)."""
        return X

    def get_iterator(self, dataset: Dataset[Batch], training: bool = False) -> DataLoader[Batch]:  # noqa: FBT001, FBT002 - skorch's signature
        """Loader of batches with a bounded number of edges."""
        kwargs = self.get_params_for("iterator_train" if training else "iterator_valid")
        n_edges = edge_counts(dataset)
        usual = self.batch_size if training else self.evaluation_batch_size(n_edges)
        batch_size = kwargs.pop("batch_size", usual)
        sampler = EdgeBudgetSampler(n_edges, batch_size, shuffle=training)
        # By default the loader would draw a seed for its workers from torch's global generator.
        kwargs.setdefault("generator", torch.Generator())
        loader = self.iterator_train if training else self.iterator_valid
        return loader(dataset, batch_sampler=sampler, collate_fn=_as_is, **kwargs)  # type: ignore[no-any-return]

    def evaluation_batch_size(self, n_edges: NDArray[np.int64]) -> int:
        """Mean number of crystals in a batch of validation or prediction."""
        return int(self.batch_size)

    def on_epoch_begin(self, net: NeuralNet, **kwargs: Any) -> None:  # noqa: ANN401
        """Seed the epoch."""
        super().on_epoch_begin(net, **kwargs)
        torch.manual_seed((self.seed + 0x9E3779B97F4A7C15 * len(self.history)) % 2**63)

    def partial_fit(self, X: Any, y: object = None, **fit_params: Any) -> CrystalNet:  # noqa: ANN401
        """Train on; an interrupt of the user reaches the user.

        skorch takes every ``KeyboardInterrupt`` for the way in which its callbacks end a training,
        and would hand out a network that is trained in part as if nothing had happened.
        """
        try:
            super().partial_fit(X, y, **fit_params)
        except _InterruptedError as error:
            raise error.interrupt from None
        return self

    def fit_loop(self, X: Any, y: object = None, **fit_params: Any) -> CrystalNet:  # noqa: ANN401
        """Run the epochs, see `partial_fit`."""
        try:
            super().fit_loop(X, y, **fit_params)
        except KeyboardInterrupt as interrupt:
            if _is_of_callback(interrupt, self):
                raise
            raise _InterruptedError(interrupt) from interrupt
        return self

    @property
    def writes_files(self) -> bool:
        """Whether this process writes checkpoints and shows progress; of several only one does."""
        return True

    def torch_compile(self, module: nn.Module, name: str) -> nn.Module:
        """Compile the network in place, so that its weights keep their names.

        Batches differ in size, hence ``dynamic=True``; ``compile__...`` are `torch.compile`'s
        arguments. The criterion, small and full of Python, is left as it is.
        """
        if self.compile and name == "module":
            module.compile(**{"dynamic": True, **self.get_params_for("compile")})
        return module

    def infer(self, x: CrystalBatch, **fit_params: Any) -> Any:  # noqa: ANN401
        """Run the network on one batch."""
        return self.module_(x.to(self.device))


class _InterruptedError(BaseException):
    """Carries an interrupt past skorch."""

    def __init__(self, interrupt: KeyboardInterrupt) -> None:
        super().__init__()
        self.interrupt = interrupt


def _is_of_callback(interrupt: KeyboardInterrupt, net: NeuralNet) -> bool:
    """Whether a callback ended the training, by an interrupt that one of its methods raised."""
    trace = interrupt.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return False
    frame = trace.tb_frame
    # A signal arrives between any two instructions, also of a callback, but never at a `raise`.
    is_raise = frame.f_code.co_code[trace.tb_lasti] == opmap["RAISE_VARARGS"]
    return is_raise and any(frame.f_locals.get("self") is c for _, c in net.callbacks_)


@dataclass(frozen=True, eq=False)
class EncodedBatch:
    """A clean batch and its encoded views (output of the pretraining network).

    Attributes
    ----------
    clean : CrystalBatch
        Crystals as they are.
    views : mapping of ViewSpec to EncodedView
        What the network made of each view.
    """

    clean: CrystalBatch
    views: Mapping[ViewSpec, EncodedView]


class PretextNet(CrystalNet):
    """Net for pretraining: draws the views of each batch anew and sums the objectives.

    The module is a `CrystalEncoder`, the criterion a `WeightedObjectives` that holds the heads, so
    that skorch's one optimizer trains both.
    """

    def on_epoch_begin(self, net: NeuralNet, **kwargs: Any) -> None:  # noqa: ANN401
        """Seed the views: new ones for training, the same ones for validation."""
        super().on_epoch_begin(net, **kwargs)
        self.seed_views(torch.initial_seed())

    def seed_views(self, train_seed: int) -> None:
        """Set the generators of views, on the device."""
        self.train_generator_ = torch.Generator(self.device).manual_seed(train_seed)
        self.valid_generator_ = torch.Generator(self.device).manual_seed(_VALIDATION_SEED)

    def infer(self, x: CrystalBatch, **fit_params: Any) -> EncodedBatch:  # noqa: ANN401
        """Draw views, run the network once on all of them, and take its output apart."""
        clean = x.to(self.device)
        generator = self.train_generator_ if self.module_.training else self.valid_generator_
        views = draw_views(clean, self.criterion_.specs(), generator)
        encoded = self.encode_views([view.batch for view in views.values()])
        return EncodedBatch(
            clean,
            {
                spec: EncodedView(view, *part)
                for (spec, view), part in zip(views.items(), encoded, strict=True)
            },
        )

    def encode_views(self, batches: Sequence[CrystalBatch]) -> list[tuple[Tensor, Tensor]]:
        """Site and crystal embeddings of each view, from one pass through the network."""
        sites, crystals = self.module_(stack_views(batches))
        parts = zip(
            sites.split(batches[0].n_sites), crystals.split(batches[0].n_crystals), strict=True
        )
        return list(parts)

    def get_loss(
        self,
        y_pred: EncodedBatch,
        y_true: object,
        X: CrystalBatch | None = None,
        training: bool = False,  # noqa: FBT001, FBT002 - skorch's signature
    ) -> Tensor:
        """Weighted sum of the objectives; every term goes into the history."""
        total, terms = self.criterion_(y_pred.views, y_pred.clean)
        prefix = "train" if training else "valid"
        for name, value in terms.items():
            self.history.record_batch(f"{prefix}_{name}", float(value))
        return total  # type: ignore[no-any-return]

    def pretext_loss(self, dataset: CrystalDataset) -> float:
        """Mean loss of the objectives on crystals, with the views of validation."""
        self.seed_views(0)
        total = 0.0
        # The terms of each batch need a place in the history for a while.
        self.history.new_epoch()
        try:
            for batch in self.get_iterator(dataset, training=False):
                self.history.new_batch()
                total += float(self.validation_step(batch)["loss"]) * len(batch[0])
        finally:
            del self.history[-1]
        return total / len(dataset)

    def __getstate__(self) -> dict[str, Any]:
        # torch's generators cannot be pickled; every epoch makes new ones.
        state = super().__getstate__()
        return {k: v for k, v in state.items() if not k.endswith("_generator_")}


class PropertyNet(CrystalNet):
    """Net for fine-tuning: a `PropertyModel` under a loss of `training.losses`."""

    def evaluation_batch_size(self, n_edges: NDArray[np.int64]) -> int:
        """Small crystals come many at a time: unlike in pretraining, no loss depends on that."""
        return prediction_batch_size(n_edges, int(self.batch_size))

    def get_loss(
        self,
        y_pred: Tensor,
        y_true: Mapping[str, Tensor],
        X: CrystalBatch | None = None,
        training: bool = False,  # noqa: FBT001, FBT002 - skorch's signature
    ) -> Tensor:
        """Weighted loss over the targets that are known."""
        targets = {name: value.to(self.device) for name, value in y_true.items()}
        return self.criterion_(y_pred, **targets)  # type: ignore[no-any-return]
