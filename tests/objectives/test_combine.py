import copy
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dssl_sklearn.exceptions import InvalidInputError
from dssl_sklearn.objectives import (
    Contrastive,
    Denoising,
    MaskedAtoms,
    Microproperty,
    WeightedObjectives,
)

TABLE = np.linspace(-3.0, 7.0, 104)
ALL = [
    MaskedAtoms(weight=0.1),
    Microproperty(weight=0.2, values=TABLE),
    Contrastive(weight=2.0, loss="vicreg", projector=(16, 8)),
    Denoising(),
    MaskedAtoms(weight=0.5, mask_ratio=0.4),
]


def combine(objectives, seed=0):
    torch.manual_seed(seed)
    return WeightedObjectives(objectives, 8, 8).double()


def test_equal_views_are_asked_for_once_and_in_order():
    masked, again, moved, other = (
        ALL[0].specs()[0],
        ALL[4].specs()[0],
        *Contrastive().specs(),
    )
    assert combine(ALL).specs() == (masked, moved, other, again)


def test_names_are_unique_and_do_not_depend_on_weights():
    assert list(combine(ALL).heads) == ["mask", "microproperty", "contrastive", "denoise", "mask_2"]
    only_second = [MaskedAtoms(weight=0.0), MaskedAtoms(weight=1.0)]
    assert list(combine(only_second).heads) == ["mask_2"]


def test_total_is_the_weighted_sum_of_the_terms(random_batch, encode):
    batch = random_batch()
    objectives = combine(ALL)
    total, terms = objectives(encode(objectives.specs(), batch), batch)
    expected = (
        0.1 * terms["mask_loss"]
        + 0.2 * terms["microproperty_loss"]
        + 2.0 * terms["contrastive_loss"]
        + terms["denoise_loss"]
        + 0.5 * terms["mask_2_loss"]
    )
    torch.testing.assert_close(total.detach(), expected)
    assert set(terms) == {
        *("mask_loss", "mask_accuracy", "mask_2_loss", "mask_2_accuracy"),
        *("microproperty_loss", "microproperty_mae", "contrastive_loss", "contrastive_cosine"),
        *("denoise_loss", "denoise_mae"),
    }
    assert all(term.shape == () and not term.requires_grad for term in terms.values())


def test_terms_are_those_of_the_objectives_alone(random_batch, encode):
    batch = random_batch()
    objectives = combine(ALL)
    encoded = encode(objectives.specs(), batch)
    _, terms = objectives(encoded, batch)
    for name, objective in objectives.objectives.items():
        alone = objectives.heads[name]([encoded[spec] for spec in objective.specs()], batch)
        torch.testing.assert_close(terms[f"{name}_loss"], alone.loss.detach())


def test_gradients_reach_every_weight(random_batch, encode, network):
    batch = random_batch((5, 1, 3, 4, 2))
    objectives = combine(ALL)
    objectives(encode(objectives.specs(), batch), batch)[0].backward()
    for name, weight in [*network.named_parameters(), *objectives.named_parameters()]:
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name
        assert weight.grad.abs().sum() > 0, name


def test_weight_zero_costs_nothing(random_batch, encode):
    batch = random_batch()
    objectives = combine([MaskedAtoms(), Contrastive(weight=0.0)])
    assert objectives.specs() == MaskedAtoms().specs()
    _, terms = objectives(encode(objectives.specs(), batch), batch)
    assert set(terms) == {"mask_loss", "mask_accuracy"}


@pytest.mark.parametrize("objectives", [[], [MaskedAtoms(weight=0.0)]])
def test_nothing_to_learn_is_refused(objectives):
    with pytest.raises(InvalidInputError, match="at least one must have a weight above 0"):
        combine(objectives)


def test_statistics_reach_every_head(random_batch):
    batch = random_batch()
    objectives = combine(ALL)
    objectives.fit_statistics(
        SimpleNamespace(
            numbers=batch.numbers.numpy(),
            distance=batch.edge_distance.numpy(),
            site_properties={},
            cutoff=6.0,
        )
    )
    assert float(objectives.heads["denoise"].cutoff) == 6.0
    mean = TABLE[batch.numbers.numpy()].mean()
    assert float(objectives.heads["microproperty"].mean) == pytest.approx(mean, rel=1e-6)


def test_one_crystal_with_one_site_is_enough(random_batch, encode):
    batch = random_batch((1,))
    objectives = combine(ALL)
    total, terms = objectives(encode(objectives.specs(), batch), batch)
    total.backward()
    assert total.isfinite()
    assert all(term.isfinite() for term in terms.values())


def test_weights_survive_a_round_trip(random_batch, encode):
    batch = random_batch()
    first, second = combine(ALL), combine(ALL, seed=1)
    encoded = encode(first.specs(), batch)
    second.load_state_dict(first.state_dict())
    torch.testing.assert_close(first.eval()(encoded, batch)[0], second.eval()(encoded, batch)[0])


def test_half_precision_embeddings_give_nearly_the_same_loss(random_batch, network, encode):
    network.float()
    batch = random_batch((5, 1, 3, 4, 2), dtype=torch.float32)
    objectives = combine(ALL).float()
    plain, _ = objectives(encode(objectives.specs(), batch), batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half, terms = objectives(encode(objectives.specs(), batch), batch)
    half.backward()
    assert half.dtype == torch.float32
    assert all(term.isfinite() for term in terms.values())
    torch.testing.assert_close(half, plain, rtol=0.05, atol=0)


def test_copies_and_pickles_compute_the_same(random_batch, encode):
    batch = random_batch()
    objectives = combine(ALL).eval()
    encoded = encode(objectives.specs(), batch)
    expected, _ = objectives(encoded, batch)
    for again in (copy.deepcopy(objectives), pickle.loads(pickle.dumps(objectives))):
        assert again.specs() == objectives.specs()
        assert torch.equal(again(encoded, batch)[0], expected)
