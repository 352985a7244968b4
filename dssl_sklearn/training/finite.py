"""Training stops, with the cause named, as soon as a number of it is no longer one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

import torch
from skorch import NeuralNet
from skorch.callbacks import Callback
from torch import Tensor

from dssl_sklearn.exceptions import TrainingError
from dssl_sklearn.training.data import Batch


class FiniteLoss(Callback):
    """Stop before a loss or gradient that is NaN or infinite gets into the weights.

    Gradients are looked at before the optimizer's step, validation losses after each batch, and
    the weights at the end of each epoch, before a checkpoint is written.
    """

    good_: tuple[dict[str, Tensor], dict[str, Tensor]] | None = None

    def on_train_begin(self, net: NeuralNet, **kwargs: Any) -> None:  # noqa: ANN401
        """Forget the last training; one that goes on has good weights to begin with."""
        self.good_ = _copy_of_weights(net) if len(net.history) else None

    def on_grad_computed(
        self,
        net: NeuralNet,
        named_parameters: Iterable[tuple[str, Tensor]] = (),
        batch: Batch | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        """Raise if a gradient is not finite."""
        accelerator = getattr(net, "accelerator", None)
        if accelerator is not None and (accelerator.scaler or not accelerator.sync_gradients):
            # A scaler meets infinite gradients now and then, and skips their step by itself.
            # Gradients that are still accumulated are a process's own: if one process stopped for
            # them, the others would wait for it forever.
            return
        gradients = {name: p.grad for name, p in named_parameters if p.grad is not None}
        wrong = _not_finite(gradients)
        if wrong:
            reason = _reason(net, batch, "train")
            _stop(net, reason or f"the gradient of {_listed(wrong)} is not finite, the loss is")

    def on_batch_end(
        self,
        net: NeuralNet,
        batch: Batch | None = None,
        training: bool = False,  # noqa: FBT001, FBT002 - skorch's signature
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        """Raise if the loss is NaN or infinite."""
        part = "train" if training else "valid"
        value = net.history[-1, "batches", -1].get(f"{part}_loss", 0.0)
        if not math.isfinite(value):
            _stop(net, _reason(net, batch, part) or f"the {part} loss became {value}")

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:  # noqa: ANN401
        """Raise if the last step spoiled the weights, else keep a copy of them."""
        for state in (
            dict(net.module_.named_parameters()),
            dict(net.criterion_.named_parameters()),
        ):
            if wrong := _not_finite(state):
                _stop(net, f"the weights {_listed(wrong)} are no longer finite")
        self.good_ = _copy_of_weights(net)

    def on_train_end(self, net: NeuralNet, **kwargs: Any) -> None:  # noqa: ANN401
        """Let go of the copy."""
        self.good_ = None

    def restore(self, net: NeuralNet) -> bool:
        """Take a net that failed back to its last good epoch.

        Returns
        -------
        bool
            Whether there was one.
        """
        if self.good_ is None:
            return False
        if hasattr(net, "_unwrap_accelerator"):
            # A training that ends well does this itself. The net is to predict in its own process.
            net._unwrap_accelerator()  # noqa: SLF001 - skorch has no public way
        net.module_.load_state_dict(self.good_[0])
        net.criterion_.load_state_dict(self.good_[1])
        # The failed epoch has no number yet, which skorch gives at its end.
        while len(net.history) and "train_loss" not in net.history[-1]:
            del net.history[-1]
        return True

    def __getstate__(self) -> dict[str, Any]:
        # A pickle needs the weights once.
        return {**self.__dict__, "good_": None}


def _copy_of_weights(net: NeuralNet) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    module, criterion = (
        {name: value.detach().clone() for name, value in part.state_dict().items()}
        for part in (net.module_, net.criterion_)
    )
    return module, criterion


def _not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Names of the tensors with an entry that is NaN or infinite, found in one go."""
    values = [tensor.detach() for tensor in tensors.values()]
    # A sum is finite only if all its entries are, and ten times as fast as looking at each.
    if not values or bool(torch.stack([v.sum().float() for v in values]).isfinite().all()):
        return []
    finite = [bool(value.isfinite().all()) for value in values]
    return [name for name, is_finite in zip(tensors, finite, strict=True) if not is_finite]


def _reason(net: NeuralNet, batch: Batch | None, part: str) -> str:
    """What is not finite on the way to the loss, empty if nothing is."""
    record = net.history[-1, "batches", -1]
    ending = "_loss"
    terms = {
        name.removeprefix(f"{part}_").removesuffix(ending): value
        for name, value in record.items()
        if name.startswith(f"{part}_") and name.endswith(ending) and name != f"{part}_loss"
    }
    wrong = {name: value for name, value in terms.items() if not math.isfinite(value)}
    if wrong:
        rest = {name: round(value, 6) for name, value in terms.items() if name not in wrong}
        shown = ", ".join(f"{name!r} became {value}" for name, value in wrong.items())
        return f"the {part} loss term {shown} (finite: {rest or 'none'})"
    if batch is None or terms:
        return ""
    crystals, targets = batch
    for name, values in targets.items():
        # NaN marks a missing entry.
        if values.is_floating_point() and bool(values.isinf().any()):
            return f"the targets {name!r} of the batch are infinite"
    with torch.no_grad():
        output = net.infer(crystals)
        if not bool(output.isfinite().all()):
            n_wrong = int((~output.isfinite()).flatten(1).any(dim=1).sum())
            return f"the network's output is not finite for {n_wrong} of {len(output)} crystals"
        loss = float(net.get_loss(output, targets, X=crystals, training=part == "train"))
    return "" if math.isfinite(loss) else f"the {part} loss became {loss} from finite outputs"


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{names[0]!r}{more}"


def _stop(net: NeuralNet, cause: str) -> NoReturn:
    n_batches = len(net.history[-1]["batches"])
    raise TrainingError(
        f"training stopped in epoch {len(net.history)}, batch {n_batches}: {cause}; lower `lr` "
        f"(now {net.lr}) or look for outliers in the targets. The `estimator` of this error has "
        "the weights of the last good epoch (None if there was none)"
    )
