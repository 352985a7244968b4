import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from dssl_sklearn import DSSLClassifier, DSSLPretrainer, DSSLRegressor
from dssl_sklearn.crystals.builder import GraphBuilder
from dssl_sklearn.estimators import kernel_part
from dssl_sklearn.estimators.kernel_part import MIN_LABELS, FrozenEncoder, crystal_features
from dssl_sklearn.exceptions import InvalidInputError
from dssl_sklearn.explain import integrated_gradients
from dssl_sklearn.models.gaussian_process import GaussianProcess
from dssl_sklearn.objectives import Teacher


@pytest.fixture(scope="module")
def train(elastic):
    structures, y = elastic
    return structures[:40], np.asarray(y[:40])


@pytest.fixture(scope="module")
def held_out(elastic):
    structures, y = elastic
    return structures[40:], np.asarray(y[40:])


@pytest.mark.parametrize("pretrained", [None, "mp"])
def test_shares_the_prediction_with_the_network(tiny, train, held_out, pretrained):
    params = dict(tiny) if pretrained is None else {"max_epochs": 1, "random_state": 0}

    def predict(share):
        model = DSSLRegressor(**params, pretrained=pretrained, kernel_share=share).fit(*train)
        return model.predict(held_out[0])

    network, process = predict(0), predict(1)
    np.testing.assert_allclose(predict(0.25), 0.75 * network + 0.25 * process, rtol=1e-9)
    np.testing.assert_allclose(predict(None), 0.4 * network + 0.6 * process, rtol=1e-9)
    error = np.abs(process - held_out[1]).mean()
    assert error < 0.7 * np.abs(train[1].mean() - held_out[1]).mean()


def test_does_not_change_the_network(tiny, train, held_out):
    with_it, alone = (DSSLRegressor(**tiny, kernel_share=s).fit(*train) for s in (None, 0))
    assert with_it.kernel_ is not None
    assert alone.kernel_ is None
    with_it.kernel_ = None
    np.testing.assert_array_equal(with_it.predict(held_out[0]), alone.predict(held_out[0]))


def test_std_is_that_of_the_mixture(tiny, train, held_out):
    model = DSSLRegressor(**tiny).fit(*train)
    alone, process = (DSSLRegressor(**tiny, kernel_share=s).fit(*train) for s in (0, 1))
    prediction, std = model.predict(held_out[0], return_std=True)
    network, of_heads = alone.predict(held_out[0], return_std=True)
    kernel, of_process = process.predict(held_out[0], return_std=True)
    parts = 0.4 * of_heads**2 + 0.6 * of_process**2 + 0.24 * (network - kernel) ** 2
    np.testing.assert_allclose(std**2, parts, rtol=1e-6)
    np.testing.assert_array_equal(prediction, model.predict(held_out[0]))


def test_std_of_the_process_is_the_size_of_its_errors(tiny, elastic):
    structures, y = elastic
    model = DSSLRegressor(**{**tiny, "max_epochs": 0}, kernel_share=1)
    model.fit(structures[:60], y[:60])
    prediction, std = model.predict(structures[60:], return_std=True)
    within = np.mean(np.abs(prediction - y[60:]) < std)
    assert 0.45 < within < 0.9
    # Units do not matter, nor does it that the scale of predictions shrinks.
    larger = model.fit(structures[:60], 1e3 * y[:60]).predict(structures[60:], return_std=True)[1]
    np.testing.assert_allclose(larger, 1e3 * std, rtol=1e-4)
    noise = np.random.default_rng(0).normal(size=60)
    noise[noise > 0] *= 5
    model.fit(structures[:60], noise)
    std = model.predict(structures[60:], return_std=True)[1]
    assert np.percentile(np.abs(noise - np.median(noise)), 50) < np.median(std) < 2 * noise.std()


def test_std_where_most_labels_are_at_a_limit(tiny, elastic):
    """Labels that are predicted to be at the limit say nothing of the errors of the others."""
    structures, y = elastic
    t = np.where(y >= np.quantile(y, 0.6), y - np.quantile(y, 0.6) + 0.2, 0.0)
    model = DSSLRegressor(**{**tiny, "max_epochs": 0}, kernel_share=1)
    model.fit(structures[:60], t[:60])
    assert model.y_has_floor_
    prediction, std = model.predict(structures[60:], return_std=True)
    beyond = prediction > 0
    assert np.mean(np.abs(prediction - t[60:])[beyond] < std[beyond]) > 0.4


def test_std_with_labels_that_hardly_count(tiny, elastic):
    """Their noise is large, as is that of their predictions: they say nothing of the others."""
    structures, y = elastic
    model = DSSLRegressor(**{**tiny, "max_epochs": 0}, kernel_share=1)
    plain = model.fit(structures[:30], y[:30]).predict(structures[60:], return_std=True)[1]
    weight = np.where(np.arange(60) < 30, 1.0, 1e-6)
    model.fit(structures[:60], y[:60], sample_weight=weight)
    std = model.predict(structures[60:], return_std=True)[1]
    assert np.median(std) == pytest.approx(np.median(plain), rel=0.3)


def test_std_with_missing_labels(tiny, train, held_out):
    y = np.column_stack([train[1], train[1]])
    y[::3, 1] = np.nan
    model = DSSLRegressor(**{**tiny, "max_epochs": 0}, kernel_share=1).fit(train[0], y)
    assert (model.predict(held_out[0], return_std=True)[1] > 0).all()


def test_std_is_in_proportion_to_the_calibration(tiny, train, held_out):
    model = DSSLRegressor(**{**tiny, "max_epochs": 0}, kernel_share=1).fit(*train)
    calibration = model.kernel_.calibration
    assert calibration[0] != 1
    once = model.predict(held_out[0], return_std=True)[1]
    model.kernel_ = replace(model.kernel_, calibration=2 * calibration)
    np.testing.assert_allclose(model.predict(held_out[0], return_std=True)[1], 2 * once)


def test_wrong_labels_of_little_weight_do_little(tiny, elastic):
    structures, y = elastic
    labels, weight = np.array(y[:80]), np.where(np.arange(80) < 40, 1.0, 1e-6)
    labels[40:] = np.random.default_rng(0).permutation(labels[40:]) + 2
    model = DSSLRegressor(**{**tiny, "max_epochs": 0}, kernel_share=1, loss="mse")

    def error(**kwargs):
        predicted = model.fit(structures[:80], labels, **kwargs).predict(structures[80:140])
        return np.abs(predicted - y[80:140]).mean()

    assert error(sample_weight=weight) < 0.2 < error()


def test_few_labels_leave_it_out(tiny, train):
    n = MIN_LABELS
    assert DSSLRegressor(**tiny).fit(train[0][:n], train[1][:n]).kernel_ is not None
    assert DSSLRegressor(**tiny).fit(train[0][: n - 1], train[1][: n - 1]).kernel_ is None


@pytest.mark.parametrize("Estimator", [DSSLRegressor, DSSLClassifier])
def test_a_share_without_effect_is_told(tiny, train, Estimator):
    y = train[1] if Estimator is DSSLRegressor else train[1] > 1.9
    model = Estimator(**tiny, kernel_share=0.5)
    with pytest.warns(UserWarning, match=r"kernel_share=0.5 has no effect: 15 labels, .* needs 20"):
        model.fit(train[0][:15], y[:15])
    Estimator(**tiny).fit(train[0][:15], y[:15])  # what nobody asked for needs no warning
    if Estimator is DSSLRegressor:
        sparse = np.column_stack([y, np.where(np.arange(40) < 19, y, np.nan)])
        with pytest.warns(UserWarning, match="no effect on target 1: 19 labels"):
            model.fit(train[0], sparse)


def test_a_target_of_few_labels_is_left_to_the_network(tiny, train, held_out, tmp_path):
    y = 10.0 ** (2 * train[1])
    sparse = np.column_stack([y, np.where(np.arange(40) < MIN_LABELS - 1, y, np.nan)])
    model = DSSLRegressor(**tiny).fit(train[0], sparse)
    assert model.kernel_.columns.tolist() == [True, False]
    assert model.y_is_log_.tolist() == [True, False]
    found, std = model.predict(held_out[0], return_std=True)
    alone = DSSLRegressor(**tiny, kernel_share=0).fit(train[0], sparse)
    expected, expected_std = alone.predict(held_out[0], return_std=True)
    np.testing.assert_allclose(found[:, 1], expected[:, 1], rtol=1e-6)
    np.testing.assert_allclose(std[:, 1], expected_std[:, 1], rtol=1e-6)
    assert not np.allclose(found[:, 0], expected[:, 0], rtol=0.01)
    split = integrated_gradients(model, held_out[0][:2], target=1, n_steps=2)
    np.testing.assert_allclose(split.predictions, found[:2, 1], rtol=1e-5)
    model.save(tmp_path / "w.safetensors")
    loaded = DSSLRegressor.load(tmp_path / "w.safetensors")
    np.testing.assert_array_equal(loaded.predict(held_out[0]), found)


@pytest.mark.parametrize("Estimator", [DSSLRegressor, DSSLClassifier])
def test_the_process_alone_needs_no_training(tiny, train, held_out, Estimator, monkeypatch):
    monkeypatch.setattr(kernel_part, "N_POINTS", 30)
    y = train[1] if Estimator is DSSLRegressor else train[1] > 1.9
    trained, untrained = (
        Estimator(**{**tiny, "max_epochs": n}, kernel_share=1).fit(train[0], y) for n in (2, 0)
    )
    assert (untrained.kernel_.share == 1).all()
    predict = "predict" if Estimator is DSSLRegressor else "predict_proba"
    np.testing.assert_allclose(
        getattr(untrained, predict)(held_out[0]), getattr(trained, predict)(held_out[0]), rtol=1e-6
    )
    for share in (None, 0.5, 0):
        with pytest.warns(UserWarning, match="at random; kernel_share=1 leaves all to the"):
            model = Estimator(**{**tiny, "max_epochs": 0}, kernel_share=share).fit(train[0], y)
        assert model.kernel_ is None
    with pytest.raises(InvalidInputError, match="needs 20 labels of every target"):
        untrained.fit(train[0][:19], y[:19])


def test_the_process_alone_needs_the_labels_among_the_crystals_compared(tiny, train, monkeypatch):
    monkeypatch.setattr(kernel_part, "N_POINTS", 22)
    y = np.column_stack([train[1], np.where(np.arange(40) < MIN_LABELS + 2, train[1], np.nan)])
    untrained = DSSLRegressor(**{**tiny, "max_epochs": 0}, kernel_share=1)
    with pytest.raises(InvalidInputError, match="among the 22 crystals it compares with"):
        untrained.fit(train[0], y)


def test_a_refit_without_training_forgets_it(tiny, train):
    model = DSSLRegressor(**tiny).fit(*train)
    with pytest.warns(UserWarning, match="max_epochs=0"):
        assert model.set_params(max_epochs=0).fit(*train).kernel_ is None


def test_its_share_shrinks_where_it_sees_a_part(tiny, train, monkeypatch):
    monkeypatch.setattr("dssl_sklearn.estimators.kernel_part.N_POINTS", 30)
    model = DSSLRegressor(**tiny).fit(*train)
    assert model.kernel_.share == pytest.approx(0.6 * 30 / 40)
    assert model.kernel_.process.inputs.shape[0] == 30


def test_the_seed_chooses_the_crystals_compared(tiny, train, held_out, monkeypatch):
    monkeypatch.setattr(kernel_part, "N_POINTS", 30)
    params = {**tiny, "max_epochs": 0, "kernel_share": 1}
    one, other = (DSSLRegressor(**{**params, "random_state": s}).fit(*train) for s in (0, 1))
    assert not np.allclose(one.predict(held_out[0]), other.predict(held_out[0]), rtol=1e-4)


def test_labels_beyond_those_compared_decide_too(tiny, train, monkeypatch):
    """A zero forbids logarithms, and a target of which too few are compared has no process."""
    monkeypatch.setattr("dssl_sklearn.estimators.kernel_part.N_POINTS", 30)
    chosen = []
    of = kernel_part.ComparedCrystals.of

    def remember(*args):
        chosen.append(of(*args))
        return chosen[-1]

    monkeypatch.setattr(kernel_part.ComparedCrystals, "of", remember)
    y = 10.0 ** (3 * train[1])
    assert DSSLRegressor(**tiny).fit(train[0], y).y_is_log_[0]
    rows = chosen[0].rows
    others = np.setdiff1d(np.arange(40), rows)
    assert len(others) == 10
    y[others[0]] = 0.0
    model = DSSLRegressor(**tiny).fit(train[0], y)
    assert model.kernel_ is not None
    assert not model.y_is_log_[0]
    sparse = np.full(40, np.nan)
    known = [*others, *rows[:12]]
    sparse[known] = train[1][known]
    several = np.column_stack([train[1], sparse])
    assert np.isfinite(sparse).sum() >= MIN_LABELS
    assert DSSLRegressor(**tiny).fit(train[0], several).kernel_.columns.tolist() == [True, False]


def test_one_head_has_a_std_beside_the_process_alone(tiny, train, held_out):
    model = DSSLRegressor(**{**tiny, "n_members": 1}).fit(*train)
    assert (model.predict(held_out[0], return_std=True)[1] > 0).all()
    model.set_params(kernel_share=0).fit(*train)
    with pytest.raises(InvalidInputError, match="n_members=1 and no share"):
        model.predict(held_out[0], return_std=True)


def test_one_wrong_label_does_little(tiny, elastic, held_out):
    structures, y = elastic
    errors = []
    for value in (y[7], -999.0):
        targets = np.array(y[:40])
        targets[7] = value
        model = DSSLRegressor(**tiny, kernel_share=1).fit(structures[:40], targets)
        errors.append(np.abs(model.predict(held_out[0]) - held_out[1]).mean())
    assert errors[1] < 1.5 * errors[0]


def test_a_supercell_is_predicted_like_its_cell(tiny, train, held_out):
    model = DSSLRegressor(**tiny, kernel_share=1).fit(*train)
    doubled = [structure * (2, 1, 1) for structure in held_out[0][:4]]
    np.testing.assert_allclose(
        model.predict(doubled), model.predict(held_out[0][:4]), rtol=0, atol=1e-5
    )


def test_the_paper_predicts_with_the_network(tiny_paper, train):
    assert DSSLRegressor(**tiny_paper).fit(*train).kernel_ is None


def test_several_targets(tiny, train, held_out):
    y = np.column_stack([train[1], 5 - 100 * train[1]])
    found = DSSLRegressor(**tiny, kernel_share=1).fit(train[0], y).predict(held_out[0])
    np.testing.assert_allclose(found[:, 1], 5 - 100 * found[:, 0], rtol=2e-2)


def test_keeps_the_pretrained_network_as_it_was(tiny, train, held_out, tmp_path):
    """Neither fine-tuning nor another fit of the pretrainer changes what it compares."""
    pretrainer = DSSLPretrainer(**tiny).fit(train[0])
    model = DSSLRegressor(**tiny, pretrained=pretrainer).fit(*train)
    frozen = model.kernel_.encoder.network.state_dict()
    for name, tensor in pretrainer.encoder_.state_dict().items():
        np.testing.assert_array_equal(frozen[name], tensor)
    before = model.predict(held_out[0])
    pretrainer.set_params(random_state=7).fit(train[0][:20])
    np.testing.assert_array_equal(model.predict(held_out[0]), before)
    model.save(tmp_path / "model.safetensors")
    again = DSSLRegressor.load(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(again.predict(held_out[0]), before)


def whole_groups(groups):
    """Densities with bonds, and means of the composition with its spread."""
    densities, bonds, mean, spread, *others = groups
    return [torch.cat([densities, bonds], 1), torch.cat([mean, spread], 1), *others]


def test_files_with_former_groups_of_features_predict_by_these(
    tiny, train, held_out, tmp_path, monkeypatch
):
    path, describe = tmp_path / "model.safetensors", kernel_part.crystal_features

    def before_the_arrangement(groups):
        return whole_groups([*groups[:4], *groups[5:]])

    for former, n_groups in ((before_the_arrangement, 3), (whole_groups, 4)):
        with monkeypatch.context() as before:
            before.setattr(
                kernel_part, "crystal_features", lambda *args, f=former: f(describe(*args))
            )
            model = DSSLRegressor(**tiny, pretrained=DSSLPretrainer(**tiny)).fit(*train)
            expected = model.predict(held_out[0])
            model.save(path)
        assert len(model.kernel_.process.sizes) == n_groups
        np.testing.assert_array_equal(DSSLRegressor.load(path).predict(held_out[0]), expected)


@pytest.fixture(scope="module")
def taught(tiny, elastic):
    graphs = GraphBuilder(8.0, 12).dataset(elastic[0])
    graphs = graphs.with_properties(crystal={"stiffness": elastic[1], "size": graphs.n_sites})
    return {
        hidden: DSSLPretrainer(
            **{**tiny, "max_epochs": 30},
            objectives=[
                Teacher(crystal=("stiffness",), hidden=hidden),
                Teacher(crystal=("size",), hidden=hidden),
            ],
        ).fit(graphs)
        for hidden in (0, 8)
    }


class TestAnswersOfATeacher:
    """Quantities that linear heads learned from a teacher stand beside the embedding."""

    def test_are_what_the_heads_say(self, taught, elastic):
        encoder = FrozenEncoder.of(taught[0])
        batch = GraphBuilder(8.0, 12).dataset(elastic[0][:8]).batch(np.arange(8))
        with torch.no_grad():
            described = encoder.describe(batch, copies=3)
        embedding = taught[0].transform(elastic[0][:8])
        width = embedding.shape[1]
        np.testing.assert_allclose(described[:, :width], embedding, atol=1e-5)
        answers = described[:, width:].reshape(8, 3, 2)
        assert bool((answers == answers[:, :1]).all())
        heads = taught[0].net_.criterion_.heads
        for column, name in enumerate(("teacher", "teacher_2")):
            with torch.no_grad():
                said = heads[name].crystal.output(torch.from_numpy(embedding))[:, 0]
            np.testing.assert_allclose(answers[:, 0, column], said, atol=1e-5)

    def test_bring_what_was_taught_closer(self, taught, train, held_out):
        """Few labels find a direction of the embedding sooner when it is pointed out."""

        encoder, y = FrozenEncoder.of(taught[0]), train[1]
        learned, tested = (GraphBuilder(8.0, 12).dataset(X) for X, _ in (train, held_out))
        targets = ((y - y.mean()) / y.std())[:, None]

        def error(copies):
            known, new = (
                crystal_features(encoder, g, 64, copies=copies) for g in (learned, tested)
            )
            process, _ = GaussianProcess.fit_and_leave_out(known, targets, np.ones(len(y)))
            found = process.predict(new)[:, 0] * y.std() + y.mean()
            return np.abs(found - held_out[1]).mean()

        assert error(100) < error(0)

    def test_need_linear_heads(self, taught):
        assert FrozenEncoder.of(taught[8]).answers is None

    def test_draw_no_random_numbers(self, taught):
        before = torch.get_rng_state()
        FrozenEncoder.of(taught[0])
        assert torch.equal(torch.get_rng_state(), before)

    def test_survive_a_file(self, tiny, taught, train, held_out, tmp_path):
        model = DSSLRegressor(**tiny, pretrained=taught[0]).fit(*train)
        model.save(tmp_path / "model.safetensors")
        again = DSSLRegressor.load(tmp_path / "model.safetensors")
        assert again.kernel_.encoder.answers.out_features == 2
        np.testing.assert_array_equal(again.predict(held_out[0]), model.predict(held_out[0]))


@pytest.mark.parametrize("share", [-0.1, 1.1, "half"])
def test_refuses_other_shares(tiny, train, share):
    with pytest.raises(ValueError, match="kernel_share"):
        DSSLRegressor(**tiny, kernel_share=share).fit(*train)


def test_skipped_structures_get_no_prediction(tiny, train, held_out):
    model = DSSLRegressor(**tiny, on_error="skip").fit(*train)
    X = [held_out[0][0], "no structure", held_out[0][1]]
    with pytest.warns(UserWarning, match="unusable"):
        found = model.predict(X)
    with pytest.warns(UserWarning, match="unusable"):
        with_std = model.predict(X, return_std=True)
    usable = model.predict(held_out[0][:2], return_std=True)
    for some, every in zip((found, *with_std), (usable[0], *usable), strict=True):
        assert np.isnan(some).tolist() == [False, True, False]
        np.testing.assert_allclose(some[[0, 2]], every, rtol=1e-6)


def stiffness_classes(y):
    return np.array(["soft", "medium", "stiff"])[np.digitize(y, [1.8, 2.1])]


class TestClassifier:
    @pytest.fixture
    def labeled(self, elastic):
        structures, y = elastic
        return structures[:60], stiffness_classes(y[:60])

    def test_mixes_probabilities_by_share(self, tiny, labeled, elastic):
        new = elastic[0][60:70]
        model = DSSLClassifier(**tiny, kernel_share=0.25).fit(*labeled)
        assert (model.kernel_.share == 0.25).all()
        parts = []
        for share in (0.0, 1.0):
            alone = copy.copy(model)
            alone.kernel_ = replace(model.kernel_, share=share)
            parts.append(alone.predict_proba(new))
            np.testing.assert_allclose(parts[-1].sum(axis=1), 1)
            assert parts[-1].min() > 0
        np.testing.assert_allclose(
            model.predict_proba(new), 0.75 * parts[0] + 0.25 * parts[1], rtol=1e-9
        )
        assert np.abs(parts[0] - parts[1]).max() > 0.1

    def test_learns_what_an_untrained_network_does_not(self, tiny, labeled, elastic):
        structures, y = elastic
        expected = stiffness_classes(y[60:])
        model = DSSLClassifier(**{**tiny, "max_epochs": 1, "lr": 1e-9}).fit(*labeled)
        accuracy = {}
        for share in (0.0, 1.0):
            model.kernel_ = replace(model.kernel_, share=share)
            accuracy[share] = np.mean(model.predict(structures[60:]) == expected)
        most_frequent = np.unique(expected, return_counts=True)[1].max() / len(expected)
        assert accuracy[1.0] > max(accuracy[0.0], most_frequent) + 0.1

    def test_survives_a_file(self, tiny, labeled, elastic, tmp_path):
        model = DSSLClassifier(**tiny).fit(*labeled)
        model.save(tmp_path / "model.safetensors")
        again = DSSLClassifier.load(tmp_path / "model.safetensors")
        new = elastic[0][60:70]
        np.testing.assert_array_equal(again.predict_proba(new), model.predict_proba(new))
        np.testing.assert_allclose(again.class_prior_, model.class_prior_)

    def test_few_labels_and_the_paper_do_without(self, tiny, tiny_paper, labeled):
        structures, y = labeled
        assert DSSLClassifier(**tiny).fit(structures[:19], y[:19]).kernel_ is None
        assert DSSLClassifier(**tiny_paper).fit(structures, y).kernel_ is None
        assert DSSLClassifier(**tiny, kernel_share=0).fit(structures, y).kernel_ is None

    @pytest.fixture
    def two_crystals(self, elastic):
        """Twenty copies of each of two crystals."""
        return [elastic[0][0]] * 20 + [elastic[0][5]] * 20

    @pytest.fixture
    def alone(self, tiny):
        return DSSLClassifier(**{**tiny, "max_epochs": 0}, kernel_share=1)

    def test_says_how_often_equal_crystals_are_of_a_class(self, alone, two_crystals):
        y = np.tile(np.arange(20), 2) < np.repeat([6, 14], 20)
        found = alone.fit(two_crystals, y).predict_proba([two_crystals[0], two_crystals[-1]])
        np.testing.assert_allclose(found[:, 1], [0.3, 0.7], atol=0.05)

    def test_counts_labels_by_their_weight(self, alone, two_crystals):
        y = np.arange(40) % 2
        alone.fit(two_crystals, y, sample_weight=np.where(y == 1, 9.0, 1.0))
        np.testing.assert_allclose(alone.class_prior_, [0.1, 0.9])
        found = alone.predict_proba(two_crystals[:1])[0, 1]
        assert found == pytest.approx(0.9, abs=0.05)

    def test_a_class_without_weight_is_least_likely(self, tiny, labeled):
        structures, y = labeled
        model = DSSLClassifier(**tiny, kernel_share=1.0)
        model.fit(structures, y, sample_weight=(y != "stiff").astype(float))
        rare = list(model.classes_).index("stiff")
        assert model.class_prior_[rare] == 0
        assert model.predict_proba(structures)[:, rare].max() < 0.02
