"""Training stops when numbers are no longer finite, says which, and keeps the last good weights."""

import math
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback
from skorch.history import History

from dssl_sklearn import DSSLClassifier, DSSLPretrainer, DSSLRegressor
from dssl_sklearn.exceptions import TrainingError
from dssl_sklearn.training.finite import FiniteLoss
from dssl_sklearn.training.weights import read_weights


class Spoil(Callback):
    """Makes something infinite in one epoch: the gradient, the weights, or what the loss reads."""

    def __init__(self, epoch, what):
        self.epoch = epoch
        self.what = what

    def on_batch_begin(self, net, batch=None, training=False, **kwargs):  # noqa: FBT002 - of skorch
        if len(net.history) != self.epoch:
            return
        if self.what == "output" and training:
            list(net.module_.head.parameters())[-1].data[:] = torch.nan
        if self.what == "valid" and not training:
            list(net.module_.head.parameters())[-1].data[:] = torch.nan
        if self.what == "gradient" and training:
            next(net.module_.head.parameters()).register_hook(lambda grad: grad * torch.inf)
        if self.what == "target" and training:
            batch[1]["y"][0] = torch.inf

    def on_batch_end(self, net, training=False, **kwargs):  # noqa: FBT002 - of skorch
        if len(net.history) == self.epoch and self.what == "weights" and training:
            list(net.module_.head.parameters())[-1].data[:] = torch.inf


CAUSES = {
    "output": r"batch 1: the network's output is not finite for \d+ of \d+ crystals",
    "valid": "the network's output is not finite",
    "target": "batch 1: the targets 'y' of the batch are infinite",
    "gradient": "batch 1: the gradient of 'head.*' is not finite, the loss is",
    "weights": "the weights 'head.*' are no longer finite|the network's output",
}


@pytest.fixture
def data(elastic):
    return elastic[0][:16], np.array(elastic[1][:16])


@pytest.mark.parametrize("what", CAUSES)
@pytest.mark.parametrize("folder", [False, True])
def test_the_cause_is_named_and_the_last_good_weights_kept(what, folder, tiny, data, tmp_path):
    params = {**tiny, "schedule": "constant", "early_stopping": True, "validation_fraction": 0.3}
    good = DSSLRegressor(**{**params, "max_epochs": 2, "n_iter_no_change": 9}).fit(*data)
    params |= {"max_epochs": 4, "checkpoint_dir": tmp_path if folder else None}
    model = DSSLRegressor(**params, callbacks=[Spoil(3, what)])
    with pytest.raises(
        TrainingError, match=rf"stopped in epoch 3, .*({CAUSES[what]}).*lower `lr`"
    ) as e:
        model.fit(*data)
    assert not hasattr(model, "net_")
    kept = e.value.estimator
    assert len(kept.history_) == 2
    assert np.isfinite(kept.predict(data[0])).all()
    if good.history_[-1, "valid_loss"] < good.history_[-2, "valid_loss"]:
        np.testing.assert_array_equal(kept.predict(data[0]), good.predict(data[0]))
    kept.save(tmp_path / "kept")
    again = DSSLRegressor.load(tmp_path / "kept")
    np.testing.assert_array_equal(again.predict(data[0]), kept.predict(data[0]))
    if folder:
        (path,) = tmp_path.glob("*.safetensors")
        assert len(read_weights(path)[1]["history"]) == 2


def test_a_failed_first_epoch_leaves_nothing(tiny, data):
    model = DSSLRegressor(**tiny, callbacks=[Spoil(1, "output")])
    with pytest.raises(TrainingError, match=r"epoch 1, batch 1.*\(None if") as caught:
        model.fit(*data)
    assert caught.value.estimator is None


def test_a_failed_fit_leaves_the_last_one_whole(tiny, data):
    model = DSSLClassifier(**tiny).fit(data[0], data[1] > 2)
    before = model.predict_proba(data[0])
    model.set_params(callbacks=[Spoil(2, "output")])
    with pytest.raises(TrainingError) as caught:
        model.fit(data[0], np.where(data[1] > 2, "a", "b"))
    np.testing.assert_array_equal(model.predict_proba(data[0]), before)
    assert caught.value.estimator.classes_.tolist() == ["a", "b"]
    assert pickle.loads(pickle.dumps(caught.value)).estimator.classes_.tolist() == ["a", "b"]


class SpoilHead(Callback):
    def on_batch_begin(self, net, **kwargs):
        if len(net.history) == 2:
            for parameter in net.criterion_.heads["mask"].parameters():
                parameter.data[:] = torch.nan


def test_the_loss_term_of_a_pretraining_is_named(tiny, data):
    model = DSSLPretrainer(**tiny, objectives=["mask", "denoise"], callbacks=[SpoilHead()])
    cause = r"epoch 2, batch 1: the train loss term 'mask' became nan \(finite: \{'denoise': \d"
    with pytest.raises(TrainingError, match=cause) as caught:
        model.fit(data[0])
    kept = caught.value.estimator
    assert isinstance(kept, DSSLPretrainer)
    assert np.isfinite(kept.transform(data[0])).all()
    assert len(kept.history_) == 1


def test_a_rate_that_is_far_too_high(tiny, data):
    params = {**tiny, "lr": 1e30, "max_epochs": 4, "schedule": "constant"}
    with pytest.raises(TrainingError, match="lower `lr`"):
        DSSLRegressor(**params).fit(*data)


def test_large_gradients_are_finite():
    # Their sum is not, at which the check has a second look.
    parts = {"large": torch.full((4,), 3e38), "wrong": torch.tensor([math.inf]), "none": None}
    assert not parts["large"].sum().isfinite()
    named = [(name, SimpleNamespace(grad=gradient)) for name, gradient in parts.items()]
    net = SimpleNamespace(history=History(), lr=1e-3)
    net.history.new_epoch()
    net.history.new_batch()
    check = FiniteLoss().on_grad_computed
    check(net, named[:1])
    check(net, named[2:])
    with pytest.raises(TrainingError, match="the gradient of 'wrong' is not finite"):
        check(net, named)


def test_the_pretrainer_of_what_is_kept(tiny, data):
    params = {**tiny, "max_epochs": 3}
    model = DSSLRegressor(**params, pretrained=DSSLPretrainer(**tiny)).fit(*data)
    before = model.pretrainer_
    model.set_params(callbacks=[Spoil(2, "gradient")])
    with pytest.raises(TrainingError) as caught:
        model.fit(*data)
    assert model.pretrainer_ is before
    assert isinstance(caught.value.estimator.pretrainer_, DSSLPretrainer)
    assert caught.value.estimator.pretrainer_ is not before
    with pytest.raises(TrainingError) as caught:
        model.set_params(pretrained=None).fit(*data)
    assert not hasattr(caught.value.estimator, "pretrainer_")
