from dataclasses import replace

import numpy as np
import pytest
import torch
from pymatgen.core import Structure

from dssl_sklearn.views.perturbation import move_sites, strain_lattice


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_distances_follow_the_moves(random_batch, brute_distances):
    batch = random_batch()
    before = batch.positions.clone()
    moved = move_sites(batch, 0.3, generator())
    torch.testing.assert_close(moved.edge_distance, brute_distances(moved))
    assert not torch.allclose(moved.edge_distance, batch.edge_distance)
    assert torch.equal(batch.positions, before)
    assert moved.edge_index is batch.edge_index


def test_images_of_a_site_move_with_it(random_batch):
    batch = random_batch()
    moved = move_sites(batch, 0.3, generator())
    own_image = batch.edge_index[0] == batch.edge_index[1]
    assert own_image.any()
    torch.testing.assert_close(moved.edge_distance[own_image], batch.edge_distance[own_image])


def test_gaussian_moves_have_the_asked_standard_deviation(random_batch):
    batch = random_batch((1000,), n_neighbors=1)
    moves = move_sites(batch, 0.2, generator()).positions - batch.positions
    torch.testing.assert_close(
        moves.std(0), torch.full((3,), 0.2, dtype=moves.dtype), rtol=0.1, atol=0
    )
    assert moves.mean(0).abs().max() < 0.03


def test_sphere_moves_have_the_asked_length_in_all_directions(random_batch):
    batch = random_batch((1000,), n_neighbors=1)
    moves = move_sites(batch, 0.5, generator(), kind="sphere").positions - batch.positions
    torch.testing.assert_close(moves.norm(dim=1), torch.full((1000,), 0.5, dtype=moves.dtype))
    assert moves.mean(0).abs().max() < 0.05


def test_coinciding_sites_keep_finite_gradients(random_batch):
    batch = random_batch((2,))
    positions = batch.positions[:1].repeat(2, 1).requires_grad_()
    together = replace(batch, positions=positions, edge_shift=torch.zeros_like(batch.edge_shift))
    move_sites(together, 0.0, generator()).edge_distance.sum().backward()
    assert positions.grad.isfinite().all()


def test_strain_is_symmetric_and_carries_the_sites_along(random_batch, brute_distances):
    batch = random_batch()
    strained = strain_lattice(batch, 0.05, generator())
    deform = torch.linalg.solve(batch.lattice, strained.lattice)
    torch.testing.assert_close(deform, deform.transpose(1, 2))
    assert not torch.allclose(deform[0], deform[1])
    frac, frac_strained = (
        torch.linalg.solve(b.lattice[b.batch].transpose(1, 2), b.positions)
        for b in (batch, strained)
    )
    torch.testing.assert_close(frac, frac_strained)
    torch.testing.assert_close(strained.edge_distance, brute_distances(strained))


def test_strained_distances_are_those_of_a_strained_structure(random_batch):
    batch = random_batch((4,))
    strained = strain_lattice(batch, 0.05, generator())
    before = Structure(
        batch.lattice[0].numpy(),
        batch.numbers.numpy(),
        batch.positions.numpy(),
        coords_are_cartesian=True,
    )
    after = Structure(strained.lattice[0].numpy(), before.species, before.frac_coords)
    for (source, target), shift, distance in zip(
        batch.edge_index.T.tolist(), batch.edge_shift.numpy(), strained.edge_distance, strict=True
    ):
        assert after.get_distance(target, source, jimage=shift) == pytest.approx(float(distance))


def test_strain_entries_have_the_asked_standard_deviation(random_batch):
    batch = random_batch((1,) * 1000, n_neighbors=1)
    strained = strain_lattice(batch, 0.03, generator())
    strain = torch.linalg.solve(batch.lattice, strained.lattice) - torch.eye(3)
    np.testing.assert_allclose(strain.std(0), np.full((3, 3), 0.03), rtol=0.1)
    corner = torch.corrcoef(strain.reshape(-1, 9)[:, [0, 1, 2, 4, 5, 8]].T) - torch.eye(6)
    assert corner.abs().max() < 0.15
