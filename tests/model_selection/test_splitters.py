from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from monty.io import zopen
from pymatgen.core import Lattice, Structure
from pymatgen.io import cif
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.linear_model import Ridge
from sklearn.model_selection import (
    GridSearchCV,
    LeaveOneGroupOut,
    cross_val_predict,
    cross_val_score,
)
from sklearn.pipeline import make_pipeline

from dssl_sklearn import DSSLPretrainer, StructureToGraph
from dssl_sklearn.exceptions import InvalidInputError, InvalidStructureError
from dssl_sklearn.model_selection import (
    ChemicalSystemKFold,
    ClusterKFold,
    FormulaKFold,
    PrototypeKFold,
    groups,
    structure_groups,
)

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


def test_files_are_read_once(tmp_path, monkeypatch):
    symbols = ["Fe", "Cu", "Ni", "Al", "Au", "Pt"]
    paths = [str(tmp_path / f"{symbol}.cif") for symbol in symbols]
    for path, symbol in zip(paths, symbols, strict=True):
        Structure(Lattice.cubic(3), [symbol], [[0, 0, 0]]).to(filename=path)
    opened = []
    monkeypatch.setattr(cif, "zopen", lambda path, **how: opened.append(path) or zopen(path, **how))
    assert len(list(FormulaKFold(2).split(paths))) == 2
    assert opened == paths


def test_clusters_may_outnumber_folds(crystals, fitted_pretrainer):
    settings = {"pretrained": fitted_pretrainer, "n_clusters": 4}
    labels = structure_groups(crystals, "cluster", **settings)
    assert set(labels) == {0, 1, 2, 3}
    for train, test in ClusterKFold(2, **settings).split(crystals):
        assert not set(labels[train]) & set(labels[test])


def test_stratified_folds_keep_the_classes(crystals):
    y = np.where(np.arange(60) % 3 == 0, "rare", "common")
    splitter = FormulaKFold(3, stratify=True)
    for _, test in splitter.split(crystals, y):
        assert 0.2 < np.mean(y[test] == "rare") < 0.5
    assert len(cross_val_score(DummyClassifier(), crystals, y, cv=splitter)) == 3
    with pytest.raises(InvalidInputError, match="stratify=True needs y"):
        next(splitter.split(crystals))


def test_messages_name_the_argument(make, crystals):
    with pytest.raises(InvalidInputError, match="X is a single Structure"):
        next(make().split(crystals[0]))


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


def test_symprec_is_how_far_sites_may_be_off():
    salt = Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(5.69), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    )
    off = salt.copy()
    off.translate_sites([0], [0.05, 0, 0], frac_coords=False)
    labels = [structure_groups([off], by="prototype", symprec=s)[0] for s in (0.01, 0.2)]
    assert (labels[0] != "225 AB", labels[1]) == (True, "225 AB")
    with pytest.raises(InvalidInputError, match="only 1 different"):
        next(PrototypeKFold(2, symprec=0.2).split([off, salt]))
    assert len(list(PrototypeKFold(2).split([off, salt]))) == 2


def test_labels_serve_as_groups(crystals):
    labels = structure_groups(crystals[:9])
    folds = list(LeaveOneGroupOut().split(crystals[:9], groups=labels))
    assert len(folds) == len(set(labels))


def test_clusters_repeat(crystals):
    first = structure_groups(crystals, by="cluster", n_clusters=4)
    assert (first == structure_groups(crystals, by="cluster", n_clusters=4)).all()
    assert set(first) == {0, 1, 2, 3}


def test_clusters_follow_the_seed(crystals, fitted_pretrainer):
    settings = {"pretrained": fitted_pretrainer, "n_clusters": 12}

    def tests(seed):
        splitter = ClusterKFold(2, random_state=seed, **settings)
        return [test.tolist() for _, test in splitter.split(crystals)]

    assert tests(7) == tests(7) != tests(None)
    labels = structure_groups(crystals, "cluster", random_state=7, **settings)
    first, second = tests(7)
    assert not set(labels[first]) & set(labels[second])


def test_every_feature_counts_alike_for_clusters(monkeypatch):
    kind = np.arange(100) % 2
    far = np.random.default_rng(0).uniform(-1000, 1000, 100)
    embed = SimpleNamespace(transform=lambda _: np.column_stack([far, 0.01 * kind]))
    monkeypatch.setattr(groups, "resolve_pretrained", lambda _: embed)
    labels = structure_groups([None] * 100, by="cluster", n_clusters=2)
    assert abs(np.corrcoef(labels, kind)[0, 1]) > 0.99


def test_mistakes_are_explained(crystals):
    with pytest.raises(InvalidInputError, match="did you mean 'prototype'"):
        structure_groups(crystals, by="prototypes")
    with pytest.raises(InvalidInputError, match="symprec must be a finite number > 0"):
        structure_groups(crystals, by="prototype", symprec=0)
    with pytest.raises(InvalidInputError, match="pretrained is None"):
        structure_groups(crystals, by="cluster", pretrained=None)
    broken = Structure(Lattice.cubic(4), ["Na", "Na"], [[0, 0, 0], [0, 0, 0]])
    with pytest.raises(InvalidStructureError, match=r"structure 1 \(Na2\): no space group"):
        structure_groups([crystals[0], broken], by="prototype")


def test_tables_with_columns_beside_the_crystals(crystals, labels, make, splitter_class):
    table = pd.DataFrame({"T": np.arange(60.0), "structure": crystals})
    for found, expected in zip(make(3).split(table), make(3).split(crystals), strict=True):
        np.testing.assert_array_equal(found[1], expected[1])
    if splitter_class is FormulaKFold:
        np.testing.assert_array_equal(structure_groups(table), labels)
        embed = DSSLPretrainer(pretrained="mp", max_epochs=0)
        columns = make_column_transformer((embed, "structure"), ("passthrough", ["T"]))
        scores = cross_val_score(make_pipeline(columns, Ridge()), table, table["T"], cv=make(3))
        assert np.isfinite(scores).all()
