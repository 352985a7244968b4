"""Labels that related crystals share."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import StandardScaler

from dssl_sklearn._checks import check_choice, check_integer, check_number
from dssl_sklearn.crystals.files import UnusableCrystalError
from dssl_sklearn.crystals.identity import chemical_system, prototype, reduced_formula
from dssl_sklearn.crystals.inputs import crystals_of_table, located, read_crystals
from dssl_sklearn.estimators.pretrainer import resolve_pretrained
from dssl_sklearn.exceptions import InvalidInputError, InvalidStructureError

GroupKind = Literal["formula", "chemical_system", "prototype", "cluster"]
#: What `by` may be, with the words for it in messages.
GROUP_KINDS: dict[str, str] = {
    "formula": "reduced formulas",
    "chemical_system": "chemical systems",
    "prototype": "prototypes",
    "cluster": "embedding clusters",
}


def structure_groups(
    structures: Any,  # noqa: ANN401 - any container of crystals
    by: GroupKind = "formula",
    *,
    symprec: float = 0.01,
    pretrained: Any = "mp",  # noqa: ANN401 - a name, a path or a pretrainer
    n_clusters: int = 5,
    random_state: int | None = None,
) -> NDArray[Any]:
    """Label crystals so that related ones share a label.

    The labels serve as ``groups=`` of every group-aware splitter of scikit-learn, such as
    ``LeaveOneGroupOut`` or ``GroupShuffleSplit``.

    Parameters
    ----------
    structures : sequence of crystals of shape (n_structures,)
        Structures, ASE Atoms, structure dicts, paths of CIF or POSCAR files, or graphs; or a
        DataFrame that holds them in one of its columns.
    by : {"formula", "chemical_system", "prototype", "cluster"}, default="formula"
        What related means: the same reduced formula (polymorphs), the same elements, the same space
        group and anonymous formula, or the same cluster of pretrained embeddings [1]_.
    symprec : float, default=0.01
        For prototypes: how far sites may be from their symmetric places, in angstrom.
    pretrained : str, path or fitted DSSLPretrainer, default="mp"
        For clusters: what embeds the crystals.
    n_clusters : int, default=5
        For clusters: how many k-means is to find in the standardized embeddings.
    random_state : int or None, default=None
        For clusters: seed of k-means; None for 0, so that two calls agree.

    Returns
    -------
    ndarray of shape (n_structures,)
        Strings such as ``"Al2O3"``, ``"Al-O"`` or ``"167 A2B3"``; integers for clusters.

    Raises
    ------
    InvalidInputError
        If an argument has an unusable value.
    InvalidStructureError
        If any crystal cannot be used, or has no space group where one is needed.
    WeightsError
        If `pretrained` is unknown.

    References
    ----------
    .. [1] B. Meredig et al., "Can machine learning identify the next high-temperature
       superconductor?", Mol. Syst. Des. Eng. 3, 819 (2018).

    Examples
    --------
    >>> from dssl_sklearn.datasets import load_elasticity
    >>> from dssl_sklearn.model_selection import structure_groups
    >>> structures = load_elasticity().data[:3]
    >>> structure_groups(structures, by="prototype").tolist()
    ['124 ABC4', '164 AB2C2', '221 AB']
    """
    check_choice("by", by, GROUP_KINDS)
    structures = crystals_of_table(structures, "structures")
    if by == "cluster":
        return _clusters(structures, pretrained, n_clusters, random_state)
    check_number("symprec", symprec)
    crystals = read_crystals(structures, "structures")
    labels, reasons = [], {}
    for index, crystal in enumerate(crystals):
        try:
            if by == "prototype":
                labels.append(prototype(crystal, symprec))
            else:
                labels.append(
                    reduced_formula(crystal) if by == "formula" else chemical_system(crystal)
                )
        except UnusableCrystalError as error:
            reasons[index] = str(error)
    if reasons:
        raise InvalidStructureError(located(reasons, structures), len(crystals))
    return np.array(labels)


def _clusters(
    structures: Any,  # noqa: ANN401
    pretrained: Any,  # noqa: ANN401
    n_clusters: int,
    random_state: int | None,
) -> NDArray[np.int32]:
    check_integer("n_clusters", n_clusters, minimum=2)
    if random_state is not None:
        check_integer("random_state", random_state, minimum=0)
    pretrainer = resolve_pretrained(pretrained)
    if pretrainer is None:
        raise InvalidInputError(
            "pretrained is None; clusters need the name of shipped weights, a path or a fitted "
            "DSSLPretrainer."
        )
    embeddings = np.asarray(pretrainer.transform(structures), dtype=np.float64)
    if len(embeddings) < n_clusters:
        raise InvalidInputError(
            f"n_clusters={n_clusters} is more than the {len(embeddings)} structure(s)."
        )
    kmeans = KMeans(n_clusters, n_init=10, random_state=random_state or 0)
    with warnings.catch_warnings():
        # Equal crystals may leave fewer clusters; whoever splits by them is told.
        warnings.simplefilter("ignore", ConvergenceWarning)
        labels: NDArray[np.int32] = kmeans.fit_predict(StandardScaler().fit_transform(embeddings))
    return labels
