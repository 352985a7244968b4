"""Formation energies of 3,938 crystals (Faber et al. 2015)."""

from __future__ import annotations

from typing import Any

from dssl_sklearn.datasets._bunch import Quantity, TargetChoice
from dssl_sklearn.datasets._shipped import MATMINER, ShippedDataset, load_shipped

FORMATION_ENERGY = ShippedDataset(
    name="formation_energy",
    title="Formation energies of inorganic crystals",
    summary=(
        "Formation energies of Materials Project crystals, at zero temperature and pressure and "
        "relative to the pure elements."
    ),
    targets=(
        Quantity("formation_energy", "eV/atom", "energy of formation from the elements"),
        Quantity("e_above_hull", "eV/atom", "energy above the convex hull, 0 if stable"),
    ),
    arrays=(),
    source=MATMINER,
    license="Data of the Materials Project, CC BY 4.0.",
    references=(
        (
            "F. Faber, A. Lindmaa, O. A. von Lilienfeld, R. Armiento, Crystal structure "
            "representations for machine learning models of formation energies, Int. J. Quantum "
            "Chem. 115, 1094-1101 (2015), doi:10.1002/qua.24917"
        ),
        (
            "A. Jain, S. P. Ong, G. Hautier, W. Chen, W. D. Richards, S. Dacek, S. Cholia, "
            "D. Gunter, D. Skinner, G. Ceder, K. A. Persson, Commentary: The Materials Project: "
            "A materials genome approach to accelerating materials innovation, APL Mater. 1, "
            "011002 (2013), doi:10.1063/1.4812323"
        ),
    ),
)


def load_formation_energy(
    *, target: TargetChoice = "formation_energy", return_X_y: bool = False, as_frame: bool = False
) -> Any:  # noqa: ANN401 - Bunch, or (X, y) if asked for
    """Load the formation energies of 3,938 inorganic crystals.

    Parameters
    ----------
    target : str, sequence of str or None, default="formation_energy"
        ``"formation_energy"`` or ``"e_above_hull"`` (both eV/atom), a sequence of them, or None or
        ``"all"`` for both.
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.
    as_frame : bool, default=False
        Hand out pandas objects, with the Materials Project identifiers as index.

    Returns
    -------
    Bunch or tuple
        As from `load_elasticity`, without further arrays.

    Raises
    ------
    InvalidInputError
        If a target is unknown.
    DatasetError
        If the installed file is damaged.

    References
    ----------
    F. Faber et al., Int. J. Quantum Chem. 115, 1094 (2015), doi:10.1002/qua.24917.

    Examples
    --------
    >>> from dssl_sklearn.datasets import load_formation_energy
    >>> structures, energy = load_formation_energy(return_X_y=True)
    >>> len(structures), energy.shape
    (3938, (3938,))
    """
    return load_shipped(FORMATION_ENERGY, target=target, return_X_y=return_X_y, as_frame=as_frame)
