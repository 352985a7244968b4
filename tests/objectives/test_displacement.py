from dataclasses import replace

import pytest
import torch

from dssl_sklearn.exceptions import InvalidInputError
from dssl_sklearn.models.layers import DistanceExpansion
from dssl_sklearn.objectives import Contrastive, Displacement
from dssl_sklearn.objectives.base import EncodedView
from dssl_sklearn.views.view import View, ViewSpec


def make_head(objective=None, seed=0):
    torch.manual_seed(seed)
    return (objective or Displacement()).make_head(8, 8).double()


def moved_by(batch, moves):
    moved = replace(batch, positions=batch.positions + moves)
    return replace(moved, edge_distance=moved.edge_vectors().norm(dim=1))


def outcome(head, network, batch, moves):
    moved = moved_by(batch, moves)
    view = View(moved, torch.empty(0, dtype=torch.long))
    return head([EncodedView(view, *network(moved))], batch)


def draw_moves(batch, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(batch.positions.shape, generator=generator, dtype=torch.float64)


def test_view_is_shared_with_the_first_contrastive_one():
    assert Displacement(move=0.2).specs()[0] == Contrastive(move=0.2).specs()[0]
    assert Displacement(mask_ratio=0.1).specs() == (ViewSpec(mask_ratio=0.1, move=0.1),)


def test_gradients_reach_every_weight(random_batch, assert_trains):
    assert_trains(Displacement(), make_head(), random_batch())


def test_loss_against_a_loop_over_the_edges(random_batch, network):
    batch = random_batch((3, 2))
    head, moves = make_head(), draw_moves(batch)
    moved = moved_by(batch, moves)
    sites, _ = network(moved)
    expand = DistanceExpansion(40, 1.0).double()
    vectors = moved.edge_vectors()
    predicted = torch.zeros_like(moves)
    counts = torch.zeros(len(moves))
    for edge, (source, target) in enumerate(batch.edge_index.T.tolist()):
        distance = vectors[edge].norm()
        hidden = (
            head.from_source(sites[source])
            + head.from_target(sites[target])
            + head.from_edge(expand(distance[None] / 8.0))[0]
        )
        strength = head.out(torch.nn.functional.silu(hidden))
        predicted[target] += strength * vectors[edge] / distance
        counts[target] += 1
    predicted = predicted / counts.sqrt()[:, None]
    target = torch.cat([m - m.mean(0) for m in moves.split([3, 2])]) / 0.1
    result = outcome(head, network, batch, moves)
    assert result.loss.item() == pytest.approx((predicted - target).square().mean().item())
    explained = 1 - result.loss / target.square().mean()
    assert result.metrics["explained"].item() == pytest.approx(explained.item())


def test_a_shift_of_all_sites_is_no_move(random_batch, network):
    batch = random_batch()
    head, moves = make_head(), draw_moves(batch)
    shifted = moves + torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64)
    expected = outcome(head, network, batch, moves).loss.item()
    assert outcome(head, network, batch, shifted).loss.item() == pytest.approx(expected)


def test_the_loss_does_not_change_when_everything_turns(random_batch, network):
    batch = random_batch()
    head, moves = make_head(), draw_moves(batch)
    rotation, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))
    turned = replace(batch, positions=batch.positions @ rotation, lattice=batch.lattice @ rotation)
    expected = outcome(head, network, batch, moves).loss.item()
    assert outcome(head, network, turned, moves @ rotation).loss.item() == pytest.approx(expected)


@pytest.mark.parametrize(
    "settings", [{"weight": -1}, {"move": 0}, {"mask_ratio": 2}, {"width": 0}, {"n_basis": 1}]
)
def test_settings_out_of_range(settings):
    with pytest.raises(InvalidInputError, match=next(iter(settings))):
        Displacement(**settings)


def test_learns_where_the_sites_of_salt_belong():
    from pymatgen.core import Lattice, Structure

    from dssl_sklearn import DSSLPretrainer

    salt = Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0] * 3, [0.5] * 3]
    )
    pretrainer = DSSLPretrainer(
        objectives="displacement",
        move=0.1,
        max_epochs=40,
        batch_size=8,
        lr=5e-3,
        validation_fraction=0,
        random_state=0,
    ).fit([salt] * 32)
    assert pretrainer.history_[-1]["train_displacement_explained"] > 0.5
