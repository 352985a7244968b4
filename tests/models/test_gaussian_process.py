import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern

from dssl_sklearn.exceptions import InvalidInputError
from dssl_sklearn.models import gaussian_process
from dssl_sklearn.models.gaussian_process import GaussianProcess
from dssl_sklearn.models.kernels import _SMALLEST_NOISE, noise_of


def groups_of(values):
    """Two groups of features."""
    return [torch.tensor(values[:, :2]), torch.tensor(values[:, 2:])]


def fit(groups, targets, weight):
    return GaussianProcess.fit_and_leave_out(groups, targets, weight)[0]


@pytest.fixture(scope="module")
def sample():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(150, 5)) * [1, 10, 0.1, 1, 1] + [0, 5, 0, 0, 0]
    y = np.sin(values[:, 0]) + 3 * values[:, 2] ** 2 + 0.02 * rng.normal(size=150)
    return values, ((y - y.mean()) / y.std())[:, None]


def fitted(sample, rows=slice(0, 100), y=None, weight=None):
    values, targets = sample
    targets = targets[rows] if y is None else y
    weight = np.ones(len(targets)) if weight is None else weight
    return fit(groups_of(values[rows]), targets, weight)


def error(process, sample):
    values, y = sample
    return np.abs(process.predict(groups_of(values[100:])) - y[100:]).mean(axis=0)


def test_learns_what_some_features_of_some_groups_decide(sample):
    assert error(fitted(sample), sample)[0] < 0.15
    assert np.abs(sample[1][100:]).mean() > 0.5


@pytest.mark.parametrize("jointly", [False, True])
def test_learns_from_more_labels_than_tune_it(sample, jointly, monkeypatch):
    monkeypatch.setattr(gaussian_process, "N_TUNED", 40)
    groups, y = groups_of(sample[0][:100]), sample[1][:100]
    process, _ = GaussianProcess.fit_and_leave_out(groups, y, np.ones(100), jointly=jointly)
    assert error(process, sample)[0] < 0.2


def test_chunks_do_not_show(sample, monkeypatch):
    process, new = fitted(sample), groups_of(sample[0][100:])
    at_once = process.predict(new), *process.predict_with_deviation(new)
    monkeypatch.setattr(gaussian_process, "_CHUNK", 7)
    in_chunks = process.predict(new), *process.predict_with_deviation(new)
    np.testing.assert_allclose(in_chunks, at_once, atol=1e-9)


def test_equals_scikit_learn_with_the_same_kernel(sample):
    """With one group, both terms have the same form; the noise is that of the labels' trust."""
    values, y = sample[0][:59], sample[1][:59]
    process = fit([torch.tensor(values)], y, np.ones(59))
    together, alone, first, second, noise = process.log_params[0].exp().tolist()
    n = values.shape[1]
    kernel = ConstantKernel(first) * Matern(np.sqrt(n * together), nu=1.5)
    kernel += ConstantKernel(second) * Matern(np.sqrt(n * alone), nu=1.5)
    x = ((torch.tensor(values) - process.center) * process.scale).numpy()
    offset = float(process.offset)
    trust, extra = np.ones(59), np.zeros(59)
    for _ in range(3):
        alpha = (noise + _SMALLEST_NOISE) / trust + extra
        inverse = np.linalg.inv(kernel(x) + np.diag(alpha))
        centered = y[:, 0] - (inverse @ y).sum() / inverse.sum()
        left_out = inverse @ centered / np.diag(inverse)
        far = np.abs(left_out) / (1.4826 * np.median(np.abs(left_out)))
        trust = np.minimum(1, 1.5 / far)
        extra = (1 / np.diag(inverse) - extra) * np.maximum(far / 6 - 1, 0)
    theirs = GaussianProcessRegressor(
        kernel, alpha=(noise + _SMALLEST_NOISE) / trust + extra, optimizer=None
    ).fit(x, y[:, 0] - offset)
    new = sample[0][100:]
    expected = theirs.predict((new - process.center.numpy()) * process.scale.numpy()) + offset
    found = process.predict([torch.tensor(new)])[:, 0]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_outliers_hardly_matter(sample):
    y = sample[1][:100].copy()
    y[::20] += 15
    robust = error(fitted(sample, y=y), sample)[0]
    least_squares = np.abs(y.mean() - y[1:20].mean())
    assert robust < 0.3 < least_squares


def test_a_label_that_is_wrong_by_far_does_not_count(sample):
    y = sample[1][:100].copy()
    y[7] = -3000
    assert error(fitted(sample, y=y), sample)[0] < 0.15


def test_where_most_labels_are_equal_the_others_are_no_outliers(sample):
    """Cut at a median deviation of 0, all that is known of them would be whether they are equal."""
    y = np.maximum(sample[1][:100] - 0.3, 0.0)
    assert (y == 0).mean() > 0.5
    zero_or_more = fitted(sample, y=np.sign(y))
    assert not torch.allclose(fitted(sample, y=y).log_params, zero_or_more.log_params)


@pytest.mark.parametrize("share", [0.9, 0.95])
def test_a_few_labels_that_differ_are_learned(share):
    """Where most are 0, the errors of the others are far out, and yet no mistakes."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(300, 3))
    y = np.where(values[:, 0] > np.quantile(values[:, 0], share), 1.5 + values[:, 0], 0.0)
    groups = [torch.tensor(values)]
    mean, deviation = y[:100].mean(), y[:100].std()
    process = fit([groups[0][:100]], ((y[:100] - mean) / deviation)[:, None], np.ones(100))
    found = process.predict([groups[0][100:]])[:, 0] * deviation + mean
    differ = y[100:] != 0
    assert found[differ].mean() > 0.4 * y[100:][differ].mean()
    assert abs(found[~differ].mean()) < 0.2


def test_rounding_errors_are_no_features(sample):
    """As the deviation over the sites of what all sites have alike, in single precision."""
    rng = np.random.default_rng(0)
    values, y = sample
    noise = torch.tensor(1e-7 * rng.normal(size=(150, 3)))
    groups = [*groups_of(values), noise]
    process = fit([g[:100] for g in groups], y[:100], np.ones(100))
    assert (process.scale[-3:] == 0).all()
    assert (process.scale[:-3] > 0).all()


def test_unknown_targets_are_left_out_one_by_one(sample):
    y = np.hstack([sample[1][:100], -sample[1][:100]])
    y[50:, 0] = np.nan
    both = fitted(sample, y=y)
    assert (both.weights[0, 50:] == 0).all()
    assert (both.weights[1] != 0).all()
    alone = fitted(sample, y=-sample[1][:100])
    new = groups_of(sample[0][100:])
    np.testing.assert_allclose(both.predict(new)[:, 1], alone.predict(new)[:, 0], atol=1e-9)


def test_weight_is_trust(sample):
    """What has hardly any weight could as well be missing."""
    y = sample[1][:100].copy()
    y[60:] = 3.0
    weight = np.where(np.arange(100) < 60, 1.0, 1e-9)
    assert error(fitted(sample, y=y, weight=weight), sample)[0] < 0.35
    assert error(fitted(sample, y=y), sample)[0] > 0.5


def test_labels_of_little_weight_teach_no_noise(sample):
    y = sample[1][:100].copy()
    y[60:] = np.random.default_rng(0).normal(size=(40, 1))
    weight = np.where(np.arange(100) < 60, 1.0, 1e-9)
    without = fitted(sample, rows=slice(0, 60))
    process = fitted(sample, y=y, weight=weight)
    assert process.log_params[0, -1] < without.log_params[0, -1] + 1
    assert error(process, sample)[0] < 1.5 * error(without, sample)[0]


def test_does_not_run_away(sample):
    """Features far outside of what was seen are cut."""
    values = sample[0][100:] * 1e9
    assert np.abs(fitted(sample).predict(groups_of(values))).max() < np.abs(sample[1]).max()


@pytest.mark.parametrize("y", [np.zeros((30, 1)), np.repeat([[0.0], [1.0]], 15, axis=0)])
def test_degenerate_input_stays_finite(y):
    """Constant targets, features that never vary, equal crystals."""
    same = np.ones((30, 5))
    process = fit(groups_of(same), y, np.ones(30))
    found = process.predict(groups_of(same * 7))
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, y.mean(), atol=0.51)


def test_repeats_exactly(sample):
    first, second = fitted(sample), fitted(sample)
    assert all(
        torch.equal(tensor, second.to_tensors()[name])
        for name, tensor in first.to_tensors().items()
    )


def test_round_trip(sample):
    process = fitted(sample)
    again = GaussianProcess.from_tensors(process.to_tensors(), 1)
    new = groups_of(sample[0][100:])
    np.testing.assert_array_equal(again.predict(new), process.predict(new))
    copied = pickle.loads(pickle.dumps(process))
    for other in (again, copied):
        both = other.predict_with_deviation(new), process.predict_with_deviation(new)
        np.testing.assert_array_equal(*both)
    assert "_factors" in vars(process)
    assert len(pickle.dumps(process)) < 1.1 * len(pickle.dumps(process.to_tensors()))


def test_files_from_before_the_noise_was_kept(sample):
    process = fitted(sample)
    tensors = process.to_tensors()
    del tensors["noise"]
    again, new = GaussianProcess.from_tensors(tensors, 1), groups_of(sample[0][100:])
    assert process.knows_noise
    assert not again.knows_noise
    np.testing.assert_array_equal(again.predict(new), process.predict(new))


def test_deviation_is_that_of_the_labels_left_out(sample):
    """Where a label is left out, it is a new one: the same deviation, but for its own noise."""
    values, y = sample
    process, left_out = GaussianProcess.fit_and_leave_out(
        groups_of(values[:100]), y[:100], np.ones(100)
    )
    one = replace(
        process,
        inputs=process.inputs[1:],
        weights=process.weights[:, 1:],
        noise=process.noise[:, 1:],
    )
    _, found = one.predict_with_deviation(groups_of(values[:1]))
    more = process.noise[0, 0].item() - noise_of(process.log_params[0]).item()
    assert found[0, 0] ** 2 + more == pytest.approx(left_out.deviations[0, 0] ** 2, rel=0.05)


def test_deviation_grows_away_from_the_labels(sample):
    process = fitted(sample)
    near, far = groups_of(sample[0][:5]), groups_of(sample[0][:5] + 50)
    (_, of_far), (_, of_near) = map(process.predict_with_deviation, (far, near))
    assert (of_far > of_near).all()


def test_deviations_stand_beside_the_same_predictions(sample):
    y = np.hstack([sample[1][:100], -sample[1][:100], sample[1][:100]])
    y[50:, 0] = np.nan
    process, new = fitted(sample, y=y), groups_of(sample[0][100:])
    predicted, deviation = process.predict_with_deviation(new)
    np.testing.assert_array_equal(predicted, process.predict(new))
    some = {name: getattr(process, name)[:1, :50] for name in ("weights", "noise")}
    some |= {name: getattr(process, name)[:1] for name in ("log_params", "offset")}
    of_known = replace(process, inputs=process.inputs[:50], **some).predict_with_deviation(new)
    for every, first in zip((predicted, deviation), of_known, strict=True):
        np.testing.assert_allclose(every[:, :1], first, rtol=1e-9)


@pytest.mark.parametrize("some_unknown", [False, True])
def test_each_target_has_deviations_of_its_own(sample, some_unknown):
    y = np.hstack([sample[1][:100], np.random.default_rng(1).normal(size=(100, 1))])
    if some_unknown:
        y[::3, 0] = np.nan
    process, new = fitted(sample, y=y), groups_of(sample[0][100:])
    assert process.knows_noise
    _, deviation = process.predict_with_deviation(new)
    for k in range(2):
        _, alone = fitted(sample, y=y[:, [k]]).predict_with_deviation(new)
        np.testing.assert_allclose(deviation[:, [k]], alone, atol=1e-9)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda t: t.pop("offset"), "offset"),
        (lambda t: t.update(more=t["offset"]), "more"),
        (lambda t: t.update(sizes=t["sizes"] + 1), "expected float64 of shape"),
        (lambda t: t.update(sizes=torch.tensor([-1, 6])), "sizes"),
        (lambda t: t.update(weights=t["weights"][:, :-1]), "weights"),
        (lambda t: t.update(inputs=t["inputs"].float()), "inputs"),
        (lambda t: t.update(inputs=torch.tensor(1.0)), "inputs"),
        (lambda t: t.update(scale=t["scale"] / 0), "not all finite"),
        (lambda t: t.update(noise=-t["noise"]), "not all >= 0"),
    ],
)
def test_refuses_what_does_not_fit(sample, change, message):
    tensors = dict(fitted(sample).to_tensors())
    change(tensors)
    with pytest.raises(InvalidInputError, match=message):
        GaussianProcess.from_tensors(tensors, 1)


def test_hyperparameters_of_several_targets_at_once(sample):
    values, y = sample
    groups, weight = groups_of(values[:100]), np.ones(100)
    # A mirrored target has the same likelihood, hence the hyperparameters of one alone.
    both = np.hstack([y[:100], -y[:100]])
    process, left_out = GaussianProcess.fit_and_leave_out(groups, both, weight, jointly=True)
    alone = fitted(sample)
    torch.testing.assert_close(process.log_params, alone.log_params.expand(2, -1))
    predicted = left_out.predictions
    np.testing.assert_allclose(predicted[:, 0], -predicted[:, 1], atol=1e-9)
    new = groups_of(values[100:])
    found = process.predict(new)
    np.testing.assert_allclose(found[:, 0], -found[:, 1], atol=1e-9)
    np.testing.assert_allclose(found[:, :1], alone.predict(new), atol=0.15)
    # Different targets share them, and neither goes without.
    other = np.sin(values[:100, 4:])
    process, _ = GaussianProcess.fit_and_leave_out(
        groups, np.hstack([y[:100], other]), weight, jointly=True
    )
    torch.testing.assert_close(process.log_params[0], process.log_params[1])
    found = np.abs(process.predict(new)[:, 1] - np.sin(values[100:, 4])).mean()
    assert found < 0.6 * np.abs(np.sin(values[100:, 4])).mean()


def test_scores_of_a_rare_class_are_no_outliers(sample):
    """Where nothing tells the classes apart, the scores are their frequencies."""
    rare = (np.random.default_rng(0).random(100) < 0.1).astype(float)
    scores = np.column_stack([1 - rare, rare])
    deviation = scores.std(axis=0)
    process, _ = GaussianProcess.fit_and_leave_out(
        groups_of(sample[0][:100]),
        (scores - scores.mean(axis=0)) / deviation,
        np.ones(100),
        jointly=True,
    )
    found = process.predict(groups_of(sample[0][100:])) * deviation + scores.mean(axis=0)
    assert found[:, 1].mean() == pytest.approx(rare.mean(), abs=0.03)
