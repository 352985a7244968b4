import pickle

import numpy as np
import pandas as pd
import pytest
from pymatgen.core import Lattice, Structure
from sklearn.base import clone
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.model_selection import (
    GridSearchCV,
    LeaveOneGroupOut,
    cross_val_predict,
    cross_val_score,
)

from dssl_sklearn import DSSLPretrainer, StructureToGraph
from dssl_sklearn.exceptions import InvalidInputError, InvalidStructureError
from dssl_sklearn.model_selection import (
    ChemicalSystemKFold,
    ClusterKFold,
    FormulaKFold,
    PrototypeKFold,
    structure_groups,
)
from dssl_sklearn.model_selection import splitters as splitters_module

BY = {
    FormulaKFold: "formula",
    ChemicalSystemKFold: "chemical_system",
    PrototypeKFold: "prototype",
    ClusterKFold: "cluster",
}


@pytest.fixture(scope="module")
def crystals(elastic):
    return elastic[0][:60]


@pytest.fixture(params=list(BY), ids=lambda cls: cls.__name__)
def splitter_class(request):
    return request.param


@pytest.fixture
def make(splitter_class, fitted_pretrainer):
    """Make a splitter; clusters come from a tiny pretrainer."""

    def build(n_splits=3, **kwargs):
        if splitter_class is ClusterKFold:
            kwargs = {"pretrained": fitted_pretrainer, **kwargs}
        return splitter_class(n_splits, **kwargs)

    return build


@pytest.fixture
def labels(splitter_class, crystals, fitted_pretrainer):
    return structure_groups(
        crystals, BY[splitter_class], pretrained=fitted_pretrainer, n_clusters=3
    )


@pytest.mark.parametrize("shuffle", [False, True])
def test_no_group_is_on_both_sides(make, crystals, labels, shuffle):
    tested = []
    for train, test in make(shuffle=shuffle, random_state=0 if shuffle else None).split(crystals):
        assert len(train)
        assert len(test)
        assert not set(labels[train]) & set(labels[test])
        assert sorted([*train, *test]) == list(range(60))
        tested += test.tolist()
    assert sorted(tested) == list(range(60))


def test_any_container_gives_the_same_folds(make, crystals):
    as_array = np.empty(60, dtype=object)
    as_array[:] = crystals
    wanted = [test.tolist() for _, test in make().split(crystals)]
    graphs = StructureToGraph().fit_transform(crystals)
    for X in (as_array, pd.Series(crystals), pd.DataFrame({"x": crystals}), graphs):
        assert [test.tolist() for _, test in make().split(X)] == wanted


def test_shuffling_follows_the_seed(crystals):
    def folds(seed):
        return [
            t.tolist() for _, t in FormulaKFold(3, shuffle=True, random_state=seed).split(crystals)
        ]

    assert folds(0) == folds(0)
    assert folds(0) != folds(1)


def test_it_is_a_scikit_learn_splitter(make, crystals, splitter_class):
    splitter = make()
    assert splitter.get_n_splits() == splitter.get_n_splits(crystals) == 3
    assert repr(splitter).startswith(f"{splitter_class.__name__}(n_")
    assert "n_splits=3" in repr(splitter)
    y = np.arange(60.0)
    assert len(cross_val_score(DummyRegressor(), crystals, y, cv=splitter)) == 3
    assert len(cross_val_predict(DummyRegressor(), crystals, y, cv=splitter)) == 60
    search = GridSearchCV(DummyRegressor(), {"strategy": ["mean", "median"]}, cv=splitter)
    assert clone(search).fit(crystals, y).n_splits_ == 3


def test_groups_are_made_once_for_equal_crystals(make, crystals, monkeypatch):
    calls = []
    original = splitters_module.structure_groups
    monkeypatch.setattr(
        splitters_module,
        "structure_groups",
        lambda *args, **kwargs: calls.append(1) or original(*args, **kwargs),
    )
    splitter = make()
    first = list(splitter.split(crystals))
    again = list(splitter.split([structure.copy() for structure in crystals]))
    assert len(calls) == 1
    assert all((a[1] == b[1]).all() for a, b in zip(first, again, strict=True))
    next(splitter.split(crystals[:59]))
    assert len(calls) == 2
    assert "_last" not in vars(pickle.loads(pickle.dumps(splitter)))


def test_changed_settings_change_the_groups(crystals, fitted_pretrainer):
    splitter = ClusterKFold(2, pretrained=fitted_pretrainer)
    assert set(np.unique(splitter._groups(crystals))) == {0, 1}
    splitter.n_clusters = 4
    assert len(np.unique(splitter._groups(crystals))) == 4


def test_weights_written_anew_change_the_groups(crystals, fitted_pretrainer, tiny, tmp_path):
    path = tmp_path / "mine.safetensors"
    fitted_pretrainer.save(path)
    splitter = ClusterKFold(3, pretrained=path)
    first = splitter._groups(crystals)
    assert splitter._groups(crystals) is first
    other = DSSLPretrainer(**{**tiny, "random_state": 1}).fit(crystals[:20])
    other.save(path)
    expected = ClusterKFold(3, pretrained=other)._groups(crystals)
    assert not np.array_equal(expected, first)
    np.testing.assert_array_equal(splitter._groups(crystals), expected)


def test_a_pretrainer_fitted_anew_changes_the_groups(crystals, tiny):
    pretrainer = DSSLPretrainer(**tiny).fit(crystals[:20])
    splitter = ClusterKFold(3, pretrained=pretrainer)
    first = splitter._groups(crystals)
    # It is held, so that no other net gets its identity.
    assert pretrainer.net_ in splitter._last[0]
    pretrainer.fit(crystals[20:40])
    assert splitter._groups(crystals) is not first


def test_stratified_folds_keep_the_classes(crystals):
    y = np.where(np.arange(60) % 3 == 0, "rare", "common")
    splitter = FormulaKFold(3, stratify=True)
    for _, test in splitter.split(crystals, y):
        assert 0.2 < np.mean(y[test] == "rare") < 0.5
    assert len(cross_val_score(DummyClassifier(), crystals, y, cv=splitter)) == 3
    with pytest.raises(InvalidInputError, match="stratify=True needs y"):
        next(splitter.split(crystals))


def test_too_few_groups_are_counted():
    cell = Lattice.cubic(3)
    crystals = [Structure(cell, [symbol], [[0, 0, 0]]) for symbol in ["Fe", "Cu", "Fe", "Cu"]]
    with pytest.raises(InvalidInputError, match="only 2 different reduced formulas"):
        next(FormulaKFold(3).split(crystals))
    with pytest.raises(InvalidInputError, match="only 1 different prototypes"):
        next(PrototypeKFold(2).split(crystals))
    with pytest.raises(InvalidInputError, match="n_clusters=5 is more than the 4"):
        next(ClusterKFold(5).split(crystals))


def test_equal_crystals_leave_too_few_clusters(crystals, fitted_pretrainer):
    same = [crystals[0]] * 6
    with pytest.raises(InvalidInputError, match="only 1 different embedding clusters"):
        next(ClusterKFold(2, pretrained=fitted_pretrainer).split(same))


@pytest.mark.parametrize("n_splits", [1, 2.5, "3", True])
def test_a_wrong_number_of_folds_is_refused(crystals, n_splits):
    with pytest.raises(InvalidInputError, match="n_splits must be an integer >= 2"):
        next(FormulaKFold(n_splits).split(crystals))


def test_given_groups_are_ignored_aloud(crystals):
    with pytest.warns(UserWarning, match="groups is ignored by FormulaKFold"):
        next(FormulaKFold(3).split(crystals, groups=np.zeros(60)))


def test_polymorphs_stay_together():
    cell = Lattice.cubic(4)
    structures = [
        Structure(cell, ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]),
        Structure(cell, ["K", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]),
        Structure(cell, ["Na", "Cl"], [[0, 0, 0], [0.25, 0.25, 0.25]]),
        Structure(cell, ["Na", "Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0.5, 0.5]]),
    ]
    assert structure_groups(structures).tolist() == ["NaCl", "KCl", "NaCl", "Na2Cl"]
    assert structure_groups(structures, by="chemical_system").tolist() == [
        *("Cl-Na", "Cl-K", "Cl-Na", "Cl-Na"),
    ]
    of_structure = structure_groups(structures, by="prototype").tolist()
    assert of_structure[:2] == ["221 AB"] * 2
    assert of_structure[2] != of_structure[0]


def test_labels_serve_as_groups(crystals):
    labels = structure_groups(crystals[:9])
    folds = list(LeaveOneGroupOut().split(crystals[:9], groups=labels))
    assert len(folds) == len(set(labels))


def test_clusters_repeat(crystals):
    first = structure_groups(crystals, by="cluster", n_clusters=4)
    assert (first == structure_groups(crystals, by="cluster", n_clusters=4)).all()
    assert set(first) == {0, 1, 2, 3}


def test_mistakes_are_explained(crystals):
    with pytest.raises(InvalidInputError, match="did you mean 'prototype'"):
        structure_groups(crystals, by="prototypes")
    with pytest.raises(InvalidInputError, match="symprec must be a finite number > 0"):
        structure_groups(crystals, by="prototype", symprec=0)
    with pytest.raises(InvalidInputError, match="pretrained is None"):
        structure_groups(crystals, by="cluster", pretrained=None)
    broken = Structure(Lattice.cubic(4), ["Na", "Na"], [[0, 0, 0], [0, 0, 0]])
    with pytest.raises(InvalidStructureError, match="structure 1: no space group"):
        structure_groups([crystals[0], broken], by="prototype")
