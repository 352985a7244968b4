"""The record that the explanations of predictions share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SiteAttributions(Sequence[Values]):
    """Predictions split over the sites of the crystals; a sequence of one array per crystal.

    For crystal ``i``, ``baselines[i] + self[i].sum() + residuals[i] == predictions[i]``. A crystal
    that an estimator with ``on_error="skip"`` skips has an empty array, and NaN for the rest.

    Attributes
    ----------
    values : list of ndarray of shape (n_sites,)
        One number per site, in the order of the structure and the unit of the target (the logit of
        a class for a classifier).
    baselines : ndarray of shape (n_structures,)
        What the network predicts where no site says anything; each function states what that is.
    predictions : ndarray of shape (n_structures,)
        What the estimator predicts.

    Examples
    --------
    >>> import numpy as np
    >>> from dssl_sklearn.explain import SiteAttributions
    >>> split = SiteAttributions([np.array([0.5, -0.25])], np.array([2.0]), np.array([2.25]))
    >>> len(split), split[0].tolist(), split.residuals.tolist()
    (1, [0.5, -0.25], [0.0])
    """

    values: list[Values]
    baselines: Values
    predictions: Values

    def __len__(self) -> int:
        return len(self.values)

    @overload
    def __getitem__(self, index: int) -> Values: ...

    @overload
    def __getitem__(self, index: slice) -> list[Values]: ...

    def __getitem__(self, index: int | slice) -> Values | list[Values]:
        return self.values[index]

    @property
    def residuals(self) -> Values:
        """What the sites leave of each prediction: rounding, or an integral short of converged."""
        sums = np.array([values.sum() for values in self.values])
        rest: Values = self.predictions - self.baselines - sums
        return rest
