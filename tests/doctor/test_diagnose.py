import warnings

import numpy as np
import pandas as pd
import pytest
from pymatgen.core import DummySpecies, Lattice, Structure

from dssl_sklearn import DSSLRegressor, StructureToGraph
from dssl_sklearn.crystals.reading import read_sites
from dssl_sklearn.doctor import DataReport, diagnose
from dssl_sklearn.exceptions import InvalidInputError, InvalidStructureError


def simple(a=4.2, elements=("Na", "Cl")):
    """Rock salt."""
    corners = [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]
    coords = [*corners, *np.add(corners, [0.5, 0, 0])]
    return Structure(Lattice.cubic(a), [e for e in elements for _ in range(4)], coords)


def checks_of(report, index):
    table = report.table
    return set(table[table["index"] == index]["check"])


def of_data(report):
    return set(report.table[report.table["index"].isna()]["check"])


class Unusual:
    """A target that is neither a number nor a label."""

    def __float__(self):
        raise RuntimeError("no number")

    __hash__ = None

    def __eq__(self, other):
        raise RuntimeError("no label")


BAD = {
    "unreadable": "nowhere.cif",
    "disordered": Structure(Lattice.cubic(4), [{"Fe": 0.5, "Ni": 0.5}], [[0, 0, 0]]),
    "unknown_element": Structure(Lattice.cubic(4), [DummySpecies("X")], [[0, 0, 0]]),
    "bad_cell": Structure(Lattice.cubic(4), ["Fe"], [[np.nan, 0, 0]]),
    "overlapping_sites": Structure(Lattice.cubic(4), ["Fe", "Fe"], [[0, 0, 0], [0, 0, 0.001]]),
}
ODD = {
    "single_atom": Structure(Lattice.cubic(3), ["Po"], [[0, 0, 0]]),
    "isolated_atom": Structure(Lattice.cubic(12), ["Ar"], [[0, 0, 0]]),
    "unusual_volume": simple(20.0),
    "close_sites": Structure(Lattice.cubic(4), ["Fe", "Fe"], [[0, 0, 0], [0, 0, 0.25]]),
    "large_cell": simple() * (3, 3, 3),
}


class TestStructures:
    @pytest.mark.parametrize("check", BAD)
    def test_what_no_estimator_takes(self, check, tiny):
        report = diagnose([simple(), BAD[check], simple(5.0)])
        assert checks_of(report, 1) == {check}
        assert report.usable.tolist() == [True, False, True]
        assert not report.ok
        with pytest.raises(InvalidStructureError) as caught:
            DSSLRegressor(**tiny).fit([simple(), BAD[check], simple(5.0)], [1, 2, 3])
        assert set(caught.value.reasons) == {1}

    @pytest.mark.parametrize("check", ODD)
    def test_what_is_worth_a_look(self, check):
        report = diagnose([simple(), ODD[check]], large_cell=100)
        assert check in checks_of(report, 1)
        assert checks_of(report, 0) == {"none"}
        assert report.ok
        assert report.usable.all()

    def test_anything_may_be_handed_in(self):
        class Hostile:
            cart_coords = None

            @property
            def lattice(self):
                raise RuntimeError("no")

        items = [None, 3, np.nan, {}, {"lattice": 3}, [], "", Hostile(), simple(), b"x"]
        report = diagnose(items)
        assert report.usable.tolist() == [False] * 8 + [True, False]
        assert report.table["index"].tolist() == list(range(10))

    def test_every_index_is_there_in_order(self):
        items = [*BAD.values(), simple(), *ODD.values(), *BAD.values()]
        found = diagnose(items).table["index"]
        assert list(dict.fromkeys(found)) == list(range(len(items)))

    @pytest.mark.parametrize("container", [tuple, pd.Series, "graphs"])
    def test_containers(self, container):
        items = [simple(), simple(5.0), simple(4.2)]
        X = StructureToGraph().transform(items) if container == "graphs" else container(items)
        assert checks_of(diagnose(X), 2) == {"duplicate"}

    @pytest.mark.parametrize(
        "remark, check",
        [
            ("Some occupancies sum to > 1", "reader_remark"),
            ("4 fractional coordinates rounded to ideal values to avoid issues", "none"),
        ],
    )
    def test_remarks_of_the_reader_are_kept(self, monkeypatch, remark, check):
        def read(item):
            warnings.warn(remark, UserWarning, stacklevel=2)
            return read_sites(item)

        monkeypatch.setattr("dssl_sklearn.doctor.structures.read_sites", read)
        assert checks_of(diagnose([simple()]), 0) == {check}

    def test_no_sequence_is_an_error(self):
        for wrong in (None, 3, simple(), []):
            with pytest.raises(InvalidInputError, match="X is"):
                diagnose(wrong)


class TestDuplicates:
    def duplicates(self, *items, **kwargs):
        table = diagnose([simple(), *items], **kwargs).table
        return table[table["check"] == "duplicate"]["index"].tolist()

    def test_of_another_cell_rotation_order_or_origin(self, elastic):
        rng = np.random.default_rng(0)
        for structure in elastic[0][:12]:
            rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
            turned = Structure(
                structure.lattice.matrix @ rotation, structure.species, structure.frac_coords
            )
            shuffled = Structure.from_sites([turned[k] for k in rng.permutation(len(turned))])
            shuffled.translate_sites(range(len(shuffled)), [0.3, 0.1, 0.7])
            versions = [structure, shuffled, structure * (2, 1, 2)]
            versions.append(structure.get_primitive_structure())
            table = diagnose([simple(3.0), *versions]).table
            found = table[table["check"] == "duplicate"]
            assert found["index"].tolist() == [2, 3, 4]
            assert found["message"].str.endswith("structure 1").all()

    def test_polymorphs_and_substitutions_are_not(self):
        def close_packed(stacking):
            a, n = 2.5, len(stacking)
            lattice = Lattice.hexagonal(a, n * a * np.sqrt(2 / 3))
            shift = {"A": (0, 0), "B": (1 / 3, 2 / 3), "C": (2 / 3, 1 / 3)}
            coords = [[*shift[layer], k / n] for k, layer in enumerate(stacking)]
            return Structure(lattice, ["Co"] * n, coords)

        items = [close_packed("ABC"), close_packed("AB"), close_packed("ABCB")]
        assert self.duplicates(*items, simple(elements=("K", "Cl"))) == []
        assert self.duplicates(*items, close_packed("BCA"), close_packed("BA")) == [4, 5]

    def test_tolerance(self):
        # The nearest neighbors differ by half of what the lattice constants do.
        assert self.duplicates(simple(4.201)) == [1]
        assert self.duplicates(simple(4.23)) == []
        assert self.duplicates(simple(4.23), tolerance=0.2) == [1]

    @pytest.mark.parametrize("difference, found", [(0.0049, [2]), (0.0051, [])])
    def test_tolerance_is_that_of_the_farthest_neighbors(self, difference, found):
        # Those of a simple cubic crystal are two lattice constants away.
        po = [Structure(Lattice.cubic(a), ["Po"], [[0, 0, 0]]) for a in (3, 3 + difference)]
        assert self.duplicates(*po) == found

    def test_a_distortion_that_keeps_the_mean_distance(self):
        cells = (Lattice.cubic(3.0), Lattice.tetragonal(2.97, 3.06), Lattice.cubic(3.0))
        assert self.duplicates(*(Structure(cell, ["Po"], [[0, 0, 0]]) for cell in cells)) == [3]

    def test_targets_that_contradict(self):
        y = [1.0, 1.01, 3.0, *np.linspace(0, 4, 60)]
        X = [simple(), simple(), simple(), *(simple(4.5 + 0.05 * k) for k in range(60))]
        report = diagnose(X, y)
        assert checks_of(report, 1) == {"duplicate"}
        assert checks_of(report, 2) == {"conflicting_duplicate"}
        assert not report.ok
        assert report.usable.all()
        report = diagnose(X[:3], ["a", "a", "b"])
        assert checks_of(report, 1) == {"duplicate"}
        assert checks_of(report, 2) == {"conflicting_duplicate"}


@pytest.fixture(scope="module")
def crystals():
    return [simple(4.0 + 0.05 * k) for k in range(80)]


@pytest.fixture(scope="module")
def normal():
    return np.random.default_rng(0).normal(size=80)


class TestTargets:
    def test_sound_ones(self, crystals, normal):
        report = diagnose(crystals, normal)
        assert report.ok
        assert set(report.table["check"]) == {"none"}

    def test_unknown_values(self, crystals, normal):
        y = [*normal[:76], np.nan, None, np.inf, "high"]
        report = diagnose(crystals, y)
        assert checks_of(report, 76) == checks_of(report, 77) == {"missing_target"}
        assert checks_of(report, 78) == {"infinite_target"}
        assert checks_of(report, 79) == {"not_a_number"}

    def test_outlier(self, crystals, normal):
        y = normal.copy()
        y[7] = -30
        report = diagnose(crystals, y)
        assert checks_of(report, 7) == {"outlier"}
        assert (report.table["check"] == "outlier").sum() == 1

    def test_skewed_positive_ones_want_logarithms(self, crystals, normal):
        report = diagnose(crystals, np.exp(2 * normal), targets=["K"])
        assert of_data(report) == {"log10_target"}
        assert "K has skewness" in report.summary()
        # On the logarithmic scale the tail holds no outliers.
        assert "outlier" not in set(report.table["check"])

    def test_skewed_ones_of_both_signs_do_not(self, crystals, normal):
        assert of_data(diagnose(crystals, np.exp(2 * normal) - 1)) == {"skewed_target"}

    def test_constant(self, crystals):
        assert of_data(diagnose(crystals, np.full(80, 0.1))) == {"constant_target"}

    @pytest.mark.parametrize("y", [[1.0, 2.0], 3.0, object(), np.zeros((79, 2))])
    def test_that_do_not_fit(self, crystals, y):
        report = diagnose(crystals, y)
        assert of_data(report) <= {"length_mismatch", "bad_targets"}
        assert not report.ok

    @pytest.mark.parametrize(
        "y",
        [
            [10**400] * 80,
            np.array([10**400, *range(79)], dtype=object),
            pd.Series([np.zeros(2)] * 80),
            [Unusual() for _ in range(80)],
        ],
        ids=["huge", "one huge", "arrays", "no float"],
    )
    @pytest.mark.parametrize("task", ["auto", "regression", "classification"])
    def test_anything_may_be_handed_in(self, crystals, y, task):
        X = [*crystals[:79], crystals[0]]
        assert not diagnose(X, y, task=task).ok

    def test_sparse_ones(self, crystals, normal):
        y = np.where(normal > 0, 0.0, normal)
        y[3] = np.inf
        sparse = pd.arrays.SparseArray(y, fill_value=0.0)
        expected = diagnose(crystals, y).table
        for same in (sparse, pd.Series(sparse), pd.DataFrame({"y": sparse})):
            pd.testing.assert_frame_equal(diagnose(crystals, same).table, expected)

    def test_few_or_none(self, crystals, normal):
        assert of_data(diagnose(crystals[:20], normal[:20])) == {"few_labels"}
        assert of_data(diagnose(crystals, np.full(80, np.nan))) == {"no_labels"}
        # A label of an unusable structure is none.
        assert of_data(diagnose(["a.cif", "b.cif"], [1.0, 2.0])) == {"no_labels"}

    def test_several_with_names(self, crystals, normal):
        frame = pd.DataFrame({"K": np.exp(2 * normal), "G": 1.0}, index=range(100, 180))
        report = diagnose(crystals, frame)
        assert of_data(report) == {"log10_target", "constant_target"}
        messages = " ".join(report.table["message"])
        assert "K has skewness" in messages
        assert "G is 1 everywhere" in messages
        assert of_data(diagnose(crystals, normal, targets=["a", "b"])) == {"bad_targets"}

    def test_several_of_one_name(self, crystals, normal):
        y = np.c_[normal, normal, normal]
        y[3, 0] = y[5, 1] = np.inf
        named = pd.DataFrame(y, columns=["a", "a", "b"])
        for report in (diagnose(crystals, named), diagnose(crystals, y, targets=["a", "a", "b"])):
            found = report.table.query("check == 'infinite_target'")
            assert found["index"].tolist() == [3, 5]
            assert found["message"].tolist() == ["a (column 0) is inf", "a (column 1) is inf"]

    def test_classes(self, crystals):
        y = np.array(["metal"] * 40 + ["insulator"] * 38 + ["odd"] * 2, dtype=object)
        y[0] = None
        report = diagnose(crystals, y)
        assert of_data(report) == {"rare_class"}
        assert checks_of(report, 0) == {"missing_target"}
        assert of_data(diagnose(crystals, ["metal"] * 80)) == {"one_class"}
        assert of_data(diagnose(crystals, np.arange(80) < 40)) == set()
        numbers = np.arange(80) // 40
        assert of_data(diagnose(crystals, numbers, task="classification")) == set()


class TestReport:
    def test_table_is_tidy(self):
        report = diagnose([simple(), BAD["unreadable"]], [1.0, 2.0], names=["salt", "lost"])
        assert isinstance(report, DataReport)
        columns = ["index", "name", "check", "severity", "message", "advice"]
        assert list(report.table.columns) == columns
        assert report.table["name"].dropna().tolist() == ["salt", "lost"]
        assert set(report.table["severity"]) == {"warning", "ok", "error"}
        problems = report.table[report.table["check"] != "none"]
        assert (problems[["message", "advice"]] != "").all(axis=None)

    def test_texts(self):
        report = diagnose([simple(), "<b>.cif"], names=["salt", "lost"])
        assert str(report) == report.summary()
        assert "2 structures, 1 of them unusable" in str(report)
        assert "structure 1 (lost): no such file: '<b>.cif'" in str(report)
        assert repr(report) == "DataReport(n_structures=2, error=1, warning=0, info=0)"
        html = report._repr_html_()
        assert "&lt;b&gt;.cif" in html
        assert "<b>.cif" not in html
        assert str(diagnose([simple()])).endswith("nothing found")

    def test_long_lists_are_cut(self):
        report = diagnose([f"{k}.cif" for k in range(50)])
        assert "... and 42 more" in report.summary()
        assert len(report.summary().splitlines()) < 20

    def test_bad_arguments(self):
        with pytest.raises(InvalidInputError, match="names has 1 entries for 2"):
            diagnose([simple(), simple()], names=["one"])
        with pytest.raises(InvalidInputError, match="task"):
            diagnose([simple()], task="ranking")
        for name in ("cutoff", "max_neighbors", "large_cell", "tolerance"):
            with pytest.raises(InvalidInputError, match=name):
                diagnose([simple()], **{name: -1})

    def test_mask_leaves_what_an_estimator_takes(self):
        X = [simple(), *BAD.values(), *ODD.values()]
        report = diagnose(X)
        kept = [X[row] for row in np.flatnonzero(report.usable)]
        with pytest.warns(UserWarning, match="without a neighbor"):
            assert len(StructureToGraph(cutoff=8.0).transform(kept)) == 6
        assert len(read_sites(kept[0]).numbers) == 8
