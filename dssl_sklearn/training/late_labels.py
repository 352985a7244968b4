"""Labels that join a training late, and before that show how well the network predicts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skorch import NeuralNet
from skorch.callbacks import Callback
from skorch.history import History

from dssl_sklearn.training.data import CrystalDataset

#: Part of the epochs in which they are missing: late enough that the network predicts nearly as
#: well as at the end, early enough that it learns them, too.
_MISSING = 0.7
#: Name in the history, with a number behind it if there are several.
_KERNEL_SHARE = "kernel_share"


class LateLabels(Callback):
    """Keep labels from the network for seven tenths of the epochs, then judge and release them.

    They have weight 0 until then. Held out for good, they would be lost for the network; within
    the training, each of them would be one that it has seen. What came of the judgement is in the
    history, where a training that goes on from a checkpoint finds it.

    Parameters
    ----------
    rows : ndarray of shape (n_late,), int64
        Positions in the data set.
    judge : callable
        From predictions for them, shape (n_late, n_members, n_outputs), to shares.
    before : sequence of float
        Shares until then.
    """

    def __init__(
        self,
        rows: NDArray[np.int64],
        judge: Callable[[NDArray[np.float64]], NDArray[np.float64]],
        before: Sequence[float],
    ) -> None:
        self.rows = rows
        self.judge = judge
        self.before = before

    def on_train_begin(
        self,
        net: NeuralNet,
        X: CrystalDataset,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        """Hide the labels, if this training does not go on from an epoch that had them."""
        self.joining_ = int(_MISSING * (len(net.history) + net.max_epochs))
        self.dataset_, self.weight_ = X, X.targets["weight"]
        if len(net.history) < self.joining_:
            hidden = self.weight_.clone()
            hidden[self.rows] = 0
            X.targets["weight"] = hidden

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:  # noqa: ANN401
        """Judge and release them when their time has come."""
        epoch = len(net.history)
        shares = list(self.before)
        if epoch > self.joining_:
            shares = found_shares(net.history[:-1], len(shares))
        elif epoch == self.joining_:
            outputs = net.forward(CrystalDataset(self.dataset_.graphs.take(self.rows)))
            shares = self.judge(outputs.double().numpy()).tolist()
            self.dataset_.targets["weight"] = self.weight_
        for name, share in zip(_names(len(shares)), shares, strict=True):
            net.history.record(name, share)

    def on_train_end(self, net: NeuralNet, **kwargs: Any) -> None:  # noqa: ANN401
        """Let go of the data, which a pickle of the net should not hold."""
        self.dataset_.targets["weight"] = self.weight_
        del self.dataset_, self.weight_


def found_shares(history: History, n_shares: int) -> list[float]:
    """Shares of the last epoch of a training with late labels."""
    return [history[-1][name] for name in _names(n_shares)]


def _names(n_shares: int) -> list[str]:
    return [_KERNEL_SHARE] if n_shares == 1 else [f"{_KERNEL_SHARE}_{k}" for k in range(n_shares)]
