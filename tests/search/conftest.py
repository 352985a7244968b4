import numpy as np
import pytest

from dssl_sklearn import DSSLRegressor, StructureToGraph


@pytest.fixture(scope="session")
def labeled(elastic):
    """A few graphs, which travel to other processes faster than structures, and their targets."""
    return list(StructureToGraph().fit_transform(elastic[0][:24])), np.asarray(elastic[1][:24])


@pytest.fixture
def regressor(tiny):
    return DSSLRegressor(**{**tiny, "max_epochs": 1})
