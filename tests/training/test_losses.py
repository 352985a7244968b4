import math

import numpy as np
import pytest
import torch

from dssl_sklearn.training.losses import ClassLoss, TargetLoss

ELEMENTWISE = {
    "mae": abs,
    "mse": lambda d: d**2,
    "huber": lambda d: 0.5 * d**2 if abs(d) < 1 else abs(d) - 0.5,
}


def slow_target_loss(loss, prediction, y, weight):
    total, count = 0.0, 0
    for row in range(len(y)):
        for column in range(y.shape[1]):
            for member in range(prediction.shape[1]):
                if not math.isnan(y[row, column]):
                    difference = prediction[row, member, column] - y[row, column]
                    total += weight[row] * ELEMENTWISE[loss](difference)
                    count += 1
    return total / count


@pytest.fixture(params=[1, 3], ids=["one target", "three targets"])
def targets(request):
    rng = np.random.default_rng(request.param)
    y = rng.normal(size=(8, request.param)) * 2
    y[rng.random(y.shape) < 0.3] = np.nan
    y[0] = 1.0
    return rng.normal(size=(8, 4, request.param)), y, rng.uniform(0.1, 2, size=8)


def as_tensors(*values):
    return [torch.tensor(value) for value in values]


@pytest.mark.parametrize("loss", ELEMENTWISE)
def test_target_loss_is_the_mean_of_what_is_known_times_its_weight(loss, targets):
    prediction, y, weight = targets
    found = TargetLoss(loss)(*as_tensors(prediction, y, weight))
    assert found.shape == ()
    assert found.item() == pytest.approx(slow_target_loss(loss, prediction, y, weight))


@pytest.mark.parametrize("loss", ELEMENTWISE)
def test_missing_targets_have_no_gradient(loss, targets):
    prediction, y, weight = as_tensors(*targets)
    prediction.requires_grad_()
    TargetLoss(loss)(prediction, y, weight).backward()
    assert prediction.grad.isfinite().all()
    gradient = prediction.grad.transpose(1, 2)
    assert (gradient[y.isnan()] == 0).all()
    assert (gradient[~y.isnan()] != 0).all()


@pytest.mark.parametrize("loss", ELEMENTWISE)
def test_missing_targets_do_not_count(loss, targets):
    prediction, y, weight = targets
    full = ~np.isnan(y).any(axis=1)
    expected = TargetLoss(loss)(*as_tensors(prediction[full], y[full], weight[full]))
    hidden = np.where(full[:, None], y, np.nan)
    assert TargetLoss(loss)(*as_tensors(prediction, hidden, weight)) == pytest.approx(expected)


@pytest.mark.parametrize("loss", [*ELEMENTWISE, "classes"])
def test_a_light_row_counts_as_little_alone_in_its_batch(loss):
    """Gradients of batches add up to that of all rows, whatever their weights."""
    prediction = torch.randn(6, 2, 3, generator=torch.Generator().manual_seed(0))
    weight = torch.tensor([1e-6, 3.0, 1e-6, 1.0, 0.0, 2.0])
    if loss == "classes":
        compute, y = ClassLoss(0.1), torch.tensor([0, 2, 1, 1, 0, 2])
    else:
        compute, y = TargetLoss(loss), torch.zeros(6, 3)
    whole = compute(prediction, y, weight)
    single = [compute(prediction[[k]], y[[k]], weight[[k]]) for k in range(6)]
    torch.testing.assert_close(torch.stack(single).mean(), whole)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("loss", ELEMENTWISE)
@pytest.mark.parametrize("hide", ["y", "weight"])
def test_a_batch_without_anything_known(loss, dtype, hide):
    prediction = torch.randn(4, 3, 2, dtype=dtype, requires_grad=True)
    y = torch.full((4, 2), torch.nan if hide == "y" else 1.0, dtype=dtype)
    weight = torch.full((4,), 0.0 if hide == "weight" else 1.0, dtype=dtype)
    value = TargetLoss(loss)(prediction, y, weight)
    value.backward()
    assert value.item() == 0
    assert (prediction.grad == 0).all()


@pytest.mark.parametrize("loss", ELEMENTWISE)
def test_target_loss_of_predictions_in_half_precision(loss, targets):
    prediction, y, weight = (tensor.float() for tensor in as_tensors(*targets))
    expected = TargetLoss(loss)(prediction.bfloat16().float(), y, weight)
    found = TargetLoss(loss)(prediction.bfloat16(), y, weight)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def slow_class_loss(logits, y, weight):
    total = 0.0
    for row, label in enumerate(y):
        for member in logits[row]:
            total -= weight[row] * (member[label] - math.log(np.exp(member).sum()))
    return total / len(y) / logits.shape[1]


def test_class_loss_is_the_mean_cross_entropy_times_weights():
    rng = np.random.default_rng(0)
    logits, y, weight = (
        rng.normal(size=(7, 2, 3)),
        rng.integers(3, size=7),
        rng.uniform(0, 2, size=7),
    )
    found = ClassLoss()(*as_tensors(logits, y, weight))
    assert found.shape == ()
    assert found.item() == pytest.approx(slow_class_loss(logits, y, weight))


def test_class_loss_of_rows_without_weight():
    logits = torch.randn(5, 2, 3, requires_grad=True)
    y = torch.tensor([0, 1, 2, 1, 0])
    weight = torch.tensor([1.0, 0.0, 2.0, 0.0, 0.5])
    ClassLoss()(logits, y, weight).backward()
    assert (logits.grad[weight == 0] == 0).all()
    assert (logits.grad[weight > 0] != 0).all()


def test_class_loss_of_a_batch_without_weight():
    logits = torch.randn(3, 4, 2, requires_grad=True)
    value = ClassLoss()(logits, torch.tensor([0, 1, 1]), torch.zeros(3))
    value.backward()
    assert value.item() == 0
    assert (logits.grad == 0).all()
