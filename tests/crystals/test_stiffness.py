"""Atomic stiffness: recovers known values, stays positive, and leaves out what it must not see."""

import csv
import importlib.util
from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from dssl_sklearn.crystals import stiffness as module
from dssl_sklearn.crystals.elements import ELEMENT_SYMBOLS, element_property
from dssl_sklearn.crystals.graph import Crystal
from dssl_sklearn.crystals.stiffness import fit_atomic_stiffness, prior_stiffness
from dssl_sklearn.datasets import load_elasticity
from dssl_sklearn.exceptions import InvalidInputError, InvalidStructureError

ROOT = Path(__file__).parents[2]
DATA = Path(module.__file__).parent / "data"
Z = {symbol: z for z, symbol in enumerate(ELEMENT_SYMBOLS) if symbol}
TRUE = {"Fe": 12.0, "O": 6.0, "Cs": 0.2, "La": 7.0}


def make_crystal(symbols, volume):
    numbers = np.array([Z[s] for s in symbols])
    coords = np.linspace(0, 0.9, 3 * len(symbols)).reshape(-1, 3)
    return Crystal(numbers, coords, volume ** (1 / 3) * np.eye(3))


def modulus_of(crystal, values=TRUE):
    energy = sum(values[ELEMENT_SYMBOLS[z]] for z in crystal.numbers)
    return energy / np.linalg.det(crystal.lattice) * 160.2176634


@pytest.fixture
def crystals():
    rng = np.random.default_rng(0)
    symbols = list(TRUE)
    cells = [rng.choice(symbols, size=rng.integers(1, 9)) for _ in range(60)]
    return [make_crystal(cell, len(cell) * rng.uniform(8, 30)) for cell in cells]


@pytest.fixture
def moduli(crystals):
    return np.array([modulus_of(c) for c in crystals])


@pytest.fixture(scope="module")
def elastic_set():
    return load_elasticity(target="K_VRH", return_X_y=True)


def test_known_stiffness_is_recovered_and_absent_elements_keep_the_prior(crystals, moduli):
    fitted = fit_atomic_stiffness(crystals, moduli, alpha=1e-9)
    assert fitted.shape == (104,)
    assert np.isnan(fitted[0])
    for symbol, value in TRUE.items():
        assert fitted[Z[symbol]] == pytest.approx(value, abs=1e-4)
    absent = [z for z in range(1, 104) if ELEMENT_SYMBOLS[z] not in TRUE]
    np.testing.assert_array_equal(fitted[absent], prior_stiffness()[absent])


def test_stiffness_is_an_energy_per_atom_and_not_per_cell():
    one = [make_crystal(["Fe"], 12.0)]
    two = [make_crystal(["Fe", "Fe"], 24.0)]
    np.testing.assert_allclose(
        fit_atomic_stiffness(one, [180.0]), fit_atomic_stiffness(two, [180.0])
    )


def test_prior_counts_like_alpha_crystals_of_the_pure_element():
    iron = [make_crystal(["Fe"], 12.0)]
    data = 180.0 * 12.0 / 160.2176634
    fitted = fit_atomic_stiffness(iron, [180.0], alpha=3.0, prior={"Fe": 1.0})
    assert fitted[26] == pytest.approx((data + 3.0 * 1.0) / 4.0)
    assert fitted[8] == prior_stiffness()[8]


def test_result_is_never_negative():
    # Oxygen would have to be negative to explain an oxide much softer than the metal.
    crystals = [make_crystal(["Fe"], 12.0), make_crystal(["Fe", "O"], 20.0)]
    fitted = fit_atomic_stiffness(crystals, [400.0, 20.0], alpha=1e-6)
    assert fitted[Z["O"]] == 0
    assert (fitted[1:] >= 0).all()


def test_structures_crystals_and_atoms_give_the_same(crystals, moduli):
    structures = [c.to_structure() for c in crystals]
    expected = fit_atomic_stiffness(crystals, moduli)
    np.testing.assert_allclose(fit_atomic_stiffness(structures, moduli), expected)
    objects = np.empty(len(structures), dtype=object)
    objects[:] = structures
    np.testing.assert_allclose(fit_atomic_stiffness(objects, moduli.tolist()), expected)
    ase = pytest.importorskip("ase")
    atoms = [ase.Atoms(c.numbers, cell=c.lattice, pbc=True) for c in crystals]
    np.testing.assert_allclose(fit_atomic_stiffness(atoms, moduli), expected)


def test_excluded_crystals_have_no_influence(elastic_set):
    structures, moduli = elastic_set[0][:300], np.asarray(elastic_set[1])[:300]
    test = structures[:40]
    formulas = {s.composition.reduced_formula for s in test}
    rest = [i for i, s in enumerate(structures) if s.composition.reduced_formula not in formulas]
    expected = fit_atomic_stiffness([structures[i] for i in rest], moduli[rest])
    full = fit_atomic_stiffness(structures, moduli)
    by_structure = fit_atomic_stiffness(structures, moduli, exclude=test)
    np.testing.assert_array_equal(by_structure, expected)
    by_formula = fit_atomic_stiffness(structures, moduli, exclude=sorted(formulas))
    np.testing.assert_array_equal(by_formula, expected)
    assert np.abs(by_structure - full)[1:].max() > 0.01

    wrong = moduli.copy()
    wrong[:40] = 1e4
    np.testing.assert_array_equal(fit_atomic_stiffness(structures, wrong, exclude=test), expected)


def test_exclusion_covers_supercells_and_polymorphs():
    crystals = [make_crystal(["Fe", "O"], 20.0), make_crystal(["Fe"], 12.0)]
    polymorph = make_crystal(["O", "Fe", "Fe", "O"], 55.0)
    expected = fit_atomic_stiffness(crystals[1:], [180.0])
    for exclude in ([polymorph], ["O4Fe4"], ["Fe0.5O0.5"], [polymorph, "Cu"], {"FeO", "Cu"}):
        fitted = fit_atomic_stiffness(crystals, [170.0, 180.0], exclude=exclude)
        np.testing.assert_array_equal(fitted, expected)


def test_without_any_crystal_left_the_result_is_the_prior(crystals, moduli):
    fitted = fit_atomic_stiffness(crystals, moduli, exclude=crystals)
    np.testing.assert_array_equal(fitted, prior_stiffness())


def test_prior_is_bulk_modulus_times_volume_of_the_element():
    # Aluminum: 76 GPa x 10.0 cm3/mol = 76 GPa x 16.6 A3 per atom.
    assert prior_stiffness()[Z["Al"]] == pytest.approx(76 * 16.605 / 160.218, rel=1e-3)
    assert (prior_stiffness()[1:] > 0).all()


@pytest.mark.parametrize("alpha", [0, -1.0, np.inf, np.nan])
def test_alpha_must_be_positive(crystals, moduli, alpha):
    with pytest.raises(InvalidInputError, match="alpha"):
        fit_atomic_stiffness(crystals, moduli, alpha=alpha)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda y: y[:-1], r"shape \(59,\)"),
        (lambda y: np.where(np.arange(60) == 7, np.nan, y), r"\[7\]"),
        (lambda y: -y, "not positive"),
        (lambda y: ["stiff"] * len(y), "not numeric"),
    ],
)
def test_moduli_must_be_positive_numbers(crystals, moduli, change, message):
    with pytest.raises(InvalidInputError, match=f"bulk_modulus.*{message}"):
        fit_atomic_stiffness(crystals, change(moduli))


def test_all_unusable_structures_are_named(crystals, moduli):
    disordered = Structure(Lattice.cubic(3), [{"Fe": 0.5, "Co": 0.5}], [[0, 0, 0]])
    flat = Crystal(np.array([26]), np.zeros((1, 3)), np.zeros((3, 3)))
    unknown = Crystal(np.array([120]), np.zeros((1, 3)), np.eye(3))
    bad = [disordered, *crystals[:57], flat, unknown]
    with pytest.raises(InvalidStructureError) as caught:
        fit_atomic_stiffness(bad, moduli)
    assert sorted(caught.value.reasons) == [0, 58, 59]


@pytest.mark.parametrize(
    "exclude, message",
    [
        ("Fe2O3", "single str"),
        (["Fe2Ox"], "'Fe2Ox'"),
        (["Xx2"], "'Xx2'"),
    ],
)
def test_exclude_must_hold_formulas_or_crystals(crystals, moduli, exclude, message):
    with pytest.raises(InvalidInputError, match=message):
        fit_atomic_stiffness(crystals, moduli, exclude=exclude)


@pytest.mark.parametrize("structures", [[], make_crystal(["Fe"], 10.0)])
def test_structures_must_be_a_filled_sequence(structures):
    with pytest.raises(InvalidInputError, match="structures"):
        fit_atomic_stiffness(structures, [])


def test_a_single_structure_is_not_a_sequence():
    with pytest.raises(InvalidInputError, match="single Structure"):
        fit_atomic_stiffness(make_crystal(["Fe"], 10.0).to_structure(), [100.0])


def test_prior_must_not_be_negative(crystals, moduli):
    with pytest.raises(InvalidInputError, match="prior"):
        fit_atomic_stiffness(crystals, moduli, prior={"Fe": -1.0})


def test_shipped_stiffness_is_positive_and_follows_physics():
    k = element_property("stiffness")
    assert (k[1:] > 0).all()
    assert (k[57:72] > 1).all()
    assert k[Z["C"]] > 10 > k[Z["Cs"]]
    assert k[Z["W"]] > k[Z["Hf"]] > k[Z["Ba"]] > k[Z["Cs"]]
    never_seen = np.isnan(element_property("stiffness", filled=False))
    assert never_seen[57:72].all()
    assert not never_seen[Z["Fe"]]


def test_table_predicts_bulk_moduli_better_than_the_prior(elastic_set):
    structures, moduli = elastic_set
    train = fit_atomic_stiffness(structures, moduli, exclude=structures[::5])
    errors = {}
    for name, k in {"fitted": train, "prior": prior_stiffness()}.items():
        predicted = [k[list(s.atomic_numbers)].sum() / s.volume for s in structures[::5]]
        errors[name] = np.abs(160.2176634 * np.array(predicted) - moduli[::5]).mean()
    assert errors["fitted"] < 15
    assert errors["fitted"] < 0.6 * errors["prior"]


def test_shipped_table_is_what_the_script_writes(elastic_set, tmp_path):
    spec = importlib.util.spec_from_file_location(
        "fit_atomic_stiffness", ROOT / "benchmarks" / "fit_atomic_stiffness.py"
    )
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    script.write_stiffness(tmp_path, *elastic_set, module.DEFAULT_ALPHA)
    made, shipped = (
        list(csv.reader((folder / "atomic_stiffness.csv").read_text().splitlines()))
        for folder in (tmp_path, DATA)
    )
    assert made[:2] == shipped[:2]
    for one, other in zip(made[2:], shipped[2:], strict=True):
        assert [one[0], *one[2:]] == [other[0], *other[2:]]
        assert float(one[1]) == pytest.approx(float(other[1]), rel=1e-3, abs=1e-4)
