"""Elastic moduli of 1,181 inorganic crystals (de Jong et al. 2015)."""

from __future__ import annotations

from typing import Any

from dssl_sklearn.datasets._bunch import Quantity, TargetChoice
from dssl_sklearn.datasets._shipped import MATMINER, ShippedDataset, load_shipped

ELASTICITY = ShippedDataset(
    name="elasticity",
    title="Elastic moduli of inorganic crystals",
    summary=(
        "Elastic tensors from density functional theory (PBE) and the isotropic moduli that follow "
        "from them."
    ),
    targets=(
        Quantity(
            "log10_K_VRH",
            "log10(GPa)",
            "decimal logarithm of K_VRH, NaN where K_VRH is not positive (nowhere in these rows)",
            log10_of="K_VRH",
        ),
        Quantity(
            "log10_G_VRH",
            "log10(GPa)",
            "decimal logarithm of G_VRH, NaN where G_VRH is not positive (nowhere in these rows)",
            log10_of="G_VRH",
        ),
        Quantity("K_VRH", "GPa", "bulk modulus, Voigt-Reuss-Hill average"),
        Quantity("G_VRH", "GPa", "shear modulus, Voigt-Reuss-Hill average"),
        Quantity("K_Voigt", "GPa", "bulk modulus, Voigt's upper bound"),
        Quantity("K_Reuss", "GPa", "bulk modulus, Reuss's lower bound"),
        Quantity("G_Voigt", "GPa", "shear modulus, Voigt's upper bound"),
        Quantity("G_Reuss", "GPa", "shear modulus, Reuss's lower bound"),
        Quantity("poisson_ratio", "1", "isotropic Poisson ratio"),
        Quantity("elastic_anisotropy", "1", "universal elastic anisotropy index, 0 if isotropic"),
    ),
    arrays=(
        Quantity("elastic_tensor", "GPa", "stiffness in Voigt notation, shape (n, 6, 6)"),
        Quantity("space_group", "1", "international number of the space group"),
    ),
    source=MATMINER,
    license=(
        "The authors' data record on Dryad (doi:10.5061/dryad.h505v) is in the public domain "
        "(CC0 1.0)."
    ),
    references=(
        (
            "M. de Jong, W. Chen, T. Angsten, A. Jain, R. Notestine, A. Gamst, M. Sluiter, "
            "C. Krishna Ande, S. van der Zwaag, J. J. Plata, C. Toher, S. Curtarolo, G. Ceder, "
            "K. A. Persson, M. Asta, Charting the complete elastic properties of inorganic "
            "crystalline compounds, Sci. Data 2, 150009 (2015), doi:10.1038/sdata.2015.9"
        ),
    ),
)


def load_elasticity(
    *, target: TargetChoice = "log10_K_VRH", return_X_y: bool = False, as_frame: bool = False
) -> Any:  # noqa: ANN401 - Bunch, or (X, y) if asked for
    """Load the elastic moduli of 1,181 inorganic crystals.

    Parameters
    ----------
    target : str, sequence of str or None, default="log10_K_VRH"
        One of ``"log10_K_VRH"``, ``"log10_G_VRH"`` (log10 GPa), ``"K_VRH"``, ``"G_VRH"``,
        ``"K_Voigt"``, ``"K_Reuss"``, ``"G_Voigt"``, ``"G_Reuss"`` (GPa), ``"poisson_ratio"``,
        ``"elastic_anisotropy"``; a sequence of them; or None or ``"all"`` for all.
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.
    as_frame : bool, default=False
        Hand out pandas objects, with the Materials Project identifiers as index.

    Returns
    -------
    Bunch or tuple
        data : list of Structure, or DataFrame of shape (1181, 1)
            The crystals.
        target : ndarray of shape (1181,) or (1181, n_targets), or Series or DataFrame
            One name gives one dimension, a sequence or all give two.
        frame : DataFrame or None
            Structures and targets side by side, if `as_frame`.
        target_names : list of str
            Names of the targets.
        units : dict of str to str
            Unit of every column and array.
        ids, formulas : list of str
            Materials Project identifiers and reduced formulas.
        elastic_tensor : ndarray of shape (1181, 6, 6)
            Stiffness in Voigt notation, in GPa.
        space_group : ndarray of shape (1181,)
            International numbers of the space groups.
        DESCR, filename : str
            Description with source, license and citation; the file that was read.

    Raises
    ------
    InvalidInputError
        If a target is unknown.
    DatasetError
        If the installed file is damaged.

    References
    ----------
    M. de Jong et al., Sci. Data 2, 150009 (2015), doi:10.1038/sdata.2015.9.

    Examples
    --------
    >>> from dssl_sklearn.datasets import load_elasticity
    >>> structures, y = load_elasticity(target="K_VRH", return_X_y=True)
    >>> structures[0].composition.reduced_formula, round(float(y[0]), 3)
    ('Nb4CoSi', 194.269)
    """
    return load_shipped(ELASTICITY, target=target, return_X_y=return_X_y, as_frame=as_frame)
