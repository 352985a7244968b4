"""Data sets that ship with the package, matbench's, and large unlabeled collections."""

from dssl_sklearn.datasets.corpus import Corpus, load_corpus
from dssl_sklearn.datasets.dielectric import load_dielectric
from dssl_sklearn.datasets.elasticity import load_elasticity
from dssl_sklearn.datasets.formation_energy import load_formation_energy
from dssl_sklearn.datasets.matbench import fetch_matbench, get_data_home
from dssl_sklearn.datasets.piezoelectricity import load_piezoelectricity

__all__ = [
    "Corpus",
    "fetch_matbench",
    "get_data_home",
    "load_corpus",
    "load_dielectric",
    "load_elasticity",
    "load_formation_energy",
    "load_piezoelectricity",
]
