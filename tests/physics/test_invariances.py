"""A crystal is the same however it is written down, and so are embeddings and predictions."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer
from scipy.spatial.transform import Rotation

from dssl_sklearn import DSSLPretrainer

#: Float32 carries 1e-7; measured on one machine, sums over some hundred edges in three layers stay
#: below 1e-6. What is more is an error of the graph, not of rounding.
RELATIVE = 5e-6


def close(found, expected, factor=1.0):
    """Compare to the size of the whole array: single entries may be zero by chance."""
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=factor * RELATIVE * scale)


def rotated(structure, seed):
    quaternion = np.random.default_rng(seed).normal(size=4)
    rotation = Rotation.from_quat(quaternion).as_matrix()
    lattice = Lattice(structure.lattice.matrix @ rotation.T)
    return Structure(lattice, structure.species, structure.frac_coords)


def mirrored(structure, _):
    lattice = Lattice(structure.lattice.matrix * [1, 1, -1])
    return Structure(lattice, structure.species, structure.frac_coords)


def translated(structure, seed):
    move = np.random.default_rng(seed).uniform(-1, 1, size=3)
    return Structure(structure.lattice, structure.species, structure.frac_coords + move)


def permuted(structure, seed):
    return Structure.from_sites([structure[k] for k in permutation(structure, seed)])


def permutation(structure, seed):
    return np.random.default_rng(seed).permutation(len(structure))


def unwrapped(structure, seed):
    shifts = np.random.default_rng(seed).integers(-3, 4, size=(len(structure), 3))
    return Structure(structure.lattice, structure.species, structure.frac_coords + shifts)


def other_vectors(structure, seed):
    """Lattice vectors of the same lattice: products of shears have determinant one."""
    rng = np.random.default_rng(seed)
    matrix = np.eye(3, dtype=int)
    for _ in range(4):
        first, second = rng.choice(3, size=2, replace=False)
        matrix[first] += rng.integers(-1, 2) * matrix[second]
    return in_cell(structure, matrix)


def in_cell(structure, matrix):
    assert round(np.linalg.det(matrix)) in (-1, 1)
    frac_coords = structure.frac_coords @ np.linalg.inv(matrix)
    return Structure(Lattice(matrix @ structure.lattice.matrix), structure.species, frac_coords)


def left_handed(structure, _):
    return in_cell(structure, np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1]]))


def everything(structure, seed):
    for change in (rotated, translated, other_vectors, unwrapped, permuted):
        structure = change(structure, seed)
    return structure


CHANGES = [
    rotated,
    mirrored,
    translated,
    permuted,
    unwrapped,
    other_vectors,
    left_handed,
    everything,
]


@pytest.mark.parametrize("change", CHANGES)
class TestDescription:
    """Rotation, translation, order of sites, images and lattice vectors do not matter."""

    def test_of_predictions_and_embeddings(self, model, pretrainer_of, crystals, change):
        changed = [change(structure, seed) for seed, structure in enumerate(crystals)]
        embed = pretrainer_of(model).transform
        close(embed(changed), embed(crystals))
        close(model.predict(changed), model.predict(crystals))

    def test_of_site_embeddings(self, model, pretrainer_of, crystals, change):
        changed = [change(structure, seed) for seed, structure in enumerate(crystals)]
        embed = pretrainer_of(model).transform_sites
        for seed, (found, expected) in enumerate(zip(embed(changed), embed(crystals), strict=True)):
            order = np.arange(len(expected))
            if change in (permuted, everything):
                order = permutation(crystals[seed], seed)
            close(found, expected[order])


def conventional(structure):
    return SpacegroupAnalyzer(structure, symprec=1e-4).get_conventional_standard_structure()


def primitive(structure):
    return structure.get_primitive_structure(tolerance=1e-4)


def niggli(structure):
    return structure.get_reduced_structure("niggli")


def supercell(*scaling):
    def make(structure):
        return structure.make_supercell(scaling, in_place=False)

    make.__name__ = "x".join(map(str, scaling))
    return make


def oblique_supercell(structure):
    return structure.make_supercell([[1, 1, 0], [-1, 1, 0], [0, 0, 1]], in_place=False)


CELLS = [
    niggli,
    supercell(2, 2, 2),
    supercell(1, 2, 1),
    supercell(3, 1, 1),
    oblique_supercell,
]


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.__name__)
def test_choice_of_cell(model, pretrainer_of, crystals, cell):
    """Neither a mean over the sites nor attention over them counts how often a cell is repeated."""
    small = [structure for structure in crystals if len(structure) <= 12]
    changed = [cell(structure) for structure in small]
    embed = pretrainer_of(model).transform
    close(embed(changed), embed(small))
    close(model.predict(changed), model.predict(small))


# pymatgen has not yet followed spglib's new way to say that it found no symmetry.
@pytest.mark.filterwarnings("ignore:Set OLD_ERROR_HANDLING:DeprecationWarning")
def test_primitive_and_conventional_cells(model, crystals):
    """Symmetry analysis moves atoms by 1e-5 angstrom or so, hence more than rounding."""
    pairs = [(primitive(s), conventional(s)) for s in crystals]
    assert any(len(first) < len(second) for first, second in pairs)
    found = model.predict([first for first, _ in pairs])
    close(found, model.predict([second for _, second in pairs]), factor=20)


def test_sites_of_a_supercell_are_those_of_the_cell(model, pretrainer_of, crystals):
    for structure in crystals[:6]:
        (cell,) = pretrainer_of(model).transform_sites([structure])
        (large,) = pretrainer_of(model).transform_sites([supercell(2, 1, 1)(structure)])
        close(large, np.repeat(cell, 2, axis=0))


@pytest.fixture(scope="module")
def trained_gated(tiny, crystals):
    return DSSLPretrainer(**tiny).fit(crystals)


@given(seed=st.integers(0, 2**31 - 1), index=st.integers(0, 11))
@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
def test_any_description(trained_gated, crystals, seed, index):
    structure = crystals[index]
    close(
        trained_gated.transform([everything(structure, seed)]), trained_gated.transform([structure])
    )


class TestWhatMatters:
    """The tests above would pass for a constant."""

    def test_different_crystals_differ(self, model, pretrainer_of, crystals):
        embeddings = pretrainer_of(model).transform(crystals)
        scale = np.abs(embeddings).max()
        distance = np.abs(embeddings[:, None] - embeddings[None]).max(axis=2)
        assert (distance[np.triu_indices(len(crystals), 1)] > 50 * RELATIVE * scale).all()

    def test_a_strain_shows(self, model, crystals):
        strained = [s.copy() for s in crystals]
        for structure in strained:
            structure.apply_strain([0.03, 0.0, 0.0])
        assert different(model.predict(strained), model.predict(crystals))

    def test_an_exchange_of_elements_shows(self, model, crystals):
        replaced = [s.copy() for s in crystals]
        for structure in replaced:
            structure.replace(0, "Cs" if structure[0].specie.symbol != "Cs" else "Na")
        assert different(model.predict(replaced), model.predict(crystals))

    def test_a_move_of_one_site_shows(self, model, pretrainer_of, crystals):
        several = [s for s in crystals if len(s) > 2]
        moved = [s.copy() for s in several]
        for structure in moved:
            structure.translate_sites([0], [0.25, 0.15, 0.1], frac_coords=False)
        embed = pretrainer_of(model).transform_sites
        first, second = (np.stack([sites[0] for sites in embed(X)]) for X in (moved, several))
        assert different(first, second)


def different(found, expected):
    """By more than the other tests let pass, for every crystal."""
    scale = np.abs(expected).max()
    return (np.abs(found - expected).max(axis=1) > 4 * RELATIVE * scale).all()


class TestBatches:
    def test_company_does_not_matter(self, model, pretrainer_of, crystals):
        embed = pretrainer_of(model).transform
        close(np.concatenate([embed([s]) for s in crystals]), embed(crystals))
        close(np.concatenate([model.predict([s]) for s in crystals]), model.predict(crystals))

    def test_order_does_not_matter(self, model, crystals):
        close(model.predict(crystals[::-1])[::-1], model.predict(crystals))

    @pytest.mark.parametrize("batch_size", [1, 2, 5, 100])
    def test_size_does_not_matter(self, model, pretrainer_of, crystals, batch_size):
        expected = model.predict(crystals), pretrainer_of(model).transform(crystals)
        nets = model.net_, pretrainer_of(model).net_
        sizes = [net.batch_size for net in nets]
        try:
            for net in nets:
                net.set_params(batch_size=batch_size)
            found = model.predict(crystals), pretrainer_of(model).transform(crystals)
        finally:
            for net, size in zip(nets, sizes, strict=True):
                net.set_params(batch_size=size)
        close(found[0], expected[0])
        close(found[1], expected[1])


class TestPrecision:
    def encode(self, model, crystals, dtype=torch.float32, device="cpu"):
        graphs = model._builder(model.architecture_).dataset(crystals)
        batch = graphs.batch(range(len(crystals))).to(device)
        encoder = model.net_.module_.encoder.eval()
        with torch.inference_mode():
            if dtype is torch.bfloat16:
                with torch.autocast(device, dtype):
                    return encoder(batch)
            return encoder(batch.to(dtype))

    def test_double_precision_agrees(self, model, crystals):
        encoder = model.net_.module_.encoder
        single = self.encode(model, crystals)
        try:
            encoder.double()
            double = self.encode(model, crystals, torch.float64)
        finally:
            encoder.float()
        for found, expected in zip(single, double, strict=True):
            assert expected.dtype is torch.float64
            close(found.numpy(), expected.numpy())

    def test_half_precision_is_finite_and_near(self, model, crystals):
        for found, expected in zip(
            self.encode(model, crystals, torch.bfloat16), self.encode(model, crystals), strict=True
        ):
            assert found.isfinite().all()
            # Eight bits carry three digits.
            close(found.float().numpy(), expected.numpy(), factor=0.1 / RELATIVE)

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
    def test_a_gpu_agrees(self, model, crystals):
        expected = self.encode(model, crystals)
        try:
            model.net_.module_.encoder.to("cuda")
            found = self.encode(model, crystals, device="cuda")
        finally:
            model.net_.module_.encoder.to("cpu")
        for ours, theirs in zip(found, expected, strict=True):
            close(ours.cpu().numpy(), theirs.numpy(), factor=10)
