import numpy as np
import pytest
from sklearn.dummy import DummyRegressor

from dssl_sklearn.exceptions import InvalidInputError
from dssl_sklearn.plotting import ParityDisplay


class _WithStd:
    def predict(self, X, *, return_std=False):
        mean = np.array([[x, 10 * x] for x in X], dtype=float)
        return (mean, 0.1 * mean) if return_std else mean


@pytest.fixture
def values():
    rng = np.random.default_rng(0)
    true = rng.normal(size=200)
    return true, true + 0.1 * rng.normal(size=200)


def test_scores_are_in_the_legend(values, texts):
    true, predicted = values
    display = ParityDisplay.from_predictions(true, predicted, target_name="gap", unit="eV")
    assert display.mae_ == pytest.approx(np.abs(true - predicted).mean())
    assert display.rmse_ == pytest.approx(np.sqrt(np.square(true - predicted).mean()))
    assert display.r2_ == pytest.approx(1 - np.square(true - predicted).sum() / true.var() / 200)
    said = "\n".join(texts(display.figure_))
    for part in (f"MAE {display.mae_:.3g} eV", "RMSE", "R^2", "200 structures"):
        assert part in said
    assert display.ax_.get_xlabel() == "true gap (eV)"
    assert display.ax_.get_ylabel() == "predicted gap (eV)"


def test_every_point_is_drawn_and_dense_ones_last(values):
    display = ParityDisplay.from_predictions(*values)
    (points,) = display.ax_.collections
    assert sorted(map(tuple, points.get_offsets())) == sorted(zip(*values, strict=True))
    density = np.asarray(points.get_array())
    assert (np.diff(density) >= 0).all()
    middle = np.abs(np.asarray(points.get_offsets())[:, 0])
    assert middle[density > 0.8].mean() < middle[density < 0.2].mean()


def test_the_histogram_counts_all_errors(values):
    true, predicted = values
    predicted = predicted.copy()
    predicted[0] += 50
    display = ParityDisplay.from_predictions(true, predicted)
    assert sum(bar.get_width() for bar in display.error_ax_.patches) == len(true)
    assert display.error_ax_.get_ylim()[1] < 1
    assert ParityDisplay.from_predictions(true, predicted, error_histogram=False).error_ax_ is None


def test_unknown_rows_are_left_out(texts):
    display = ParityDisplay.from_predictions([1, 2, np.nan, 4], [1, np.nan, 3, 5], y_std=[1] * 4)
    assert display.y_true.tolist() == [1, 4]
    assert display.y_std.tolist() == [1, 1]
    assert "2 structures" in "\n".join(texts(display.figure_))


@pytest.mark.parametrize("n", [1, 2, 50])
def test_odd_predictions_are_drawn(n, texts):
    true = np.arange(n, dtype=float)
    for predicted in (true, np.zeros(n), 2 * true + 1):
        assert texts(ParityDisplay.from_predictions(true, predicted).figure_)


def test_a_target_and_its_deviation_are_chosen():
    y = np.array([[1.0, 11.0], [2.0, 19.0]])
    display = ParityDisplay.from_estimator(_WithStd(), [1, 2], y, target=1, return_std=True)
    assert display.y_pred.tolist() == [10, 20]
    assert display.y_std.tolist() == [1, 2]
    assert len(display.ax_.containers) == 1
    plain = ParityDisplay.from_estimator(_WithStd(), [1, 2], y)
    assert plain.y_std is None
    assert not plain.ax_.containers


def test_any_regressor_will_do(elastic):
    structures, y = elastic[0][:10], elastic[1][:10]
    model = DummyRegressor().fit(structures, y)
    assert ParityDisplay.from_estimator(model, structures, y).r2_ == pytest.approx(0)


@pytest.mark.parametrize(
    "true, predicted, std, message",
    [
        ([1, 2], [1], None, "y_pred has 1 entries, expected 2"),
        (["a"], [1], None, "y_true must hold numbers"),
        ([[1, 2]], [1], None, "choose one target at a time"),
        ([np.nan], [1], None, "no row in which both are finite"),
        ([1, 2], [1, 2], [0.1, -1], "y_std is negative at position 1"),
    ],
)
def test_bad_values_are_explained(true, predicted, std, message):
    with pytest.raises(InvalidInputError, match=message):
        ParityDisplay.from_predictions(true, predicted, y_std=std)


def test_a_target_that_is_not_there():
    with pytest.raises(InvalidInputError, match="target must be the index"):
        ParityDisplay.from_estimator(_WithStd(), [1], [[1, 2]], target=2)
