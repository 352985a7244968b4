"""Look over structures and targets before training: what cannot be used, and what looks wrong."""

from __future__ import annotations

from dssl_sklearn.doctor.diagnosis import diagnose
from dssl_sklearn.doctor.report import DataReport

__all__ = ["DataReport", "diagnose"]
