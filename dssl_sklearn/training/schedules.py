"""Learning rate schedules."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

from skorch import NeuralNet
from skorch.callbacks import Callback
from torch.optim.lr_scheduler import ReduceLROnPlateau

ScheduleName = Literal["cosine", "plateau", "constant"]

#: Share of the steps of a cosine schedule in which the rate rises.
_WARMUP = 0.05


def cosine_decay(step: int, n_steps: int) -> float:
    """Factor of the rate at a step, counted from 0: linear warm-up, then half a cosine to zero.

    Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts" (ICLR 2017),
    eq. 5, without restarts.
    """
    n_warmup = max(1, round(_WARMUP * n_steps))
    if step < n_warmup:
        return (step + 1) / n_warmup
    progress = (step - n_warmup) / max(1, n_steps - n_warmup)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


class CosineSchedule(Callback):
    """Set the learning rate before every training step.

    Parameters
    ----------
    n_steps : int
        Steps in all.
    first_step : int, default=0
        Step to begin with, above 0 where a training goes on.
    """

    def __init__(self, n_steps: int, first_step: int = 0) -> None:
        self.n_steps = n_steps
        self.first_step = first_step

    def on_train_begin(self, net: NeuralNet, **kwargs: Any) -> None:  # noqa: ANN401
        """Learn the full rate of every group of parameters."""
        self.rates_ = [group["lr"] for group in net.optimizer_.param_groups]
        self.step_ = self.first_step

    def on_batch_begin(self, net: NeuralNet, training: bool = False, **kwargs: Any) -> None:  # noqa: ANN401, FBT001, FBT002
        """Set the rates of this step."""
        if not training:
            return
        factor = cosine_decay(self.step_, self.n_steps)
        for group, rate in zip(net.optimizer_.param_groups, self.rates_, strict=True):
            group["lr"] = rate * factor
        self.step_ += 1


class PlateauSchedule(Callback):
    """Take 0.8 times the rate when the training loss has not fallen for 10 epochs (the paper's).

    Parameters
    ----------
    losses_before : sequence of float, default=()
        Training losses of the epochs before, where a training goes on.
    """

    def __init__(self, losses_before: Sequence[float] = ()) -> None:
        self.losses_before = losses_before

    def on_train_begin(self, net: NeuralNet, **kwargs: Any) -> None:  # noqa: ANN401
        """Begin with the full rates, and do again what happened before."""
        self.scheduler_ = ReduceLROnPlateau(
            net.optimizer_, mode="min", factor=0.8, patience=10, threshold=2e-4, min_lr=1e-5
        )
        for loss in self.losses_before:
            self.scheduler_.step(loss)

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:  # noqa: ANN401
        """Look at the loss of the epoch."""
        self.scheduler_.step(net.history[-1, "train_loss"])

    def on_train_end(self, net: NeuralNet, **kwargs: Any) -> None:  # noqa: ANN401
        """Let go of the optimizer, which need not be pickled twice."""
        del self.scheduler_


def make_schedule(schedule: ScheduleName, n_steps: int) -> Callback | None:
    """Build the skorch callback of a schedule by name.

    Parameters
    ----------
    schedule : {"cosine", "plateau", "constant"}
        "cosine" goes down to zero over the whole training; "plateau" takes 0.8 times the rate
        when the training loss has not fallen for 10 epochs (the paper's).
    n_steps : int
        Batches in all epochs together.

    Returns
    -------
    Callback or None
        None for a constant rate.
    """
    if schedule == "cosine":
        return CosineSchedule(n_steps)
    if schedule == "plateau":
        return PlateauSchedule()
    return None
