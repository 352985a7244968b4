import numpy as np
import pytest
from sklearn.model_selection import KFold

from dssl_sklearn import DSSLPretrainer
from dssl_sklearn.evaluation import compare_pretraining, comparison
from dssl_sklearn.evaluation.methods import Start, make_methods
from dssl_sklearn.exceptions import (
    InvalidInputError,
    InvalidStructureError,
    NegativeTransferWarning,
    WeightsError,
)
from dssl_sklearn.model_selection import FormulaKFold

ALL = ["median", "forest", "svr", "scratch", "pretrained", "embeddings"]
QUICK = {"max_epochs": 1, "batch_size": 8}


@pytest.fixture(scope="module")
def data(elastic):
    return elastic[0][:30], elastic[1][:30]


@pytest.fixture
def compare(data, fitted_pretrainer):
    """Compare on few crystals with a tiny network."""

    def call(structures=data[0], y=data[1], **kwargs):
        given = {
            "pretrained": fitted_pretrainer,
            "cv": 2,
            "estimator_params": QUICK,
            "random_state": 0,
            **kwargs,
        }
        return compare_pretraining(structures, y, **given)

    return call


@pytest.mark.filterwarnings("ignore::dssl_sklearn.exceptions.NegativeTransferWarning")
def test_every_method_on_the_same_folds(compare, data):
    result = compare()
    folds = result.folds
    assert folds.columns.tolist() == ["method", "fold", "n_labels", "mae", "fit_seconds"]
    assert folds["method"].tolist() == [name for name in ALL for _ in range(2)]
    assert (folds["n_labels"] == 15).all()
    assert np.isfinite(folds["mae"]).all()
    assert result.feature_source == "built-in"
    # The folds are those that the seed draws, and the median is the plainest method.
    seed = int(np.random.RandomState(0).randint(2**31 - 1))
    y = np.asarray(data[1])
    for fold, (train, test) in enumerate(KFold(2, shuffle=True, random_state=seed).split(y)):
        expected = np.abs(y[test] - np.median(y[train])).mean()
        assert folds["mae"][fold] == pytest.approx(expected)


def test_the_median_needs_no_features(compare, monkeypatch):
    monkeypatch.setattr(comparison, "composition_features", None)
    assert compare(methods=["median"]).feature_source == ""


def test_the_seed_repeats_the_errors(compare):
    wanted = {"methods": ["svr", "pretrained"]}
    first, second = compare(**wanted), compare(**wanted)
    np.testing.assert_array_equal(first.folds["mae"], second.folds["mae"])
    assert (compare(**wanted, random_state=1).folds["mae"] != first.folds["mae"]).any()


def test_processes_change_nothing(compare):
    wanted = {"methods": ["median", "scratch"]}
    one = compare(**wanted)
    two = compare(**wanted, n_jobs=2)
    np.testing.assert_allclose(one.folds["mae"], two.folds["mae"], rtol=1e-6)
    assert one.folds["method"].tolist() == two.folds["method"].tolist()


@pytest.mark.filterwarnings("ignore:max_epochs=0")
def test_scratch_has_the_network_of_the_pretrained(data, fitted_pretrainer, tiny, tiny_paper):
    cases = [
        ("mp", {}),
        (fitted_pretrainer, {}),
        (fitted_pretrainer, {"recipe": "paper"}),
        (fitted_pretrainer, {"readout": "mean_std"}),
        (DSSLPretrainer(**{**tiny, "readout": "mean", "cutoff": 6.0}), {}),
        (DSSLPretrainer(**{**tiny, "readout": "mean_std"}), {}),
        (DSSLPretrainer(pretrained=fitted_pretrainer, max_epochs=0), {}),
        (DSSLPretrainer(**{**tiny_paper, "max_epochs": 0}), {}),
    ]
    for pretrained, params in cases:
        methods = make_methods(Start.of(pretrained), {**params, "max_epochs": 0})
        scratch, start = methods["scratch"].make(5), methods["pretrained"].make(5)
        assert scratch.pretrained is None
        assert start.pretrained is pretrained
        of_network = {"backbone", "backbone_params", "readout", "cutoff", "max_neighbors"}
        others = scratch.get_params(deep=False).keys() - of_network - {"pretrained"}
        assert all(getattr(scratch, name) == getattr(start, name) for name in others)
        architectures = [m.fit(data[0][:8], data[1][:8]).architecture_ for m in (scratch, start)]
        assert architectures[0] == architectures[1]


def test_an_unfitted_pretrainer_learns_in_every_fold(compare, tiny):
    result = compare(
        pretrained=DSSLPretrainer(**{**tiny, "max_epochs": 1}),
        methods=["pretrained", "embeddings"],
    )
    assert np.isfinite(result.folds["mae"]).all()


def test_subsets_of_a_curve_are_nested(data):
    structures, y = data
    splits = comparison._splits(structures, np.asarray(y), 3, [8, 16], seed=3)
    assert [(s.fold, len(s.train)) for s in splits] == [(f, n) for f in range(3) for n in (8, 16)]
    for small, large in zip(splits[::2], splits[1::2], strict=True):
        assert set(small.train) < set(large.train)
        assert not set(large.train) & set(large.test)
        assert (small.test == large.test).all()


def test_a_learning_curve(compare):
    result = compare(methods=["median", "svr"], label_counts=[15, 8])
    assert result.summary().index.tolist() == [
        *(("median", 8), ("median", 15), ("svr", 8), ("svr", 15)),
    ]


def test_folds_may_be_any_of_scikit_learns(compare, data):
    splitter = FormulaKFold(3)
    by_splitter = compare(cv=splitter, methods=["median"])
    by_list = compare(cv=list(splitter.split(data[0])), methods=["median"])
    assert by_splitter.folds["mae"].tolist() == by_list.folds["mae"].tolist()
    assert by_splitter.folds["fold"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("label_counts", [None, [8, 15]])
def test_parts_of_folds_may_be_masks_or_lists(compare, label_counts):
    wanted = {"methods": ["median"], "label_counts": label_counts}
    rows = np.arange(30)
    by_rows = compare(cv=[(rows[:20], rows[20:])], **wanted).folds
    for cv in ([(rows < 20, rows >= 20)], [(rows[:20].tolist(), rows[20:].tolist())]):
        found = compare(cv=cv, **wanted).folds
        assert found["n_labels"].tolist() == by_rows["n_labels"].tolist() == (label_counts or [20])
        assert found["mae"].tolist() == by_rows["mae"].tolist()


def test_negative_transfer_is_announced(compare, monkeypatch):
    def cell(name, _, split, **_kwargs):
        mae = 1.0 + 0.01 * split.fold + 0.5 * (name == "pretrained")
        return {"method": name, "fold": split.fold, "n_labels": 15, "mae": mae, "fit_seconds": 0.0}

    monkeypatch.setattr(comparison, "_cell", cell)
    with pytest.warns(NegativeTransferWarning, match=r"Negative transfer: .* \+49"):
        result = compare(cv=3, methods=["scratch", "pretrained"])
    assert result.negative_transfer


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"methods": ["forests"]}, "did you mean 'forest'"),
        ({"methods": "forest"}, "expected a list"),
        ({"methods": []}, "expected a list"),
        ({"cv": 1}, "cv must be an integer >= 2"),
        ({"cv": 31}, "cv=31 folds of 30"),
        ({"label_counts": [8, 16]}, "none above 15"),
        ({"label_counts": [3]}, "label_counts must be an integer >= 6"),
        ({"label_counts": []}, "one number at least"),
        ({"pretrained": None}, "pretrained is None"),
        ({"y": [1.0] * 29}, "inconsistent lengths: 30 structures, 29"),
        ({"y": [[1.0, 2.0]] * 30}, "one target per structure"),
        ({"y": [1.0] * 29 + [np.nan]}, "the first at position 29"),
    ],
)
def test_mistakes_are_explained(compare, arguments, message):
    with pytest.raises(InvalidInputError, match=message):
        compare(**arguments)


def test_bad_structures_and_weights_are_named(compare, data):
    with pytest.raises(InvalidStructureError, match="structure 3: not a structure"):
        compare([*data[0][:3], 7, *data[0][4:]])
    with pytest.raises(WeightsError, match="neither the name of shipped weights"):
        compare(pretrained="mpp")
    with pytest.raises(WeightsError, match="did you mean 'mp-distilled'"):
        compare(pretrained="mp_distilled")


def test_unknown_arguments_of_the_networks_are_named(compare):
    with pytest.raises(InvalidInputError, match=r"has 'max_epoch'.*did you mean 'max_epochs'"):
        compare(methods=["median"], estimator_params={"max_epoch": 1})


def test_an_error_says_which_method_it_was(compare):
    with pytest.raises(ValueError, match="max_epochs") as caught:
        compare(methods=["scratch"], estimator_params={"max_epochs": -1})
    assert "method 'scratch', fold 0" in caught.value.__notes__[0]


def test_progress_is_shown_when_asked_for(compare, capsys):
    compare(methods=["median"], verbose=1)
    assert "method x fold" in capsys.readouterr().err
    compare(methods=["median"])
    assert not capsys.readouterr().err
