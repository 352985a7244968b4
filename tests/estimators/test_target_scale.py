import numpy as np
import pytest
import torch

from dssl_sklearn import DSSLRegressor
from dssl_sklearn.estimators.older_files import with_scale
from dssl_sklearn.estimators.target_scale import TargetScale, takes_logarithm
from dssl_sklearn.estimators.targets import mean_and_scale
from dssl_sklearn.exceptions import InvalidInputError
from dssl_sklearn.models.gaussian_process import GaussianProcess, LeftOut


@pytest.fixture(scope="module")
def train(elastic):
    structures, y = elastic
    return structures[:40], np.asarray(y[:40])


@pytest.fixture(scope="module")
def held_out(elastic):
    structures, _ = elastic
    return structures[40:48]


def features_and_target(seed=0, n=120):
    """A smooth function of features, of unit size, with equal noise everywhere."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3))
    return [torch.as_tensor(x)], np.sin(x[:, 0]) + 0.5 * x[:, 1] + 0.05 * rng.normal(size=n)


def left_out(scale, columns, groups):
    weight = np.ones(len(columns))
    return GaussianProcess.fit_and_leave_out(groups, scale.standardize(columns), weight)[
        1
    ].predictions


@pytest.mark.parametrize("log", [False, True])
def test_standardizes_and_restores(log):
    rng = np.random.default_rng(0)
    columns = rng.lognormal(size=(50, 1))
    columns[3] = np.nan
    scale = TargetScale.fit(columns, np.ones(50), np.array([log]))
    outputs = scale.standardize(columns)
    assert np.nanmean(outputs) == pytest.approx(0, abs=1e-12)
    assert np.nanstd(outputs) == pytest.approx(1)
    np.testing.assert_allclose(scale.restore(outputs), columns, rtol=1e-12)


def test_logarithms_stay_near_the_labels():
    columns = np.array([[1.0], [10.0], [100.0]])
    scale = TargetScale.fit(columns, np.ones(3), np.array([True]))
    low, high = scale.restore(np.array([[-1e3], [1e3]]))[:, 0]
    factor = np.exp(scale.scale[0])
    np.testing.assert_allclose([low, high], [1 / factor, 100 * factor])


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("share, kept", [(0.03, True), (0.06, False)])
def test_nothing_goes_beyond_a_value_that_many_labels_end_at(log, share, kept):
    columns = np.random.default_rng(0).uniform(1, 2, size=(100, 3))
    n_tied = round(100 * share)
    columns[:n_tied, 0] = 1
    columns[:n_tied, 1] = 2
    columns[50:, 2] = np.nan
    columns[:n_tied, 2] = 1
    scale = TargetScale.fit(columns, np.ones(100), np.full(3, log))
    # Half of the last target is missing: the same number is twice the share.
    assert scale.floor.tolist() == [not kept, False, True]
    assert scale.ceiling.tolist() == [False, not kept, False]
    low, high = scale.restore(scale.standardize(np.array([[0.9] * 3, [2.1] * 3])))
    np.testing.assert_allclose(low, [0.9 if kept else 1, 0.9, 1])
    np.testing.assert_allclose(high, [2.1, 2.1 if kept else 2, 2.1])


def test_two_equal_labels_of_few_are_no_limit():
    columns = np.array([[0.0], [0.0], [1.0], [2.0]])
    assert not TargetScale.fit(columns, np.ones(4), np.array([False])).floor.any()


def test_slope_is_the_derivative():
    columns = np.array([[1.0, 1.0], [4.0, 4.0], [9.0, 9.0]])
    scale = TargetScale.fit(columns, np.ones(3), np.array([False, True]))
    at, step = np.array([[0.3, 0.3]]), 1e-6
    change = (scale.restore(at + step) - scale.restore(at - step)) / (2 * step)
    np.testing.assert_allclose(scale.slope(scale.restore(at)), change, rtol=1e-6)


def test_auto_takes_the_scale_on_which_the_target_is_smooth():
    groups, smooth = features_and_target()
    columns = np.column_stack([smooth + 10, np.exp(2 * smooth), smooth])
    assert takes_logarithm(columns, np.ones(len(smooth)), groups).tolist() == [False, True, False]


def test_missing_entries_do_not_matter_to_auto():
    groups, smooth = features_and_target()
    columns = np.exp(2 * smooth)[:, None]
    columns[::7] = np.nan
    assert takes_logarithm(columns, np.ones(len(smooth)), groups).tolist() == [True]


def test_auto_judges_by_the_labels_of_weight():
    groups, smooth = features_and_target()
    columns, heavy = np.exp(2 * smooth)[:, None], np.arange(len(smooth)) % 3 == 0
    # The others are what a process that takes no logarithms expects of them.
    scale = TargetScale.fit(columns[heavy], np.ones(heavy.sum()), np.array([False]))
    process, _ = GaussianProcess.fit_and_leave_out(
        [groups[0][heavy]], scale.standardize(columns[heavy]), np.ones(heavy.sum())
    )
    expected = scale.restore(process.predict([groups[0][~heavy]]))
    columns[~heavy] = np.maximum(expected, columns[heavy].min())
    assert takes_logarithm(columns, np.where(heavy, 1.0, 1e-6), groups).tolist() == [True]
    assert takes_logarithm(columns, np.ones(len(smooth)), groups).tolist() == [False]


def test_log_equals_a_transformed_target(tiny, train, held_out):
    structures, y = train
    of_log = DSSLRegressor(**tiny, target_scale="linear").fit(structures, np.log(y))
    model = DSSLRegressor(**tiny, target_scale="log").fit(structures, y)
    assert model.y_is_log_.tolist() == [True]
    np.testing.assert_allclose(np.log(model.predict(held_out)), of_log.predict(held_out), rtol=1e-5)
    prediction, std = model.predict(held_out, return_std=True)
    np.testing.assert_allclose(
        std / prediction, of_log.predict(held_out, return_std=True)[1], rtol=1e-4
    )


def test_each_target_has_its_own_scale(tiny, train, held_out):
    structures, y = train
    model = DSSLRegressor(**tiny).fit(structures, np.column_stack([y - 5, 10 ** (4 * y)]))
    assert model.y_is_log_.tolist() == [False, True]
    assert (model.predict(held_out)[:, 1] > 0).all()


def test_auto_decides_for_the_network_alone_too(tiny, train):
    structures, y = train
    wide = 10 ** (4 * y)
    chosen = [DSSLRegressor(**tiny, kernel_share=s).fit(structures, wide) for s in (None, 0)]
    assert [model.y_is_log_.tolist() for model in chosen] == [[True], [True]]
    assert chosen[1].kernel_ is None


def test_auto_of_a_regressor_looks_at_labels_by_their_weight(tiny, train):
    structures, y = train
    first = np.arange(40) < 20
    labels = np.where(first, 10 ** (3 * y - 3), 1000 * (y - y.min() + 1e-3))
    for heavy, log in ((first, True), (~first, False)):
        model = DSSLRegressor(**{**tiny, "max_epochs": 1})
        model.fit(structures, labels, sample_weight=np.where(heavy, 1.0, 1e-6))
        assert model.y_is_log_.tolist() == [log]


def test_few_labels_and_the_paper_stay_linear(tiny, tiny_paper, train):
    structures, y = train
    wide = 10 ** (4 * y)
    assert not DSSLRegressor(**tiny).fit(structures[:19], wide[:19]).y_is_log_.any()
    assert not DSSLRegressor(**tiny_paper).fit(structures, wide).y_is_log_.any()


def test_log_of_zero_is_refused_before_anything_is_computed(tiny, train):
    structures, y = train
    bad = y.copy()
    bad[7] = 0
    with pytest.raises(InvalidInputError, match=r"target_scale='log'.* 0 at position 7"):
        DSSLRegressor(**tiny, target_scale="log").fit(structures, bad)


def test_log_does_not_look_at_labels_without_weight(tiny, train):
    y, weight = 10.0 ** train[1], np.ones(len(train[1]))
    y[3], weight[3] = -999, 0
    model = DSSLRegressor(**tiny, target_scale="log").fit(train[0], y, sample_weight=weight)
    assert model.y_is_log_.all()


def test_survives_a_file(tiny, train, held_out, tmp_path):
    structures, y = train
    model = DSSLRegressor(**tiny, target_scale="log").fit(structures, y)
    model.save(tmp_path / "model.safetensors")
    again = DSSLRegressor.load(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(again.predict(held_out), model.predict(held_out))


def test_predictions_end_where_many_labels_do(tiny, train, tmp_path):
    structures, y = train
    many_zero = np.maximum(y - np.quantile(y, 0.7), 0)
    model = DSSLRegressor(**tiny, loss="mse").fit(structures, many_zero)
    assert model.y_floor_margin_.tolist() == [0]
    assert (model.y_has_floor_.tolist(), model.y_has_ceiling_.tolist()) == ([True], [False])
    predicted = model.predict(structures)
    model.y_has_floor_ = np.array([False])
    unlimited = model.predict(structures)
    assert unlimited.min() < 0
    np.testing.assert_array_equal(predicted, np.maximum(unlimited, 0))
    model.y_has_floor_ = np.array([True])
    path = tmp_path / "model.safetensors"
    model.save(path)
    np.testing.assert_array_equal(DSSLRegressor.load(path).predict(structures), predicted)


def test_copies_of_a_crystal_are_no_sign_of_a_limit(tiny, train):
    structures, y = train
    softest = int(np.argmin(y))
    copied = [*structures, *[structures[softest].copy() for _ in range(3)]]
    model = DSSLRegressor(**tiny).fit(copied, [*y, *[y[softest]] * 3])
    assert model.y_min_ == y[softest]
    assert not model.y_has_floor_.any()
    labels = np.array(y)
    labels[np.argsort(y)[:4]] = y.min()
    assert DSSLRegressor(**tiny).fit(structures, labels).y_has_floor_.all()
    # Each target once: that another one is known for the copy says nothing.
    apart = np.full((2 * len(y), 2), np.nan)
    apart[: len(y), 0], apart[len(y) :, 1] = y, labels
    twice = DSSLRegressor(**tiny).fit([*structures, *structures], apart)
    assert twice.y_has_floor_.tolist() == [False, True]


def zero_where_small(seed=0):
    """Labels of which more than half are 0, their scale, leave-one-out predictions."""
    groups, smooth = features_and_target(seed)
    columns = np.maximum(smooth - 0.1, 0)[:, None]
    scale = TargetScale.fit(columns, np.ones(len(columns)), np.array([False]))
    return columns, scale, left_out(scale, columns, groups)


def test_what_is_predicted_close_to_a_limit_is_at_it_where_that_is_better():
    columns, scale, predicted = zero_where_small()
    with_margin = scale.with_margins(predicted, columns, np.ones(len(columns)))
    plain, at_limit = scale.restore(predicted), with_margin.restore(predicted)
    margin = with_margin.floor_margin[0]
    assert margin > 0
    np.testing.assert_array_equal(at_limit, np.where(plain < margin, 0, plain))
    assert (at_limit == 0).mean() <= (columns == 0).mean()
    assert np.abs(at_limit - columns).mean() < np.abs(plain - columns).mean()


def test_a_ceiling_is_a_floor_upside_down():
    columns, scale, predicted = zero_where_small()
    weight = np.ones(len(columns))
    mirrored = TargetScale.fit(-columns, weight, np.array([False]))
    above = mirrored.with_margins(-predicted, -columns, weight)
    assert (mirrored.floor.any(), mirrored.ceiling.all()) == (False, True)
    below = scale.with_margins(predicted, columns, weight)
    np.testing.assert_allclose(above.ceiling_margin, below.floor_margin)
    np.testing.assert_allclose(above.restore(-predicted), -below.restore(predicted), atol=1e-12)


def test_no_margin_where_none_is_better_or_there_is_no_limit():
    columns, scale, _ = zero_where_small()
    weight = np.ones(len(columns))
    exact = scale.standardize(columns)
    assert scale.with_margins(exact, columns, weight).floor_margin.tolist() == [0]
    unlimited = TargetScale.fit(columns + np.arange(len(columns))[:, None], weight, scale.log)
    assert not unlimited.floor.any()
    assert not unlimited.with_margins(exact, columns, weight).floor_margin.any()


def test_two_values_keep_the_order_of_the_crystals():
    columns, _, predicted = zero_where_small()
    binary, weight = (columns > 0).astype(float), np.ones(len(columns))
    scale = TargetScale.fit(binary, weight, np.array([False]))
    assert scale.floor.all()
    assert scale.ceiling.all()
    assert not scale.with_margins(predicted, binary, weight).floor_margin.any()


def test_margins_suit_the_labels_of_weight():
    rng = np.random.default_rng(0)
    small, large = rng.uniform(0.02, 0.1, 40), rng.uniform(0.5, 2, 40)
    zeros = np.zeros(60)
    # A margin suits the first hundred; of the others it would take the small ones away.
    columns = np.concatenate([zeros, large, zeros, small])[:, None]
    found = np.concatenate([rng.uniform(0, 0.1, 60), large, zeros, small])[:, None]
    for heavy, margin in ((slice(100), True), (slice(100, None), False)):
        weight = np.full(200, 1e-6)
        weight[heavy] = 1
        scale = TargetScale.fit(columns, weight, np.array([False]))
        predicted = (found - scale.mean) / scale.scale
        assert (scale.with_margins(predicted, columns, weight).floor_margin[0] > 0) == margin


def test_a_regressor_has_margins(tiny, elastic):
    structures, y = elastic
    many_zero = np.maximum(np.asarray(y[:60]) - np.quantile(y[:60], 0.6), 0)
    model = DSSLRegressor(**{**tiny, "max_epochs": 0}, kernel_share=1, target_scale="linear")
    assert model.fit(structures[:60], many_zero).y_floor_margin_[0] > 0


def test_margins_of_a_regressor_survive_a_file(tiny, elastic, tmp_path):
    structures, y = elastic
    many_zero = np.maximum(np.asarray(y[:60]) - np.quantile(y[:60], 0.6), 0)
    model = DSSLRegressor(**tiny).fit(structures[:60], many_zero)
    model.y_floor_margin_ = np.array([0.05])
    predicted = model.predict(structures[:60])
    assert not ((predicted > 0) & (predicted < 0.05)).any()
    path = tmp_path / "model.safetensors"
    model.save(path)
    np.testing.assert_array_equal(DSSLRegressor.load(path).predict(structures[:60]), predicted)


def test_files_from_before_there_were_limits_have_none():
    targets = {"y_mean_": [1.0], "y_scale_": [2.0], "y_ndim_": 1}
    linear = with_scale(targets)
    for name in ("y_is_log_", "y_has_floor_", "y_has_ceiling_"):
        assert linear[name] == [False]
    assert linear["y_floor_margin_"] == linear["y_ceiling_margin_"] == [0.0]
    logarithms = with_scale({**targets, "y_is_log_": [True], "y_min_": [0.5], "y_max_": [4.0]})
    assert logarithms["y_is_log_"] == [True]
    assert logarithms["y_min_"] == [0.5]
    assert logarithms["y_has_floor_"] == [False]


def test_labels_that_crystals_say_nothing_about_are_predicted_close_to_their_median():
    groups, smooth = features_and_target()
    rng = np.random.default_rng(1)
    # Mostly 0, a few large, whatever the features: the median is hard to beat.
    noise = np.where(rng.random(len(smooth)) < 0.6, 0.0, rng.lognormal(size=len(smooth)))
    columns, weight = np.column_stack([smooth, noise]), np.ones(len(smooth))
    scale = TargetScale.fit(columns, weight, np.zeros(2, bool))
    predicted = left_out(scale, columns, groups)
    shrunk = scale.shrunk(predicted, columns, weight)
    plain, closer = scale.restore(predicted), shrunk.restore(predicted)
    np.testing.assert_array_equal(closer[:, 0], plain[:, 0])
    ratio = shrunk.scale[1] / scale.scale[1]
    assert 0.1 <= ratio <= 0.3
    # Differences to the median of 0 shrink; the order of the crystals stays.
    np.testing.assert_allclose(closer[:, 1], ratio * plain[:, 1], atol=1e-12)
    errors = np.abs(np.column_stack([plain[:, 1], closer[:, 1]]) - noise[:, None]).mean(axis=0)
    assert errors[1] < errors[0]


def test_shrinking_knows_weights_and_missing_labels():
    groups, smooth = features_and_target()
    rng = np.random.default_rng(2)
    columns = rng.lognormal(sigma=2, size=(len(smooth), 1))
    columns[::7] = np.nan
    weight = np.where(np.isnan(columns[:, 0]), 5.0, rng.integers(1, 3, len(smooth)))
    scale = TargetScale.fit(columns, weight, np.zeros(1, bool))
    predicted = left_out(scale, columns, groups)
    assert (np.isnan(predicted) == np.isnan(columns)).all()
    once = scale.shrunk(predicted, columns, weight)
    times = np.where(np.isnan(columns[:, 0]), 0, weight).astype(int)
    repeated = [np.repeat(values, times, axis=0) for values in (predicted, columns)]
    # One standard error of 100 labels is not that of twice as many: compare what is chosen.
    again = scale.shrunk(*repeated, np.ones(times.sum()))
    assert once.scale < scale.scale
    np.testing.assert_allclose([once.mean, once.scale], [again.mean, again.scale])


def test_no_shrinking_within_a_standard_error():
    n = 100
    columns, weight = np.random.default_rng(0).normal(size=(n, 1)), np.ones(n)
    scale = TargetScale.fit(columns, weight, np.zeros(1, bool))
    learned = scale.standardize(columns)
    center = np.sort(learned[:, 0])[n // 2 - 1]
    # Off the median by as good as nothing, in turn to the right and to the wrong side.
    away = np.where(np.argsort(np.argsort(columns, axis=0), axis=0) % 2, 1.0, -1.0) - 0.01
    predicted = center + 1e-3 * np.sign(learned - center) * away
    np.testing.assert_array_equal(scale.shrunk(predicted, columns, weight).scale, scale.scale)


def test_a_regressor_shrinks_by_the_labels_of_weight(tiny, elastic):
    """Shrinking suits labels at the median, but these hardly count."""
    structures, y = elastic
    heavy = np.arange(120) < 20
    labels, weight = np.where(heavy, y[:120], np.median(y[:20])), np.where(heavy, 1.0, 1e-6)
    model = DSSLRegressor(**{**tiny, "max_epochs": 0}, kernel_share=1, target_scale="linear")
    model.fit(structures[:120], labels, sample_weight=weight)
    _, deviation = mean_and_scale(labels[:, None], weight)
    assert model.y_scale_[0] == pytest.approx(deviation[0])


@pytest.mark.parametrize("weighted", [False, True])
def test_two_thirds_of_the_labels_are_within_the_calibrated_deviation(weighted):
    rng = np.random.default_rng(0)
    columns = np.where(rng.random(400) < 0.6, 0.0, rng.lognormal(size=400))[:, None]
    found = LeftOut(rng.normal(-0.5, 1, size=(400, 1)), rng.uniform(0.5, 2, (400, 1)))
    weight = np.where(weighted & (found.deviations[:, 0] < 1), 20.0, 1.0)
    scale = TargetScale.fit(columns, weight, np.zeros(1, bool))
    predicted = scale.restore(found.predictions)
    std = scale.calibration(found, columns, weight) * found.deviations * scale.scale
    within = np.abs(predicted - columns) <= std
    counts = np.where((predicted > 0) | (columns > 0), weight[:, None], 0.0)
    assert 0.2 < (counts == 0).mean() < 0.6
    assert np.average(within, weights=counts) == pytest.approx(0.683, abs=0.01)


def test_only_absolute_errors_shrink(tiny, elastic):
    structures, _ = elastic
    y = np.random.default_rng(0).lognormal(sigma=2, size=60)
    params = {"target_scale": "linear", "max_epochs": 1}
    deviations = [
        DSSLRegressor(**{**tiny, **params}, loss=loss).fit(structures[:60], y).y_scale_[0]
        for loss in ("mae", "mse")
    ]
    assert deviations[0] < 0.9 * deviations[1]
    _, deviation = mean_and_scale(y[:, None], np.ones(60))
    np.testing.assert_allclose(deviations[1], deviation[0], rtol=1e-6)
