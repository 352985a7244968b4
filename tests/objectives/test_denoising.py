from dataclasses import replace
from types import SimpleNamespace

import numpy as np
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
    "objective",
    [Denoising(), Denoising(sees_distance=True), Denoising(strain=0.1, mask_ratio=0.3, width=16)],
)
def test_gradients_reach_every_weight(random_batch, assert_trains, objective):
    assert_trains(objective, make_head(objective), random_batch())


def test_target_is_the_clean_distance(random_batch, encode):
    objective, batch = Denoising(move=0.3), random_batch()
    (view,) = encode(objective.specs(), batch).values()
    head = silence(make_head(objective))
    head.mean.fill_(3.0)
    head.scale.fill_(0.5)
    losses, errors = [], []
    for distance in batch.edge_distance.tolist():
        x = abs(distance - 3.0) / 0.5
        losses.append(x * x / 2 if x < 1 else x - 0.5)
        errors.append(abs(distance - 3.0))
    outcome = head([view], batch)
    assert outcome.loss.item() == pytest.approx(sum(losses) / len(losses))
    assert outcome.metrics["mae"].item() == pytest.approx(sum(errors) / len(errors))


@pytest.mark.parametrize("sees_distance", [False, True])
def test_factorized_prediction_equals_one_layer_per_edge(random_batch, encode, sees_distance):
    objective, batch = Denoising(sees_distance=sees_distance), random_batch()
    head = make_head(objective)
    (view,) = encode(objective.specs(), batch).values()
    moved = view.view.batch
    parts = [head.from_source.weight, head.from_target.weight]
    if sees_distance:
        parts.append(head.from_edge.weight)
    weights = torch.cat(parts, 1)
    predicted = []
    for edge, (source, target) in enumerate(batch.edge_index.T):
        features = [view.sites[source], view.sites[target]]
        if sees_distance:
            basis = head.expansion(moved.edge_distance[edge : edge + 1] / head.cutoff)
            features.append(basis[0])
        hidden = F.silu(weights @ torch.cat(features) + head.from_target.bias)
        predicted.append((head.out.weight @ hidden + head.out.bias)[0])
    expected = F.smooth_l1_loss(torch.stack(predicted), batch.edge_distance)
    torch.testing.assert_close(head([view], batch).loss, expected)


@pytest.mark.parametrize("sees_distance", [False, True])
def test_head_sees_the_moved_distance_only_if_asked(random_batch, encode, sees_distance):
    objective, batch = Denoising(sees_distance=sees_distance), random_batch()
    head = make_head(objective)
    (view,) = encode(objective.specs(), batch).values()
    moved = view.view.batch
    longer = replace(moved, edge_distance=moved.edge_distance + 0.5)
    other = replace(view, view=replace(view.view, batch=longer))
    assert (head([other], batch).loss != head([view], batch).loss) == sees_distance


def test_single_atom_cell_trains(random_batch, run_head):
    objective = Denoising()
    head = make_head(objective)
    outcome = run_head(objective, head, random_batch((1,)))
    outcome.loss.backward()
    assert outcome.loss.item() > 0
    assert all(weight.grad.isfinite().all() for weight in head.parameters())


def test_statistics_are_those_of_the_graphs_and_saved():
    head, other = make_head(Denoising()), make_head(Denoising())
    distance = np.array([2.0, 3.0, 4.0], dtype=np.float32)
    head.fit_statistics(SimpleNamespace(cutoff=5.5, distance=distance))
    other.load_state_dict(head.state_dict())
    assert float(other.cutoff) == 5.5
    assert float(other.mean) == 3.0
    assert float(other.scale) == pytest.approx(distance.std())


def test_equal_distances_do_not_divide_by_zero():
    head = make_head(Denoising())
    head.fit_statistics(SimpleNamespace(cutoff=8.0, distance=np.full(4, 2.5, dtype=np.float32)))
    assert float(head.scale) > 0


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
