"""Fine-tuning: targets of all kinds, weights, pretrained networks, freezing, early stopping."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.metrics import mean_absolute_error
from skorch.callbacks import Callback
from torch.nn import functional as F
from torch.utils.data import Subset

from dssl_sklearn import DSSLClassifier, DSSLPretrainer, DSSLRegressor
from dssl_sklearn.exceptions import InvalidInputError, InvalidStructureError, TrainingError
from dssl_sklearn.models import AttentionReadout, MeanReadout
from dssl_sklearn.training.data import CrystalDataset, HoldOut


@pytest.fixture(scope="module")
def train(elastic):
    return elastic[0][:24], elastic[1][:24]


@pytest.fixture(scope="module")
def new(elastic):
    return elastic[0][30:36]


def outputs_of(model, X):
    """What every head says, of shape (n_structures, n_members, n_outputs)."""
    return model._outputs(model._graphs_to_use(X))


@pytest.fixture
def on_fitted(fitted_pretrainer):
    return {
        "pretrained": fitted_pretrainer,
        "max_epochs": 2,
        "batch_size": 8,
        "random_state": 0,
    }


class TestShapes:
    @pytest.mark.parametrize(
        "shape, expected",
        [
            (lambda y: y, (6,)),
            (list, (6,)),
            (lambda y: pd.Series(y, index=range(100, 124)), (6,)),
            (lambda y: y[:, None], (6, 1)),
            (lambda y: np.column_stack([y, -y]), (6, 2)),
            (lambda y: pd.DataFrame({"K": y, "other": y**2}), (6, 2)),
            (lambda y: pd.DataFrame({"K": y}), (6, 1)),
            (lambda y: y.astype(np.float32), (6,)),
            (lambda y: np.round(10 * y).astype(int), (6,)),
        ],
    )
    def test_of_y_is_that_of_the_prediction(self, tiny, train, new, shape, expected):
        predicted = DSSLRegressor(**tiny).fit(train[0], shape(train[1])).predict(new)
        assert predicted.shape == expected
        assert predicted.dtype == np.float64

    def test_one_column_is_learned_like_one_dimension(self, tiny, train, new):
        flat = DSSLRegressor(**tiny).fit(*train).predict(new)
        column = DSSLRegressor(**tiny).fit(train[0], train[1][:, None]).predict(new)
        np.testing.assert_array_equal(column[:, 0], flat)

    def test_unit_of_y_is_that_of_the_prediction(self, tiny, train, new):
        plain = DSSLRegressor(**tiny).fit(*train).predict(new)
        other = DSSLRegressor(**tiny).fit(train[0], 1e6 * train[1] - 3e7).predict(new)
        np.testing.assert_allclose(other, 1e6 * plain - 3e7, rtol=1e-5)

    def test_targets_are_standardized_one_by_one(self, tiny, train):
        y = np.column_stack([train[1], 1000 * train[1] + 5])
        model = DSSLRegressor(**tiny).fit(train[0], y)
        np.testing.assert_allclose(model.y_mean_, y.mean(axis=0))
        np.testing.assert_allclose(model.y_scale_, y.std(axis=0))

    def test_a_constant_target(self, tiny, train, new):
        predicted = DSSLRegressor(**tiny).fit(train[0], np.full(24, 0.1)).predict(new)
        assert np.abs(predicted - 0.1).max() < 2


class TestMissingTargets:
    def test_rows_without_any_are_as_if_they_were_not_there(self, tiny, train, new):
        X, y = train
        with_holes = y.copy()
        with_holes[[0, 5, 23]] = np.nan
        kept = np.flatnonzero(~np.isnan(with_holes))
        expected = DSSLRegressor(**tiny).fit([X[k] for k in kept], y[kept])
        found = DSSLRegressor(**tiny).fit(X, with_holes)
        np.testing.assert_array_equal(found.predict(new), expected.predict(new))
        assert (found.y_mean_, found.y_scale_) == (expected.y_mean_, expected.y_scale_)

    @pytest.mark.parametrize("missing", [None, pd.NA, np.nan])
    def test_are_marked_in_many_ways(self, tiny, train, new, missing):
        y = list(train[1])
        y[3] = missing
        expected = DSSLRegressor(**tiny).fit(
            [s for k, s in enumerate(train[0]) if k != 3], np.delete(train[1], 3)
        )
        found = DSSLRegressor(**tiny).fit(train[0], y)
        np.testing.assert_array_equal(found.predict(new), expected.predict(new))

    def test_are_ignored_entry_by_entry(self, tiny, train):
        y = np.column_stack([train[1], train[1] ** 2])
        y[:20, 1] = np.nan
        model = DSSLRegressor(**tiny).fit(train[0], y)
        np.testing.assert_allclose(model.y_mean_, np.nanmean(y, axis=0))
        np.testing.assert_allclose(model.y_scale_, np.nanstd(y, axis=0))
        assert np.isfinite(model.predict(train[0])).all()
        assert sum(model.history_[-1, "batches", :, "train_batch_size"]) == 24

    def test_of_class_labels(self, tiny, train, new):
        X, y = train
        labels = np.where(y > 2, "stiff", "soft").astype(object)
        expected = DSSLClassifier(**tiny).fit(X[2:], labels[2:]).predict_proba(new)
        for missing in (None, np.nan, pd.NA):
            labels[:2] = missing
            found = DSSLClassifier(**tiny).fit(X, labels)
            np.testing.assert_array_equal(found.predict_proba(new), expected)
            assert list(found.classes_) == ["soft", "stiff"]


class TestPool:
    """What an unfitted pretrainer learns from."""

    @pytest.fixture
    def seen(self, monkeypatch):
        found = []
        fit = DSSLPretrainer.fit

        def spy(self, X, y=None):
            found.append(list(X))
            return fit(self, X, y)

        monkeypatch.setattr(DSSLPretrainer, "fit", spy)
        return found

    def test_is_all_structures_with_and_without_targets(self, tiny, train, seen, predictor_class):
        y = np.where(np.arange(24) < 10, np.nan, train[1] > 2)
        model = predictor_class(pretrained=DSSLPretrainer(**tiny), max_epochs=1, random_state=0)
        model.fit(train[0], y)
        (pool,) = seen
        assert all(a is b for a, b in zip(pool, train[0], strict=True))
        assert sum(model.history_[-1, "batches", :, "train_batch_size"]) == 14
        assert sum(model.pretrainer_.history_[-1, "batches", :, "train_batch_size"]) == 22

    def test_and_those_given_as_unlabeled(self, tiny, train, new, seen, predictor_class):
        model = predictor_class(
            pretrained=DSSLPretrainer(**tiny), unlabeled=tuple(new), max_epochs=1
        )
        model.fit(train[0], train[1] > 2)
        (pool,) = seen
        assert all(a is b for a, b in zip(pool, [*train[0], *new], strict=True))

    def test_which_change_what_is_learned(self, tiny, train, new, predictor_class):
        model = predictor_class(pretrained=DSSLPretrainer(**tiny), max_epochs=1, random_state=0)
        y = train[1] > 2
        without = outputs_of(model.fit(train[0], y), new)
        assert not np.array_equal(
            without, outputs_of(model.set_params(unlabeled=new).fit(train[0], y), new)
        )

    def test_unlabeled_is_shared_by_copies(self, new, predictor_class):
        assert clone(predictor_class(unlabeled=new)).unlabeled is new

    def test_unlabeled_is_not_looked_at_otherwise(self, tiny, train, on_fitted, seen):
        for params in (tiny, on_fitted):
            with pytest.warns(UserWarning, match="unlabeled has no effect"):
                DSSLRegressor(**params, unlabeled=["no structure"]).fit(*train)
        assert seen == []

    def test_a_seed_reaches_the_pretrainer(self, tiny, train, predictor_class, new):
        def fitted(seed, seed_of_pretrainer):
            pretrainer = DSSLPretrainer(**tiny).set_params(random_state=seed_of_pretrainer)
            model = predictor_class(pretrained=pretrainer, max_epochs=1, random_state=seed)
            return model.fit(train[0], train[1] > 2).pretrainer_.transform(new)

        np.testing.assert_array_equal(fitted(0, None), fitted(0, None))
        assert not np.array_equal(fitted(0, None), fitted(1, None))
        np.testing.assert_array_equal(fitted(0, 7), fitted(1, 7))

    def test_what_is_wrong_with_arguments_is_said_before_pretraining(
        self, tiny, train, seen, predictor_class
    ):
        model = predictor_class(pretrained=DSSLPretrainer(**tiny), head_params={"depth": 3})
        with pytest.raises(InvalidInputError, match="head_params"):
            model.fit(train[0], train[1] > 2)
        model.set_params(head_params=None, early_stopping=True, validation_fraction=0)
        with pytest.raises(InvalidInputError, match="validation_fraction"):
            model.fit(train[0], train[1] > 2)
        assert seen == []


@pytest.fixture(params=[DSSLRegressor, DSSLClassifier], ids=lambda cls: cls.__name__)
def predictor_class(request):
    return request.param


class TestSampleWeight:
    def test_zero_takes_a_row_out(self, tiny, train, new, predictor_class):
        X, y = train[0], (train[1] > 2).astype(int)
        weight = np.ones(24)
        weight[:4] = 0
        wrong = y.copy()
        wrong[:4] = 1 - y[:4]
        expected = outputs_of(predictor_class(**tiny).fit(X[4:], y[4:]), new)
        found = outputs_of(predictor_class(**tiny).fit(X, wrong, sample_weight=weight), new)
        np.testing.assert_array_equal(found, expected)

    def test_ones_change_nothing(self, tiny, train, new, predictor_class):
        y = train[1] > 2
        expected = outputs_of(predictor_class(**tiny).fit(train[0], y), new)
        found = predictor_class(**tiny).fit(train[0], y, sample_weight=[1] * 24)
        np.testing.assert_array_equal(outputs_of(found, new), expected)

    def test_a_common_factor_changes_nothing(self, tiny, train, new, predictor_class):
        y, weight = train[1] > 2, np.linspace(0.1, 2, 24)
        expected = predictor_class(**tiny).fit(train[0], y, sample_weight=weight)
        found = predictor_class(**tiny).fit(train[0], y, sample_weight=1000 * weight)
        np.testing.assert_allclose(
            outputs_of(found, new), outputs_of(expected, new), rtol=1e-3, atol=1e-5
        )

    def test_pull_the_fit_to_the_heavy_rows(self, tiny, train):
        X = [train[0][0]] * 8
        y = np.array([0.0] * 4 + [1.0] * 4)
        params = {**tiny, "max_epochs": 60, "lr": 0.02, "loss": "mse"}
        for heavy in (1, 9):
            weight = np.array([1.0] * 4 + [heavy] * 4)
            model = DSSLRegressor(**params).fit(X, y, sample_weight=weight)
            assert model.predict(X[:1])[0] == pytest.approx(heavy / (1 + heavy), abs=0.05)
            classifier = DSSLClassifier(**tiny).set_params(max_epochs=60, lr=0.02)
            classifier.fit(X, y.astype(int), sample_weight=weight)
            probability = classifier.predict_proba(X[:1])[0, 1]
            # A fifth of every label is spread over both classes.
            assert probability == pytest.approx(0.1 + 0.8 * heavy / (1 + heavy), abs=0.05)

    def test_enter_mean_and_scale(self, tiny, train):
        weight = np.arange(24.0)
        model = DSSLRegressor(**tiny).fit(*train, sample_weight=weight)
        repeated = np.repeat(train[1], np.arange(24))
        np.testing.assert_allclose(model.y_mean_, repeated.mean())
        np.testing.assert_allclose(model.y_scale_, repeated.std())


class Encoders(Callback):
    """Keep the encoder's weights as of the end of every epoch."""

    def on_train_begin(self, net, **kwargs):
        self.kept = [copy.deepcopy(net.module_.encoder.state_dict())]
        self.heads = [copy.deepcopy(net.module_.head.state_dict())]

    def on_epoch_end(self, net, **kwargs):
        self.kept.append(copy.deepcopy(net.module_.encoder.state_dict()))
        self.heads.append(copy.deepcopy(net.module_.head.state_dict()))


def equal(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


class TestPretrainedNetwork:
    @pytest.mark.filterwarnings("ignore:max_epochs=0")
    def test_is_where_the_training_begins(self, on_fitted, train, fitted_pretrainer):
        model = DSSLRegressor(**on_fitted).set_params(max_epochs=0).fit(*train)
        assert equal(
            model.net_.module_.encoder.state_dict(), fitted_pretrainer.encoder_.state_dict()
        )

    def test_differs_from_scratch_at_the_same_seed(self, on_fitted, tiny, train, new):
        pretrained = DSSLRegressor(**on_fitted).fit(*train).predict(new)
        scratch = DSSLRegressor(**tiny).fit(*train).predict(new)
        assert np.abs(pretrained - scratch).max() > 1e-3

    def test_learns_slower_than_the_head(self, on_fitted, train):
        model = DSSLRegressor(**on_fitted, lr=1e-2, backbone_lr_factor=0.25, schedule="constant")
        net = model.fit(*train).net_
        rates = {
            name: group["lr"]
            for group in net.optimizer_.param_groups
            for name, parameter in net.module_.named_parameters()
            if any(parameter is member for member in group["params"])
        }
        assert len(rates) == len(list(net.module_.parameters()))
        for name, rate in rates.items():
            assert rate == pytest.approx(2.5e-3 if name.startswith("encoder.") else 1e-2)

    def test_few_labels_move_the_encoder_less(self, on_fitted, train):
        """A tenth of the head's rate up to 100 labels, growing with the root of their number."""
        model = DSSLRegressor(**on_fitted, lr=1e-2, schedule="constant")
        labels = np.tile(train[1], 10)
        for n_labels, factor in ((24, 0.1), (225, 0.15)):
            net = model.fit((train[0] * 10)[:n_labels], labels[:n_labels]).net_
            rates = sorted(group["lr"] for group in net.optimizer_.param_groups)
            assert rates == pytest.approx([1e-2 * factor, 1e-2])

    def test_schedule_keeps_the_ratio(self, on_fitted, train):
        ratios = []

        class Ratio(Callback):
            def on_batch_begin(self, net, training=None, **kwargs):
                first, second = (group["lr"] for group in net.optimizer_.param_groups)
                ratios.append(first / second)

        DSSLRegressor(**on_fitted, backbone_lr_factor=0.25, callbacks=[Ratio()]).fit(*train)
        np.testing.assert_allclose(ratios, 0.25)

    def test_from_scratch_all_learn_alike(self, tiny, train):
        model = DSSLRegressor(**tiny, lr=1e-2, backbone_lr_factor=0.25, schedule="constant")
        assert {group["lr"] for group in model.fit(*train).net_.optimizer_.param_groups} == {1e-2}

    def test_a_factor_of_zero_keeps_the_encoder(self, on_fitted, train, fitted_pretrainer):
        model = DSSLRegressor(**on_fitted, backbone_lr_factor=0.0).fit(*train)
        assert equal(
            model.net_.module_.encoder.state_dict(), fitted_pretrainer.encoder_.state_dict()
        )

    def test_another_readout_starts_fresh_at_full_rate(self, on_fitted, train):
        model = DSSLRegressor(
            **on_fitted, readout="attention", lr=1e-2, schedule="constant", freeze_epochs=1
        )
        encoders = Encoders()
        net = model.set_params(callbacks=[encoders]).fit(*train).net_
        encoders = dict(net.callbacks_)["Encoders"]
        assert isinstance(net.module_.encoder.readout, AttentionReadout)
        start, frozen, end = encoders.kept
        learned = [name for name in start if name.startswith("backbone.")]
        fresh = [name for name in start if name.startswith("readout.")]
        assert all(torch.equal(start[name], frozen[name]) for name in learned)
        assert any(not torch.equal(frozen[name], end[name]) for name in learned)
        assert any(not torch.equal(start[name], frozen[name]) for name in fresh)
        slow, fast = net.optimizer_.param_groups
        assert (slow["lr"], fast["lr"]) == pytest.approx((1e-3, 1e-2))
        readout = list(net.module_.encoder.readout.parameters())
        assert all(any(p is q for q in fast["params"]) for p in readout)

    @pytest.mark.filterwarnings("ignore:max_epochs=0")
    def test_the_same_readout_is_taken_over(self, tiny, train):
        pretrainer = DSSLPretrainer(**tiny, readout="attention").fit(train[0])
        for readout in (None, "attention"):
            model = DSSLRegressor(pretrained=pretrainer, readout=readout, max_epochs=0).fit(*train)
            assert equal(model.net_.module_.encoder.state_dict(), pretrainer.encoder_.state_dict())
        model = DSSLRegressor(pretrained=pretrainer, readout="mean", max_epochs=0).fit(*train)
        assert isinstance(model.net_.module_.encoder.readout, MeanReadout)

    def test_the_head_can_be_configured(self, on_fitted, train):
        head = {"hidden": 7, "n_hidden_layers": 2, "dropout": 0.1}
        model = DSSLRegressor(**on_fitted, n_members=3, head_params=head).fit(*train)
        shapes = [tuple(weight.shape) for weight in model.net_.module_.head.weights]
        assert [shape[::2] for shape in shapes] == [(3, 7), (3, 7), (3, 1)]
        linear = DSSLRegressor(**on_fitted, head_params={"n_hidden_layers": 0}).fit(*train)
        assert len(linear.net_.module_.head.weights) == 1


class TestFreezing:
    @pytest.mark.parametrize("pretrained", [True, False])
    @pytest.mark.parametrize("n_frozen", [0, 1, 2, 5])
    def test_leaves_the_encoder_alone_for_these_epochs(
        self, on_fitted, tiny, train, pretrained, n_frozen
    ):
        params = {**(on_fitted if pretrained else tiny), "max_epochs": 3}
        model = DSSLRegressor(**params, freeze_epochs=n_frozen, callbacks=[Encoders()])
        encoders = dict(model.fit(*train).net_.callbacks_)["Encoders"]
        for epoch in range(3):
            before, after = encoders.kept[epoch : epoch + 2]
            assert equal(before, after) == (epoch < n_frozen)
            assert not equal(*encoders.heads[epoch : epoch + 2])

    def test_ends_with_the_training(self, on_fitted, train, tmp_path):
        """A network saved while frozen is not frozen for what comes next."""
        model = DSSLRegressor(**on_fitted, freeze_epochs=9).fit(*train)
        model.save(tmp_path / "w.safetensors")
        loaded = DSSLRegressor.load(tmp_path / "w.safetensors")
        assert all(p.requires_grad for p in loaded.net_.module_.parameters())


class TestStandardization:
    @pytest.mark.filterwarnings("ignore:max_epochs=0")
    def test_the_head_sees_embeddings_of_unit_spread(self, on_fitted, train):
        """At the start, over the labeled crystals only, whatever the scale of the embeddings."""
        y = train[1].copy()
        y[::2] = np.nan
        model = DSSLRegressor(**{**on_fitted, "max_epochs": 0}, readout="mean").fit(train[0], y)
        network = model.net_.module_
        labeled = on_fitted["pretrained"].transform(train[0][1::2])
        assert network.mean.numpy() == pytest.approx(labeled.mean(0), abs=1e-5)
        seen = (labeled - network.mean.numpy()) / network.scale.numpy()
        assert seen.std(0).max() == pytest.approx(1, abs=1e-3)

    def test_one_labeled_crystal_gives_finite_predictions(self, on_fitted, train):
        model = DSSLRegressor(**on_fitted).fit(train[0][:1], train[1][:1])
        assert np.isfinite(model.predict(train[0])).all()

    def test_not_in_the_recipe_of_the_paper(self, tiny_paper, train):
        network = DSSLRegressor(**tiny_paper).fit(*train).net_.module_
        assert (network.mean == 0).all()
        assert (network.scale == 1).all()


class TestEarlyStopping:
    @pytest.fixture(params=[DSSLRegressor, DSSLClassifier], ids=lambda cls: cls.__name__)
    def stopped(self, request, tiny, train):
        params = {**tiny, "max_epochs": 60, "lr": 0.05, "schedule": "constant"}
        # Nothing can be learned of these classes.
        y = train[1] if request.param is DSSLRegressor else np.arange(24) * 7 % 5 > 2
        alone = {"kernel_share": 0} if request.param is DSSLRegressor else {}
        return request.param(
            **params,
            **alone,
            n_members=1,
            early_stopping=True,
            n_iter_no_change=4,
            validation_fraction=0.25,
        ).fit(train[0], y)

    def test_stops_and_goes_back_to_the_best(self, stopped, train):
        losses = stopped.history_[:, "valid_loss"]
        assert len(losses) < 60
        assert np.argmin(losses) < len(losses) - 1
        held_out = HoldOut(0.25, stopped.net_.seed)(list(range(24)))[1].indices
        rows = [train[0][k] for k in held_out]
        if isinstance(stopped, DSSLRegressor):
            error = (stopped.predict(rows) - train[1][held_out]) / stopped.y_scale_
            loss = F.l1_loss(torch.tensor(error), torch.zeros(6))
        else:
            logits = torch.tensor(outputs_of(stopped, rows))[:, 0]
            classes = (np.array(held_out) * 7 % 5 > 2).astype(int)
            loss = F.cross_entropy(logits, torch.tensor(classes), label_smoothing=0.2)
        assert float(loss) == pytest.approx(min(losses), rel=1e-4)

    def test_holds_nothing_out_otherwise(self, tiny, train):
        model = DSSLRegressor(**tiny, validation_fraction=0.5).fit(*train)
        assert "valid_loss" not in model.history_[-1]
        assert sum(model.history_[-1, "batches", :, "train_batch_size"]) == 24

    def test_patience(self, tiny, train):
        model = DSSLRegressor(**tiny, early_stopping=True, n_iter_no_change=1, lr=1e-9)
        model.set_params(max_epochs=30, validation_fraction=0.25).fit(*train)
        assert len(model.history_) == 2


class TestLoss:
    @pytest.mark.parametrize(
        "name, function",
        [("mae", F.l1_loss), ("mse", F.mse_loss), ("huber", F.smooth_l1_loss)],
    )
    def test_by_name(self, tiny, train, name, function):
        """Losses of an untrained epoch are those of the predictions that follow from it."""
        params = {**tiny, "max_epochs": 1, "lr": 1e-12, "weight_decay": 0.0, "loss": name}
        params |= {"n_members": 1, "kernel_share": 0}
        model = DSSLRegressor(**params).fit(*train)
        error = torch.tensor((model.predict(train[0]) - train[1]) / model.y_scale_)
        expected = float(function(error, torch.zeros_like(error)))
        assert model.history_[0, "train_loss"] == pytest.approx(expected, rel=1e-4)

    def test_every_head_is_trained_for_itself(self, tiny, train):
        """Training starts with the mean of their losses, not with the loss of their mean."""
        params = {**tiny, "max_epochs": 1, "lr": 1e-12, "weight_decay": 0.0, "n_members": 4}
        model = DSSLRegressor(**params).fit(*train)
        target = (train[1] - model.y_mean_) / model.y_scale_
        errors = abs(outputs_of(model, train[0])[..., 0] - target[:, None])
        assert model.history_[0, "train_loss"] == pytest.approx(errors.mean(), rel=1e-4)

    def test_of_the_paper(self, tiny_paper, train):
        model = DSSLRegressor(**tiny_paper).fit(*train)
        assert model.net_.criterion_.loss == "mae"
        assert isinstance(model.net_.module_.encoder.readout, AttentionReadout)

    def test_divergence_is_an_error(self, tiny, train, predictor_class):
        model = predictor_class(**tiny, lr=1e30)
        with pytest.raises(TrainingError, match=r"epoch .*lower `lr` \(now 1e\+30\)"):
            model.fit(train[0], train[1] > 2)
        assert not hasattr(model, "net_")


def test_a_frozen_backbone_keeps_its_statistics_too(tiny_paper, train):
    """Running means and variances of its batch norms, which no optimizer knows."""
    start = DSSLPretrainer(**tiny_paper).fit(train[0])
    model = DSSLRegressor(**tiny_paper, pretrained=start, freeze_epochs=2).fit(*train)
    learned = model.net_.module_.encoder.backbone.state_dict()
    for name, value in start.encoder_.backbone.state_dict().items():
        torch.testing.assert_close(learned[name], value, rtol=0, atol=0, msg=name)


def test_weights_count_in_batches_of_one(tiny, train):
    structures, y = train[0][:8], np.where(np.arange(8) < 4, 10.0, 0.0)
    weight = np.where(np.arange(8) < 4, 1.0, 1e-9)
    params = tiny | {"max_epochs": 30, "batch_size": 1, "lr": 3e-3}
    model = DSSLRegressor(**params, kernel_share=0.0)
    assert model.fit(structures, y, sample_weight=weight).predict(structures).min() > 9.5
    assert model.fit(structures, y).predict(structures).min() < 7


class TestMembers:
    def test_their_mean_predicts_and_their_spread_is_the_std(self, tiny, train):
        model = DSSLRegressor(**tiny, n_members=5, kernel_share=0).fit(*train)
        members = outputs_of(model, train[0])[..., 0] * model.y_scale_ + model.y_mean_
        assert members.shape == (24, 5)
        prediction, std = model.predict(train[0], return_std=True)
        assert prediction == pytest.approx(members.mean(1))
        assert std == pytest.approx(members.std(1, ddof=1))
        assert (std > 0).all()
        np.testing.assert_array_equal(prediction, model.predict(train[0]))

    def test_std_of_several_targets(self, tiny, train):
        y = np.column_stack([train[1], 1e3 * train[1]])
        prediction, std = DSSLRegressor(**tiny).fit(train[0], y).predict(train[0], return_std=True)
        assert prediction.shape == std.shape == (24, 2)
        assert std[:, 1].mean() > 10 * std[:, 0].mean()

    def test_std_needs_several(self, tiny, tiny_paper, train):
        for params in ({**tiny, "n_members": 1, "kernel_share": 0.0}, tiny_paper):
            model = DSSLRegressor(**params).fit(*train)
            with pytest.raises(InvalidInputError, match=r"return_std.*n_members"):
                model.predict(train[0], return_std=True)

    def test_std_of_every_target_needs_several(self, tiny, train):
        """The process predicts only the first of these."""
        few = np.where(np.arange(24) < 10, train[1], np.nan)
        model = DSSLRegressor(**tiny, n_members=1).fit(train[0], np.column_stack([train[1], few]))
        assert model.kernel_.columns.tolist() == [True, False]
        with pytest.raises(InvalidInputError, match="no share for column 1 of y"):
            model.predict(train[0], return_std=True)

    def test_std_of_a_loaded_regressor(self, tiny, train, tmp_path):
        model = DSSLRegressor(**tiny).fit(*train)
        model.save(tmp_path / "model.safetensors")
        found = DSSLRegressor.load(tmp_path / "model.safetensors").predict(
            train[0], return_std=True
        )
        np.testing.assert_array_equal(found, model.predict(train[0], return_std=True))

    def test_of_a_classifier_vote_with_their_probabilities(self, tiny, train):
        model = DSSLClassifier(**tiny, n_members=3, kernel_share=0.0).fit(train[0], train[1] > 2)
        logits = torch.tensor(outputs_of(model, train[0]))
        expected = logits.softmax(dim=2).mean(dim=1).numpy()
        assert model.predict_proba(train[0]) == pytest.approx(expected)

    @pytest.mark.parametrize("readout", [None, "mean", "attention"])
    def test_the_mean_becomes_mean_and_maximum(self, tiny, train, readout):
        pretrainer = DSSLPretrainer(**tiny, readout=readout).fit(train[0])
        model = DSSLRegressor(**tiny, pretrained=pretrainer).fit(*train)
        expected = "attention" if readout == "attention" else "mean_max"
        assert model.architecture_.readout == expected


class TestClassifier:
    @pytest.mark.parametrize(
        "labels",
        [
            np.array(["soft", "stiff"]),
            np.array(["soft", "stiff"], dtype=object),
            np.array([False, True]),
            np.array([0, 1]),
            np.array([-7, 12]),
            np.array([1.0, 2.0]),
        ],
    )
    def test_labels_of_any_kind(self, tiny, train, new, labels):
        y = labels[(train[1] > 2).astype(int)]
        model = DSSLClassifier(**tiny).fit(train[0], y)
        assert list(model.classes_) == list(labels)
        probability = model.predict_proba(new)
        assert probability.shape == (6, 2)
        assert (probability > 0).all()
        np.testing.assert_allclose(probability.sum(axis=1), 1, rtol=1e-12)
        predicted = model.predict(new)
        np.testing.assert_array_equal(predicted, labels[probability.argmax(axis=1)])
        assert np.asarray(predicted).dtype.kind == model.classes_.dtype.kind
        assert 0 <= model.score(train[0], y) <= 1
        assert model.score(train[0], y.astype(object)) == model.score(train[0], y)

    def test_texts_for_an_unknown_label_are_doubtful(self, tiny, train):
        y = np.where(train[1] > 2, "stiff", "nan")
        with pytest.warns(UserWarning, match="the class 'nan'.*unknown label"):
            DSSLClassifier(**tiny).fit(train[0], y)

    def test_of_many_classes(self, tiny, train, new):
        y = np.array(["a", "b", "c", "d"])[np.arange(24) % 4]
        model = DSSLClassifier(**tiny).fit(train[0], y)
        assert model.predict_proba(new).shape == (6, 4)

    @pytest.mark.parametrize("container", [list, pd.Series, pd.Categorical, lambda y: y[:, None]])
    def test_containers_of_labels(self, tiny, train, new, container):
        y = np.where(train[1] > 2, "stiff", "soft")
        expected = DSSLClassifier(**tiny).fit(train[0], y).predict_proba(new)
        found = DSSLClassifier(**tiny).fit(train[0], container(y)).predict_proba(new)
        np.testing.assert_array_equal(found, expected)

    def test_learns(self, tiny, elastic):
        X, y = elastic[0][:96], elastic[1][:96] > np.median(elastic[1][:96])
        params = {**tiny, "max_epochs": 25, "lr": 1e-2, "batch_size": 16}
        model = DSSLClassifier(**params).fit(X[:64], y[:64])
        assert model.score(X[64:], y[64:]) > 0.75


@pytest.fixture(scope="module")
def learning(elastic):
    """Crystals to learn from, crystals to test on, and arguments to do so in a few seconds."""
    rng = np.random.default_rng(0)
    rows = rng.permutation(len(elastic[0]))[:200]
    X, y = [elastic[0][row] for row in rows], elastic[1][rows]
    params = {
        "backbone_params": {"width": 16, "n_layers": 2, "n_basis": 12},
        "max_epochs": 15,
        "batch_size": 16,
        "lr": 5e-3,
        "random_state": 0,
    }
    return (X[:140], y[:140]), (X[140:], y[140:]), params


class TestLearning:
    def test_beats_the_median(self, learning):
        train, test, params = learning
        model = DSSLRegressor(**params).fit(*train)
        median = np.abs(test[1] - np.median(train[1])).mean()
        assert mean_absolute_error(test[1], model.predict(test[0])) < 0.5 * median
        assert model.score(*test) > 0.6

    def test_shuffled_labels_do_not_generalize(self, learning):
        train, test, params = learning
        shuffled = np.random.default_rng(1).permutation(train[1])
        model = DSSLRegressor(**params).fit(train[0], shuffled)
        assert model.score(*test) < 0.2

    def test_of_two_targets_at_once(self, learning):
        train, test, params = learning
        volume = [np.array([s.volume / len(s) for s in X]) for X in (train[0], test[0])]
        y = np.column_stack([train[1], volume[0]])
        y[::2, 0] = np.nan
        model = DSSLRegressor(**params).set_params(max_epochs=20).fit(train[0], y)
        predicted = model.predict(test[0])
        for column, truth in enumerate((test[1], volume[1])):
            assert np.corrcoef(predicted[:, column], truth)[0, 1] > 0.7


class TestOutput:
    def test_a_progress_bar_on_request(self, tiny, train, capsys):
        DSSLRegressor(**tiny, verbose=1).fit(*train)
        captured = capsys.readouterr()
        assert "DSSLRegressor: 100%" in captured.err
        assert not captured.out

    def test_history_of_a_regressor(self, tiny, train):
        model = DSSLRegressor(**tiny).fit(*train)
        assert np.isfinite(model.history_[:, "train_loss"]).all()


def test_unusable_structures_are_found_before_the_training(tiny, train):
    with pytest.raises(InvalidStructureError, match="structure 1"):
        DSSLRegressor(**tiny).fit([train[0][0], 3], [0.0, 1.0])


def test_hold_out_of_the_same_seed_is_the_one_of_the_training(tiny, train):
    """What the tests of early stopping rely on."""
    model = DSSLRegressor(**tiny, early_stopping=True, validation_fraction=0.25).fit(*train)
    dataset = CrystalDataset(model._builder(model.architecture_).dataset(train[0]))
    _, held_out = model.net_.train_split(dataset)
    assert isinstance(held_out, Subset)
    assert held_out.indices == HoldOut(0.25, model.net_.seed)(dataset)[1].indices
