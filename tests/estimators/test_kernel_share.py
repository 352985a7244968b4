"""The share of the Gaussian process that many labels choose."""

import pickle
from typing import ClassVar

import numpy as np
import pytest
from interruption import PowerCut
from skorch.callbacks import Callback

from dssl_sklearn import DSSLClassifier, DSSLRegressor
from dssl_sklearn.estimators import kernel_share
from dssl_sklearn.estimators.kernel_share import ClassShareChoice, TargetShareChoice
from dssl_sklearn.estimators.target_scale import TargetScale
from dssl_sklearn.exceptions import TrainingError, WeightsError
from dssl_sklearn.training.weights import read_weights, write_weights


class Weights(Callback):
    """What counts how much, in every epoch."""

    seen: ClassVar[list] = []

    def on_epoch_begin(self, net, dataset_train, **kwargs):
        self.seen.append(dataset_train.targets["weight"].numpy().copy())


@pytest.fixture
def few(monkeypatch):
    """Number of labels from which on they choose, fewer than usual."""
    monkeypatch.setattr(kernel_share, "MIN_CHOSEN", 41)
    monkeypatch.setattr(kernel_share, "_LATE", 0.3)
    return kernel_share.MIN_CHOSEN


@pytest.fixture
def data(elastic, few):
    assert few < 120
    return list(elastic[0][:120]), np.asarray(elastic[1][:120], float)


@pytest.fixture
def model(tiny):
    return DSSLRegressor(**{**tiny, "max_epochs": 10})


def choice(left_out, y, *, weight=None, power=1, usual=0.6):
    columns = np.asarray(y, float).reshape(len(y), -1)
    n = len(columns)
    weight = np.ones(n) if weight is None else weight
    zero, false = np.zeros(columns.shape[1]), np.zeros(columns.shape[1], dtype=bool)
    scale = TargetScale(false, zero, zero + 1, zero, zero, false, false, zero, zero)
    left_out = np.asarray(left_out, float).reshape(n, -1)
    usual = np.full(columns.shape[1], usual)
    chosen = TargetShareChoice(np.arange(n), left_out, columns, weight, usual, scale, power)
    return lambda network: chosen(np.asarray(network, float)[:, None])


class TestTargets:
    @pytest.fixture
    def truth(self):
        return np.random.default_rng(0).normal(size=(200, 1))

    @pytest.fixture
    def noise(self):
        return np.random.default_rng(1).normal(size=(200, 2))

    def test_the_better_one_gets_more(self, truth, noise):
        near, far = truth + 0.05 * noise[:, :1], truth + noise[:, 1:]
        assert choice(near, truth)(far) > 0.85
        assert choice(far, truth)(near) < 0.15

    def test_errors_that_cancel_are_shared_evenly(self, truth, noise):
        error = noise[:, :1]
        np.testing.assert_allclose(choice(truth + error, truth)(truth - error), [0.5])

    def test_few_labels_hardly_change_it(self, truth, noise):
        near, far = truth[:20] + 0.3 * noise[:20, :1], truth[:20] + 0.4 * noise[:20, 1:]
        few = choice(near, truth[:20], usual=0.2)(far)[0]
        many = choice(np.tile(near, (50, 1)), np.tile(truth[:20], (50, 1)), usual=0.2)
        assert 0.2 <= few < many(np.tile(far, (50, 1)))[0]

    def test_targets_choose_for_themselves(self, truth, noise):
        near, far = truth + 0.05 * noise[:, :1], truth + noise[:, 1:]
        y = np.hstack([truth, truth, truth])
        y[19:, 2] = np.nan
        shares = choice(np.hstack([near, far, far]), y)(np.hstack([far, near, near]))
        assert shares[0] > 0.85
        assert shares[1] < 0.15
        assert shares[2] == 0.6  # too few labels

    def test_a_target_of_the_network_alone_stays_with_it(self, truth):
        left_out = np.full_like(truth, np.nan)
        assert choice(left_out, truth, usual=0.0)(truth + 1) == 0

    def test_weights_count(self, truth, noise):
        left_out, network = truth + noise[:, :1], truth + noise[:, :1]
        left_out[:100], network[100:] = truth[:100], truth[100:]
        weight = np.where(np.arange(200) < 100, 1.0, 1e-3)
        assert choice(left_out, truth, weight=weight)(network) > 0.85
        assert choice(left_out, truth, weight=weight[::-1])(network) < 0.15

    def test_without_any_error_the_usual_one_stays(self, truth):
        right = np.zeros_like(truth)
        np.testing.assert_allclose(choice(right, right)(right), 0.6)

    def test_squared_errors_fear_large_ones(self, truth):
        # The process is right but for a few that it misses by far.
        left_out, network = truth.copy(), truth + 0.5
        left_out[:20] -= 3.0
        absolute, squared = (choice(left_out, truth, power=p)(network)[0] for p in (1, 2))
        assert squared < absolute - 0.2


class TestClasses:
    """Of a rare and a frequent class."""

    @pytest.fixture
    def y(self):
        return (np.random.default_rng(0).random(200) < 0.2).astype(int)

    def choose(self, process, network, y, n_heads=1):
        n = len(y)
        chosen = ClassShareChoice(
            np.arange(n), process, y, np.ones(n), np.full(1, 0.7), lambda outputs: outputs
        )
        members = np.repeat(np.log(network)[:, None], n_heads, axis=1)
        (share,) = chosen(members)
        return share

    def test_the_better_one_gets_more(self, y):
        sure = np.where(np.eye(2)[y] == 1, 0.9, 0.1)
        unsure = np.full((200, 2), 0.5)
        assert self.choose(sure, unsure, y, n_heads=3) > 0.85
        assert self.choose(unsure, sure, y) < 0.4

    def test_one_that_is_sure_and_wrong_gets_less(self, y):
        right = np.where(np.eye(2)[y] == 1, 0.9, 0.1)
        wrong = right.copy()
        wrong[:20] = np.where(np.eye(2)[1 - y[:20]] == 1, 1 - 1e-9, 1e-9)
        assert self.choose(wrong, right, y) < 0.4
        assert self.choose(right, wrong, y) > 0.85


def test_few_labels_take_the_usual_share(model, elastic):
    model.fit(elastic[0][:40], elastic[1][:40])
    assert model.kernel_.share.tolist() == [0.6]
    assert "kernel_share" not in model.history_[-1]


def test_many_labels_choose_it(model, data):
    model.fit(*data)
    shares = model.history_[:, "kernel_share"]
    assert shares[:6] == [0.6] * 6
    assert shares[6:] == [shares[-1]] * 4
    assert model.kernel_.share.tolist() == [shares[-1]]
    # A network that has hardly been trained is worse than the process.
    assert shares[-1] > 0.65


def test_each_target_chooses(model, data):
    X, y = data
    y = np.column_stack([y, np.random.default_rng(0).normal(size=len(y)), y])
    y[30:, 2] = np.nan
    model.fit(X, y)
    last = [model.history_[-1][f"kernel_share_{k}"] for k in range(3)]
    assert model.kernel_.share.tolist() == last
    assert last[0] > 0.65
    assert last[2] == 0.6


@pytest.mark.parametrize(
    "params", [{"kernel_share": 0.3}, {"early_stopping": True}, {"max_epochs": 1}]
)
def test_is_not_chosen(model, data, params):
    model.set_params(**params).fit(*data)
    assert model.kernel_.share.tolist() == [params.get("kernel_share", 0.6)]
    assert "kernel_share" not in model.history_[-1]


def test_what_chooses_joins_late(model, data):
    Weights.seen = []
    weight = np.linspace(0.5, 1.5, 120)
    model.set_params(callbacks=[Weights]).fit(*data, sample_weight=weight)
    early, late = Weights.seen[:7], Weights.seen[7:]
    hidden = early[0] == 0
    assert hidden.sum() == 36
    for seen in early:
        np.testing.assert_allclose(seen, np.where(hidden, 0, weight / weight.mean()), rtol=1e-6)
    for seen in late:
        np.testing.assert_allclose(seen, weight / weight.mean(), rtol=1e-6)


def test_a_classifier_chooses(tiny, data):
    X, y = data[0], np.where(data[1] > 2, "stiff", "soft")
    model = DSSLClassifier(**{**tiny, "max_epochs": 10}).fit(X, y)
    shares = model.history_[:, "kernel_share"]
    assert shares[:6] == [0.7] * 6
    assert shares[6:] == [shares[-1]] * 4
    assert model.kernel_.share.tolist() == [shares[-1]] * 2
    assert shares[-1] > 0.7
    fixed = DSSLClassifier(**{**tiny, "max_epochs": 10}, kernel_share=0.7).fit(X, y)
    assert "kernel_share" not in fixed.history_[-1]


@pytest.mark.parametrize("epochs", [(3, 5), (6,), (7,), (9,)])
def test_an_interrupted_training_chooses_the_same(model, data, tmp_path, epochs):
    whole = model.fit(*data)
    again = DSSLRegressor(**{**model.get_params(), "checkpoint_dir": tmp_path})
    for epoch in epochs:
        again.set_params(callbacks=[PowerCut(epoch)])
        with pytest.raises(OSError, match="power cut"):
            again.fit(*data)
    again.set_params(callbacks=None).fit(*data)
    assert again.history_[:, "kernel_share"] == whole.history_[:, "kernel_share"]
    assert again.predict(data[0]).tolist() == whole.predict(data[0]).tolist()
    again.set_params(callbacks=[PowerCut(0)]).fit(*data)  # trains nothing
    assert again.predict(data[0]).tolist() == whole.predict(data[0]).tolist()


def test_files_and_pickles_keep_it(model, data, tmp_path):
    model.fit(*data)
    model.save(tmp_path / "model.safetensors")
    loaded = DSSLRegressor.load(tmp_path / "model.safetensors")
    assert loaded.kernel_.share.tolist() == model.kernel_.share.tolist()
    pickled = pickle.dumps(model)
    assert pickle.loads(pickled).predict(data[0]).tolist() == model.predict(data[0]).tolist()
    small = pickle.dumps(DSSLRegressor(**{**model.get_params(), "kernel_share": 0.6}).fit(*data))
    assert len(pickled) < len(small) + 20_000  # no crystals


class Stop(Callback):
    """End the training behind an epoch, or within one."""

    def __init__(self, epoch, within):
        self.epoch = epoch
        self.within = within

    def on_batch_begin(self, net, training, **kwargs):
        if self.within and training and len(net.history) == self.epoch + 1:
            raise KeyboardInterrupt

    def on_epoch_end(self, net, **kwargs):
        if not self.within and len(net.history) == self.epoch:
            raise KeyboardInterrupt


@pytest.mark.parametrize("within", [False, True])
@pytest.mark.parametrize("epoch", [1, 4, 7, 8])
def test_a_callback_that_ends_the_training_before_loses_no_choice(model, data, epoch, within):
    model.set_params(callbacks=[Stop(epoch, within)]).fit(*data)
    shares = [e.get("kernel_share") for e in model.history_]
    assert model.kernel_.share.tolist() == [shares[-1] or shares[-2]]
    assert model.kernel_.share != [0.6]


def test_a_training_that_fails_hands_out_the_choice(model, data):
    class Nan(Callback):
        def on_batch_begin(self, net, training, **kwargs):
            if training and len(net.history) == 9:
                next(net.module_.parameters()).data[:] = np.nan

    with pytest.raises(TrainingError) as caught:
        model.set_params(callbacks=[Nan()]).fit(*data)
    good = caught.value.estimator
    assert good.kernel_.share.tolist() == [good.history_[7]["kernel_share"]]
    assert good.kernel_.share != [0.6]


def test_processes_that_load_batches_see_them_join(model, data):
    alone = model.fit(*data).predict(data[0])
    workers = {"iterator_train__num_workers": 1, "iterator_train__persistent_workers": True}
    model.set_params(net_params=workers).fit(*data)
    np.testing.assert_allclose(model.predict(data[0]), alone, rtol=1e-6)


@pytest.mark.usefixtures("few")
def test_copies_do_not_choose(model, elastic, monkeypatch):
    monkeypatch.setattr(kernel_share, "_LATE", 0.5)
    structures = list(elastic[0][:60])
    X = structures + structures[:30]
    noise = np.random.default_rng(0).normal(size=60)
    Weights.seen = []
    model.set_params(callbacks=[Weights]).fit(X, np.concatenate([noise, noise[:30]]))
    hidden = Weights.seen[0] == 0
    assert hidden[30:60].all()
    assert hidden.sum() == 30


def test_labels_join_late_only_if_they_can_choose(model, data):
    X, y = data
    # Eight targets of 15 labels each.
    targets = np.full((120, 8), np.nan)
    targets[np.arange(120), np.arange(120) % 8] = y
    targets[:25, 0] = y[:25]
    model.fit(X, targets)
    assert "kernel_share_0" not in model.history_[-1]
    assert model.kernel_.share.tolist() == [0.6] + [0.0] * 7


def test_the_net_forgets_it(model, data):
    model.fit(*data)
    assert "late_labels" not in dict(model.net_.callbacks_)
    Weights.seen = []
    other = DSSLRegressor(**{**model.get_params(), "kernel_share": 0, "callbacks": [Weights]})
    other.fit(*data)
    assert (Weights.seen[0] > 0).all()


class TestFiles:
    @pytest.fixture
    def load(self, model, data, tmp_path):
        """Load a file whose kernel has another description of the share."""
        model.fit(*data).save(path := tmp_path / "model.safetensors")
        tensors, config = read_weights(path)

        def load(share):
            config["kernel"]["share"] = share
            write_weights(path, tensors, config)
            return DSSLRegressor.load(path)

        return load

    def test_one_number_is_that_of_all_targets(self, load):
        assert load(0.25).kernel_.share.tolist() == [0.25]

    @pytest.mark.parametrize(
        "share", [True, "half", None, -0.1, 1.5, float("nan"), [], [0.5, 0.5], [None], [[0.5]]]
    )
    def test_other_values_are_refused(self, load, share):
        with pytest.raises(WeightsError, match="its kernel has a share of"):
            load(share)
