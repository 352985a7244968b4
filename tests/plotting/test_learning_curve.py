import numpy as np
import pandas as pd
import pytest

from dssl_sklearn.exceptions import InvalidInputError
from dssl_sklearn.plotting import LearningCurveDisplay


@pytest.fixture
def folds():
    rng = np.random.default_rng(0)
    rows = [
        (method, fold, n, level * n**-0.3 * rng.uniform(0.9, 1.1))
        for method, level in (("from scratch", 2.0), ("pretrained", 1.5))
        for n in (400, 50, 100)
        for fold in range(4)
    ]
    return pd.DataFrame(rows, columns=["method", "fold", "n_labels", "mae"])


def test_curves_are_the_means(folds):
    display = LearningCurveDisplay.from_frame(folds, target_name="gap", unit="eV")
    for line, method in zip(display.ax_.get_lines(), ("from scratch", "pretrained"), strict=True):
        expected = folds[folds["method"] == method].groupby("n_labels")["mae"].mean()
        assert line.get_label() == method
        assert line.get_xdata().tolist() == [50, 100, 400]
        np.testing.assert_allclose(line.get_ydata(), expected)
    assert display.ax_.get_ylabel() == "MAE of gap (eV)"
    assert display.ax_.get_xscale() == "log"
    assert [tick.get_text() for tick in display.ax_.get_xticklabels()] == ["50", "100", "400"]


@pytest.mark.parametrize("spread", ["std", "range"])
def test_bands_are_the_spread(folds, spread):
    display = LearningCurveDisplay.from_frame(folds, spread=spread, log=False)
    band = display.ax_.collections[0].get_paths()[0].vertices
    of_50 = folds[(folds["method"] == "from scratch") & (folds["n_labels"] == 50)]["mae"]
    low, high = of_50.min(), of_50.max()
    if spread == "std":
        low, high = of_50.mean() - of_50.std(), of_50.mean() + of_50.std()
    at_50 = band[band[:, 0] == 50][:, 1]
    np.testing.assert_allclose([at_50.min(), at_50.max()], [low, high])


def test_a_single_fold_or_count_is_drawn(folds, texts):
    for some in (folds[folds["fold"] == 0], folds[folds["n_labels"] == 50], folds[:1]):
        assert texts(LearningCurveDisplay.from_frame(some).figure_)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda f: f.drop(columns="mae"), "lacks the column 'mae'"),
        (lambda f: f.assign(n_labels="many"), "'n_labels' of type"),
        (lambda f: f.assign(mae=np.nan), "no row with a known 'mae'"),
        (lambda f: f.to_dict(), "must be a pandas DataFrame, got dict"),
    ],
)
def test_bad_frames_are_explained(folds, change, message):
    with pytest.raises(InvalidInputError, match=message):
        LearningCurveDisplay.from_frame(change(folds))


def test_spread_is_checked(folds):
    with pytest.raises(InvalidInputError, match="spread must be one of"):
        LearningCurveDisplay.from_frame(folds, spread="sem")
