"""Ctrl-C reaches the user, and callbacks may still end a training."""

import os
import signal

import pytest
import torch
from skorch.callbacks import Callback, EarlyStopping

from dssl_sklearn import DSSLClassifier, DSSLPretrainer, DSSLRegressor

CLASSES = [DSSLPretrainer, DSSLRegressor, DSSLClassifier]


class CtrlC(Callback):
    """Sends the process what the keyboard sends, in the middle of an epoch."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_grad_computed(self, net, **kwargs):
        if len(net.history) == self.epoch:
            self.epoch = None
            os.kill(os.getpid(), signal.SIGINT)
            # Python hands the signal on a little later, here within torch's code.
            torch.zeros(1).add(1).tolist()


class Enough(Callback):
    """Ends the training the way skorch's callbacks do."""

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == 2:
            self.end()

    def end(self):
        raise KeyboardInterrupt


@pytest.fixture(autouse=True)
def _heard():
    """Jobs in the background of a shell are started with the signal of Ctrl-C ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def data(elastic):
    return elastic[0][:16], elastic[1][:16]


def targets(cls, y):
    return y > 2 if cls is DSSLClassifier else y


def weights(estimator):
    return [
        value.clone()
        for part in (estimator.net_.module_, estimator.net_.criterion_)
        for value in part.state_dict().values()
    ]


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("early_stopping", [False, True])
def test_ctrl_c_reaches_the_user(cls, early_stopping, tiny, data):
    X, y = data
    params = {**tiny, "early_stopping": early_stopping, "validation_fraction": 0.25}
    model = cls(**{**params, "max_epochs": 3, "callbacks": [CtrlC(2)]})
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, targets(cls, y))
    assert not hasattr(model, "net_")


@pytest.mark.parametrize("cls", CLASSES)
def test_the_checkpoint_is_kept(cls, tiny, data, tmp_path):
    X, y = data
    params = {**tiny, "max_epochs": 4}
    whole = cls(**params).fit(X, targets(cls, y))
    model = cls(**params, checkpoint_dir=tmp_path, callbacks=[CtrlC(3)])
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, targets(cls, y))
    assert len(list(tmp_path.iterdir())) == 1
    # Nothing is trained before epoch 3, or the callback would interrupt again.
    again = cls(**params, checkpoint_dir=tmp_path, callbacks=[CtrlC(1)])
    again.fit(X, targets(cls, y))
    assert all(map(torch.equal, weights(again), weights(whole)))


@pytest.mark.parametrize("folder", [False, True])
def test_a_callback_ends_the_training(folder, tiny, data, tmp_path):
    X, y = data
    params = {**tiny, "max_epochs": 5, "checkpoint_dir": tmp_path if folder else None}
    assert len(DSSLRegressor(**params, callbacks=[Enough()]).fit(X, y).history_) == 2
    # A rerun finds it ended.
    again = DSSLRegressor(**params, callbacks=[Enough(), CtrlC(1)] if folder else [Enough()])
    assert len(again.fit(X, y).history_) == 2


def test_early_stopping_of_skorch_ends_the_training(tiny, data):
    stop = EarlyStopping(monitor="train_loss", patience=1, threshold=1e9, sink=lambda _: None)
    model = DSSLRegressor(**{**tiny, "max_epochs": 5}, callbacks=[stop]).fit(*data)
    assert len(model.history_) == 2
