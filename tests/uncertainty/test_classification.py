import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.base import clone, is_classifier
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import StackingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import ShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.utils import get_tags

from dssl_sklearn import DSSLClassifier
from dssl_sklearn.exceptions import InvalidInputError, SkippedStructuresWarning
from dssl_sklearn.uncertainty import ConformalClassifier


@pytest.fixture(scope="session")
def hardness(elastic_table):
    """Embeddings with three classes of the bulk modulus."""
    X, y = elastic_table
    return X, np.array(["soft", "medium", "stiff"])[np.digitize(y, [1.7, 2.1])]


def logistic():
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))


@pytest.mark.parametrize("level", [0.8, 0.9])
def test_coverage_is_as_stated(hardness, level):
    X, y = hardness
    shares, sizes = [], []
    splitter = ShuffleSplit(15, train_size=200, random_state=0)
    for seed, (train, test) in enumerate(splitter.split(X)):
        model = ConformalClassifier(logistic(), confidence_level=level, cv=2, random_state=seed)
        _, sets = model.fit(X[train], y[train]).predict_set(X[test])
        shares.append(sets[np.arange(len(test)), np.searchsorted(model.classes_, y[test])].mean())
        sizes.append(sets.sum(axis=1).mean())
    # Beta law of the coverage with 100 calibration crystals, 4 standard errors.
    margin = 4 * np.sqrt(level * (1 - level) / 101 + level * (1 - level) / len(test)) / np.sqrt(15)
    assert level - margin <= np.mean(shares) <= level + 0.01 + margin
    assert np.mean(sizes) < 2


def test_on_structures(elastic, tiny):
    structures, y = elastic[0][:40], np.where(elastic[1][:40] > 2, "stiff", "soft")
    model = ConformalClassifier(DSSLClassifier(**tiny), confidence_level=0.75, random_state=0)
    labels, sets = clone(model).fit(structures, y).predict_set(structures[:6])
    assert labels.shape == (6,)
    assert sets.shape == (6, 2)
    assert sets.dtype == bool
    fitted = model.fit(structures, y)
    assert fitted.classes_.tolist() == ["soft", "stiff"]
    np.testing.assert_array_equal(fitted.predict(structures[:6]), labels)
    np.testing.assert_array_equal(
        fitted.predict_proba(structures[:6]), fitted.estimator_.predict_proba(structures[:6])
    )
    assert is_classifier(model)
    assert not get_tags(model).input_tags.two_d_array
    calibrated = ConformalClassifier(fitted.estimator_, method="prefit", confidence_level=0.8)
    y_new = np.where(elastic[1][40:60] > 2, "stiff", "soft")
    assert calibrated.fit(elastic[0][40:60], y_new).estimator_ is fitted.estimator_


@pytest.mark.parametrize("container", [pd.DataFrame, np.ndarray.tolist, sparse.coo_array])
def test_any_table_that_the_estimator_takes(hardness, container):
    X, y = hardness[0][:80], hardness[1][:80]
    logistic = LogisticRegression(max_iter=2000)
    model = ConformalClassifier(logistic, confidence_level=0.8, random_state=0)
    expected = clone(model).fit(X[:60], y[:60]).predict_set(X[60:])
    labels, sets = model.fit(container(X[:60]), y[:60]).predict_set(container(X[60:]))
    np.testing.assert_array_equal(labels, expected[0])
    np.testing.assert_array_equal(sets, expected[1])


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_crystals_that_the_classifier_leaves_out(elastic, tiny):
    structures, y = [*elastic[0][:40]], np.where(elastic[1][:40] > 2, "stiff", "soft")
    folds = [(np.arange(28), np.arange(28, 40))]
    network = DSSLClassifier(**tiny, on_error="skip")
    model = ConformalClassifier(network, confidence_level=0.75, cv=folds).fit(structures, y)
    plain_labels, plain_sets = model.predict_set(structures[:2])
    assert plain_labels.dtype == y.dtype
    labels, sets = model.predict_set([structures[0], "no_such.cif", structures[1]])
    assert labels.tolist() == [plain_labels[0], None, plain_labels[1]]
    assert labels.tolist() == model.predict([structures[0], "no_such.cif", structures[1]]).tolist()
    np.testing.assert_array_equal(sets[[0, 2]], plain_sets)
    assert not sets[1].any()
    labels, sets = model.predict_set(["no_such.cif"])
    assert labels.tolist() == [None]
    assert not sets.any()
    structures[3] = structures[30] = "no_such.cif"
    assert model.fit(structures, y).n_calibration_ == 11
    with pytest.warns(
        SkippedStructuresWarning, match=r"of 40 in X(?s:.*)structures 3, 30: no such"
    ):
        model.fit(structures, y)
    for n_usable in (3, 0):
        structures[28 + n_usable : 40] = ["no_such.cif"] * (12 - n_usable)
        structures[30] = elastic[0][30] if n_usable else "no_such.cif"
        with pytest.raises(InvalidInputError, match=f"for calibration, got {n_usable}"):
            model.fit(structures, y)
    assert model.n_calibration_ == 11


def test_a_stack_that_predicts_only_once_fitted(hardness):
    X, y = hardness[0][:80], hardness[1][:80]
    stack = StackingClassifier([("one", logistic()), ("prior", DummyClassifier())], cv=2)
    model = ConformalClassifier(stack, confidence_level=0.75, random_state=0)
    assert model.fit(X, y).predict_set(X[:3])[1].shape == (3, 3)


def test_several_levels_are_nested(hardness):
    X, y = hardness
    model = ConformalClassifier(logistic(), confidence_level=[0.7, 0.9], random_state=0)
    _, sets = model.fit(X[:150], y[:150]).predict_set(X[150:])
    assert sets.shape == (len(X) - 150, 3, 2)
    assert (sets[..., 1] >= sets[..., 0]).all()
    assert sets[..., 1].sum() > sets[..., 0].sum()
    # A level that is set after the fit changes nothing.
    _, again = model.set_params(confidence_level=0.9).predict_set(X[150:])
    np.testing.assert_array_equal(again, sets)


def test_weights_reach_the_fit_inside(hardness):
    X, y = hardness[0][:60], hardness[1][:60]
    weight = np.linspace(0, 5, 60)
    folds = [(np.arange(40), np.arange(40, 60))]
    model = ConformalClassifier(logistic(), confidence_level=0.8, cv=folds)
    expected = logistic().fit(X[:40], y[:40], logisticregression__sample_weight=weight[:40])
    found = model.fit(X, y, sample_weight=weight).predict_proba(X)
    np.testing.assert_allclose(found, expected.predict_proba(X))


@pytest.mark.parametrize(
    "y, match",
    [
        (["a", "b"] * 19 + ["a", None], "the first at position 39"),
        (["a"] * 40, "at least two"),
        (np.linspace(0, 1, 40), "For numbers use ConformalRegressor"),
        (["b"] * 8 + ["a"] * 32, "'b', a class that the training part does not have"),
    ],
)
def test_bad_classes(hardness, y, match):
    folds = [(np.arange(8, 40), np.arange(8))]
    model = ConformalClassifier(logistic(), confidence_level=0.6, cv=folds)
    with pytest.raises(InvalidInputError, match=match):
        model.fit(hardness[0][:40], y)


def test_bad_use(hardness):
    X, y = hardness
    with pytest.raises(InvalidInputError, match="no predict_proba; take ConformalRegressor"):
        ConformalClassifier(Ridge()).fit(X, y)
    with pytest.raises(InvalidInputError, match="SVC has no predict_proba even when"):
        ConformalClassifier(SVC()).fit(X, y)
    with pytest.raises(InvalidInputError, match="SVC has no predict_proba even when"):
        ConformalClassifier(SVC().fit(X, y), method="prefit").fit(X, y)
    with pytest.raises(NotFittedError, match="FrozenEstimator"):
        ConformalClassifier(logistic(), method="prefit").fit(X, y)
    for method in ("predict", "predict_proba", "predict_set"):
        with pytest.raises(NotFittedError):
            getattr(ConformalClassifier(logistic()), method)(X)
    assert not hasattr(ConformalClassifier(logistic()), "classes_")
