"""Sets whose labels CHGNet computes, for questions that the labeled sets are too small for.

CHGNet is the teacher of "mp-distilled": these sets show how methods learn, not how well they
predict what was measured or computed otherwise.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pymatgen.core import Composition, Element, Lattice, Structure

if TYPE_CHECKING:
    from chgnet.model.model import CHGNet
    from numpy.typing import NDArray

    Values = NDArray[np.float64]
    Names = tuple[str, str, str]

METALS = (
    "Li Na K Rb Cs Mg Ca Sr Ba Sc Y La Ti Zr Hf V Nb Ta Cr Mo W Mn Fe Co Ni Cu Zn Al Ga In Si Ge "
    "Sn Pb Sb Bi Ag Cd Rh Pd"
)
#: Anions, with their covalent radii in angstrom.
ANIONS = {"O": 0.73, "F": 0.71, "S": 1.02, "N": 0.75}
#: Edges of the cell that are tried around the best so far, coarsely and then more finely.
SEARCH = ((0.94, 1.0, 1.06), (0.98, 1.0, 1.02), (0.98, 1.0, 1.02))
#: Crystals that are computed at a time.
CHUNK = 512


def every_perovskite() -> list[Names]:
    """Two metals, the first at the corner and the second in the center, and an anion."""
    metals = METALS.split()
    names = [(a, b, x) for a in metals for b in metals if a != b for x in ANIONS]
    return [names[row] for row in np.random.default_rng(0).permutation(len(names))]


def perovskites(names: Sequence[Names]) -> tuple[list[Structure], Values]:
    """Cubic perovskites with CHGNet's energy at the best volume, less that of their elements.

    Parameters
    ----------
    names : sequence of tuple of str
        The two metals and the anion of each.

    Returns
    -------
    structures : list of Structure
        With the best of the edges that were tried.
    y : ndarray of shape (n_structures,)
        Energies, less what a sum over the elements explains of them, in eV per atom.
    """
    model = load_chgnet()
    edge = np.array([guessed_edge(each) for each in names])
    energies = np.empty((len(names), 0))
    for factors in SEARCH:
        columns = [
            _energies(model, [cell(each, e * f) for each, e in zip(names, edge, strict=True)])
            for f in factors
        ]
        energies = np.column_stack(columns)
        edge *= np.array(factors)[energies.argmin(axis=1)]
    structures = [cell(each, e) for each, e in zip(names, edge, strict=True)]
    return structures, less_elements(structures, energies.min(axis=1))


def corpus_crystals(
    corpus: Path, n_crystals: int, max_sites: int
) -> tuple[list[Structure], Values]:
    """Crystals of the pretraining corpus with CHGNet's energy, less that of their elements.

    Parameters
    ----------
    corpus : Path
        File of the corpus.
    n_crystals : int
        How many are drawn; isolated atoms, which CHGNet has no graph of, are left out.
    max_sites : int
        Sites of the largest cell.

    Returns
    -------
    As `perovskites`.
    """
    from accuracy.chgnet_targets import corpus_structure, site_graph

    model = load_chgnet()
    arrays = dict(np.load(corpus))
    small = np.flatnonzero(np.diff(arrays["ptr"]) <= max_sites)
    structures, energies = [], []
    for rows in _chunks(np.random.default_rng(5).permutation(small)[:n_crystals]):
        crystals = [corpus_structure(arrays, row) for row in rows]
        found = [(crystal, site_graph(model, crystal)) for crystal in crystals]
        graphs = [graph for _, graph in found if graph is not None]
        predicted: Any = model.predict_graph(graphs, task="e", batch_size=32)
        energies += [float(one["e"]) for one in predicted]
        structures += [crystal for crystal, graph in found if graph is not None]
    return structures, less_elements(structures, np.array(energies))


def less_elements(structures: Sequence[Structure], energies: Values) -> Values:
    """Energies per atom, less what a sum over the elements explains of them."""
    shares = np.zeros((len(structures), 120))
    for row, structure in enumerate(structures):
        fractions: Composition = structure.composition.fractional_composition
        for element, share in fractions.items():
            shares[row, Element(element.symbol).Z] = share
    of_elements = np.linalg.lstsq(shares, energies, rcond=None)[0]
    rest: Values = energies - shares @ of_elements
    return rest


def cell(names: Names, edge: float) -> Structure:
    """Cubic perovskite, the first metal at the corner and the second in the center."""
    a, b, x = names
    sites = np.array([[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
    return Structure(Lattice.cubic(edge), [a, b, x, x, x], sites)


def guessed_edge(names: Names) -> float:
    """Edge in angstrom by radii: the mean of what the two kinds of contacts ask for."""
    a, b, x = names
    of_a, of_b = (0.9 * float(Element(metal).atomic_radius or 1.5) + ANIONS[x] for metal in (a, b))
    return float(of_a / np.sqrt(2) + of_b)


def load_chgnet() -> CHGNet:
    """CHGNet 0.3.0, whose weights come with its package."""
    from chgnet.model.model import CHGNet

    warnings.simplefilter("ignore")
    model: CHGNet = CHGNet.load(verbose=False)
    return model


def _energies(model: CHGNet, crystals: Sequence[Structure]) -> Values:
    energies = []
    for some in _chunks(crystals):
        predicted: Any = model.predict_structure(list(some), task="e", batch_size=64)
        energies += [float(one["e"]) for one in predicted]
    return np.array(energies)


def _chunks(items: Any) -> Iterator[Any]:  # noqa: ANN401 - anything that slices
    return (items[start : start + CHUNK] for start in range(0, len(items), CHUNK))
