import numpy as np
import pytest

from dssl_sklearn import DSSLPretrainer
from dssl_sklearn.datasets import load_dielectric


@pytest.fixture(scope="session")
def mp():
    """The shipped self-supervised weights."""
    return DSSLPretrainer.from_pretrained("mp")


@pytest.fixture(scope="session")
def elastic_table(mp, elastic):
    """Embeddings of the small elastic crystals, with log10 of K_VRH."""
    return mp.transform(elastic[0]), elastic[1]


@pytest.fixture(scope="session")
def dielectric_table(mp):
    """Embeddings of some dielectric crystals, with their refractive index."""
    structures, y = load_dielectric(target="n", return_X_y=True)
    small = [row for row, structure in enumerate(structures) if len(structure) <= 12][:400]
    return mp.transform([structures[row] for row in small]), np.asarray(y)[small]
