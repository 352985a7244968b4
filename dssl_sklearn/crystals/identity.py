"""What makes two crystals kin: formula, elements, prototype; and when they are the same one."""

from __future__ import annotations

import math
import warnings
from collections import defaultdict
from collections.abc import Iterable
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dssl_sklearn.crystals.elements import ELEMENT_SYMBOLS, MAX_ATOMIC_NUMBER
from dssl_sklearn.crystals.files import UnusableCrystalError
from dssl_sklearn.crystals.graph import Crystal
from dssl_sklearn.crystals.table import CrystalTable
from dssl_sklearn.exceptions import InvalidInputError

if TYPE_CHECKING:
    from pymatgen.core import Composition


def composition(crystal: Crystal) -> Composition:
    """Composition of the cell as pymatgen's object."""
    from pymatgen.core import Composition, Element

    numbers, amounts = np.unique(crystal.numbers, return_counts=True)
    pairs = zip(numbers.tolist(), amounts.tolist(), strict=True)
    return Composition({Element.from_Z(z): amount for z, amount in pairs})


def reduced_formula(crystal: Crystal) -> str:
    """Reduced formula, such as ``"Al2O3"``; equal for all polymorphs."""
    return str(composition(crystal).reduced_formula)


def chemical_system(crystal: Crystal) -> str:
    """Elements in alphabetical order, such as ``"Al-O"``."""
    return str(composition(crystal).chemical_system)


def prototype(crystal: Crystal, symprec: float = 0.01) -> str:
    """Space group and anonymous formula, such as ``"225 AB"`` for rock salt.

    Parameters
    ----------
    crystal : Crystal
        One crystal.
    symprec : float, default=0.01
        How far sites may be from their symmetric places, in angstrom.

    Returns
    -------
    str
        International number of the space group, a space, the anonymous formula.

    Raises
    ------
    UnusableCrystalError
        If no space group is found.
    """
    from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of spglib, about its own future
            number = SpacegroupAnalyzer(crystal.to_structure(), symprec).get_space_group_number()
    except Exception as error:
        raise UnusableCrystalError(
            f"no space group is found with symprec={symprec} (sites on top of each other?): {error}"
        ) from error
    return f"{number} {composition(crystal).reduced_composition.anonymized_formula}"


def formula_key(numbers: NDArray[np.int64]) -> bytes:
    """Key that crystals of one reduced formula share, made in microseconds.

    Parameters
    ----------
    numbers : ndarray of shape (n_sites,), int64
        Atomic numbers of all sites.

    Returns
    -------
    bytes
        The same for every choice of cell and order of sites.
    """
    amounts = np.bincount(numbers)
    elements = np.flatnonzero(amounts)
    reduced = amounts[elements] // np.gcd.reduce(amounts[elements])
    return np.concatenate([elements, reduced]).tobytes()


def formula_keys(crystals: CrystalTable) -> list[bytes]:
    """Key of each crystal, see `formula_key`."""
    return [formula_key(crystals.numbers[a:b]) for a, b in pairwise(crystals.ptr.tolist())]


def key_of_formula(formula: str | Composition) -> bytes:
    """Key that the crystals of a chemical formula have, see `formula_amounts`."""
    amounts = formula_amounts(formula)
    return np.array([*amounts, *amounts.values()], dtype=np.int64).tobytes()


def formula_amounts(formula: str | Composition) -> dict[int, int]:
    """Reduce a chemical formula to whole numbers of atoms.

    Parameters
    ----------
    formula : str or Composition
        In any spelling and multiple: ``"Al2O3"``, ``"O6 Al4"``, ``"Al0.4O0.6"``.

    Returns
    -------
    dict of int to int
        Numbers of atoms by atomic number, in the order of these; deuterium counts as hydrogen.

    Raises
    ------
    InvalidInputError
        If the formula cannot be understood.
    """
    from pymatgen.core import Composition

    amounts: dict[int, Fraction] = defaultdict(Fraction)
    try:
        for element, amount in Composition(formula).items():
            amounts[element.Z] += Fraction(amount).limit_denominator(1000)
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise InvalidInputError(f"{formula!r} is not a chemical formula ({error}).") from error
    amounts = {number: amount for number, amount in amounts.items() if amount}
    if not amounts or not all(1 <= number <= MAX_ATOMIC_NUMBER for number in amounts):
        raise InvalidInputError(f"{formula!r} is not a chemical formula of elements from H to Lr.")
    multiple = math.lcm(*(amount.denominator for amount in amounts.values()))
    whole = {number: int(amounts[number] * multiple) for number in sorted(amounts)}
    divisor = math.gcd(*whole.values())
    return {number: amount // divisor for number, amount in whole.items()}


def written_formula(amounts: Iterable[tuple[int, int]]) -> str:
    """Write atomic numbers, each with a number of atoms, in their order, such as ``"O3Al2"``.

    Cards of weights hold formulas in this spelling, by atomic number; it is not the ``"Al2O3"`` of
    `reduced_formula`.
    """
    return "".join(f"{ELEMENT_SYMBOLS[z]}{n if n > 1 else ''}" for z, n in amounts)


def same_crystal(one: Crystal, other: Crystal) -> bool:
    """Whether two crystals are the same one.

    pymatgen's ``StructureMatcher`` with its default tolerances decides, on primitive cells scaled
    to one volume per atom: the choice of cell, orientation, origin, order of sites, a small
    relaxation and a change of volume do not count, while polymorphs stay apart.
    """
    from pymatgen.analysis.structure_matcher import StructureMatcher

    return bool(StructureMatcher().fit(one.to_structure(), other.to_structure()))
