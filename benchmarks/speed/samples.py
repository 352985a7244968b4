"""The crystals that everything is measured on, and samples of them."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from measuring import Settings
from numpy.typing import NDArray
from pymatgen.core import Lattice, Structure

from dssl_sklearn.crystals.builder import GraphBuilder
from dssl_sklearn.crystals.dataset import GraphDataset
from dssl_sklearn.datasets import load_corpus, load_elasticity

#: The paper's setting, and the library's default.
CUTOFF, MAX_NEIGHBORS = 8.0, 12
#: Crystals of a run: those of the shipped elastic set, and as many of a set that is handed in.
_MOST, _MOST_QUICK = 1181, 256


@lru_cache(maxsize=1)
def load_structures(settings: Settings) -> list[Structure]:
    """Crystals to measure on.

    Parameters
    ----------
    settings : Settings
        Which ones.

    Returns
    -------
    list of Structure
        At most 1,181 (256 if quick), drawn with the seed from larger sets.
    """
    most = _MOST_QUICK if settings.quick else _MOST
    rng = np.random.default_rng(settings.seed)
    if settings.structures is None:
        structures = load_elasticity().data
        return [structures[i] for i in _draw(len(structures), most, rng)]
    path = Path(settings.structures)
    if path.is_dir():
        files = sorted(path.glob("*.cif"))
        return [Structure.from_file(files[i]) for i in _draw(len(files), most, rng)]
    corpus = load_corpus(path)
    return [corpus[int(i)].to_structure() for i in _draw(len(corpus), most, rng)]


def _draw(n_crystals: int, most: int, rng: np.random.Generator) -> NDArray[np.int64]:
    return np.sort(rng.permutation(n_crystals)[:most])


def fresh_copies(structures: list[Structure]) -> list[Structure]:
    """The same crystals made anew, so that nothing that pymatgen keeps in them helps."""
    return [
        Structure(
            Lattice(np.array(structure.lattice.matrix)),
            [site.species for site in structure],
            np.array(structure.frac_coords),
        )
        for structure in structures
    ]


@lru_cache(maxsize=1)
def load_graphs(settings: Settings) -> GraphDataset:
    """Graphs of all crystals of a run."""
    builder = GraphBuilder(CUTOFF, MAX_NEIGHBORS, use_cache=False)
    return builder.dataset(load_structures(settings))


def spread_sample(graphs: GraphDataset, size: int) -> NDArray[np.int64]:
    """Crystals whose sizes stand for all: evenly spaced in the order of their edges.

    Parameters
    ----------
    graphs : GraphDataset
        Crystals to choose from.
    size : int
        How many.

    Returns
    -------
    ndarray of shape (size,), int64
        Their positions.
    """
    order = np.argsort(graphs.n_edges, kind="stable")
    middle = (np.arange(size) + 0.5) / size * len(order)
    chosen: NDArray[np.int64] = order[middle.astype(np.int64)]
    return chosen


def labels(n_crystals: int, seed: int) -> NDArray[np.float64]:
    """Make up labels: what they are does not change the cost."""
    return np.random.default_rng(seed).normal(size=n_crystals)
