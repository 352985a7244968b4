"""What may be handed in as X, y and weights, and what cannot is said in one clear error."""

import numpy as np
import pandas as pd
import pytest

from dssl_sklearn import DSSLClassifier, DSSLPretrainer, DSSLRegressor, StructureToGraph
from dssl_sklearn.exceptions import DSSLError, InvalidInputError, InvalidStructureError


def object_array(items):
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array


def object_column(items):
    return object_array(items).reshape(-1, 1)


def series(items):
    # An index that is no range: positions, not labels, must count.
    return pd.Series(object_array(items), index=[f"mp-{k}" for k in range(len(items))][::-1])


def frame(items):
    return series(items).to_frame("structure")


def dicts(items):
    return [item.as_dict() for item in items]


CONTAINERS = [tuple, object_array, object_column, series, frame, dicts]


@pytest.fixture(scope="module", params=["equal sizes", "mixed sizes"])
def cells(request, elastic):
    """Training and new crystals; of equal size, numpy would make arrays of sites of them."""
    structures, y = elastic
    rows = np.arange(len(structures))
    if request.param == "equal sizes":
        rows = np.flatnonzero([len(structure) == 4 for structure in structures])
        assert np.asarray([structures[row] for row in rows[:4]], dtype=object).shape == (4, 4)
    rows = rows[:16]
    return [structures[row] for row in rows[:12]], y[rows[:12]], [structures[k] for k in rows[12:]]


@pytest.fixture(params=["graphs", "pretrainer", "regressor_on_unfitted", "classifier"])
def one_of_each(request, all_cases):
    return all_cases[request.param]


@pytest.mark.parametrize("container", CONTAINERS)
def test_any_container_is_as_good_as_a_list(one_of_each, container, cells):
    X, y, new = cells
    case = one_of_each
    expected = case.output(case.fit(case.estimator, X, y), new)
    found = case.output(case.fit(case.estimator, container(X), y), container(new))
    np.testing.assert_array_equal(found, expected)


def test_an_array_of_sites_is_read_back_as_crystals(one_of_each, cells):
    X, y, new = cells
    if len({len(structure) for structure in X}) > 1:
        pytest.skip("numpy makes no array of sites of cells of mixed sizes")
    case = one_of_each
    expected = case.output(case.fit(case.estimator, X, y), new)
    found = case.output(case.fit(case.estimator, np.array(X, object), y), np.array(new, object))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_graphs_are_as_good_as_structures(trained, cells):
    X, y, new = cells
    to_graphs = StructureToGraph()
    expected = trained.output(trained.fit(trained.estimator, X, y), new)
    estimator = trained.fit(trained.estimator, to_graphs.transform(X), y)
    np.testing.assert_array_equal(trained.output(estimator, to_graphs.transform(new)), expected)


def test_files_are_as_good_as_structures(all_cases, cells, tmp_path):
    case = all_cases["regressor"]
    X, y, new = cells
    paths = []
    for k, structure in enumerate(new):
        # pymatgen groups the sites of a POSCAR by element; a mean over sites does not mind.
        paths.append(tmp_path / f"POSCAR_{k}")
        structure.to(filename=str(paths[-1]), fmt="poscar")
    estimator = case.fit(case.estimator, X, y)
    np.testing.assert_allclose(estimator.predict(paths), estimator.predict(new), rtol=1e-4)


def test_graphs_of_other_settings_are_refused(trained, train):
    graphs = StructureToGraph(cutoff=5.0).transform(train[0])
    with pytest.raises(InvalidInputError, match=r"cutoff=5.0"):
        trained.fit(trained.estimator, graphs, train[1])


class TestBadX:
    @pytest.mark.parametrize(
        "empty", [[], (), np.array([], dtype=object), pd.Series([], dtype=object)]
    )
    def test_empty(self, case, empty, train):
        with pytest.raises(InvalidInputError, match="X is empty"):
            case.output(case.fit(case.estimator, *train), empty)
        if case.is_trained:
            with pytest.raises(InvalidInputError, match="X is empty"):
                case.fit(case.estimator, empty, np.array([]))

    def test_a_single_crystal(self, case, train):
        with pytest.raises(InvalidInputError, match=r"single Structure.*\[X\]"):
            case.output(case.fit(case.estimator, *train), train[0][0])

    @pytest.mark.parametrize("wrong", [None, 3, 2.5, object(), {1, 2}])
    def test_no_sequence(self, case, wrong, train):
        with pytest.raises(InvalidInputError, match="X is of type"):
            case.output(case.fit(case.estimator, *train), wrong)

    def test_a_table_of_numbers(self, case, train):
        with pytest.raises(InvalidInputError, match="float64"):
            case.output(case.fit(case.estimator, *train), np.zeros((4, 3)))

    def test_every_unusable_crystal_is_named(self, trained, train):
        X, y = train
        bad = [*X[:8]]
        bad[2], bad[6] = "nowhere.cif", 17
        with pytest.raises(InvalidStructureError) as caught:
            trained.fit(trained.estimator, bad, y[:8])
        assert caught.value.reasons.keys() == {2, 6}
        with pytest.raises(InvalidStructureError) as caught:
            trained.output(trained.fit(trained.estimator, X, y), bad)
        assert caught.value.reasons.keys() == {2, 6}

    def test_one_among_the_rows_without_label_is_named_by_its_position(self, all_cases, train):
        y = train[1].copy()
        y[:3] = np.nan
        X = ["nowhere.cif", *train[0][1:]]
        with pytest.raises(InvalidStructureError, match="structure 0"):
            all_cases["regressor"].estimator.fit(X, y)

    def test_one_in_unlabeled_is_told_from_those_in_x(self, all_cases, train):
        estimator = all_cases["regressor_on_unfitted"].estimator
        estimator.set_params(unlabeled=[*train[0][:2], "nowhere.cif"])
        with pytest.raises(InvalidStructureError, match="structure 26") as caught:
            estimator.fit(*train)
        assert "from 24 on are those of `unlabeled`" in caught.value.__notes__[0]


class TestBadY:
    """One case for each kind of target; the tests of `estimators.targets` have the others."""

    def test_of_another_length(self, predictor, train):
        with pytest.raises(InvalidInputError, match="8 structures, 5"):
            predictor.fit(predictor.estimator, train[0][:8], train[1][:5])

    def test_none(self, predictor_class, train):
        with pytest.raises(InvalidInputError, match="y is None"):
            predictor_class().fit(train[0][:8], None)

    def test_missing_altogether(self, predictor_class, train):
        with pytest.raises(TypeError, match="y"):
            predictor_class().fit(train[0][:8])

    def test_for_regression(self, train, tiny):
        with pytest.raises(InvalidInputError, match=r"y must hold numbers.*DSSLClassifier"):
            DSSLRegressor(**tiny).fit(train[0][:8], ["stiff", "soft"] * 4)

    def test_for_classification(self, train, tiny):
        with pytest.raises(InvalidInputError, match=r"y has 1 class\(es\) \['stiff'\]"):
            DSSLClassifier(**tiny).fit(train[0][:8], ["stiff"] * 8)


class TestBadSampleWeight:
    def test_is_refused(self, predictor, train):
        weight = [1.0] * 7 + [-1.0]
        with pytest.raises(InvalidInputError, match="sample_weight must be one finite number"):
            predictor.fit(predictor.estimator, train[0][:8], train[1][:8], sample_weight=weight)

    def test_zero_for_all_that_is_labeled(self, train, tiny):
        y = np.where(np.arange(8) < 4, np.nan, train[1][:8])
        with pytest.raises(InvalidInputError, match="sample_weight is zero"):
            DSSLRegressor(**tiny).fit(train[0][:8], y, sample_weight=np.isnan(y).astype(float))
        with pytest.raises(InvalidInputError, match="sample_weight is zero"):
            DSSLClassifier(**tiny).fit(
                train[0][:8], [None, None, None, None, 0, 1, 0, 1], sample_weight=[1] * 4 + [0] * 4
            )

    def test_zero_for_one_of_the_targets(self, train, tiny):
        y = np.column_stack([train[1][:8], np.where(np.arange(8) < 4, np.nan, train[1][:8])])
        with pytest.raises(InvalidInputError, match=r"sample_weight.*column 1"):
            DSSLRegressor(**tiny).fit(train[0][:8], y, sample_weight=[1] * 4 + [0] * 4)


def test_early_stopping_needs_something_to_watch(trained, train):
    estimator = trained.estimator.set_params(early_stopping=True, validation_fraction=0.0)
    with pytest.raises(InvalidInputError, match="validation_fraction"):
        trained.fit(estimator, *train)
    assert issubclass(InvalidInputError, DSSLError)


def test_one_crystal_is_enough(all_cases, elastic):
    for name in ("pretrainer", "regressor"):
        case = all_cases[name]
        estimator = case.fit(case.estimator, elastic[0][:1], elastic[1][:1])
        assert len(case.output(estimator, elastic[0][:1])) == 1


def test_a_pretrainer_ignores_y(tiny, train, new):
    with_y = DSSLPretrainer(**tiny).fit(train[0], ["ignored"])
    np.testing.assert_array_equal(
        with_y.transform(new), DSSLPretrainer(**tiny).fit(train[0]).transform(new)
    )
