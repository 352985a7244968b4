import numpy as np
import pytest
from pymatgen.core import Structure

from dssl_sklearn import StructureToGraph
from dssl_sklearn.datasets import Corpus
from dssl_sklearn.exceptions import DatasetError, InvalidInputError, WeightsError
from dssl_sklearn.model_selection import pretraining_overlap


@pytest.fixture(scope="module")
def crystals(elastic):
    return elastic[0][:12]


def rotated(structure):
    rotation, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    return Structure(structure.lattice.matrix @ rotation, structure.species, structure.frac_coords)


def test_copies_are_found_whatever_their_cell(crystals):
    corpus = [crystals[1] * [2, 1, 1], rotated(crystals[4]), crystals[7].get_primitive_structure()]
    assert pretraining_overlap(crystals, corpus=corpus).tolist() == [1, 4, 7]
    graphs = StructureToGraph().fit_transform(corpus)
    assert pretraining_overlap(crystals, corpus=graphs).tolist() == [1, 4, 7]


def test_polymorphs_and_substitutes_are_not_found(crystals):
    original = crystals[0]
    substitute = original.copy()
    substitute.replace_species({original[0].specie: "Ra"})
    # The composition of the first crystal, Al(CoSi)2, with Al and Co in each other's place.
    swapped = Structure(original.lattice, ["Co", "Al", "Co", "Si", "Si"], original.frac_coords)
    assert swapped.composition == original.composition
    corpus = [substitute, swapped]
    assert pretraining_overlap([original], corpus=corpus).tolist() == []
    assert pretraining_overlap([original], corpus=[*corpus, original]).tolist() == [0]


def test_a_file_serves_as_corpus(crystals, tmp_path):
    path = tmp_path / "corpus.npz"
    chosen = crystals[3:6]
    Corpus(
        ids=["a", "b", "c"],
        numbers=np.concatenate([structure.atomic_numbers for structure in chosen]),
        frac_coords=np.concatenate([structure.frac_coords for structure in chosen]),
        lattices=[structure.lattice.matrix for structure in chosen],
        ptr=np.cumsum([0, *map(len, chosen)]),
    ).save(path)
    assert pretraining_overlap(crystals, corpus=path).tolist() == [3, 4, 5]
    with pytest.raises(DatasetError, match=r"missing\.npz"):
        pretraining_overlap(crystals, corpus=tmp_path / "missing.npz")


def test_without_a_corpus_it_says_what_is_needed(crystals, fitted_pretrainer):
    with pytest.raises(InvalidInputError, match=r"too large to ship .*58555"):
        pretraining_overlap(crystals, "mp")
    with pytest.raises(InvalidInputError, match="pretrained weights keep no crystals"):
        pretraining_overlap(crystals, fitted_pretrainer)
    with pytest.raises(WeightsError, match="neither the name of shipped weights"):
        pretraining_overlap(crystals, "mpp")


def test_bad_structures_are_named(crystals):
    with pytest.raises(InvalidInputError, match="structures is a single Structure"):
        pretraining_overlap(crystals[0], corpus=crystals)
    with pytest.raises(InvalidInputError, match="corpus is a dict"):
        pretraining_overlap(crystals, corpus={"a": crystals[0]})
