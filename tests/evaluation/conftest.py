import matplotlib as mpl
import pytest

from dssl_sklearn.evaluation import comparison

mpl.use("Agg")


@pytest.fixture(autouse=True)
def _without_matminer(monkeypatch):
    """Features that every installation has."""
    monkeypatch.setattr(comparison, "feature_source", lambda: "built-in")
