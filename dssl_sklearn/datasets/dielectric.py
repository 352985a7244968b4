"""Dielectric constants and refractive indices of 1,056 crystals (Petousis et al. 2017)."""

from __future__ import annotations

from typing import Any

from dssl_sklearn.datasets._bunch import Quantity, TargetChoice
from dssl_sklearn.datasets._shipped import MATMINER, ShippedDataset, load_shipped

DIELECTRIC = ShippedDataset(
    name="dielectric",
    title="Dielectric constants and refractive indices of inorganic crystals",
    summary="Dielectric tensors from density functional perturbation theory (PBE).",
    targets=(
        Quantity("n", "1", "refractive index, the root of poly_electronic"),
        Quantity("band_gap", "eV", "band gap of the calculation"),
        Quantity("poly_electronic", "1", "mean eigenvalue of the electronic dielectric tensor"),
        Quantity("poly_total", "1", "mean eigenvalue of the total dielectric tensor"),
        Quantity("pot_ferroelectric", "1", "flag: whether the crystal may be ferroelectric"),
    ),
    arrays=(
        Quantity("e_electronic", "1", "electronic dielectric tensor, shape (n, 3, 3)"),
        Quantity("e_total", "1", "electronic and ionic dielectric tensor, shape (n, 3, 3)"),
        Quantity("space_group", "1", "international number of the space group"),
    ),
    source=MATMINER,
    license=(
        "The authors' data record on Dryad (doi:10.5061/dryad.ph81h) is in the public domain "
        "(CC0 1.0)."
    ),
    references=(
        (
            "I. Petousis, D. Mrdjenovich, E. Ballouz, M. Liu, D. Winston, W. Chen, T. Graf, "
            "T. D. Schladt, K. A. Persson, F. B. Prinz, High-throughput screening of inorganic "
            "compounds for the discovery of novel dielectric and optical materials, "
            "Sci. Data 4, 160134 (2017), doi:10.1038/sdata.2016.134"
        ),
    ),
)


def load_dielectric(
    *, target: TargetChoice = "n", return_X_y: bool = False, as_frame: bool = False
) -> Any:  # noqa: ANN401 - Bunch, or (X, y) if asked for
    """Load the dielectric properties of 1,056 inorganic crystals.

    Parameters
    ----------
    target : str, sequence of str or None, default="n"
        One of ``"n"`` (refractive index), ``"band_gap"`` (eV), ``"poly_electronic"``,
        ``"poly_total"`` (relative to vacuum) and the flag ``"pot_ferroelectric"``; a sequence of
        them; or None or ``"all"`` for all but the flag.
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.
    as_frame : bool, default=False
        Hand out pandas objects, with the Materials Project identifiers as index.

    Returns
    -------
    Bunch or tuple
        As from `load_elasticity`, with these arrays:

        e_electronic, e_total : ndarray of shape (1056, 3, 3)
            Dielectric tensors relative to vacuum, without and with the ions' part.
        space_group : ndarray of shape (1056,)
            International numbers of the space groups.

    Raises
    ------
    InvalidInputError
        If a target is unknown.
    DatasetError
        If the installed file is damaged.

    References
    ----------
    I. Petousis et al., Sci. Data 4, 160134 (2017), doi:10.1038/sdata.2016.134.

    Examples
    --------
    >>> from dssl_sklearn.datasets import load_dielectric
    >>> structures, n = load_dielectric(return_X_y=True)
    >>> structures[0].composition.reduced_formula, float(n[0])
    ('Rb2Te', 1.86)
    """
    return load_shipped(DIELECTRIC, target=target, return_X_y=return_X_y, as_frame=as_frame)
