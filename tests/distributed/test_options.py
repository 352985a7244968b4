"""Mixed precision, compilation and accelerate in one process: the same results, near enough."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from skorch.callbacks import Callback

from dssl_sklearn import DSSLPretrainer, DSSLRegressor
from dssl_sklearn.exceptions import InvalidInputError, TrainingError


@pytest.fixture
def accelerator():
    """Make accelerators; each process has one set of settings, which is forgotten here."""
    accelerate = pytest.importorskip("accelerate")
    from accelerate.state import AcceleratorState

    def make(**settings):
        AcceleratorState._reset_state(reset_partial_state=True)
        return accelerate.Accelerator(cpu=True, **settings)

    yield make
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="module")
def crystals(elastic):
    return elastic[0][:16], elastic[1][:16]


OBJECTIVES = ["mask", "contrastive", "displacement"]


@pytest.fixture(scope="module")
def plain(tiny, crystals):
    """Pretrainer and regressor without any option."""
    X, y = crystals
    pretrainer = DSSLPretrainer(**tiny, objectives=OBJECTIVES).fit(X)
    return pretrainer, DSSLRegressor(**tiny, pretrained=pretrainer).fit(X, y)


def fit_both(tiny, crystals, **net_params):
    X, y = crystals
    pretrainer = DSSLPretrainer(**tiny, objectives=OBJECTIVES, net_params=net_params).fit(X)
    return pretrainer, DSSLRegressor(**tiny, pretrained=pretrainer, net_params=net_params).fit(X, y)


def assert_alike(found, expected, X, rtol, atol=0.0):
    for one, other in zip(found, expected, strict=True):
        losses = [estimator.history_[:, "train_loss"] for estimator in (one, other)]
        np.testing.assert_allclose(*losses, rtol=rtol)
    np.testing.assert_allclose(found[1].predict(X), expected[1].predict(X), rtol=rtol, atol=atol)


def test_an_accelerator_alone_changes_nothing(tiny, crystals, plain, accelerator, capfd):
    found = fit_both(tiny, crystals, accelerator=accelerator())
    assert not capfd.readouterr().out
    for one, other in zip(found, plain, strict=True):
        states = [estimator.net_.module_.state_dict() for estimator in (one, other)]
        assert all(torch.equal(a, b) for a, b in zip(*map(dict.values, states), strict=True))


def test_bfloat16_is_close(tiny, crystals, plain, accelerator):
    """Losses and predictions of two epochs within three percent of those in single precision."""
    found = fit_both(tiny, crystals, accelerator=accelerator(mixed_precision="bf16"))
    assert_alike(found, plain, crystals[0], rtol=0.03)
    weights = [e.net_.module_.state_dict() for e in (found[0], plain[0])]
    assert any(not torch.equal(a, b) for a, b in zip(*map(dict.values, weights), strict=True))
    assert all(weight.dtype == torch.float32 for weight in found[0].encoder_.parameters())


# What torch's tracer does while it looks at modules.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_a_compiled_network_gives_the_same(tiny, crystals, plain, tmp_path):
    """With the graphs that torch.compile captures; no C++ compiler takes part in the test."""
    found = fit_both(tiny, crystals, compile=True, compile__backend="aot_eager")
    assert_alike(found, plain, crystals[0], rtol=1e-4)
    module = found[1].net_.module_
    assert module._compiled_call_impl is not None
    assert module.state_dict().keys() == plain[1].net_.module_.state_dict().keys()
    found[1].save(tmp_path / "compiled.safetensors")
    for copy in (
        DSSLRegressor.load(tmp_path / "compiled.safetensors"),
        pickle.loads(pickle.dumps(found[1])),
    ):
        np.testing.assert_allclose(
            copy.predict(crystals[0]), found[1].predict(crystals[0]), rtol=1e-5
        )


def test_gradients_are_accumulated(tiny, crystals, accelerator):
    """A step for every two batches, and one for the batch that is left at the end of an epoch."""
    pretrainer = DSSLPretrainer(
        **{**tiny, "batch_size": 6},
        validation_fraction=0.0,
        net_params={"accelerator": accelerator(gradient_accumulation_steps=2)},
    ).fit(crystals[0])
    state = pretrainer.net_.optimizer_.state_dict()["state"]
    assert pretrainer.history_[:, "train_batch_count"] == [3, 3]
    assert {int(of_weight["step"]) for of_weight in state.values()} == {4}


def test_two_accumulated_batches_are_one_twice_as_large(tiny, crystals, accelerator):
    # Batches are cut by edges: of one crystal all have equally many.
    X, y = crystals[0][:1] * 8, np.exp(np.arange(8.0))
    params = {**tiny, "schedule": "constant"}
    whole = DSSLRegressor(**params).fit(X, y)
    net_params = {"accelerator": accelerator(gradient_accumulation_steps=2)}
    halves = DSSLRegressor(**{**params, "batch_size": 4}, net_params=net_params).fit(X, y)
    assert [len(m.history_[-1, "batches"]) for m in (whole, halves)] == [1, 2]
    for one, other in zip(*(m.net_.module_.parameters() for m in (whole, halves)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


class Infinite(Callback):
    """Makes the gradient infinite in one batch of the second epoch."""

    def __init__(self, batch):
        self.batch = batch

    def on_batch_begin(self, net, training=False, **kwargs):  # noqa: FBT002 - of skorch
        if training and len(net.history) == 2 and len(net.history[-1, "batches"]) == self.batch:
            handle = next(net.module_.head.parameters()).register_hook(self.spoil)
            self.handle = handle

    def spoil(self, grad):
        self.handle.remove()
        return grad * torch.inf


def test_infinite_gradients_are_left_to_a_scaler(tiny, crystals, accelerator):
    """It skips their step, where the training would stop without it."""
    scaled = accelerator()
    scaled.scaler = torch.amp.GradScaler("cpu")
    model = DSSLRegressor(
        **tiny, net_params={"accelerator": scaled}, callbacks=[Infinite(batch=1)]
    ).fit(*crystals)
    state = model.net_.optimizer_.state_dict()["state"]
    n_batches = sum(model.history_[:, "train_batch_count"])
    assert {int(of_weight["step"]) for of_weight in state.values()} == {n_batches - 1}
    assert np.isfinite(model.predict(crystals[0])).all()


def test_gradients_are_looked_at_when_they_are_complete(tiny, crystals, accelerator):
    """Two processes stop together: a part of a gradient is that of one process."""
    model = DSSLRegressor(
        **{**tiny, "batch_size": 4},
        net_params={"accelerator": accelerator(gradient_accumulation_steps=2)},
        callbacks=[Infinite(batch=1)],
    )
    with pytest.raises(TrainingError, match="epoch 2, batch 2: the gradient of") as caught:
        model.fit(*crystals)
    net = caught.value.estimator.net_
    assert isinstance(net.optimizer_, torch.optim.Optimizer)
    assert not net._wrapped_with_accelerator


def test_copies_share_the_accelerator(tiny, crystals, accelerator):
    the_one = accelerator()
    regressor = DSSLRegressor(
        **tiny, net_params={"accelerator": the_one, "optimizer__betas": (0.9, 0.98)}
    )
    copy = clone(regressor)
    assert copy.net_params == regressor.net_params
    assert copy.net_params is not regressor.net_params
    assert copy.net_params["accelerator"] is the_one
    fitted = copy.fit(*crystals)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict(crystals[0]), fitted.predict(crystals[0]))


def test_a_training_goes_on_from_its_checkpoint(tiny, crystals, accelerator, tmp_path):
    found = []
    for _ in range(2):
        net_params = {"accelerator": accelerator(mixed_precision="bf16")}
        pretrainer = DSSLPretrainer(**tiny, checkpoint_dir=tmp_path, net_params=net_params)
        found.append(pretrainer.fit(crystals[0]).transform(crystals[0]))
    np.testing.assert_array_equal(*found)
    assert len(list(tmp_path.iterdir())) == 1


def test_something_else_is_no_accelerator(tiny, crystals):
    pytest.importorskip("accelerate")
    with pytest.raises(InvalidInputError, match=r"must be an accelerate.Accelerator, got str"):
        DSSLPretrainer(**tiny, net_params={"accelerator": "cpu"}).fit(crystals[0])
