import json
import math
from contextlib import ExitStack
from types import SimpleNamespace

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from dssl_sklearn.datasets import Corpus, load_elasticity

FORMULAS = ["NaCl", "TiO2", "TiO2", "Fe", "Si", "NaCl", "GaAs", "ZnO", "TiO2", "MgO", "Cu"]


def rock_salt(a=5.6, species=("Na", "Cl")):
    return Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(a), species, [[0, 0, 0], [0.5, 0.5, 0.5]]
    )


def corpus_of(structures):
    sizes = [len(structure) for structure in structures]
    return Corpus(
        ids=[str(row) for row in range(len(structures))],
        numbers=np.concatenate([structure.atomic_numbers for structure in structures]),
        frac_coords=np.concatenate([structure.frac_coords for structure in structures]),
        lattices=np.array([structure.lattice.matrix for structure in structures]),
        ptr=np.concatenate([[0], np.cumsum(sizes)]),
    )


def record(**changes):
    return {
        "table": "folds",
        "task": "n",
        "method": "svr",
        "split": 0,
        "n_labels": 10,
        "config": "a",
        "mae": 1.0,
        "cpu_seconds": 1.0,
        "wall_seconds": 2.0,
        "seed": 0,
        "chosen": {"C": 10.0},
        "leak": None,
        "time": "2026-01-01T00:00:00Z",
        "settings": {"model": "svr"},
        "title": "SVR",
        "versions": {"numpy": "2"},
        "python": "3.11",
        "commit": "c0ffee",
        "machine": "a CPU",
        "threads": 1,
        "device": "cpu",
        **changes,
    }


class TestFolds:
    def test_cover_all_rows_and_keep_formulas_together(self):
        from accuracy.tasks import formula_folds

        folds = formula_folds(FORMULAS)
        tests = np.concatenate([test for _, test in folds])
        assert sorted(tests) == list(range(len(FORMULAS)))
        for train, test in folds:
            assert not set(train) & set(test)
            assert not {FORMULAS[row] for row in train} & {FORMULAS[row] for row in test}

    def test_a_plain_shuffle_splits_formulas(self):
        from accuracy.jobs import cells_of, rows_of
        from accuracy.tasks import Task, formula_folds

        task = Task("n", [], np.arange(11.0), FORMULAS, formula_folds(FORMULAS))
        methods = {"median": SimpleNamespace(config="a")}
        cells = cells_of("shuffled", {"n": task}, methods, range(5))
        parts = [rows_of(cell, task) for cell in cells]
        assert [cell.n_labels for cell in cells] == [len(train) for train, _ in parts]
        assert sorted(np.concatenate([test for _, test in parts])) == list(range(len(FORMULAS)))
        shared = [
            {FORMULAS[r] for r in train} & {FORMULAS[r] for r in test} for train, test in parts
        ]
        assert any(shared)

    def test_depend_on_the_seed_alone(self):
        from accuracy.tasks import formula_folds

        def tests(seed):
            return [test.tolist() for _, test in formula_folds(FORMULAS, random_state=seed)]

        assert tests(0) == tests(0)
        assert tests(0) != tests(1)

    def test_too_few_formulas_are_refused(self):
        from accuracy.tasks import formula_folds

        with pytest.raises(ValueError, match="2 formulas"):
            formula_folds(["Fe", "Si", "Si"])

    def test_draws_are_nested_distinct_and_from_the_training_part(self):
        from accuracy.tasks import draw_labels

        train = np.arange(100, 200)
        small, large = (draw_labels(train, n, 3) for n in (10, 50))
        assert large[:10].tolist() == small.tolist()
        assert len(set(large.tolist())) == 50
        assert set(large) <= set(train)
        assert draw_labels(train, 10, 4).tolist() != small.tolist()
        with pytest.raises(ValueError, match="100 rows"):
            draw_labels(train, 101, 0)


class TestStore:
    def test_a_line_cut_short_costs_only_itself(self, tmp_path):
        from accuracy.store import append_record, read_records

        path = tmp_path / "folds.jsonl"
        append_record(path, record(split=0))
        with path.open("a") as file:
            file.write(json.dumps(record(split=1))[:40])
        append_record(path, record(split=2))
        assert [found["split"] for found in read_records(path)] == [0, 2]

    def test_only_one_holds_a_claim(self, tmp_path):
        from accuracy.store import claim

        names = ("cell", "cell", "other")
        with ExitStack() as stack:
            held = [stack.enter_context(claim(tmp_path, name)) for name in names]
            assert held == [True, False, True]
        with claim(tmp_path, "cell") as again:
            assert again

    def test_a_claim_ends_with_an_error(self, tmp_path):
        from accuracy.store import claim

        with pytest.raises(RuntimeError), claim(tmp_path, "cell"):
            raise RuntimeError
        with claim(tmp_path, "cell") as again:
            assert again


class TestRun:
    @pytest.fixture
    def calls(self, monkeypatch, tmp_path):
        """Run the median on a small task that counts its fits."""
        import accuracy.run as runner
        from accuracy.tasks import Task, formula_folds

        data = load_elasticity(target="log10_K_VRH")
        structures = data.data[:20]
        formulas = [structure.composition.reduced_formula for structure in structures]
        task = Task("n", structures, data.target[:20], formulas, formula_folds(formulas))
        monkeypatch.setattr(runner, "load_task", lambda *_: task)
        monkeypatch.setattr(runner, "environment", dict)
        fits = []
        method = SimpleNamespace(
            title="median",
            group="classical",
            config="a",
            settings={},
            tables=(),
            card=None,
            alone=None,
            make=lambda seed: fits.append(seed) or Median(),
        )
        monkeypatch.setattr(runner, "choose_methods", lambda _: {"median": method})
        options = runner.parse(["folds", "--tasks", "n", "--out", str(tmp_path)])

        def call(**changes):
            vars(method).update(changes.pop("method", {}))
            vars(options).update(changes)
            fits.clear()
            runner.run(options)
            return list(fits)

        return call

    def test_a_rerun_computes_what_is_missing_or_of_another_configuration(self, calls):
        assert calls(splits=[0, 2]) == [0, 2]
        assert calls(splits=[0, 1, 2]) == [1]
        assert calls(method={"config": "b"}) == [0, 1, 2]
        assert calls() == []

    def test_no_cell_starts_after_the_limit(self, calls):
        assert calls(limit_seconds=-1.0) == []

    def test_the_error_is_that_of_the_test_rows(self, calls, tmp_path):
        from accuracy.store import read_records
        from accuracy.tasks import formula_folds

        calls(splits=[3])
        data = load_elasticity(target="log10_K_VRH")
        formulas = [s.composition.reduced_formula for s in data.data[:20]]
        train, test = formula_folds(formulas)[3]
        (found,) = read_records(tmp_path / "folds.jsonl")
        expected = np.abs(data.target[test] - np.median(data.target[train])).mean()
        assert found["mae"] == pytest.approx(expected)
        assert found["n_labels"] == len(train)


class Median:
    def fit(self, X, y):
        self.value = np.median(y)
        return self

    def predict(self, X):
        return np.full(len(X), self.value)


class TestLeakage:
    def test_all_polymorphs_of_a_test_crystal_go(self):
        from accuracy.leakage import without_test_crystals

        cesium_chloride = Structure(Lattice.cubic(3.5), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
        same, other = rock_salt(5.62), rock_salt(4.2, ("Mg", "O"))
        corpus = corpus_of([same, cesium_chloride, other])
        test = [rock_salt().get_primitive_structure()]
        assert without_test_crystals(corpus, test).ids.tolist() == ["2"]

    def test_a_test_formula_in_pretraining_is_found(self, tmp_path):
        from accuracy.leakage import check_weights, reduced_formulas

        shipped = load_elasticity().data[0]
        exotic = rock_salt(5.0, ("Lr", "No"))
        corpus = corpus_of([shipped, exotic])
        card = tmp_path / "card.json"
        card.write_text(json.dumps({"data": {"n_crystals": 1, "max_sites": 200}}))
        test = reduced_formulas([shipped, exotic])
        assert check_weights(card, corpus, test) == {
            "test_formulas": 2,
            "in_corpus_file": 2,
            "in_pretraining": 1,
            "count_agrees": True,
        }
        # Of some of the crystals: any of those it was drawn from may have been seen.
        drawn = {"n_crystals": 0, "max_sites": 1, "drawn_from": {"n_crystals": 7, "max_sites": 200}}
        card.write_text(json.dumps({"data": drawn}))
        found = check_weights(card, corpus, test)
        assert (found["in_pretraining"], found["count_agrees"]) == (1, False)
        card.write_text(json.dumps({"data": {"formulas": ["NaCl"]}}))
        assert check_weights(card, corpus, test)["in_pretraining"] == 0


class TestSummary:
    def test_paired_difference_is_students(self):
        from accuracy.summary import Series, paired_difference
        from scipy.stats import ttest_rel

        ours = Series(mae={0: 0.9, 1: 1.0, 2: 1.3, 3: 0.8, 4: 1.0})
        theirs = Series(mae={0: 1.0, 1: 1.2, 2: 1.3, 3: 1.1, 4: 0.9})
        found = paired_difference(ours, theirs)
        a, b = (np.array(list(s.mae.values())) for s in (ours, theirs))
        low, high = ttest_rel(a, b).confidence_interval(0.95)
        percent = 100 / b.mean()
        assert found.mean - found.half_width == pytest.approx(low * percent)
        assert found.mean + found.half_width == pytest.approx(high * percent)
        assert not found.is_better
        assert not found.is_worse

    def test_only_common_folds_are_compared(self):
        from accuracy.summary import Series, paired_difference

        found = paired_difference(Series(mae={0: 1.0, 1: 5.0}), Series(mae={0: 2.0, 2: 1.0}))
        assert (found.mean, found.half_width) == (-50.0, math.inf)
        assert paired_difference(Series(mae={0: 1.0}), Series(mae={1: 1.0})) is None

    def test_configurations_do_not_meet_in_one_mean(self):
        from accuracy.summary import latest

        old = [record(split=split, config="old") for split in range(5)]
        new = record(split=3, config="new", time="2026-02-01T00:00:00Z")
        assert latest([new, *old]) == [new]

    def test_each_number_of_labels_of_a_curve_has_a_mean_of_its_own(self):
        from accuracy.summary import latest

        old = [record(table="curves", n_labels=n, config="old") for n in (50, 100)]
        new = record(table="curves", n_labels=50, config="new", time="2026-02-01T00:00:00Z")
        assert latest([new, *old]) == [old[1], new]

    def test_compact_results_come_back_whole(self, tmp_path):
        from accuracy.summary import read_compact, write_compact

        records = [record(split=split, commit=f"{split % 2}") for split in range(3)]
        path = tmp_path / "accuracy.json"
        write_compact(path, records)
        assert read_compact(path) == records


class TestTables:
    def test_only_a_method_with_all_folds_can_be_best(self):
        from accuracy.summary import Series
        from accuracy.tables import error_column

        column = {
            "whole": Series(mae=dict.fromkeys(range(5), 2.0)),
            "worse": Series(mae=dict.fromkeys(range(5), 3.0)),
            "part": Series(mae={0: 1.0, 1: 1.0}),
            "none": None,
        }
        assert error_column(column) == {
            "whole": "**2.00 ± 0.00**",
            "worse": "3.00 ± 0.00",
            "part": "1.00 ± 0.00 (2 of 5)",
            "none": "-",
        }

    def test_summary_has_the_best_other_method_of_each_row(self):
        from accuracy.summary import Series
        from accuracy.tables import summary_table

        def five(mae):
            return Series(mae=dict.fromkeys(range(5), mae))

        few = {
            ("n", "ours", 100): five(2.0),
            ("n", "near", 100): five(3.0),
            ("n", "far", 100): five(4.0),
            ("n", "part", 100): Series(mae={0: 1.0}),
        }
        whole = {("n", "ours", 0): five(2.0), ("n", "far", 0): five(1.0)}
        titles = {"near": "near", "far": "far", "part": "part", "ours": "this"}
        table = summary_table(
            {"100": (few, 100), "all": (whole, 0)}, titles, ["ours"], ["n", "poly_total"]
        )
        head, _, *rows = table.split("\n")
        assert head == "| property | labels | best other method | this |"
        assert rows == [
            "| refractive index n, 1 | 100 | 3.00 ± 0.00 (near) | **2.00 ± 0.00** |",
            "| refractive index n, 1 | all | **1.00 ± 0.00** (far) | 2.00 ± 0.00 |",
        ]

    def test_a_loss_is_said(self):
        from accuracy.summary import Series
        from accuracy.tables import loss_lines

        series = {
            ("n", "ours", 0): Series(mae={split: 2.0 + split for split in range(5)}),
            ("n", "theirs", 0): Series(mae={split: 1.0 + split for split in range(5)}),
        }
        titles = {"ours": "ours", "theirs": "theirs"}
        (line,) = loss_lines(series, titles, ["ours"], ["n"], 0)
        assert "**we lose** by 33.3 ± 0.0 %" in line

    @pytest.mark.parametrize(
        "value, text", [(0.034567, "0.0346"), (28.64, "28.6"), (324.2, "324"), (1.0, "1.00")]
    )
    def test_three_digits(self, value, text):
        from accuracy.tables import significant

        assert significant(value) == text
