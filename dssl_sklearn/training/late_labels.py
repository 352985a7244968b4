"""Labels that join a training late, and before that show how well the network predicts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skorch import NeuralNet
from skorch.callbacks import Callback
from skorch.history import History

from dssl_sklearn.training.data import CrystalDataset
from dssl_sklearn.training.nets import CrystalNet

#: Part of the epochs in which they are missing: late enough that the network predicts nearly as
#: well as at the end, early enough that it learns them, too.
_MISSING = 0.7


class LateLabels(Callback):
    """Keep labels from the network for seven tenths of the epochs, then judge and release them.

    They have weight 0 until then. Held out for good, they would be lost for the network; within
    the training, each of them would be one that it has seen. What came of the judgement is in the
    history, where a training that goes on from a checkpoint finds it.

    Parameters
    ----------
    name : str
        Of the values in the history, with a number behind it if there are several.
    rows : ndarray of shape (n_late,), int64
        Positions in the data set.
    judge : callable
        From predictions for them, shape (n_late, n_members, n_outputs), to values.
    before : sequence of float
        Values until then.
    """

    def __init__(
        self,
        name: str,
        rows: NDArray[np.int64],
        judge: Callable[[NDArray[np.float64]], NDArray[np.float64]],
        before: Sequence[float],
    ) -> None:
        self.name = name
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
        self.dataset_, self.values_ = X, list(self.before)
        self.are_hidden_ = len(net.history) < self.joining_
        if not self.are_hidden_:
            self.values_ = found_late(net.history, self.name) or self.values_
            return
        self.weight_ = X.targets["weight"]
        hidden = self.weight_.clone()
        hidden[self.rows] = 0
        if net.get_params_for("iterator_train").get("num_workers"):
            # The processes that load batches may keep the data set for all epochs.
            hidden.share_memory_()  # type: ignore[no-untyped-call]
        X.targets["weight"] = hidden

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:  # noqa: ANN401
        """Judge and release them when their time has come."""
        if self.are_hidden_ and len(net.history) >= self.joining_:
            self._release(net)
        self._record(net)

    def on_train_end(self, net: NeuralNet, **kwargs: Any) -> None:  # noqa: ANN401
        """Judge them now if another callback has ended the training before."""
        if self.are_hidden_ and len(net.history):
            self._release(net)
            self._record(net)

    def _release(self, net: NeuralNet) -> None:
        outputs = net.forward(CrystalDataset(self.dataset_.graphs.take(self.rows)))
        self.values_ = self.judge(outputs.double().numpy()).tolist()
        self.dataset_.targets["weight"].copy_(self.weight_)
        self.are_hidden_ = False

    def _record(self, net: NeuralNet) -> None:
        if len(self.values_) == 1:
            net.history.record(self.name, self.values_[0])
            return
        for k, value in enumerate(self.values_):
            net.history.record(f"{self.name}_{k}", value)


@contextmanager
def joining_late(net: CrystalNet, late: LateLabels | None) -> Iterator[None]:
    """Let labels join late in the training of this block, and forget them behind it.

    Parameters
    ----------
    net : CrystalNet
        Initialized.
    late : LateLabels or None
        None does nothing.
    """
    if late is None:
        yield
        return
    # Behind what ends a training whose weights are no longer finite.
    position = 1 + [name for name, _ in net.callbacks_].index("finite_loss")
    net.callbacks_.insert(position, ("late_labels", late))
    try:
        yield
    finally:
        net.callbacks_.remove(("late_labels", late))


def found_late(history: History, name: str) -> list[float] | None:
    """Values of the last epoch that has any; None without one."""
    for epoch in reversed(history):
        if name in epoch:
            return [epoch[name]]
        n_values = sum(key.startswith(f"{name}_") for key in epoch)
        if n_values:
            return [epoch[f"{name}_{k}"] for k in range(n_values)]
    return None
