import sys
from types import ModuleType

import numpy as np
import pytest
from pymatgen.core import Element, Lattice, Structure

from dssl_sklearn.crystals.elements import ELEMENT_SYMBOLS
from dssl_sklearn.exceptions import (
    InvalidInputError,
    InvalidStructureError,
    MissingDependencyError,
)
from dssl_sklearn.plotting import ElementErrorDisplay
from dssl_sklearn.plotting._periodic_table import table_position


def crystal(*symbols):
    rng = np.random.default_rng(len(symbols))
    return Structure(Lattice.cubic(5), symbols, rng.random((len(symbols), 3)))


@pytest.fixture
def display():
    structures = [crystal("Na", "Cl"), crystal("Na", "Na", "O"), crystal("Fe")]
    return ElementErrorDisplay.from_predictions(
        structures, [0.0, 0.0, 0.0], [0.1, -0.3, 0.5], target_name="gap", unit="eV"
    )


def test_every_element_stands_in_its_group_and_period():
    for number, symbol in enumerate(ELEMENT_SYMBOLS[1:], start=1):
        element = Element(symbol)
        row, column = table_position(number)
        if row == int(row):
            assert (row, column) == (element.row, element.group), symbol
        else:
            assert element.is_lanthanoid or element.is_actinoid
            assert row == element.row + 2.4
            assert 4 <= column <= 17
    places = {table_position(number) for number in range(1, 104)}
    assert len(places) == 103


def test_errors_are_means_over_the_crystals_with_the_element(display, texts):
    assert display.errors.round(6).to_dict() == {"Cl": 0.1, "Fe": 0.5, "Na": 0.2, "O": 0.3}
    assert display.counts.to_dict() == {"Cl": 1, "Fe": 1, "Na": 2, "O": 1}
    said = texts(display.figure_)
    assert set(ELEMENT_SYMBOLS[1:]) <= set(said)
    assert {"0.1", "0.2", "0.3", "0.5"} <= set(said)
    assert "mean absolute error of gap (eV)" in said


def test_elements_in_few_crystals_stay_empty(display, texts):
    said = texts(display.plot(min_count=2).figure_)
    assert "0.2" in said
    assert "0.5" not in said
    with pytest.raises(InvalidInputError, match="no element occurs in more than 2 structures"):
        display.plot(min_count=3)


def test_unknown_rows_are_left_out():
    display = ElementErrorDisplay.from_predictions(
        [crystal("Na"), crystal("Fe"), "not read"], [1.0, 1.0, 1.0], [1.5, np.nan, np.nan]
    )
    assert display.errors.to_dict() == {"Na": 0.5}


def test_an_estimator_is_asked(linear_regressor, elastic):
    structures, y = elastic[0][:30], np.asarray(elastic[1][:30])
    display = ElementErrorDisplay.from_estimator(linear_regressor, structures, y)
    error = np.abs(linear_regressor.predict(structures) - y)
    for symbol, found in display.errors.items():
        rows = [symbol in s.composition for s in structures]
        assert found == pytest.approx(error[rows].mean())


def test_bad_input_is_explained():
    with pytest.raises(InvalidInputError, match="1 structures, 2 values"):
        ElementErrorDisplay.from_predictions([crystal("Na")], [1, 2], [1, 2])
    with pytest.raises(InvalidStructureError, match="of 3:\n  structure 2"):
        ElementErrorDisplay.from_predictions([crystal("Na"), "unread", 5], [1, np.nan, 2], [1] * 3)


def test_pymatviz_is_asked_for_by_name(display, monkeypatch):
    monkeypatch.setitem(sys.modules, "pymatviz", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "dssl_sklearn\[pymatviz\]"'):
        display.interactive()


def test_pymatviz_gets_the_errors(display, monkeypatch):
    # It brings plotly and widgets: a stand-in that hands its arguments back.
    module = ModuleType("pymatviz")
    module.ptable_heatmap = lambda values, **kwargs: (values, kwargs)
    monkeypatch.setitem(sys.modules, "pymatviz", module)
    values, kwargs = display.interactive(min_count=2)
    assert values == {"Na": pytest.approx(0.2)}
    assert kwargs["hover_data"]["Na"] == "2 structures"
