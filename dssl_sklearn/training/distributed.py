"""Training in several processes, and in mixed precision, under Hugging Face accelerate.

Every process is handed all crystals and cuts the same batches. The costly part, the network, runs
on a share of each batch; its output is then gathered, and every process computes the loss of the
whole batch. So any loss, contrastive ones among them, sees all crystals of the batch, and a run in
several processes takes the steps of a run in one.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from skorch import NeuralNet
from skorch.hf import AccelerateMixin
from torch import Tensor

from dssl_sklearn._optional import import_optional
from dssl_sklearn.crystals.batch import CrystalBatch
from dssl_sklearn.exceptions import InvalidInputError
from dssl_sklearn.training.data import Batch, CrystalDataset
from dssl_sklearn.training.nets import CrystalNet, PretextNet, PropertyNet
from dssl_sklearn.training.sharing import BatchShare

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch.utils.data import DataLoader

_Net = TypeVar("_Net", bound=CrystalNet)


def accelerator_of(net_params: Mapping[str, Any] | None) -> Accelerator | None:
    """Get the accelerator among the arguments of a net.

    Parameters
    ----------
    net_params : mapping or None
        Arguments of a skorch net.

    Returns
    -------
    accelerate.Accelerator or None
        The entry ``"accelerator"``.

    Raises
    ------
    InvalidInputError
        If the entry is something else.
    MissingDependencyError
        If accelerate is not installed.
    """
    accelerator = (net_params or {}).get("accelerator")
    if accelerator is None:
        return None
    accelerate = import_optional("accelerate", "net_params['accelerator']", "accelerate")
    if not isinstance(accelerator, accelerate.Accelerator):
        raise InvalidInputError(
            "net_params['accelerator'] must be an accelerate.Accelerator, got "
            f"{type(accelerator).__name__}"
        )
    return accelerator


def device_of(accelerator: Accelerator) -> str:
    """Device of this process; "cpu" without the number that accelerate gives it."""
    device = accelerator.device
    return "cpu" if device.type == "cpu" else str(device)


def describable(net_params: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Arguments of a net, with what decides the result in place of an accelerator.

    The number of processes does not: a training may go on with another one.
    """
    accelerator = accelerator_of(net_params)
    if accelerator is None:
        return None if net_params is None else dict(net_params)
    settings = {
        "mixed_precision": accelerator.mixed_precision,
        "gradient_accumulation_steps": accelerator.gradient_accumulation_steps,
    }
    return {**(net_params or {}), "accelerator": settings}


def agreed_seed(seed: int, accelerator: Accelerator | None) -> int:
    """Seed that the first process drew, the same in all."""
    if accelerator is None or accelerator.num_processes == 1:
        return seed
    seeds = [seed]
    dist.broadcast_object_list(seeds, src=0, device=accelerator.device)
    return seeds[0]


class AcceleratedNet(AccelerateMixin, CrystalNet):
    """Trains under an accelerator: mixed precision, accumulated gradients, several processes.

    skorch's mixin runs the forward and backward pass. Modules are not wrapped for it
    (``DistributedDataParallel`` would rename the weights, which freezing, learning rates of parts
    and checkpoints know by name); gradients are averaged here, in one message. Outside of a
    training the net is like any other: each process predicts and scores for itself.

    Parameters
    ----------
    *args, **kwargs
        As for `CrystalNet`.
    accelerator : accelerate.Accelerator
        Says where to compute and with how many processes.
    """

    # What skorch and its mixin set.
    _wrapped_with_accelerator: bool
    optimizer_: Any
    #: Batches of this epoch that have not been trained on yet.
    _n_left: int

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        # With a sink of its own skorch prints the table of epochs even where nobody asked for it.
        sink = "auto" if kwargs.get("verbose", 1) else print
        kwargs.setdefault("callbacks__print_log__sink", sink)
        super().__init__(*args, **kwargs)

    # ---- what skorch's mixin does otherwise --------------------------------------------------

    def _validate_params(self) -> None:
        # Not the mixin's check: the device that we are given is the accelerator's.
        super(AccelerateMixin, self)._validate_params()

    def _initialize_accelerator(self) -> AcceleratedNet:
        # Only a training needs it; see on_train_begin.
        return self

    def _unwrap_accelerator(self) -> None:
        if self._wrapped_with_accelerator:
            self.optimizer_ = self.optimizer_.optimizer
            self._wrapped_with_accelerator = False

    def get_iterator(self, dataset: Any, training: bool = False) -> DataLoader[Batch]:  # noqa: ANN401, FBT001, FBT002
        """Loader of whole batches, the same in every process."""
        return super(AccelerateMixin, self).get_iterator(dataset, training)

    def evaluation_step(self, batch: Any, training: bool = False) -> Any:  # noqa: ANN401, FBT001, FBT002
        """Predict in this process."""
        return super(AccelerateMixin, self).evaluation_step(batch, training=training)

    def on_train_begin(
        self,
        net: NeuralNet,
        X: CrystalDataset | None = None,
        y: object = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        """Make sure that all processes begin alike."""
        from accelerate.optimizer import AcceleratedOptimizer

        super().on_train_begin(net, X=X, y=y, **kwargs)
        scaler = self.accelerator.scaler
        self.optimizer_ = AcceleratedOptimizer(self.optimizer_, False, scaler)  # noqa: FBT003
        self._wrapped_with_accelerator = True
        if self._n_ranks > 1 and X is not None:
            _check_same_crystals(X)
            for module in (self.module_, self.criterion_):
                for tensor in itertools.chain(module.parameters(), module.buffers()):
                    dist.broadcast(tensor.data, src=0)

    # ---- accumulated gradients ---------------------------------------------------------------

    def run_single_epoch(
        self,
        iterator: DataLoader[Batch],
        training: bool,  # noqa: FBT001 - skorch's signature
        *args: Any,  # noqa: ANN401
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        """Begin to count batches anew, so that a training can go on from the end of any epoch."""
        if training:
            self.accelerator.step = 0
            self._n_left = len(iterator)
        super().run_single_epoch(iterator, training, *args, **kwargs)

    def _step_optimizer(self, step_fn: Callable[[], Any]) -> None:
        self._n_left -= 1
        if self._n_left == 0:
            self.accelerator.sync_gradients = True
        super()._step_optimizer(step_fn)
        # Does nothing while gradients are accumulated.
        self.optimizer_.zero_grad()

    def _zero_grad_optimizer(self, set_to_none: bool | None = None) -> None:  # noqa: FBT001
        # skorch calls this before each batch, which would drop the gradients of the batches before.
        pass

    # ---- several processes -------------------------------------------------------------------

    @property
    def writes_files(self) -> bool:
        """Whether this is the first process."""
        return bool(self.accelerator.is_main_process)

    @property
    def _n_ranks(self) -> int:
        """Processes that share a batch: during a training, all."""
        return int(self.accelerator.num_processes) if self._wrapped_with_accelerator else 1

    def _share(self, batch: CrystalBatch) -> BatchShare:
        return BatchShare(batch, self.accelerator.process_index, self._n_ranks)

    def train_step_single(self, batch: Batch, **fit_params: Any) -> dict[str, Any]:  # noqa: ANN401
        """Loss and gradients of one batch, the same in all processes."""
        step: dict[str, Any] = super().train_step_single(batch, **fit_params)
        if self._n_ranks > 1:
            if self.accelerator.sync_gradients:
                _average_gradients(p for _, p in self.get_all_learnable_params())
            step["loss"] = _average(step["loss"].detach())
        return step

    def validation_step(self, batch: Batch, **fit_params: Any) -> dict[str, Any]:  # noqa: ANN401
        """Loss of one batch, the same in all processes."""
        step: dict[str, Any] = super().validation_step(batch, **fit_params)
        if self._n_ranks > 1:
            step["loss"] = _average(step["loss"])
        return step


class AcceleratedPretextNet(AcceleratedNet, PretextNet):
    """Pretraining under an accelerator."""

    def encode_views(self, batches: Sequence[CrystalBatch]) -> list[tuple[Tensor, Tensor]]:
        """Encode this process's share of every view, and get those of the others."""
        if self._n_ranks == 1:
            return super().encode_views(batches)
        share = self._share(batches[0])
        encoded = super().encode_views([share.cut(batch) for batch in batches])
        return [(share.gather_sites(s), share.gather_crystals(c)) for s, c in encoded]


class AcceleratedPropertyNet(AcceleratedNet, PropertyNet):
    """Fine-tuning under an accelerator."""

    def infer(self, x: CrystalBatch, **fit_params: Any) -> Tensor:  # noqa: ANN401
        """Predict this process's share of the batch, and get those of the others."""
        if self._n_ranks == 1:
            return super().infer(x, **fit_params)  # type: ignore[no-any-return]
        share = self._share(x)
        return share.gather_crystals(super().infer(share.cut(x), **fit_params))


_ACCELERATED: dict[type[CrystalNet], Any] = {
    PretextNet: AcceleratedPretextNet,
    PropertyNet: AcceleratedPropertyNet,
}


def net_class(plain: type[_Net], net_params: Mapping[str, Any] | None) -> type[_Net]:
    """Class of net for these arguments: the plain one, or its twin that takes an accelerator."""
    if accelerator_of(net_params) is None:
        return plain
    accelerated: type[_Net] = _ACCELERATED[plain]
    return accelerated


def _average(value: Tensor) -> Tensor:
    value = value.clone()
    dist.all_reduce(value)
    return value / dist.get_world_size()


def _average_gradients(parameters: Any) -> None:  # noqa: ANN401 - any iterable of parameters
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = _average(torch.cat([grad.flatten() for grad in gradients]))
    first = 0
    for grad in gradients:
        grad.copy_(flat[first : first + grad.numel()].view_as(grad))
        first += grad.numel()


def _check_same_crystals(dataset: CrystalDataset) -> None:
    """Refuse crystals that are spread over the processes: each must hold all of them."""
    graphs = dataset.graphs
    targets = [np.nan_to_num(t.double().numpy()).sum() for t in dataset.targets.values()]
    mine = (len(graphs), int(graphs.n_edges.sum()), float(np.sum(targets)))
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, mine)
    for rank, other in enumerate(found):
        if other != found[0]:
            raise InvalidInputError(
                f"process {rank} was given other crystals or targets ({other[0]} crystals, "
                f"{other[1]} edges) than process 0 ({found[0][0]}, {found[0][1]}); give all "
                "processes the same, each batch is shared out in the training"
            )
