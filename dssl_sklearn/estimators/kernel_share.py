"""How large a part of each prediction comes from the Gaussian process."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from dssl_sklearn.crystals.dataset import GraphDataset
from dssl_sklearn.estimators.kernel_part import MIN_LABELS, ComparedCrystals
from dssl_sklearn.estimators.record import numbered
from dssl_sklearn.estimators.target_scale import Columns, TargetScale

#: From this number of labeled crystals on, the share is chosen: fewer than fifty say too little.
MIN_CHOSEN = 500
#: How many of the labels join the training late, to choose by.
_LATE, _MOST_LATE = 0.1, 120
#: Shares that are tried.
_SHARES = np.linspace(0, 1, 21)
#: How many labels it takes for the lowest error to count as much as closeness to the usual share.
_CAUTION = 16.0


@dataclass(frozen=True, eq=False)
class ShareChoice(ABC):
    """Choose the share by labels that neither the network nor the process has learned.

    Attributes
    ----------
    rows : ndarray of shape (n_late,), int64
        Which of the labeled crystals.
    left_out : ndarray of shape (n_late, n_outputs)
        What the process predicts for each from all others, standardized; NaN where it does not.
    y : ndarray of shape (n_late,) or (n_late, n_targets)
        Their labels.
    weight : ndarray of shape (n_late,)
        Positive sample weights.
    usual : ndarray of shape (n_shares,)
        Shares where nothing speaks for others.
    """

    rows: NDArray[np.int64]
    left_out: Columns
    y: NDArray[Any]
    weight: NDArray[np.float64]
    usual: NDArray[np.float64]

    @abstractmethod
    def __call__(self, members: NDArray[np.float64]) -> NDArray[np.float64]:
        """Choose the shares with the lowest error, drawn to the usual ones.

        Parameters
        ----------
        members : ndarray of shape (n_late, n_members, n_outputs)
            What the heads of the network predict.

        Returns
        -------
        ndarray of shape (n_shares,)
            Shares.
        """


@dataclass(frozen=True, eq=False)
class TargetShareChoice(ShareChoice):
    """Of each target for itself.

    Attributes
    ----------
    scale : TargetScale
        Turns what is predicted into targets, whose unit `y` has.
    power : {1, 2}
        Of the errors whose mean is to be small.
    """

    scale: TargetScale
    power: int

    @property
    def is_possible(self) -> bool:
        """Whether any target has enough of these labels; else they need not join late."""
        return bool((self._known().sum(axis=0) >= MIN_LABELS).any())

    def _known(self) -> NDArray[np.bool_]:
        known: NDArray[np.bool_] = np.isfinite(self.y) & np.isfinite(self.left_out)
        return known

    def __call__(self, members: NDArray[np.float64]) -> NDArray[np.float64]:
        """Choose, see `ShareChoice`."""
        network = members.mean(axis=1)
        known = self._known()
        process = np.where(known, self.left_out, network)

        def errors(share: NDArray[np.float64]) -> Columns:
            predicted = self.scale.restore((1 - share) * network + share * process)
            found: Columns = np.abs(predicted - self.y) ** self.power
            return found

        chosen, at_usual = self.usual.copy(), errors(self.usual)
        tried = np.array([errors(share) for share in _SHARES])
        for k in np.flatnonzero(known.sum(axis=0) >= MIN_LABELS):
            rows = known[:, k]
            chosen[k] = _best_share(
                tried[:, rows, k], at_usual[rows, k], self.weight[rows], float(self.usual[k])
            )
        return chosen


@dataclass(frozen=True, eq=False)
class ClassShareChoice(ShareChoice):
    """One of all classes together, whose numbers `y` has.

    Attributes
    ----------
    probabilities : callable
        From what the process predicts to probabilities, both of shape (n_late, n_classes).
    """

    probabilities: Callable[[Columns], Columns]

    def __call__(self, members: NDArray[np.float64]) -> NDArray[np.float64]:
        """Choose by the log loss, see `ShareChoice`."""
        truth = self.y[:, None]
        network, process = (
            np.take_along_axis(of_classes, truth, axis=1)[:, 0]
            for of_classes in (
                softmax(members, axis=2).mean(axis=1),
                self.probabilities(self.left_out),
            )
        )

        def errors(share: NDArray[np.float64]) -> Columns:
            loss: Columns = -np.log(np.maximum((1 - share) * network + share * process, 1e-12))
            return loss

        best = _best_share(
            errors(_SHARES[:, None]), errors(self.usual), self.weight, float(self.usual[0])
        )
        return np.array([best])


def late_labels(compared: ComparedCrystals, graphs: GraphDataset) -> NDArray[np.int64]:
    """Draw the labels that choose, out of those of the crystals compared with.

    Copies of a crystal are left out: the process would know the label of one by the other.

    Parameters
    ----------
    compared : ComparedCrystals
        In random order.
    graphs : GraphDataset
        All labeled crystals.

    Returns
    -------
    ndarray of shape (n_late,), int64
        Positions among those compared with; none where there are too few labels.
    """
    if len(graphs) < MIN_CHOSEN:
        return np.empty(0, dtype=np.int64)
    numbers = numbered(graphs)
    alone = np.bincount(numbers)[numbers[compared.rows]] == 1
    # The first ones tuned the process.
    return np.flatnonzero(alone)[-min(int(_LATE * len(numbers)), _MOST_LATE) :]


def _best_share(
    errors: NDArray[np.float64],
    at_usual: NDArray[np.float64],
    weight: NDArray[np.float64],
    usual: float,
) -> float:
    """Share with the lowest error; the fewer labels, the more a lower error may be chance.

    Parameters
    ----------
    errors : ndarray of shape (n_shares, n_late)
        With every share.
    at_usual : ndarray of shape (n_late,)
        With the usual one.
    weight : ndarray of shape (n_late,)
        Of the labels.
    usual : float
        What the choice is drawn to.
    """
    part = weight / weight.sum()
    # As many labels of equal weight would say as much.
    n_equal = 1 / (part**2).sum()
    # Without any error the usual one is as good as all.
    caution = max(_CAUTION / n_equal * (part @ at_usual), np.finfo(float).tiny)
    return float(_SHARES[np.argmin(errors @ part + caution * (_SHARES - usual) ** 2)])
