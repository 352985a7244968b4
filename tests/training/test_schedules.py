import math
from types import SimpleNamespace

import pytest
import torch
from skorch.history import History

from dssl_sklearn.training.schedules import (
    CosineSchedule,
    PlateauSchedule,
    cosine_decay,
    make_schedule,
)


def factors(n_steps):
    return [cosine_decay(step, n_steps) for step in range(n_steps)]


def test_cosine_rises_linearly_then_falls_along_half_a_cosine():
    values = factors(200)
    assert values[:10] == pytest.approx([0.1 * (k + 1) for k in range(10)])
    expected = [0.5 * (1 + math.cos(math.pi * (k - 10) / 190)) for k in range(10, 200)]
    assert values[10:] == pytest.approx(expected)
    assert values[10] == 1.0
    assert values[105] == pytest.approx(0.5)


@pytest.mark.parametrize("n_steps", [1, 2, 3, 10, 1000])
def test_cosine_stays_between_zero_and_one_and_ends_low(n_steps):
    values = factors(n_steps)
    assert all(0 < value <= 1 for value in values)
    assert max(values) == 1.0
    peak = values.index(1.0)
    assert values[:peak] == sorted(values[:peak])
    assert values[peak:] == sorted(values[peak:], reverse=True)
    if n_steps >= 10:
        assert values[-1] < 0.05


def test_cosine_is_zero_from_the_end_on():
    assert [cosine_decay(step, 50) for step in (50, 51, 500)] == pytest.approx([0] * 3, abs=1e-12)


@pytest.mark.parametrize("first_step", [0, 7])
def test_the_schedule_sets_the_rate_of_each_group_before_each_training_step(first_step):
    weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    groups = [{"params": [weights[0]], "lr": 1e-3}, {"params": [weights[1]], "lr": 1e-4}]
    net = SimpleNamespace(optimizer_=torch.optim.AdamW(groups))
    schedule = CosineSchedule(20, first_step=first_step)
    schedule.on_train_begin(net)
    for step in range(first_step, 20):
        schedule.on_batch_begin(net, training=True)
        rates = [group["lr"] for group in net.optimizer_.param_groups]
        factor = cosine_decay(step, 20)
        assert rates == pytest.approx([1e-3 * factor, 1e-4 * factor])
        schedule.on_batch_begin(net, training=False)
        assert [group["lr"] for group in net.optimizer_.param_groups] == rates


def rates_on_a_plateau(schedule, losses):
    """Learning rates after each epoch."""
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    net = SimpleNamespace(optimizer_=optimizer, history=History())
    schedule.on_train_begin(net)
    rates = []
    for loss in losses:
        net.history.new_epoch()
        net.history.record("train_loss", loss)
        schedule.on_epoch_end(net)
        rates.append(optimizer.param_groups[0]["lr"])
    schedule.on_train_end(net)
    return rates


def test_the_rate_falls_after_eleven_epochs_without_progress():
    losses = [3.0, 2.0] + 30 * [1.9999]
    rates = rates_on_a_plateau(PlateauSchedule(), losses)
    assert rates[:12] == [1e-3] * 12
    assert rates[12:23] == pytest.approx([8e-4] * 11)
    assert rates[23:] == pytest.approx([6.4e-4] * 9)


@pytest.mark.parametrize("n_done", [1, 8, 12, 13, 25])
def test_a_training_that_goes_on_has_the_rates_of_one_that_never_stopped(n_done):
    losses = [3.0, 2.0] + 30 * [1.9999]
    whole = rates_on_a_plateau(PlateauSchedule(), losses)
    schedule = PlateauSchedule(losses[:n_done])
    assert rates_on_a_plateau(schedule, losses[n_done:]) == whole[n_done:]


def test_schedules_by_name():
    cosine = make_schedule("cosine", 30)
    assert isinstance(cosine, CosineSchedule)
    assert cosine.n_steps == 30
    assert isinstance(make_schedule("plateau", 30), PlateauSchedule)
    assert make_schedule("constant", 30) is None
