"""Differences of two methods on the same folds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import sem
from scipy.stats import t as student

#: Share of the intervals that hold the true difference, folds being independent.
CONFIDENCE = 0.95


@dataclass(frozen=True)
class PairedDifference:
    """Mean difference of two methods over folds, with its interval.

    Attributes
    ----------
    mean : float
        Mean of first minus second, negative where the first has the lower error.
    half_width : float
        Half of the 95 % interval, infinite for a single fold.
    reference : float
        Mean of the second, for percentages.
    """

    mean: float
    half_width: float
    reference: float

    @classmethod
    def of(cls, first: ArrayLike, second: ArrayLike) -> PairedDifference:
        """Compare errors of shape (n_folds,) fold by fold.

        The interval is Student's t over the folds [1]_. Training parts of folds overlap, so that it
        is somewhat narrower than it should be.

        References
        ----------
        .. [1] Student, Biometrika 6, 1 (1908).
        """
        reference = np.asarray(second, dtype=np.float64)
        differences = np.asarray(first, dtype=np.float64) - reference
        n = len(differences)
        quantile = student.ppf((1 + CONFIDENCE) / 2, n - 1)
        half_width = float(quantile * sem(differences)) if n > 1 else float("inf")
        return cls(float(differences.mean()), half_width, float(reference.mean()))

    @property
    def low(self) -> float:
        """Lower end of the interval."""
        return self.mean - self.half_width

    @property
    def high(self) -> float:
        """Upper end of the interval."""
        return self.mean + self.half_width

    @property
    def is_worse(self) -> bool:
        """Whether the first is worse by more than chance explains."""
        return self.low > 0

    @property
    def is_better(self) -> bool:
        """Whether the first is better by more than chance explains."""
        return self.high < 0

    def percent(self, value: float) -> float:
        """Express a difference in percent of the second's mean (NaN if that is zero)."""
        return 100 * value / self.reference if self.reference else float("nan")
