"""Cross-validators that never put related crystals on both sides of a split."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.model_selection import BaseCrossValidator, GroupKFold, StratifiedGroupKFold

from dssl_sklearn._checks import check_integer
from dssl_sklearn._warnings import warn
from dssl_sklearn.crystals.inputs import crystals_of_table
from dssl_sklearn.exceptions import InvalidInputError
from dssl_sklearn.model_selection.groups import GROUP_KINDS, GroupKind, structure_groups

if TYPE_CHECKING:
    from dssl_sklearn.estimators.pretrainer import DSSLPretrainer

Fold = tuple[NDArray[np.intp], NDArray[np.intp]]


class _StructureKFold(BaseCrossValidator):
    """scikit-learn's ``GroupKFold`` with groups made from the crystals themselves."""

    _by: GroupKind

    def __init__(
        self,
        n_splits: int = 5,
        *,
        shuffle: bool = False,
        random_state: int | np.random.RandomState | None = None,
        stratify: bool = False,
    ) -> None:
        self.n_splits = n_splits
        self.shuffle = shuffle
        self.random_state = random_state
        self.stratify = stratify

    def _settings(self) -> dict[str, Any]:
        """Further arguments of `structure_groups`."""
        return {}

    def get_n_splits(self, X: object = None, y: object = None, groups: object = None) -> int:
        """Return the number of folds.

        Parameters
        ----------
        X, y, groups : object, default=None
            Ignored.

        Returns
        -------
        int
            ``n_splits``.
        """
        return self.n_splits

    def split(
        self,
        X: Any,  # noqa: ANN401 - any container of crystals
        y: ArrayLike | None = None,
        groups: object = None,
    ) -> Iterator[Fold]:
        """Split crystals into training and test parts.

        Parameters
        ----------
        X : sequence of crystals of shape (n_structures,)
            Structures, ASE Atoms, structure dicts, paths of CIF or POSCAR files, or graphs; or a
            DataFrame that holds them in one of its columns.
        y : array-like of shape (n_structures,), default=None
            Classes, with ``stratify=True``; else ignored.
        groups : object, default=None
            Ignored, with a warning if given: the groups follow from the crystals.

        Yields
        ------
        train, test : ndarray of int
            Positions in `X`.

        Raises
        ------
        InvalidInputError
            If there are fewer groups than folds, or an argument has an unusable value.
        InvalidStructureError
            If any crystal cannot be used; the message lists all of them with the reasons.
        """
        check_integer("n_splits", self.n_splits, minimum=2)
        if groups is not None:
            warn(
                f"groups is ignored by {type(self).__name__}, which makes them from the crystals.",
            )
        labels = structure_groups(crystals_of_table(X), self._by, **self._settings())
        n_groups = len(np.unique(labels))
        if n_groups < self.n_splits:
            raise InvalidInputError(
                f"n_splits={self.n_splits}, but the {len(labels)} structure(s) have only "
                f"{n_groups} different {GROUP_KINDS[self._by]}; lower n_splits or give more "
                "varied structures."
            )
        if self.stratify and y is None:
            raise InvalidInputError("stratify=True needs y, the class of each structure.")
        kind = StratifiedGroupKFold if self.stratify else GroupKFold
        random_state = self.random_state if self.shuffle else None
        folds = kind(self.n_splits, shuffle=self.shuffle, random_state=random_state)
        yield from folds.split(np.zeros(len(labels)), y, labels)


class FormulaKFold(_StructureKFold):
    """K folds in which no reduced formula is both in the training and the test part.

    Polymorphs and duplicates of a crystal stay on one side, so that the error is that on compounds
    the model has never met.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds, at least 2.
    shuffle : bool, default=False
        Whether groups are dealt out at random; else so that folds are of about equal size.
    random_state : int, RandomState instance or None, default=None
        Seed of the shuffle.
    stratify : bool, default=False
        Whether folds also keep the shares of the classes in `y` (``StratifiedGroupKFold``).

    Examples
    --------
    >>> from sklearn.dummy import DummyRegressor
    >>> from sklearn.model_selection import cross_val_score
    >>> from dssl_sklearn.datasets import load_elasticity
    >>> from dssl_sklearn.model_selection import FormulaKFold
    >>> structures, y = load_elasticity(return_X_y=True)
    >>> cross_val_score(DummyRegressor(), structures, y, cv=FormulaKFold(3)).shape
    (3,)
    """

    _by = "formula"


class ChemicalSystemKFold(_StructureKFold):
    """K folds in which no chemical system is both in the training and the test part.

    A chemical system is a set of elements: all compounds of Al and O stay on one side.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds, at least 2.
    shuffle : bool, default=False
        Whether groups are dealt out at random; else so that folds are of about equal size.
    random_state : int, RandomState instance or None, default=None
        Seed of the shuffle.
    stratify : bool, default=False
        Whether folds also keep the shares of the classes in `y` (``StratifiedGroupKFold``).

    Examples
    --------
    >>> from dssl_sklearn.model_selection import ChemicalSystemKFold
    >>> ChemicalSystemKFold(3)
    ChemicalSystemKFold(n_splits=3, random_state=None, shuffle=False,
              stratify=False)
    """

    _by = "chemical_system"


class PrototypeKFold(_StructureKFold):
    """K folds in which no prototype is both in the training and the test part.

    A prototype is a space group and an anonymous formula, such as 225 and AB for rock salt: the
    error is that on kinds of structure the model has never met.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds, at least 2.
    symprec : float, default=0.01
        How far sites may be from their symmetric places, in angstrom.
    shuffle : bool, default=False
        Whether groups are dealt out at random; else so that folds are of about equal size.
    random_state : int, RandomState instance or None, default=None
        Seed of the shuffle.
    stratify : bool, default=False
        Whether folds also keep the shares of the classes in `y` (``StratifiedGroupKFold``).

    Examples
    --------
    >>> from dssl_sklearn.model_selection import PrototypeKFold
    >>> PrototypeKFold(3).get_n_splits()
    3
    """

    _by = "prototype"

    def __init__(
        self,
        n_splits: int = 5,
        *,
        symprec: float = 0.01,
        shuffle: bool = False,
        random_state: int | np.random.RandomState | None = None,
        stratify: bool = False,
    ) -> None:
        super().__init__(n_splits, shuffle=shuffle, random_state=random_state, stratify=stratify)
        self.symprec = symprec

    def _settings(self) -> dict[str, Any]:
        return {"symprec": self.symprec}


class ClusterKFold(_StructureKFold):
    """K folds in which no cluster of embeddings is both in the training and the test part.

    With as many clusters as folds each fold leaves out one region of the space of crystals [1]_,
    the hardest test of all, with folds of unequal size; more clusters than folds are easier and
    even out.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds, at least 2.
    pretrained : str, path or fitted DSSLPretrainer, default="mp"
        What embeds the crystals.
    n_clusters : int or None, default=None
        Clusters of k-means; None for as many as folds.
    shuffle : bool, default=False
        Whether clusters are dealt out at random; else so that folds are of about equal size.
    random_state : int or None, default=None
        Seed of k-means (None for 0) and of the shuffle.
    stratify : bool, default=False
        Whether folds also keep the shares of the classes in `y` (``StratifiedGroupKFold``).

    References
    ----------
    .. [1] B. Meredig et al., "Can machine learning identify the next high-temperature
       superconductor?", Mol. Syst. Des. Eng. 3, 819 (2018).

    Examples
    --------
    >>> from dssl_sklearn.datasets import load_elasticity
    >>> from dssl_sklearn.model_selection import ClusterKFold
    >>> structures = load_elasticity().data[:50]
    >>> len(list(ClusterKFold(3).split(structures)))
    3
    """

    _by = "cluster"

    def __init__(
        self,
        n_splits: int = 5,
        *,
        pretrained: str | os.PathLike[str] | DSSLPretrainer = "mp",
        n_clusters: int | None = None,
        shuffle: bool = False,
        random_state: int | None = None,
        stratify: bool = False,
    ) -> None:
        super().__init__(n_splits, shuffle=shuffle, random_state=random_state, stratify=stratify)
        self.pretrained = pretrained
        self.n_clusters = n_clusters

    def _settings(self) -> dict[str, Any]:
        return {
            "pretrained": self.pretrained,
            "n_clusters": self.n_splits if self.n_clusters is None else self.n_clusters,
            "random_state": self.random_state,
        }
