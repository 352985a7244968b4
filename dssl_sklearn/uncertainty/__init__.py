"""How far predictions can be trusted: intervals of stated coverage, and crystals out of reach."""

from __future__ import annotations

from dssl_sklearn.uncertainty.applicability import ApplicabilityDomain
from dssl_sklearn.uncertainty.classification import ConformalClassifier
from dssl_sklearn.uncertainty.regression import ConformalRegressor

__all__ = ["ApplicabilityDomain", "ConformalClassifier", "ConformalRegressor"]
