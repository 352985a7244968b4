"""How large a part of each prediction comes from the Gaussian process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from dssl_sklearn.estimators.kernel_part import MIN_LABELS, ComparedCrystals, KernelPart
from dssl_sklearn.estimators.target_scale import Columns, TargetScale

#: From this number of labeled crystals on, the share is chosen.
MIN_CHOSEN = 1000
#: How many of the labels join the training late, to choose by.
_LATE, _MOST_LATE = 0.1, 300
#: Shares that are tried.
_SHARES = np.linspace(0, 1, 21)
#: How many labels it takes for the lowest error to count as much as closeness to the usual share.
_CAUTION = 16.0


@dataclass(frozen=True, eq=False)
class ShareChoice:
    """Choose the share by labels that neither the network nor the process has seen.

    Attributes
    ----------
    rows : ndarray of shape (n_late,), int64
        Which of the labeled crystals.
    left_out : ndarray of shape (n_late, n_targets)
        Prediction of the process for each from all others, standardized; NaN where there is none.
    y : ndarray of shape (n_late, n_targets)
        Labels in the unit of the target, NaN where unknown.
    weight : ndarray of shape (n_late,)
        Positive sample weights.
    scale : TargetScale
        Turns what is predicted into targets.
    usual : ndarray of shape (n_targets,)
        Shares where nothing speaks for others.
    power : {1, 2}
        Of the errors whose mean is to be small.
    """

    rows: NDArray[np.int64]
    left_out: Columns
    y: Columns
    weight: NDArray[np.float64]
    scale: TargetScale
    usual: NDArray[np.float64]
    power: int

    @classmethod
    def of(
        cls,
        kernel: KernelPart,
        compared: ComparedCrystals,
        *,
        left_out: Columns,
        y: Columns,
        weight: NDArray[np.float64],
        scale: TargetScale,
        power: int,
    ) -> Self | None:
        """Draw the labels to choose by; None where there are too few.

        Parameters
        ----------
        kernel : KernelPart
            With the usual shares.
        compared : ComparedCrystals
            Crystals that the process compares with.
        left_out : ndarray of shape (n_points, n_targets)
            Prediction for each of these from the others, standardized.
        y : ndarray of shape (n_crystals, n_targets)
            Labels of all crystals.
        weight : ndarray of shape (n_crystals,)
            Their weights.
        scale : TargetScale
            Of the targets.
        power : {1, 2}
            Of the errors whose mean is to be small.
        """
        if len(y) < MIN_CHOSEN:
            return None
        # The crystals compared with are in random order, and the first ones tuned the process.
        n_late = min(int(_LATE * len(y)), _MOST_LATE)
        rows = compared.rows[-n_late:]
        return cls(
            rows, left_out[-n_late:], y[rows], weight[rows], scale, kernel.shares, power=power
        )

    def __call__(self, network: Columns) -> NDArray[np.float64]:
        """Choose.

        Parameters
        ----------
        network : ndarray of shape (n_late, n_targets)
            What the network predicts, standardized.

        Returns
        -------
        ndarray of shape (n_targets,)
            For each target the share with the lowest error, drawn to the usual one: the fewer
            labels there are, the more a lower error may be chance.
        """
        chosen = self.usual.copy()
        known = np.isfinite(self.y) & np.isfinite(self.left_out)
        process = np.where(known, self.left_out, network)
        usual = self._errors(network, process, self.usual)
        errors = np.array([self._errors(network, process, np.array(s)) for s in _SHARES])
        for k in np.flatnonzero(known.sum(axis=0) >= MIN_LABELS):
            rows = known[:, k]
            share = self.weight[rows] / self.weight[rows].sum()
            # As of equal weights.
            n_rows = 1 / (share**2).sum()
            caution = _CAUTION / n_rows * (share @ usual[rows, k])
            cost = errors[:, rows, k] @ share + caution * (_SHARES - self.usual[k]) ** 2
            chosen[k] = _SHARES[np.argmin(cost)]
        return chosen

    def _errors(self, network: Columns, process: Columns, share: NDArray[np.float64]) -> Columns:
        predicted = self.scale.restore((1 - share) * network + share * process)
        errors: Columns = np.abs(predicted - self.y) ** self.power
        return errors
