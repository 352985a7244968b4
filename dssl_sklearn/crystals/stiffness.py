"""Atomic stiffness: what each element adds to bulk modulus times volume of a crystal.

Jin, Yuan and Gao [1]_ found that the bulk modulus of a crystal (Voigt-Reuss-Hill average) times the
volume of its cell is close to a sum over its atoms of numbers that depend on the element only,

    K_VRH V = sum_i k(Z_i).

``fit_atomic_stiffness`` estimates the k in eV per atom. ``element_property("stiffness")`` is its
result for the elastic set that ships with the library (``benchmarks/fit_atomic_stiffness.py``).
That table has seen the bulk moduli of these crystals: a test on elastic targets needs one of its
own, fitted with the test crystals in `exclude`.

References
----------
.. [1] R. Jin, X. Yuan and E. Gao, "Atomic stiffness for bulk modulus prediction and
       high-throughput screening of ultraincompressible crystals", Nat. Commun. 14, 4258 (2023).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import nnls

from dssl_sklearn.crystals.elements import (
    MAX_ATOMIC_NUMBER,
    element_property,
    per_element_array,
)
from dssl_sklearn.crystals.identity import formula_keys, key_of_formula
from dssl_sklearn.crystals.inputs import as_sequence, read_crystals
from dssl_sklearn.exceptions import InvalidInputError

#: 1 eV/A^3 in GPa.
EV_PER_CUBIC_ANGSTROM_IN_GPA = 160.2176634

#: 1 cm^3/mol in A^3 per atom.
_MOLAR_IN_ATOMIC_VOLUME = 1 / 0.602214076

#: Weight of the prior with the smallest cross-validated error of log10 K on the shipped elastic
#: set among those that leave no element at zero (``benchmarks/fit_atomic_stiffness.py``).
DEFAULT_ALPHA = 0.7


def prior_stiffness() -> NDArray[np.float64]:
    """Estimate the stiffness from the elements alone: bulk modulus times volume per atom.

    Returns
    -------
    ndarray of shape (104,)
        Stiffness in eV per atom by atomic number, all positive; NaN in row 0. Gaps of the element
        data are filled as everywhere in ``dssl_sklearn.crystals.elements``.
    """
    volume = element_property("molar_volume") * _MOLAR_IN_ATOMIC_VOLUME
    return element_property("bulk_modulus") * volume / EV_PER_CUBIC_ANGSTROM_IN_GPA


def fit_atomic_stiffness(
    structures: Sequence[Any],
    bulk_modulus: ArrayLike,
    *,
    alpha: float = DEFAULT_ALPHA,
    prior: Mapping[Any, float] | ArrayLike | None = None,
    exclude: Sequence[Any] | None = None,
) -> NDArray[np.float64]:
    """Fit the atomic stiffness of all elements to bulk moduli.

    With the share x(Z) of each element among the N atoms of a cell, the k minimize

        sum over crystals (K V / N - sum_Z x(Z) k(Z))^2 + alpha sum_Z (k(Z) - prior(Z))^2

    under k >= 0: the prior counts like `alpha` crystals of each pure element. An element that
    occurs in no crystal keeps its prior.

    Parameters
    ----------
    structures : sequence of crystals of shape (n_structures,)
        Structures, ASE Atoms, structure dicts, paths of CIF or POSCAR files, or graphs.
    bulk_modulus : array-like of shape (n_structures,)
        Bulk modulus (Voigt-Reuss-Hill average) in GPa, positive.
    alpha : float, default=0.7
        Weight of the prior, in crystals; positive.
    prior : mapping or array-like, default=None
        Expected stiffness in eV per atom for all elements, in any form that ``per_element_array``
        takes; None for ``prior_stiffness()``. Elements it leaves out keep their default.
    exclude : sequence of crystals or str, default=None
        Crystals, or chemical formulas, that must have no influence: all structures with one of
        these reduced compositions are left out, polymorphs included. If none is left, the result
        is the prior.

    Returns
    -------
    ndarray of shape (104,)
        Stiffness in eV per atom by atomic number, not negative; NaN in row 0.

    Raises
    ------
    InvalidStructureError
        Naming every crystal in `structures`, or in `exclude`, that cannot be used and why.
    InvalidInputError
        If another argument has an unusable value.

    References
    ----------
    Jin, Yuan and Gao, Nat. Commun. 14, 4258 (2023), without the prior.

    Examples
    --------
    >>> import numpy as np
    >>> from dssl_sklearn.crystals.graph import Crystal
    >>> iron = Crystal(np.array([26]), np.zeros((1, 3)), 2.25 * np.eye(3))
    >>> stiffness = fit_atomic_stiffness([iron], [180.0], alpha=1e-9)
    >>> float(stiffness[26].round(2))  # 180 GPa x 11.39 A^3
    12.8
    """
    if not 0 < alpha < math.inf:
        raise InvalidInputError(f"alpha is {alpha!r}, expected a positive number.")
    crystals = read_crystals(structures, "structures")
    moduli = _check_moduli(bulk_modulus, len(crystals))
    expected = prior_stiffness()
    if prior is not None:
        expected = _merge_prior(prior, expected)
    left_out = _formula_keys(exclude)
    kept = np.array([key not in left_out for key in formula_keys(crystals)])
    volumes = np.abs(np.linalg.det(crystals.lattice))
    energies = moduli * volumes / crystals.n_sites / EV_PER_CUBIC_ANGSTROM_IN_GPA
    counts = np.zeros((len(crystals), MAX_ATOMIC_NUMBER + 1))
    np.add.at(counts, (np.repeat(np.arange(len(crystals)), crystals.n_sites), crystals.numbers), 1)
    shares = counts / crystals.n_sites[:, None]
    return _solve(shares[kept, 1:], energies[kept], alpha, expected)


def _solve(
    shares: NDArray[np.float64],
    energies: NDArray[np.float64],
    alpha: float,
    prior: NDArray[np.float64],
) -> NDArray[np.float64]:
    stiffness = prior.copy()
    # Elements without a crystal are decoupled from the rest: their optimum is the prior itself.
    present = np.flatnonzero(shares.any(axis=0))
    if len(present) > 0:
        weight = math.sqrt(alpha)
        matrix = np.vstack([shares[:, present], weight * np.eye(len(present))])
        target = np.concatenate([energies, weight * prior[present + 1]])
        stiffness[present + 1] = nnls(matrix, target)[0]
    return stiffness


def _merge_prior(
    prior: Mapping[Any, float] | ArrayLike, default: NDArray[np.float64]
) -> NDArray[np.float64]:
    given = per_element_array(prior)
    if (given < 0).any():
        raise InvalidInputError("prior is negative for some element, expected eV per atom >= 0.")
    return np.where(np.isnan(given), default, given)


def _check_moduli(bulk_modulus: ArrayLike, n_structures: int) -> NDArray[np.float64]:
    try:
        moduli = np.asarray(bulk_modulus, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidInputError("bulk_modulus is not numeric, expected moduli in GPa.") from error
    if moduli.shape != (n_structures,):
        raise InvalidInputError(
            f"bulk_modulus has shape {moduli.shape}, expected one modulus for each of the "
            f"{n_structures} structures."
        )
    wrong = np.flatnonzero(~(np.isfinite(moduli) & (moduli > 0)))
    if len(wrong) > 0:
        raise InvalidInputError(
            f"bulk_modulus is not positive and finite at positions {wrong.tolist()}; leave these "
            "crystals out."
        )
    return moduli


def _formula_keys(exclude: Sequence[Any] | None) -> set[bytes]:
    """Keys of what is to be left out; here text is a formula, not the path of a file."""
    if exclude is None or (hasattr(exclude, "__len__") and not len(exclude)):
        return set()
    items = as_sequence(list(exclude) if isinstance(exclude, AbstractSet) else exclude, "exclude")
    crystals = [item for item in items if not isinstance(item, str)]
    found = set(formula_keys(read_crystals(crystals, "exclude"))) if crystals else set()
    return found | {key_of_formula(item) for item in items if isinstance(item, str)}
