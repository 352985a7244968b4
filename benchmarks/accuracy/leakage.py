"""No crystal of a test part may have been seen in pretraining."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from dssl_sklearn.datasets import (
    Corpus,
    load_dielectric,
    load_elasticity,
    load_formation_energy,
    load_piezoelectricity,
)

if TYPE_CHECKING:
    from pymatgen.core import Structure

N_NEIGHBORS = 12
CUTOFF = 10.0
#: Relative difference of lengths up to which two crystals count as the same one: calculations of
#: the same crystal with different settings differ by a few percent.
TOLERANCE = 0.05


def length_fingerprint(structure: Structure) -> NDArray[np.float64]:
    """Lengths that do not depend on the choice of cell, its origin or its orientation.

    Parameters
    ----------
    structure : Structure
        The crystal.

    Returns
    -------
    ndarray of shape (13,)
        Cube root of the volume per atom, then the distances of the first to the twelfth neighbor
        within 10 angstrom, averaged over the sites; angstrom.
    """
    target, _, _, distance = structure.get_neighbor_list(CUTOFF)
    n_sites = len(structure)
    nearest = np.full((n_sites, N_NEIGHBORS), CUTOFF)
    for site in range(n_sites):
        found = np.sort(distance[target == site])[:N_NEIGHBORS]
        nearest[site, : len(found)] = found
    return np.array([(structure.volume / n_sites) ** (1 / 3), *nearest.mean(axis=0)])


def without_test_crystals(
    corpus: Corpus, test: Sequence[Structure], by: Literal["formula", "structure"] = "formula"
) -> Corpus:
    """Remove all that a test part holds from a pretraining corpus.

    Parameters
    ----------
    corpus : Corpus
        Pretraining crystals.
    test : sequence of Structure
        Crystals of the test part.
    by : {"formula", "structure"}, default="formula"
        What counts as the same: any crystal of the same reduced formula, or only those whose
        `length_fingerprint` agrees within 5 %, too. The first contains the second.

    Returns
    -------
    Corpus
        What is left.
    """
    if by == "formula":
        return corpus.without_formulas({structure.composition for structure in test})
    found = set(rows_of_same_crystals(corpus, test).tolist())
    return corpus[np.array([row not in found for row in range(len(corpus))], bool)]


def rows_of_same_crystals(corpus: Corpus, test: Sequence[Structure]) -> NDArray[np.int64]:
    """Find the rows of a corpus that hold a crystal of the test part, in any cell.

    Parameters
    ----------
    corpus : Corpus
        Pretraining crystals.
    test : sequence of Structure
        Crystals of the test part.

    Returns
    -------
    ndarray of int
        Ascending rows.
    """
    wanted: dict[str, list[NDArray[np.float64]]] = defaultdict(list)
    for formula, structure in zip(reduced_formulas(test), test, strict=True):
        wanted[formula].append(length_fingerprint(structure))
    formulas = corpus.reduced_formulas()
    rows = []
    for row in np.flatnonzero(np.isin(formulas, list(wanted))):
        lengths = length_fingerprint(corpus[int(row)].to_structure())
        known = np.array(wanted[str(formulas[row])])
        if (np.abs(known / lengths - 1).max(axis=1) < TOLERANCE).any():
            rows.append(row)
    return np.array(rows, np.int64)


def reduced_formulas(structures: Sequence[Structure]) -> list[str]:
    """Reduced formulas in the spelling of `Corpus.reduced_formulas`."""
    sites = [[site.specie.Z for site in structure] for structure in structures]
    ptr = np.concatenate([[0], np.cumsum([len(numbers) for numbers in sites])]).astype(int)
    as_corpus = Corpus(
        ids=[str(row) for row in range(len(sites))],
        numbers=np.concatenate([[], *sites]).astype(int),
        frac_coords=np.zeros((ptr[-1], 3)),
        lattices=np.tile(np.eye(3), (len(sites), 1, 1)),
        ptr=ptr,
    )
    return [str(formula) for formula in as_corpus.reduced_formulas()]


@cache
def shipped_formulas() -> frozenset[str]:
    """Reduced formulas of the labeled sets inside the package, which its weights leave out."""
    loaders = (load_elasticity, load_dielectric, load_piezoelectricity, load_formation_energy)
    return frozenset(f for load in loaders for f in reduced_formulas(load().data))


def check_weights(card: Path, corpus: Corpus, test_formulas: Iterable[str]) -> dict[str, Any]:
    """Compare the card of shipped weights with the corpus they were made from.

    Parameters
    ----------
    card : Path
        JSON file beside the weights, with ``data.formulas``, or else ``n_crystals`` and
        ``max_sites`` in ``data.drawn_from`` (all that could have been taken) or ``data``.
    corpus : Corpus
        The whole file that the weights were pretrained on.
    test_formulas : iterable of str
        Reduced formulas of the test part, spelled as `reduced_formulas` does.

    Returns
    -------
    dict
        ``test_formulas`` and how many of them are ``in_corpus_file`` and ``in_pretraining``: among
        the formulas on the card or, where it lists none, in what is left of the corpus without
        those of the shipped sets and cells above the size on the card. ``count_agrees`` says
        whether the latter are exactly as many crystals as on the card, None where it is not known.
    """
    data = json.loads(card.read_text(encoding="utf-8")).get("data", {})
    of_corpus = corpus.reduced_formulas()
    test = set(test_formulas)
    count_agrees = None
    if "formulas" in data:
        pretrained = set(data["formulas"])
    else:
        data = data.get("drawn_from", data)
        kept = ~np.isin(of_corpus, list(shipped_formulas()))
        kept &= corpus.n_sites <= data.get("max_sites", np.inf)
        pretrained = set(of_corpus[kept].tolist())
        if "n_crystals" in data:
            count_agrees = bool(kept.sum() == data["n_crystals"])
    return {
        "test_formulas": len(test),
        "in_corpus_file": len(test & set(of_corpus.tolist())),
        "in_pretraining": len(test & pretrained),
        "count_agrees": count_agrees,
    }
