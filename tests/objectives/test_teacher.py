import copy
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dssl_sklearn.exceptions import InvalidInputError
from dssl_sklearn.objectives import Denoising, Microproperty, Teacher, make_objectives
from dssl_sklearn.views.view import ViewSpec

BOTH = Teacher(site=("charge", "feature"), crystal=("energy", "moduli"))


@pytest.fixture
def batch(random_batch):
    """Crystals with a number and a vector on every site and every crystal."""
    plain, generator = random_batch((5, 1, 3)), torch.Generator().manual_seed(0)

    def draw(*shape):
        return 4 + 3 * torch.randn(shape, generator=generator, dtype=torch.float64)

    return replace(
        plain,
        site_properties={"charge": draw(9), "feature": draw(9, 3)},
        crystal_properties={"energy": draw(3), "moduli": draw(3, 2)},
    )


def as_dataset(batch):
    return SimpleNamespace(
        site_properties={k: v.numpy() for k, v in batch.site_properties.items()},
        crystal_properties={k: v.numpy() for k, v in batch.crystal_properties.items()},
    )


def with_values(batch, **properties):
    """Copy of a batch with some other values."""
    sites = {k: properties.get(k, v) for k, v in batch.site_properties.items()}
    crystals = {k: properties.get(k, v) for k, v in batch.crystal_properties.items()}
    return replace(batch, site_properties=sites, crystal_properties=crystals)


def make_head(objective, batch=None):
    torch.manual_seed(0)
    head = objective.make_head(8, 8).double()
    if batch is not None:
        head.fit_statistics(as_dataset(batch))
    return head


# ---- what it is ----------------------------------------------------------------------------


def test_looks_at_the_clean_crystal_unless_told_otherwise():
    assert BOTH.specs() == (ViewSpec(),)
    noisy = replace(BOTH, move=0.2, mask_ratio=0.1)
    assert noisy.specs() == Denoising(move=0.2, mask_ratio=0.1).specs()


def test_asks_for_its_site_properties():
    assert BOTH.site_properties == ("charge", "feature")
    assert Teacher(crystal=["energy"]).site_properties == ()


@pytest.mark.parametrize(
    "objective",
    [
        BOTH,
        Teacher(site=("charge",)),
        Teacher(crystal=("moduli",), hidden=5, move=0.1),
        replace(BOTH, hidden=0),
    ],
)
def test_gradients_reach_every_weight(batch, network, run_head, objective):
    head = make_head(objective, batch)
    run_head(objective, head, batch).loss.backward()
    for name, weight in [*network.named_parameters(), *head.named_parameters()]:
        assert weight.grad.isfinite().all(), name
        assert weight.grad.abs().sum() > 0, name


# ---- its numbers -----------------------------------------------------------------------------


def slow_outcome(head, rows, names, values):
    """Loss and error of each property, entry by entry."""
    losses, errors = [], []
    column = 0
    for name in names:
        of_property = values[name].reshape(len(rows), -1)
        loss, error = [], []
        for k in range(of_property.shape[1]):
            known = of_property[:, k][of_property[:, k].isfinite()]
            mean, deviation = known.mean(), known.std(unbiased=False)
            for row, value in zip(rows, of_property[:, k], strict=True):
                if value.isfinite():
                    predicted = head.output(F.silu(head.hidden(row)))[column].detach()
                    x = abs(float((value - mean) / deviation - predicted))
                    loss.append(x * x / 2 if x < 1 else x - 0.5)
                    error.append(x)
            column += 1
        losses.append(np.mean(loss))
        errors.append(np.mean(error))
    return losses, errors


@pytest.mark.parametrize("some_unknown", [False, True])
@pytest.mark.parametrize("objective", [BOTH, replace(BOTH, site=("charge",))])
def test_loss_and_errors_against_a_loop(batch, encode, objective, some_unknown):
    if some_unknown:
        batch.site_properties["feature"][2:5, 1] = torch.nan
        batch.site_properties["charge"][0] = torch.inf
        batch.crystal_properties["moduli"][1] = torch.nan
    head = make_head(objective, batch)
    (view,) = encode(objective.specs(), batch).values()
    outcome = head([view], batch)
    site = slow_outcome(head.site, view.sites, objective.site, batch.site_properties)
    crystal = slow_outcome(head.crystal, view.crystals, objective.crystal, batch.crystal_properties)
    # Each property counts once, whatever the length of its vector.
    assert outcome.loss.item() == pytest.approx(np.mean([*site[0], *crystal[0]]))
    errors = dict(zip([*objective.site, *objective.crystal], [*site[1], *crystal[1]], strict=True))
    assert {k: v.item() for k, v in outcome.metrics.items()} == {
        f"{name}_mae": pytest.approx(error) for name, error in errors.items()
    }
    assert not any(value.requires_grad for value in outcome.metrics.values())


def test_without_a_hidden_layer_the_predictors_are_linear(batch, encode):
    head = make_head(replace(BOTH, hidden=0), batch)
    (view,) = encode(BOTH.specs(), batch).values()
    predicted = view.crystals @ head.crystal.output.weight.T + head.crystal.output.bias
    energy = batch.crystal_properties["energy"]
    standardized = (energy - energy.mean()) / energy.std(correction=0)
    error = head([view], batch).metrics["energy_mae"]
    assert error.item() == pytest.approx((predicted[:, 0] - standardized).abs().mean().item())


def test_units_of_the_targets_do_not_matter(batch, run_head):
    scaled = with_values(
        batch,
        charge=1000 * batch.site_properties["charge"] - 5,
        moduli=batch.crystal_properties["moduli"] * torch.tensor([1e-3, 1e3]) + 2,
    )
    one, other = (run_head(BOTH, make_head(BOTH, b), b).loss for b in (batch, scaled))
    torch.testing.assert_close(one, other)


def test_a_constant_does_not_divide_by_zero(batch, run_head):
    constant = with_values(batch, charge=torch.full((9,), 0.1, dtype=torch.float64))
    head = make_head(BOTH, constant)
    assert head.site.scale[0] == 1
    assert run_head(BOTH, head, constant).loss.isfinite()


def test_order_of_the_crystals_does_not_matter(random_batch, network):
    whole = random_batch((3, 3), properties=("charge",))
    objective = Teacher(site=("charge",))
    head = make_head(objective, whole)
    sites, _ = network(whole)
    order = torch.tensor([3, 4, 5, 0, 1, 2])
    values = whole.site_properties["charge"]
    here = head.site(sites, {"charge": values})
    assert torch.equal(values[order][:3], values[3:])
    there = head.site(sites[order], {"charge": values[order]})
    torch.testing.assert_close(here, there)
    mixed = head.site(sites, {"charge": values[order]})
    assert not torch.allclose(here[0], mixed[0])


# ---- what is unknown -------------------------------------------------------------------------


def test_entries_that_are_not_known_change_nothing(batch, network):
    """What stands behind NaN reaches neither statistics nor loss nor gradient."""
    hidden = torch.arange(9) % 2 == 0
    unknown = batch.site_properties["charge"].where(~hidden, torch.nan)
    masked = with_values(batch, charge=unknown)
    head = make_head(BOTH, masked)
    known = unknown[~hidden].numpy()
    assert head.site.mean[0].item() == pytest.approx(known.mean())
    assert head.site.scale[0].item() == pytest.approx(known.std())
    row = network(masked)[0]
    row.retain_grad()
    loss, _ = head.site(row, masked.site_properties)
    loss[0].backward()
    assert (row.grad[hidden] == 0).all()
    assert (row.grad[~hidden].abs().sum(1) > 0).all()


def test_a_batch_without_any_known_value_has_no_loss_but_a_graph(batch, network, run_head):
    head = make_head(BOTH, batch)
    values = {**batch.site_properties, **batch.crystal_properties}
    nothing = with_values(batch, **{k: torch.full_like(v, torch.nan) for k, v in values.items()})
    outcome = run_head(BOTH, head, nothing)
    assert outcome.loss.item() == 0
    outcome.loss.backward()
    weights = [*head.parameters(), *network.parameters()]
    assert all((weight.grad == 0).all() for weight in weights)
    # The training log leaves NaN out of its averages.
    assert all(value.isnan() for value in outcome.metrics.values())


def test_a_property_that_is_known_nowhere_is_refused(batch):
    nothing = with_values(batch, moduli=torch.full((3, 2), torch.nan, dtype=torch.float64))
    with pytest.raises(InvalidInputError, match="'moduli' is known for no crystal of the training"):
        make_head(BOTH, nothing)


def test_one_number_of_a_vector_may_be_unknown_everywhere(batch, run_head):
    batch.site_properties["feature"][:, 1] = torch.nan
    assert run_head(BOTH, make_head(BOTH, batch), batch).loss.isfinite()


# ---- keeping ---------------------------------------------------------------------------------


def test_a_state_brings_the_sizes_along(batch, run_head):
    head, other = make_head(BOTH, batch), make_head(BOTH)
    assert other.site.output.out_features == 2
    assert head.site.output.out_features == 4
    other.load_state_dict(head.state_dict())
    outcomes = [run_head(BOTH, h, batch) for h in (head, other, copy.deepcopy(head))]
    assert outcomes[0].loss == outcomes[1].loss == outcomes[2].loss


def test_loading_a_state_of_the_same_sizes_keeps_the_parameters(batch):
    """Those that an optimizer may hold already."""
    head, other = make_head(BOTH, batch), make_head(BOTH, batch)
    before = list(other.parameters())
    other.load_state_dict(head.state_dict())
    assert all(a is b for a, b in zip(before, other.parameters(), strict=True))


def test_a_state_of_other_properties_does_not_fit(batch):
    head = make_head(Teacher(site=("charge",)), batch)
    with pytest.raises(RuntimeError, match="size mismatch"):
        make_head(Teacher(site=("charge", "feature"))).load_state_dict(head.state_dict())


# ---- errors ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "objective, message",
    [
        (
            Teacher(site=("charges",)),
            r"no site property 'charges'; did you mean 'charge'\?; attach",
        ),
        (Teacher(crystal=("charge",)), r"with_properties\(crystal=\{'charge': array\}\)"),
    ],
)
def test_absent_properties_are_named(batch, run_head, objective, message):
    with pytest.raises(InvalidInputError, match=message):
        make_head(objective, batch)
    with pytest.raises(InvalidInputError, match=message):
        run_head(objective, make_head(objective), batch)


def test_vectors_of_another_length_than_in_training_are_named(batch, run_head):
    head = make_head(BOTH, batch)
    # As many numbers in all as in training.
    swapped = with_values(
        batch,
        charge=batch.site_properties["feature"],
        feature=batch.site_properties["charge"],
    )
    with pytest.raises(InvalidInputError, match=r"'charge' has 3 number\(s\) per site, but 1 in"):
        run_head(BOTH, head, swapped)


@pytest.mark.parametrize(
    "setting, message",
    [
        ({}, "site and crystal are both empty; name"),
        ({"site": "charge"}, r"site must be a tuple of names, got 'charge'; write site=\('charge'"),
        ({"crystal": (1,)}, r"crystal must be a tuple of names, got \(1,\)"),
        ({"site": ("a", "b", "a")}, "'a' is named twice"),
        ({"site": ("a",), "crystal": ("a",)}, "'a' is named twice"),
        ({"site": ("a",), "hidden": -1}, "hidden must be an integer >= 0, got -1"),
        ({"site": ("a",), "weight": -1.0}, "weight must be a finite number >= 0"),
        ({"site": ("a",), "move": -0.1}, "move must be a finite number >= 0"),
        ({"site": ("a",), "mask_ratio": 2.0}, "mask_ratio must be between 0 and 1"),
    ],
)
def test_unusable_settings_are_named(setting, message):
    with pytest.raises(InvalidInputError, match=message):
        Teacher(**setting)


def test_by_name_it_asks_for_properties():
    with pytest.raises(InvalidInputError, match="name the properties to learn"):
        make_objectives("teacher")
    assert make_objectives([(Teacher(site=("a",)), 0.3)]) == [Teacher(weight=0.3, site=("a",))]


def test_microproperty_refuses_vectors(batch, run_head):
    objective = Microproperty(values="site:feature", mask_ratio=0)
    with pytest.raises(InvalidInputError, match="'feature' is a vector of 3 numbers per site"):
        run_head(objective, make_head(objective), batch)
