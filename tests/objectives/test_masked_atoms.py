from dataclasses import replace

import pytest
import torch

from dssl_sklearn.exceptions import InvalidInputError
from dssl_sklearn.objectives import MaskedAtoms
from dssl_sklearn.views.view import ViewSpec


def make_head(objective, seed=0):
    torch.manual_seed(seed)
    return objective.make_head(8, 8).double()


def test_loss_is_the_mean_log_probability_of_the_true_elements(random_batch, encode):
    objective, batch = MaskedAtoms(mask_ratio=0.4), random_batch()
    head = make_head(objective)
    (view,) = encode(objective.specs(), batch).values()
    losses = []
    for site in view.view.masked:
        weights = head.classifier(view.sites[site]).detach().exp()
        losses.append(-float((weights[batch.numbers[site] - 1] / weights.sum()).log()))
    assert head([view], batch).loss.item() == pytest.approx(sum(losses) / len(losses))


def test_view_is_masked_and_moved_as_asked():
    assert MaskedAtoms().specs() == (ViewSpec(mask_ratio=0.15),)
    assert MaskedAtoms(mask_ratio=0.3, move=0.1).specs() == (ViewSpec(mask_ratio=0.3, move=0.1),)


def test_gradients_reach_every_weight(random_batch, assert_trains):
    objective = MaskedAtoms(mask_ratio=0.5)
    assert_trains(objective, make_head(objective), random_batch())


def test_only_masked_sites_enter_the_loss(random_batch, encode):
    objective, batch = MaskedAtoms(mask_ratio=0.4), random_batch()
    (view,) = encode(objective.specs(), batch).values()
    sites = view.sites.detach().requires_grad_()
    make_head(objective)([replace(view, sites=sites)], batch).loss.backward()
    touched = sites.grad.abs().sum(1).nonzero().squeeze(1)
    assert torch.equal(touched, view.view.masked)


def test_true_elements_change_the_target_and_not_the_input(random_batch, encode):
    objective, batch = MaskedAtoms(mask_ratio=0.4), random_batch()
    head = make_head(objective)
    (view,) = encode(objective.specs(), batch).values()
    numbers = batch.numbers.clone()
    numbers[view.view.masked] = 1 + numbers[view.view.masked] % 103
    other = replace(batch, numbers=numbers)
    (other_view,) = encode(objective.specs(), other).values()
    assert torch.equal(view.sites, other_view.sites)
    assert torch.equal(view.crystals, other_view.crystals)
    assert head([view], batch).loss != head([other_view], other).loss


def test_accuracy_counts_the_recognized_sites(random_batch, encode):
    objective, batch = MaskedAtoms(mask_ratio=0.4), random_batch()
    head = make_head(objective)
    (view,) = encode(objective.specs(), batch).values()
    with torch.no_grad():
        head.classifier[-1].weight.zero_()
        head.classifier[-1].bias.zero_()
        head.classifier[-1].bias[25] = 1.0
    numbers = torch.full_like(batch.numbers, 8)
    numbers[view.view.masked[0]] = 26
    outcome = head([view], replace(batch, numbers=numbers))
    assert outcome.metrics["accuracy"].item() == pytest.approx(1 / len(view.view.masked))


def test_one_site_is_enough(random_batch, run_head):
    objective = MaskedAtoms()
    outcome = run_head(objective, make_head(objective), random_batch((1,)))
    assert outcome.loss.isfinite()


@pytest.mark.parametrize(
    "setting, message",
    [
        ({"mask_ratio": 0.0}, "mask_ratio must be a finite number > 0"),
        ({"mask_ratio": 1.1}, "mask_ratio must be between 0 and 1"),
        ({"move": -1.0}, "move must be a finite number >= 0"),
        ({"weight": -1.0}, "weight must be a finite number >= 0"),
        ({"weight": float("nan")}, "weight must be a finite number >= 0"),
        ({"weight": "high"}, "weight must be a finite number >= 0, got 'high'"),
    ],
)
def test_unusable_settings_are_named(setting, message):
    with pytest.raises(InvalidInputError, match=message):
        MaskedAtoms(**setting)
