"""What the applicability domain has to say about each crystal, as a table."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dssl_sklearn.crystals.elements import ELEMENT_SYMBOLS


def domain_report(
    inside: NDArray[np.bool_],
    distance: NDArray[np.float64],
    threshold: float,
    nearest: NDArray[np.int64],
    unseen: NDArray[np.bool_],
    *,
    index: pd.Index | None,
) -> pd.DataFrame:
    """Make the table of `ApplicabilityDomain.report`.

    Parameters
    ----------
    inside : ndarray of bool of shape (n_structures,)
        Whether a crystal is in the domain.
    distance : ndarray of shape (n_structures,)
        Distance from the training crystals.
    threshold : float
        Distance at which the domain ends.
    nearest : ndarray of int of shape (n_structures,)
        Position of the nearest training crystal.
    unseen : ndarray of bool of shape (n_structures, MAX_ATOMIC_NUMBER + 1)
        Whether the element of this atomic number is in the crystal and in no training crystal.
    index : Index or None
        Of the rows.

    Returns
    -------
    DataFrame
        One row for each crystal.
    """
    relative = distance / threshold
    names = [", ".join(symbols_of(row)) for row in unseen]
    return pd.DataFrame(
        {
            "in_domain": inside,
            "relative_distance": relative,
            "distance": distance,
            "nearest": nearest,
            "unseen_elements": names,
            "reason": [_reason(*row) for row in zip(names, relative, strict=True)],
        },
        index=index,
    )


def symbols_of(present: NDArray[np.bool_]) -> tuple[str, ...]:
    """Symbols of the elements at whose atomic numbers there is True."""
    return tuple(ELEMENT_SYMBOLS[number] for number in np.flatnonzero(present))


def _reason(unseen: str, relative_distance: float) -> str:
    reasons = []
    if np.isnan(relative_distance):
        reasons.append("cannot be used")
    if unseen:
        reasons.append(f"{unseen} in no training crystal")
    if relative_distance > 1:
        reasons.append(f"{relative_distance:.1f} times the threshold from the training crystals")
    return "; ".join(reasons)
