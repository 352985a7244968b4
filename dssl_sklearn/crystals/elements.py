"""Element tables: physical features and properties per atomic number, 1 to 103, without gaps.

Every array has 104 rows and is indexed by atomic number; row 0 stands for a masked site. The values
come from the element data of pymatgen [1]_ (version in the first line of ``data/elements.csv``) by
``benchmarks/make_element_table.py``, which also says how entries that pymatgen does not know are
filled; ``data/element_gaps.csv`` lists each of them with its rule and the elements it came from.

Features (``ELEMENT_FEATURE_NAMES``); "log" marks those whose logarithm is standardized:

=========================  ==========  ========  =================================================
name                       unit        measured  meaning
=========================  ==========  ========  =================================================
group                                       103  1 to 18; 3 for lanthanides and actinides
period                                      103  1 to 7
mendeleev_number                            103  Pettifor's chemical scale
atomic_mass                u                103  standard atomic weight
electronegativity          Pauling          100  Pauling's scale
atomic_radius              angstrom          88  empirical, Slater
atomic_radius_calculated   angstrom          82  of the free atom, Clementi
van_der_waals_radius       angstrom         102  van der Waals radius
ionic_radius               angstrom          92  usual anion, else mean over usual cations, Shannon
first_ionization_energy    eV               103  to remove the first electron
second_ionization_energy   eV               102  to remove the second electron
electron_affinity          eV               103  energy gained with one more electron
highest_orbital_energy     eV                92  highest occupied orbital, local density functional
molar_volume               cm3/mol, log      97  of the element in its standard condensed phase
density                    g/cm3, log        97  atomic mass over molar volume
melting_point              K                103  at ambient pressure, where there is one
boiling_point              K                 93  at ambient pressure, where there is one
thermal_conductivity       W/m/K, log        96  near room temperature
bulk_modulus               GPa, log          69  of the element; of graphite for carbon
valence                                     103  valence electrons, see below
s_electrons ... f_electrons                 103  s, p, d, f electrons outside the noble gas core
s_vacancies ... f_vacancies                 103  free places in those shells, 0 if without electrons
s_block ... f_block                         103  1 in that block, else 0; helium counts as s
min_oxidation_state                         103  lowest common oxidation state
max_oxidation_state                         103  highest common one; 0 for He, Ne, Ar, Rn
=========================  ==========  ========  =================================================

The number of valence electrons is that of the electrons outside the noble gas core and outside
closed d shells (p block) and closed f shells (d and p block): the s and p electrons of the main
groups (1 to 8), the s and d electrons of the transition metals (their group number, 3 to 12), and
the s, d and f electrons of lanthanides and actinides (3 for La to 16 for Yb). It has 16 values, 1
to 16; the valence electrons of the published code [2]_ are a table of their own.

Elastic moduli other than the bulk modulus, thermal expansion and the velocity of sound are left
out, since pymatgen knows them for too few elements.

Atomic stiffness (``element_property("stiffness")``, eV per atom) is no feature, since it was fitted
to bulk moduli of crystals; see ``dssl_sklearn.crystals.stiffness``.

References
----------
.. [1] S. P. Ong et al., Comput. Mater. Sci. 68, 314 (2013).
.. [2] N. Fu, L. Wei and J. Hu, "Physics-guided dual self-supervised learning for structure-based
       material property prediction", J. Phys. Chem. Lett. 15, 2841 (2024).
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dssl_sklearn._checks import did_you_mean
from dssl_sklearn.exceptions import InvalidInputError

#: Heaviest element of the tables (lawrencium).
MAX_ATOMIC_NUMBER = 103

_SYMBOLS = """
H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr
Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb
Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr
"""

#: Chemical symbol by atomic number; the empty string stands for a masked site.
ELEMENT_SYMBOLS: tuple[str, ...] = ("", *_SYMBOLS.split())

#: Columns of ``element_features()``, in order.
ELEMENT_FEATURE_NAMES: tuple[str, ...] = (
    "group",
    "period",
    "mendeleev_number",
    "atomic_mass",
    "electronegativity",
    *("atomic_radius", "atomic_radius_calculated", "van_der_waals_radius", "ionic_radius"),
    *("first_ionization_energy", "second_ionization_energy"),
    "electron_affinity",
    "highest_orbital_energy",
    *("molar_volume", "density", "melting_point", "boiling_point"),
    *("thermal_conductivity", "bulk_modulus", "valence"),
    *(f"{kind}_{what}" for what in ("electrons", "vacancies", "block") for kind in "spdf"),
    *("min_oxidation_state", "max_oxidation_state"),
)

#: Features over orders of magnitude: standardized, and filled where missing, on a log scale.
LOG_SCALE_FEATURES = frozenset({"molar_volume", "density", "thermal_conductivity", "bulk_modulus"})

#: Names that ``element_property`` knows.
ELEMENT_PROPERTY_NAMES: tuple[str, ...] = (*ELEMENT_FEATURE_NAMES, "stiffness")

_N_ROWS = MAX_ATOMIC_NUMBER + 1
_NUMBER_OF = {symbol: z for z, symbol in enumerate(ELEMENT_SYMBOLS) if symbol}


def element_property(name: str, *, filled: bool = True) -> NDArray[np.float64]:
    """Look up one property of all elements.

    Parameters
    ----------
    name : str
        One of ``ELEMENT_FEATURE_NAMES``, or "stiffness".
    filled : bool, default=True
        Whether entries without a measured value hold the filled one, or NaN. For "stiffness" the
        measured ones are those of elements that occur in the crystals of the fit.

    Returns
    -------
    ndarray of shape (104,)
        Values by atomic number in the unit of the table above (stiffness: eV per atom); NaN in
        row 0.

    Raises
    ------
    InvalidInputError
        If no property has this name.

    Examples
    --------
    >>> from dssl_sklearn.crystals.elements import element_property
    >>> float(element_property("electronegativity")[8])
    3.44
    """
    _check_name(name)
    values, is_filled = _stiffness_table() if name == "stiffness" else _feature_table()[name]
    return values.copy() if filled else np.where(is_filled, np.nan, values)


def element_features(
    names: Sequence[str] | None = None, *, standardize: bool = True
) -> NDArray[np.float64]:
    """Collect properties of all elements as the columns of a matrix.

    Parameters
    ----------
    names : sequence of str, default=None
        Properties that ``element_property`` knows; None for ``ELEMENT_FEATURE_NAMES``.
    standardize : bool, default=True
        Whether each column has zero mean and unit variance over the 103 elements (its decimal
        logarithm for ``LOG_SCALE_FEATURES``), or is in its unit.

    Returns
    -------
    ndarray of shape (104, n_features)
        Features by atomic number; zeros in row 0.

    Raises
    ------
    InvalidInputError
        If `names` is empty, a single string, or has a name that no property has.
    """
    names = ELEMENT_FEATURE_NAMES if names is None else names
    if isinstance(names, str) or len(names) == 0:
        raise InvalidInputError(f"names is {names!r}, expected a sequence of property names.")
    features = np.column_stack([element_property(name) for name in names])[1:]
    if standardize:
        for column, name in enumerate(names):
            if name in LOG_SCALE_FEATURES:
                features[:, column] = np.log10(features[:, column])
        features = (features - features.mean(axis=0)) / features.std(axis=0)
    return np.vstack([np.zeros(len(names)), features])


def per_element_array(values: Mapping[Any, float] | ArrayLike | str) -> NDArray[np.float64]:
    """Bring a per-element quantity, in any form a user may hand in, into an array by atomic number.

    Parameters
    ----------
    values : mapping, array-like of shape (103,) or (104,), or str
        Value by chemical symbol, atomic number or pymatgen ``Element``; or all values in the order
        of atomic numbers, with or without an entry for 0, which is ignored; or a name that
        ``element_property`` knows.

    Returns
    -------
    ndarray of shape (104,)
        Values by atomic number; NaN where unknown and in row 0.

    Raises
    ------
    InvalidInputError
        If an element or a name is unknown, a value is no number or infinite, nothing is known, or
        an array has another shape.

    Examples
    --------
    >>> from dssl_sklearn.crystals.elements import per_element_array
    >>> per_element_array({"H": 1.5, 2: 0.5})[:4]
    array([nan, 1.5, 0.5, nan])
    """
    if isinstance(values, str):
        return element_property(values)
    array = _from_mapping(values) if isinstance(values, Mapping) else _from_array(values)
    array[0] = np.nan
    if np.isinf(array).any():
        symbols = [ELEMENT_SYMBOLS[z] for z in np.flatnonzero(np.isinf(array))]
        raise InvalidInputError(
            f"values is infinite for {', '.join(symbols)}; use NaN or leave out what is unknown."
        )
    if np.isnan(array).all():
        raise InvalidInputError("values has no known entry, expected a number for some element.")
    return array


def _from_mapping(values: Mapping[Any, float]) -> NDArray[np.float64]:
    array = np.full(_N_ROWS, np.nan)
    for key, value in values.items():
        number = _atomic_number(key)
        try:
            array[number] = value
        except (TypeError, ValueError) as error:
            raise InvalidInputError(f"values[{key!r}] is {value!r}, expected a number.") from error
    return array


def _from_array(values: ArrayLike) -> NDArray[np.float64]:
    try:
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(
            f"values is of type {type(values).__name__}, expected a mapping from elements to "
            f"numbers, an array of {MAX_ATOMIC_NUMBER} numbers, or the name of a property."
        ) from error
    if array.shape == (MAX_ATOMIC_NUMBER,):
        return np.concatenate([[np.nan], array])
    if array.shape != (_N_ROWS,):
        raise InvalidInputError(
            f"values has shape {array.shape}, expected ({MAX_ATOMIC_NUMBER},), or ({_N_ROWS},) "
            "with an entry for atomic number 0; a mapping can leave elements out."
        )
    return array


def _atomic_number(key: Any) -> int:  # noqa: ANN401 - any key may be handed in
    number: Any = _NUMBER_OF.get(key) if isinstance(key, str) else getattr(key, "Z", key)
    is_integer = isinstance(number, int | np.integer) and not isinstance(number, bool)
    if is_integer and 1 <= number <= MAX_ATOMIC_NUMBER:
        return int(number)
    raise InvalidInputError(
        f"{key!r} is no element; expected a chemical symbol or an atomic number from 1 to "
        f"{MAX_ATOMIC_NUMBER}{did_you_mean(key, _NUMBER_OF)}"
    )


def _check_name(name: object) -> None:
    if name not in ELEMENT_PROPERTY_NAMES:
        raise InvalidInputError(
            f"{name!r} is no property of the elements; expected one of "
            f"{', '.join(ELEMENT_PROPERTY_NAMES)}{did_you_mean(name, ELEMENT_PROPERTY_NAMES)}"
        )


def _read_csv(name: str) -> list[dict[str, str]]:
    text = (resources.files("dssl_sklearn.crystals") / "data" / name).read_text(encoding="utf-8")
    return list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))


Column = tuple[NDArray[np.float64], NDArray[np.bool_]]


@cache
def _feature_table() -> dict[str, Column]:
    rows = _read_csv("elements.csv")
    is_filled = {name: np.zeros(_N_ROWS, dtype=np.bool_) for name in ELEMENT_FEATURE_NAMES}
    for gap in _read_csv("element_gaps.csv"):
        is_filled[gap["feature"]][_NUMBER_OF[gap["symbol"]]] = True
    return {
        name: (np.array([np.nan, *(float(row[name]) for row in rows)]), is_filled[name])
        for name in ELEMENT_FEATURE_NAMES
    }


@cache
def _stiffness_table() -> Column:
    rows = _read_csv("atomic_stiffness.csv")
    values = np.array([np.nan, *(float(row["stiffness_eV"]) for row in rows)])
    return values, np.array([True, *(row["source"] == "prior" for row in rows)])
