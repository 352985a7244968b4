"""Piezoelectric moduli of 941 crystals (de Jong et al. 2015)."""

from __future__ import annotations

from typing import Any

from dssl_sklearn.datasets._bunch import Quantity, TargetChoice
from dssl_sklearn.datasets._shipped import MATMINER, ShippedDataset, load_shipped

PIEZOELECTRICITY = ShippedDataset(
    name="piezoelectricity",
    title="Piezoelectric moduli of inorganic crystals",
    summary="Piezoelectric tensors from density functional perturbation theory (PBE).",
    targets=(Quantity("eij_max", "C/m2", "piezoelectric modulus, largest over all directions"),),
    arrays=(
        Quantity(
            "piezoelectric_tensor",
            "C/m2",
            "piezoelectric stress constants in Voigt notation, shape (n, 3, 6)",
        ),
        Quantity("space_group", "1", "international number of the space group"),
    ),
    source=MATMINER,
    license="Published with the open-access paper below (CC BY 4.0).",
    references=(
        (
            "M. de Jong, W. Chen, H. Geerlings, M. Asta, K. A. Persson, A database to enable "
            "discovery and design of piezoelectric materials, Sci. Data 2, 150053 (2015), "
            "doi:10.1038/sdata.2015.53"
        ),
    ),
)


def load_piezoelectricity(
    *, target: TargetChoice = "eij_max", return_X_y: bool = False, as_frame: bool = False
) -> Any:  # noqa: ANN401 - Bunch, or (X, y) if asked for
    """Load the piezoelectric moduli of 941 inorganic crystals.

    Parameters
    ----------
    target : str, sequence of str or None, default="eij_max"
        ``"eij_max"``, the piezoelectric modulus in C/m2; None or ``"all"`` give it as a column.
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.
    as_frame : bool, default=False
        Hand out pandas objects, with the Materials Project identifiers as index.

    Returns
    -------
    Bunch or tuple
        As from `load_elasticity`, with these arrays:

        piezoelectric_tensor : ndarray of shape (941, 3, 6)
            Piezoelectric stress constants in Voigt notation, in C/m2.
        space_group : ndarray of shape (941,)
            International numbers of the space groups.

    Raises
    ------
    InvalidInputError
        If a target is unknown.
    DatasetError
        If the installed file is damaged.

    References
    ----------
    M. de Jong et al., Sci. Data 2, 150053 (2015), doi:10.1038/sdata.2015.53.

    Examples
    --------
    >>> from dssl_sklearn.datasets import load_piezoelectricity
    >>> structures, modulus = load_piezoelectricity(return_X_y=True)
    >>> structures[0].composition.reduced_formula, float(modulus[0])
    ('AgI', 0.091464)
    """
    return load_shipped(PIEZOELECTRICITY, target=target, return_X_y=return_X_y, as_frame=as_frame)
