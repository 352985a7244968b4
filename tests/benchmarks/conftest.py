from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def accuracy_package(monkeypatch):
    """The modules of the benchmark are a package of their own, beside ours."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
