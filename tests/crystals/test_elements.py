"""Element tables: complete, standardized, physically sensible, and readable in every form."""

import csv
import importlib.metadata
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pymatgen.core import Element

from dssl_sklearn.crystals import elements
from dssl_sklearn.crystals.elements import (
    ELEMENT_FEATURE_NAMES,
    ELEMENT_PROPERTY_NAMES,
    ELEMENT_SYMBOLS,
    LOG_SCALE_FEATURES,
    MAX_ATOMIC_NUMBER,
    element_features,
    element_property,
    per_element_array,
)
from dssl_sklearn.exceptions import InvalidInputError

ROOT = Path(__file__).parents[2]
DATA = Path(elements.__file__).parent / "data"
Z = {symbol: z for z, symbol in enumerate(ELEMENT_SYMBOLS) if symbol}


def test_symbols_are_indexed_by_atomic_number():
    assert len(ELEMENT_SYMBOLS) == MAX_ATOMIC_NUMBER + 1
    assert ELEMENT_SYMBOLS[0] == ""
    assert list(ELEMENT_SYMBOLS[1:]) == [Element.from_Z(z).symbol for z in range(1, 104)]


def test_import_needs_neither_pymatgen_nor_torch():
    code = (
        "import sys, dssl_sklearn.crystals.elements as e; e.element_features();"
        "print([m for m in ('pymatgen', 'torch', 'scipy', 'pandas') if m in sys.modules])"
    )
    run = subprocess.run(  # noqa: S603 - our own interpreter and code
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert run.stdout.strip() == "[]"


def test_standardized_features_have_zero_mean_and_unit_variance():
    features = element_features()
    assert features.shape == (104, len(ELEMENT_FEATURE_NAMES))
    assert features.dtype == np.float64
    assert np.isfinite(features).all()
    np.testing.assert_array_equal(features[0], 0)
    np.testing.assert_allclose(features[1:].mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(features[1:].std(axis=0), 1, atol=1e-12)


def test_raw_features_are_the_properties():
    features = element_features(standardize=False)
    for column, name in enumerate(ELEMENT_FEATURE_NAMES):
        np.testing.assert_array_equal(features[1:, column], element_property(name)[1:])
    np.testing.assert_array_equal(features[0], 0)


def test_log_scale_features_are_standardized_as_logarithms():
    raw = np.log10(element_property("bulk_modulus")[1:])
    expected = (raw - raw.mean()) / raw.std()
    np.testing.assert_allclose(element_features(["bulk_modulus"])[1:, 0], expected)


def test_features_can_be_chosen_by_name():
    chosen = element_features(["stiffness", "period"])
    everything = element_features()
    assert chosen.shape == (104, 2)
    np.testing.assert_array_equal(chosen[:, 1], everything[:, 1])


@pytest.mark.parametrize("names", [[], "period"])
def test_feature_names_must_be_a_sequence_of_names(names):
    with pytest.raises(InvalidInputError, match="names"):
        element_features(names)


def test_each_element_differs_from_all_others():
    features = element_features()
    assert len(np.unique(features.round(9), axis=0)) == 104


@pytest.mark.parametrize("name", ELEMENT_PROPERTY_NAMES)
def test_properties_cover_all_elements(name):
    values = element_property(name)
    assert values.shape == (104,)
    assert np.isnan(values[0])
    assert np.isfinite(values[1:]).all()
    if name in LOG_SCALE_FEATURES or name == "stiffness":
        assert (values[1:] > 0).all()


@pytest.mark.parametrize(
    "name, symbol, expected",
    [
        ("electronegativity", "F", 3.98),
        ("atomic_mass", "Fe", 55.845),
        ("group", "Cl", 17),
        ("period", "W", 6),
        ("first_ionization_energy", "H", 13.598),
        ("electron_affinity", "Cl", 3.613),
        ("melting_point", "W", 3695),
        ("molar_volume", "Al", 10.0),
        ("density", "Au", 19.3),
        ("ionic_radius", "Cl", 1.67),
        ("d_electrons", "Fe", 6),
        ("d_vacancies", "Fe", 4),
        ("f_electrons", "Gd", 7),
        ("f_block", "Lu", 0),
        ("s_block", "He", 1),
        ("min_oxidation_state", "O", -2),
        ("max_oxidation_state", "Ar", 0),
    ],
)
def test_known_values(name, symbol, expected):
    assert element_property(name)[Z[symbol]] == pytest.approx(expected, rel=2e-3)


def test_trends_of_the_periodic_table():
    radius = element_property("atomic_radius_calculated")
    assert radius[Z["Cs"]] > radius[Z["Na"]] > radius[Z["Cl"]] > radius[Z["F"]]
    energy = element_property("first_ionization_energy")
    assert (np.diff(energy[[Z[s] for s in ("He", "Ne", "Ar", "Kr", "Xe")]]) < 0).all()


def test_valence_counts_electrons_by_group():
    valence = element_property("valence")
    group, block = element_property("group"), element_property("f_block")
    for z in range(1, 104):
        if block[z]:
            expected = z - 54 if z < 72 else z - 86
        elif z == Z["He"]:
            expected = 2
        else:
            expected = group[z] if group[z] <= 12 else group[z] - 10
        assert valence[z] == expected, ELEMENT_SYMBOLS[z]
    assert set(valence[1:]) == set(range(1, 17))


def test_unfilled_properties_are_nan_where_pymatgen_has_no_value():
    measured = element_property("electronegativity", filled=False)
    missing = [ELEMENT_SYMBOLS[z] for z in np.flatnonzero(np.isnan(measured)) if z]
    assert missing == ["He", "Ne", "Ar"]
    known = ~np.isnan(measured)
    np.testing.assert_array_equal(measured[known], element_property("electronegativity")[known])


def test_gaps_are_filled_by_the_documented_rules():
    modulus = element_property("bulk_modulus")
    re_ir = np.sqrt(modulus[Z["Re"]] * modulus[Z["Ir"]])  # a mean on the log scale
    assert modulus[Z["Os"]] == pytest.approx(re_ir, rel=1e-6)
    al_tl = np.exp((2 * np.log(modulus[Z["Al"]]) + np.log(modulus[Z["Tl"]])) / 3)
    assert modulus[Z["Ga"]] == pytest.approx(al_tl, rel=1e-6)
    assert modulus[Z["Ac"]] == pytest.approx(modulus[Z["La"]], rel=1e-6)
    assert modulus[Z["Ar"]] == pytest.approx(modulus[Z["Cl"]], rel=1e-6)


def test_properties_are_copies():
    element_property("valence")[:] = 0
    assert element_property("valence")[1] == 1


def test_documentation_lists_each_feature_with_its_number_of_measured_values():
    rows = re.findall(r"^([a-z_]+)( \.\.\. f_[a-z]+)? .*?(\d+)  ", elements.__doc__, re.MULTILINE)
    counts = {name.removeprefix("s_") if shells else name: int(n) for name, shells, n in rows}
    for name in ELEMENT_FEATURE_NAMES:
        measured = int((~np.isnan(element_property(name, filled=False))).sum())
        assert counts[re.sub("^[spdf]_", "", name)] == measured, name


def test_unknown_property_is_named_with_a_suggestion():
    with pytest.raises(InvalidInputError, match=r"'stifness'.*did you mean 'stiffness'"):
        element_property("stifness")


@pytest.mark.parametrize(
    "values",
    [
        {"H": 1.0, "Fe": 2.5},
        {1: 1.0, 26: 2.5},
        {np.int64(1): 1.0, np.int64(26): 2.5},
        {Element("H"): 1.0, Element("Fe"): 2.5},
        pd.Series({"H": 1.0, "Fe": 2.5}).to_dict(),
    ],
)
def test_per_element_array_reads_mappings(values):
    array = per_element_array(values)
    assert array.shape == (104,)
    assert array[1] == 1.0
    assert array[26] == 2.5
    assert np.isnan(np.delete(array, [1, 26])).all()


@pytest.mark.parametrize("kind", [list, tuple, np.array, pd.Series])
def test_per_element_array_reads_all_values_with_or_without_row_zero(kind):
    values = np.arange(1.0, 104.0)
    values[5] = np.nan
    expected = np.concatenate([[np.nan], values])
    np.testing.assert_array_equal(per_element_array(kind(values)), expected)
    with_zero = np.concatenate([[7.0], values])
    np.testing.assert_array_equal(per_element_array(kind(with_zero)), expected)
    assert with_zero[0] == 7.0


def test_per_element_array_reads_names():
    np.testing.assert_array_equal(per_element_array("stiffness"), element_property("stiffness"))


@pytest.mark.parametrize(
    "values, message",
    [
        ({"fe": 1.0}, r"'fe' is no element.*did you mean 'Fe'"),
        ({104: 1.0}, "104 is no element"),
        ({0: 1.0}, "0 is no element"),
        ({True: 1.0}, "True is no element"),
        ({26.0: 1.0}, r"26\.0 is no element"),
        ({"Fe": "soft"}, r"values\['Fe'\] is 'soft', expected a number"),
        ({"Fe": np.inf}, "infinite for Fe"),
        ({}, "no known entry"),
        (np.full(104, np.nan), "no known entry"),
        (np.ones(100), r"shape \(100,\)"),
        (np.ones((104, 2)), r"shape \(104, 2\)"),
        (["a"] * 104, "expected a mapping"),
        ("valenze", "did you mean 'valence'"),
    ],
)
def test_per_element_array_explains_what_it_cannot_read(values, message):
    with pytest.raises(InvalidInputError, match=message):
        per_element_array(values)


def test_shipped_table_is_what_the_script_makes(tmp_path):
    origin = (DATA / "elements.csv").read_text().splitlines()[0]
    if importlib.metadata.version("pymatgen") not in origin:
        pytest.skip(f"the table comes from another release of pymatgen ({origin})")
    path = ROOT / "benchmarks" / "make_element_table.py"
    spec = importlib.util.spec_from_file_location("make_element_table", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    script.write_table(tmp_path)
    assert (tmp_path / "element_gaps.csv").read_text() == (DATA / "element_gaps.csv").read_text()
    made, shipped = (
        np.array(
            [
                [float(v) for v in row[1:]]
                for row in list(csv.reader(p.read_text().splitlines()))[2:]
            ]
        )
        for p in (tmp_path / "elements.csv", DATA / "elements.csv")
    )
    np.testing.assert_allclose(made, shipped, rtol=1e-6)
