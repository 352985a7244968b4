import pytest
import torch

from dssl_sklearn.exceptions import InvalidInputError
from dssl_sklearn.objectives import CONTRASTIVE_LOSSES, Contrastive
from dssl_sklearn.objectives.losses import barlow_loss, ntxent_loss


def make_head(objective, seed=0):
    torch.manual_seed(seed)
    return objective.make_head(8, 8).double()


def test_two_views_are_drawn_alike_and_independently(random_batch, encode):
    objective = Contrastive(move=0.5, move_kind="sphere", strain=0.01, mask_ratio=0.1)
    first, second = objective.specs()
    assert (first.draw, second.draw) == (0, 1)
    assert first.move == second.move == 0.5
    assert first.move_kind == second.move_kind == "sphere"
    assert first.strain == second.strain == 0.01
    assert first.mask_ratio == second.mask_ratio == 0.1
    views = encode((first, second), random_batch())
    assert not torch.allclose(views[first].crystals, views[second].crystals)


@pytest.mark.parametrize("loss", CONTRASTIVE_LOSSES)
@pytest.mark.parametrize("widths", [(16,), (16, 12), (16, 16, 12)])
def test_gradients_reach_every_weight(random_batch, assert_trains, loss, widths):
    objective = Contrastive(loss=loss, projector=widths)
    assert_trains(objective, make_head(objective), random_batch((5, 1, 3, 4, 2)))


def test_redundancy_is_that_of_the_loss(random_batch, encode):
    objective = Contrastive(projector=(), redundancy=0.5)
    batch = random_batch()
    first, second = encode(objective.specs(), batch).values()
    expected = barlow_loss(first.crystals, second.crystals, 0.5)
    torch.testing.assert_close(make_head(objective)([first, second], batch).loss, expected)


@pytest.mark.parametrize("loss", CONTRASTIVE_LOSSES)
@pytest.mark.parametrize("training", [True, False])
def test_one_crystal_gives_finite_values(random_batch, run_head, loss, training):
    objective = Contrastive(loss=loss, projector=(16, 12))
    head = make_head(objective).train(training)
    outcome = run_head(objective, head, random_batch((4,)))
    outcome.loss.backward()
    assert outcome.loss.isfinite()
    assert all(weight.grad.isfinite().all() for weight in head.parameters())


def test_one_crystal_leaves_the_running_statistics_alone(random_batch, run_head):
    objective = Contrastive(projector=(16, 12))
    head = make_head(objective)
    before = head.projector[1].running_mean.clone()
    run_head(objective, head, random_batch((4,)))
    assert torch.equal(head.projector[1].running_mean, before)
    run_head(objective, head, random_batch((4, 3)))
    assert not torch.equal(head.projector[1].running_mean, before)


def test_without_projector_the_loss_is_on_the_embeddings(random_batch, encode):
    objective = Contrastive(loss="ntxent", projector=(), temperature=0.3)
    head, batch = make_head(objective), random_batch()
    assert not list(head.parameters())
    first, second = encode(objective.specs(), batch).values()
    expected = ntxent_loss(first.crystals, second.crystals, 0.3)
    outcome = head([first, second], batch)
    torch.testing.assert_close(outcome.loss, expected)
    cosine = torch.cosine_similarity(first.crystals, second.crystals).mean()
    torch.testing.assert_close(outcome.metrics["cosine"], cosine)


def test_loss_keeps_its_precision_under_autocast(random_batch, encode):
    objective = Contrastive(loss="vicreg", projector=())
    head, batch = make_head(objective), random_batch()
    views = list(encode(objective.specs(), batch).values())
    plain = head(views, batch).loss
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(head(views, batch).loss, plain)


@pytest.mark.parametrize(
    "setting, message",
    [
        ({"loss": "barlo"}, "loss must be one of .*, got 'barlo'; did you mean 'barlow'"),
        ({"move": 0.0}, "both views of a crystal are the same"),
        ({"temperature": 0.0}, "temperature must be a finite number > 0"),
        ({"redundancy": -1.0}, "redundancy must be a finite number >= 0"),
        ({"projector": (16, 0)}, "projector must be an integer >= 1, got 0"),
        ({"projector": (16.5,)}, "projector must be an integer >= 1, got 16.5"),
        ({"mask_ratio": 2.0}, "mask_ratio must be between 0 and 1"),
    ],
)
def test_unusable_settings_are_named(setting, message):
    with pytest.raises(InvalidInputError, match=message):
        Contrastive(**setting)


def test_list_of_widths_becomes_hashable():
    assert hash(Contrastive(projector=[16, 8])) == hash(Contrastive(projector=(16, 8)))
