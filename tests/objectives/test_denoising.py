from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from dssl_sklearn.exceptions import InvalidInputError
from dssl_sklearn.objectives import Contrastive, Denoising
from dssl_sklearn.views.view import ViewSpec


def make_head(objective, seed=0):
    torch.manual_seed(seed)
    return objective.make_head(8, 8).double()


def silence(head):
    with torch.no_grad():
        head.out.weight.zero_()
        head.out.bias.zero_()
    return head


def test_view_is_shared_with_the_first_contrastive_one():
    assert Denoising().specs() == (ViewSpec(move=0.2),)
    assert Denoising(move=0.3).specs()[0] == Contrastive(move=0.3).specs()[0]
    assert Denoising(mask_ratio=0.1, strain=0.02).specs() == (
        ViewSpec(mask_ratio=0.1, move=0.2, strain=0.02),
    )


@pytest.mark.parametrize(
    "objective", [Denoising(), Denoising(strain=0.02), Denoising(mask_ratio=0.3, width=16)]
)
def test_gradients_reach_every_weight(random_batch, assert_trains, objective):
    assert_trains(objective, make_head(objective), random_batch())


def test_target_is_the_change_of_length_in_units_of_the_move(random_batch, encode):
    objective, batch = Denoising(move=0.3), random_batch()
    (view,) = encode(objective.specs(), batch).values()
    losses, errors = [], []
    for edge, (source, target) in enumerate(batch.edge_index.T.tolist()):
        if source != target:
            change = float(batch.edge_distance[edge] - view.view.batch.edge_distance[edge])
            x = abs(change / 0.3)
            losses.append(x * x / 2 if x < 1 else x - 0.5)
            errors.append(abs(change))
    outcome = silence(make_head(objective))([view], batch)
    assert outcome.loss.item() == pytest.approx(sum(losses) / len(losses))
    assert outcome.metrics["mae"].item() == pytest.approx(sum(errors) / len(errors))


def test_perfect_prediction_has_no_loss(random_batch, encode, monkeypatch):
    objective, batch = Denoising(move=0.3), random_batch()
    (view,) = encode(objective.specs(), batch).values()
    head = make_head(objective)
    change = (batch.edge_distance - view.view.batch.edge_distance) / 0.3
    monkeypatch.setattr(head, "_predict", lambda *_: change)
    outcome = head([view], batch)
    assert outcome.loss.item() == 0
    assert outcome.metrics["mae"].item() == pytest.approx(0, abs=1e-12)


def test_clean_distances_are_those_of_the_unstrained_lattice(random_batch, encode):
    objective, batch = Denoising(move=0.0, strain=0.05), random_batch()
    (view,) = encode(objective.specs(), batch).values()
    change = batch.edge_distance - view.view.batch.edge_distance
    assert objective.unit == pytest.approx(0.15)
    outcome = silence(make_head(objective))([view], batch)
    expected = F.smooth_l1_loss(torch.zeros_like(change), change / 0.15)
    torch.testing.assert_close(outcome.loss, expected)


def test_factorized_prediction_equals_one_layer_per_edge(random_batch, encode):
    objective, batch = Denoising(), random_batch()
    head = make_head(objective)
    (view,) = encode(objective.specs(), batch).values()
    moved = view.view.batch
    weights = torch.cat(
        [head.from_source.weight, head.from_target.weight, head.from_edge.weight], 1
    )
    for edge, predicted in enumerate(head._predict(view.sites, moved)):
        source, target = batch.edge_index[:, edge]
        basis = head.expansion(moved.edge_distance[edge : edge + 1] / head.cutoff)[0]
        features = torch.cat([view.sites[source], view.sites[target], basis])
        hidden = F.silu(weights @ features + head.from_target.bias)
        torch.testing.assert_close(predicted, (head.out.weight @ hidden + head.out.bias)[0])


def test_images_of_a_site_do_not_count_unless_strained(random_batch, encode):
    batch = random_batch()
    own_image = batch.edge_index[0] == batch.edge_index[1]
    for objective, counts in ((Denoising(), False), (Denoising(strain=0.02), True)):
        (view,) = encode(objective.specs(), batch).values()
        head = make_head(objective)
        distance = batch.edge_distance + own_image
        changed = head([view], replace(batch, edge_distance=distance)).loss
        assert (changed != head([view], batch).loss) == counts


def test_single_atom_cell_has_nothing_to_denoise(random_batch, run_head):
    objective = Denoising()
    head = make_head(objective)
    outcome = run_head(objective, head, random_batch((1,)))
    outcome.loss.backward()
    assert outcome.loss.item() == 0
    assert all(weight.grad.isfinite().all() for weight in head.parameters())


def test_cutoff_is_that_of_the_graphs_and_saved():
    head, other = make_head(Denoising()), make_head(Denoising())
    head.fit_statistics(SimpleNamespace(cutoff=5.5))
    other.load_state_dict(head.state_dict())
    assert float(other.cutoff) == 5.5


@pytest.mark.parametrize(
    "setting, message",
    [
        ({"move": 0.0}, "move and strain are both 0"),
        ({"move": -0.2}, "move must be a finite number >= 0"),
        ({"strain": float("nan")}, "strain must be a finite number >= 0"),
        ({"width": 0}, "width must be an integer >= 1, got 0"),
        ({"n_basis": 1}, "n_basis must be an integer >= 2, got 1"),
        ({"weight": None}, "weight must be a finite number >= 0, got None"),
    ],
)
def test_unusable_settings_are_named(setting, message):
    with pytest.raises(InvalidInputError, match=message):
        Denoising(**setting)
