import sys

import pandas as pd
import pytest
from matplotlib import pyplot as plt

from dssl_sklearn.evaluation import PretrainingComparison
from dssl_sklearn.exceptions import InvalidInputError, MissingDependencyError

TITLES = {
    "median": "median",
    "scratch": "network from scratch",
    "pretrained": "pretrained network, fine-tuned",
}


def made(pretrained, scratch=(1.0, 2.0, 3.0), counts=None, without=()):
    """A result with these errors of the pretrained network, per label count if there are counts."""
    rows = []
    for count, errors in (pretrained if counts else {80: pretrained}).items():
        of_method = {"median": [5.0] * len(scratch), "scratch": scratch, "pretrained": errors}
        rows += [
            {"method": m, "fold": fold, "n_labels": count, "mae": e, "fit_seconds": 0.5}
            for m, es in of_method.items()
            for fold, e in enumerate(es)
            if m not in without
        ]
    titles = {name: title for name, title in TITLES.items() if name not in without}
    return PretrainingComparison(
        pd.DataFrame(rows),
        titles=titles,
        pretrained="mp",
        n_structures=120,
        feature_source="",
        is_curve=bool(counts),
    )


BETTER, WORSE, NOISE = [0.8, 1.79, 2.81], [1.2, 2.21, 3.19], [1.2, 1.7, 3.1]


@pytest.fixture
def curve():
    return made({20: BETTER, 80: WORSE}, counts=True)


def test_summary_of_folds():
    summary = made(BETTER).summary()
    assert summary.index.tolist() == ["median", "scratch", "pretrained"]
    assert summary.loc["scratch", ["mae", "std"]].tolist() == [2.0, 1.0]
    row = summary.loc["pretrained"]
    assert row["vs_scratch"] == pytest.approx(-0.2)
    assert row["vs_scratch_percent"] == pytest.approx(-10.0)
    assert row["vs_scratch_low"] < -0.2 < row["vs_scratch_high"] < 0
    assert row["vs_scratch_low_percent"] == pytest.approx(50 * row["vs_scratch_low"])
    assert summary.loc["scratch"].filter(like="vs_").isna().all()


def test_summary_of_a_curve(curve):
    summary = curve.summary()
    assert summary.index.names == ["method", "n_labels"]
    assert summary.loc[("pretrained", 20), "vs_scratch"] == pytest.approx(-0.2)
    assert summary.loc[("pretrained", 80), "vs_scratch"] == pytest.approx(0.2)
    assert curve.difference(n_labels=20).is_better
    assert curve.difference().is_worse
    with pytest.raises(InvalidInputError, match=r"expected one of \[20, 80\]"):
        curve.difference(n_labels=21)


@pytest.mark.parametrize(
    "errors, negative, words",
    [
        (BETTER, False, "Pretraining helped: it changed the error by -10.0 %"),
        (WORSE, True, "Negative transfer: pretraining changed the error by +10.0 %"),
        (NOISE, False, "Pretraining made no difference beyond noise"),
    ],
)
def test_verdicts(errors, negative, words):
    result = made(errors)
    assert result.negative_transfer is negative
    assert words in result.verdict()
    assert words in result.report()
    assert f"negative_transfer={negative}" in repr(result)


def test_a_curve_is_judged_point_by_point(curve):
    first, second = curve.verdict().splitlines()
    assert first.startswith("With 20 labels: Pretraining helped")
    assert second.startswith("With 80 labels: Negative transfer")
    assert curve.negative_transfer


def test_one_fold_is_not_enough():
    result = made([2.0], scratch=[1.0])
    assert not result.negative_transfer
    assert "A single fold" in result.verdict()


def test_the_report_names_methods_and_the_best(curve):
    report = made(BETTER).report()
    assert "Lowest error: pretrained network, fine-tuned." in report
    assert "120 structures over 3 folds; pretrained: mp" in report
    assert all(title in report for title in TITLES.values())
    assert "-10.0 % [" in report
    assert "Lowest error with the most labels: network from scratch." in curve.report()


def test_without_scratch_there_is_nothing_to_compare():
    result = made(BETTER, without=["scratch"])
    assert result.difference() is None
    assert not result.negative_transfer
    assert "needs both methods" in result.report()


def test_bars_show_every_method_and_fold():
    ax = made(BETTER).plot()
    assert [bar.get_width() for bar in ax.patches] == pytest.approx([5.0, 2.0, 1.8])
    assert [label.get_text() for label in ax.get_yticklabels()] == list(TITLES.values())
    assert sum(len(line.get_xdata()) for line in ax.lines) == 9
    plt.close(ax.figure)


def test_curves_go_where_they_are_told(curve):
    figure, ax = plt.subplots()
    assert curve.plot(ax=ax) is ax
    assert [text.get_text() for text in ax.get_legend().get_texts()] == list(TITLES.values())
    assert ax.get_xscale() == "log"
    plt.close(figure)


def test_a_missing_matplotlib_is_explained(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(MissingDependencyError, match=r"dssl_sklearn\[plot\]"):
        made(BETTER).plot()
