import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from dssl_sklearn import StructureToGraph
from dssl_sklearn.crystals.dataset import GraphDataset
from dssl_sklearn.crystals.files import UnusableCrystalError
from dssl_sklearn.crystals.identity import (
    chemical_system,
    composition,
    formula_key,
    prototype,
    reduced_formula,
    same_crystal,
)
from dssl_sklearn.crystals.inputs import read_crystals
from dssl_sklearn.exceptions import InvalidInputError, InvalidStructureError


def crystal_of(structure):
    return read_crystals([structure])[0]


@pytest.fixture(scope="module")
def halite():
    return Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(5.69), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    )


@pytest.fixture(scope="module")
def polymorphs():
    """Zinc blende, wurtzite and rock salt of one compound."""
    zinc_blende = Structure.from_spacegroup(
        "F-43m", Lattice.cubic(5.41), ["Zn", "S"], [[0, 0, 0], [0.25, 0.25, 0.25]]
    )
    wurtzite = Structure.from_spacegroup(
        "P6_3mc",
        Lattice.hexagonal(3.82, 6.26),
        ["Zn", "S"],
        [[1 / 3, 2 / 3, 0], [1 / 3, 2 / 3, 0.375]],
    )
    rock_salt = Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(5.06), ["Zn", "S"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    )
    return [zinc_blende, wurtzite, rock_salt]


def copies(structure, seed=0):
    """The same crystal in another cell, orientation, origin, order and at another volume."""
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    turned = Structure(
        structure.lattice.matrix @ rotation, structure.species, structure.frac_coords
    )
    permuted = Structure.from_sites([structure[i] for i in rng.permutation(len(structure))])
    moved = structure.copy()
    moved.translate_sites(range(len(moved)), [0.1, 0.2, 0.3])
    swollen = structure.copy()
    swollen.scale_lattice(1.05 * structure.volume)
    relaxed = Structure(
        structure.lattice,
        structure.species,
        structure.frac_coords + rng.normal(scale=0.003, size=(len(structure), 3)),
    )
    return {
        "supercell": structure * [2, 1, 2],
        "primitive": structure.get_primitive_structure(),
        "skewed": structure * [[1, 1, 0], [0, 1, 0], [0, 0, 1]],
        "rotated": turned,
        "permuted": permuted,
        "translated": moved,
        "swollen": swollen,
        "relaxed": relaxed,
    }


def test_names_of_a_crystal(halite):
    crystal = crystal_of(halite)
    assert reduced_formula(crystal) == "NaCl"
    assert chemical_system(crystal) == "Cl-Na"
    assert prototype(crystal) == "225 AB"
    assert composition(crystal) == halite.composition


def test_names_do_not_depend_on_the_cell(halite, polymorphs):
    for structure in [halite, *polymorphs]:
        wanted = crystal_of(structure)
        for name, copy in copies(structure).items():
            crystal = crystal_of(copy)
            assert formula_key(crystal.numbers) == formula_key(wanted.numbers)
            assert reduced_formula(crystal) == reduced_formula(wanted)
            if name != "relaxed":  # which has lost its symmetry, as symprec sees it
                assert prototype(crystal) == prototype(wanted), name


def test_formula_keys_tell_formulas_apart():
    keys = {formula_key(np.array(numbers)) for numbers in ([8], [8, 1], [8, 1, 1], [1, 1, 1, 8])}
    assert len(keys) == 4
    assert formula_key(np.array([1, 8, 1])) == formula_key(np.array([8, 8, 1, 1, 1, 1]))


def test_copies_are_the_same_crystal(halite, polymorphs):
    for structure in [halite, *polymorphs]:
        crystal = crystal_of(structure)
        for name, copy in copies(structure).items():
            assert same_crystal(crystal, crystal_of(copy)), name


def test_other_crystals_are_not(halite, polymorphs):
    crystals = [crystal_of(structure) for structure in [halite, *polymorphs]]
    potassium = halite.copy()
    potassium.replace_species({"Na": "K"})
    crystals.append(crystal_of(potassium))
    for i, one in enumerate(crystals):
        for other in crystals[:i]:
            assert not same_crystal(one, other)


def test_sites_on_top_of_each_other_have_no_prototype():
    broken = Structure(Lattice.cubic(4), ["Na", "Na"], [[0, 0, 0], [0, 0, 0]])
    with pytest.raises(UnusableCrystalError, match="no space group"):
        prototype(crystal_of(broken))


def test_every_kind_of_input_is_read(halite, polymorphs):
    structures = [halite, *polymorphs]
    graphs = StructureToGraph().fit_transform(structures)
    for X in (structures, graphs, GraphDataset.from_graphs(list(graphs))):
        table = read_crystals(X)
        assert [reduced_formula(crystal) for crystal in table] == ["NaCl", *["ZnS"] * 3]


def test_unusable_input_is_named(halite):
    disordered = halite.copy()
    disordered.replace(0, {"Na": 0.5, "K": 0.5})
    with pytest.raises(InvalidStructureError, match=r"structure 1 .*: site 0 is disordered"):
        read_crystals([halite, disordered])
    nan = Structure(Lattice.cubic(4), ["Na"], [[np.nan, 0, 0]])
    with pytest.raises(InvalidStructureError) as caught:
        read_crystals([disordered, halite, nan])
    assert sorted(caught.value.reasons) == [0, 2]
    with pytest.raises(InvalidInputError, match="corpus is a single Structure"):
        read_crystals(halite, "corpus")
