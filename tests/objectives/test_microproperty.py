import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dssl_sklearn.crystals.elements import element_property
from dssl_sklearn.exceptions import InvalidInputError
from dssl_sklearn.objectives import MaskedAtoms, Microproperty

TABLE = np.linspace(-3.0, 7.0, 104)


def make_head(objective, seed=0):
    torch.manual_seed(seed)
    return objective.make_head(8, 8).double()


def as_dataset(batch):
    return SimpleNamespace(
        numbers=batch.numbers.numpy().astype(np.uint8),
        site_properties={
            name: values.float().numpy() for name, values in batch.site_properties.items()
        },
    )


def predict_constant(head, outputs):
    with torch.no_grad():
        head.predictor[-1].weight.zero_()
        head.predictor[-1].bias.copy_(torch.as_tensor(outputs))


def test_view_is_shared_with_masked_atoms():
    assert Microproperty().specs() == MaskedAtoms().specs()
    assert Microproperty(mask_ratio=0.3, move=0.1).specs() != MaskedAtoms(mask_ratio=0.3).specs()


@pytest.mark.parametrize(
    "objective",
    [
        Microproperty(values=TABLE, mask_ratio=0.5),
        Microproperty(values="electronegativity", mask_ratio=0.5),
        Microproperty(values="valence", mask_ratio=0.5),
        Microproperty(values="group", task="classification", mask_ratio=0.5),
        Microproperty(values="magmom", mask_ratio=0.5),
        Microproperty(values="site:magmom", mask_ratio=0.0),
        Microproperty(values="magmom", task="classification", n_classes=9, mask_ratio=0.0),
    ],
)
def test_gradients_reach_every_weight(random_batch, assert_trains, objective):
    batch = random_batch(properties=("magmom",))
    head = make_head(objective)
    head.fit_statistics(as_dataset(batch))
    assert_trains(objective, head, batch)


def test_regression_target_is_standardized_over_the_training_sites(random_batch, run_head):
    objective = Microproperty(values=TABLE, mask_ratio=1.0)
    batch = random_batch((8, 5))
    values = TABLE[batch.numbers.numpy()]
    head = make_head(objective)
    head.fit_statistics(as_dataset(batch))
    predict_constant(head, [0.0])
    standardized = (values - values.mean()) / values.std()
    small = np.abs(standardized) < 1
    expected = np.where(small, standardized**2 / 2, np.abs(standardized) - 0.5).mean()
    outcome = run_head(objective, head, batch)
    assert outcome.loss.item() == pytest.approx(expected, rel=1e-5)
    mae = np.abs(values - values.mean()).mean()
    assert outcome.metrics["mae"].item() == pytest.approx(mae, rel=1e-5)


def test_equal_values_do_not_divide_by_zero(random_batch, run_head):
    objective = Microproperty(values=np.full(104, 0.1), mask_ratio=0.5)
    head = make_head(objective)
    head.fit_statistics(as_dataset(random_batch()))
    assert float(head.scale) == 1.0
    assert run_head(objective, head, random_batch()).loss.isfinite()


def test_true_elements_change_the_target_and_not_the_input(random_batch, encode):
    objective, batch = Microproperty(values=TABLE, mask_ratio=0.4), random_batch()
    head = make_head(objective)
    (view,) = encode(objective.specs(), batch).values()
    numbers = batch.numbers.clone()
    numbers[view.view.masked] = 1 + (numbers[view.view.masked] + 40) % 103
    other = replace(batch, numbers=numbers)
    (other_view,) = encode(objective.specs(), other).values()
    assert torch.equal(view.sites, other_view.sites)
    assert head([view], batch).loss != head([other_view], other).loss


def test_unmasked_sites_do_not_matter(random_batch, encode):
    objective, batch = Microproperty(values=TABLE, mask_ratio=0.4), random_batch()
    (view,) = encode(objective.specs(), batch).values()
    sites = view.sites.detach().requires_grad_()
    make_head(objective)([replace(view, sites=sites)], batch).loss.backward()
    assert torch.equal(sites.grad.abs().sum(1).nonzero().squeeze(1), view.view.masked)


def test_valence_is_classified_by_its_integer_values(random_batch, run_head):
    objective = Microproperty(values="valence", mask_ratio=1.0)
    head = make_head(objective)
    valence = element_property("valence")
    classes = np.unique(valence[1:])
    np.testing.assert_array_equal(head.classes.numpy(), classes)
    batch = random_batch((9,))
    outputs = torch.zeros(len(classes))
    outputs[2] = 5.0
    predict_constant(head, outputs)
    outcome = run_head(objective, head, batch)
    share = (valence[batch.numbers.numpy()] == classes[2]).mean()
    assert outcome.metrics["accuracy"].item() == pytest.approx(share)
    expected = math.log(len(classes) - 1 + math.exp(5)) - 5 * share
    assert outcome.loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_unknown_elements_are_skipped(random_batch, run_head, task):
    batch = random_batch((9,))
    numbers = torch.tensor([8, 8, 8, 26, 26, 8, 8, 8, 8])
    batch = replace(batch, numbers=numbers)
    objective = Microproperty(values={"O": 1.0, "H": 4.0}, task=task, mask_ratio=1.0)
    head = make_head(objective)
    iron_known = Microproperty(values={"O": 1.0, "H": 4.0, "Fe": 4.0}, task=task, mask_ratio=1.0)
    full = iron_known.make_head(8, 8).double()
    full.predictor.load_state_dict(head.predictor.state_dict())
    skipped = run_head(objective, head, batch)
    counted = run_head(iron_known, full, batch)
    assert skipped.loss != counted.loss
    only_iron = replace(batch, numbers=torch.full_like(numbers, 26))
    nothing = run_head(objective, head, only_iron)
    assert nothing.loss.item() == 0
    nothing.loss.backward()
    assert all(weight.grad.isfinite().all() for weight in head.parameters())


def test_statistics_skip_unknown_values(random_batch):
    batch = replace(random_batch((4,)), numbers=torch.tensor([1, 8, 26, 26]))
    head = make_head(Microproperty(values={"H": 1.0, "O": 3.0}))
    head.fit_statistics(as_dataset(batch))
    assert (float(head.mean), float(head.scale)) == (2.0, 1.0)


def test_site_property_is_read_from_the_structures(random_batch, run_head):
    objective = Microproperty(values="magmom", mask_ratio=0.0)
    assert objective.site_properties == ("magmom",)
    batch = random_batch(properties=("magmom",))
    batch.site_properties["magmom"][2] = torch.nan
    known = batch.site_properties["magmom"][batch.site_properties["magmom"].isfinite()]
    head = make_head(objective)
    head.fit_statistics(as_dataset(batch))
    assert float(head.mean) == pytest.approx(float(known.mean()), rel=1e-5)
    predict_constant(head, [0.0])
    off = (known - known.mean()).abs()
    outcome = run_head(objective, head, batch)
    assert outcome.metrics["mae"].item() == pytest.approx(float(off.mean()), rel=1e-5)
    off /= off.square().mean().sqrt()
    expected = off.square().div(2).where(off < 1, off - 0.5).mean()
    assert outcome.loss.item() == pytest.approx(float(expected), rel=1e-5)


def test_a_batch_without_known_values_says_nothing_of_the_error(random_batch, run_head):
    objective = Microproperty(values="magmom", mask_ratio=0.0)
    batch = random_batch(properties=("magmom",))
    head = make_head(objective)
    head.fit_statistics(as_dataset(batch))
    batch.site_properties["magmom"][:] = torch.nan
    outcome = run_head(objective, head, batch)
    assert outcome.loss.item() == 0
    assert outcome.metrics["mae"].isnan()


def test_prefix_names_a_site_property_like_one_of_the_elements():
    assert Microproperty(values="valence").site_properties == ()
    assert Microproperty(values="site:valence").site_properties == ("valence",)
    assert not Microproperty(values="site:valence").classifies


def test_classes_of_a_site_property_are_learned(random_batch, run_head):
    objective = Microproperty(
        values="site:wyckoff", task="classification", n_classes=4, mask_ratio=0.0
    )
    batch = random_batch(properties=("wyckoff",))
    labels = torch.tensor([4.0, 2.0, 2.0, torch.nan, 9.0, 9.0, 9.0, 2.0, 2.0])
    batch.site_properties["wyckoff"][:] = labels.double()
    head = make_head(objective)
    head.fit_statistics(as_dataset(batch))
    assert head.classes.tolist() == [2.0, 4.0, 9.0, math.inf]
    predict_constant(head, [0.0, 0.0, 1.0, 0.0])
    outcome = run_head(objective, head, batch)
    assert outcome.metrics["accuracy"].item() == pytest.approx(3 / 8)
    assert outcome.loss.item() == pytest.approx(math.log(3 + math.e) - 3 / 8)
    batch.site_properties["wyckoff"][:] = 3.0
    outcome = run_head(objective, head, batch)
    assert outcome.loss.item() == 0
    assert outcome.metrics["accuracy"].isnan()


def test_too_many_classes_are_refused(random_batch):
    batch = random_batch(properties=("magmom",))
    head = make_head(Microproperty(values="magmom", task="classification", n_classes=3))
    with pytest.raises(InvalidInputError, match="n_classes is 3, but 9 different values"):
        head.fit_statistics(as_dataset(batch))


def test_missing_site_property_is_named_with_a_suggestion(random_batch, run_head):
    objective, batch = Microproperty(values="stifness"), random_batch()
    head = make_head(objective)
    message = "'stifness' is neither a property of the elements nor .* did you mean 'stiffness'"
    with pytest.raises(InvalidInputError, match=message):
        head.fit_statistics(as_dataset(batch))
    with pytest.raises(InvalidInputError, match=message):
        run_head(objective, head, batch)


def test_property_known_nowhere_is_refused(random_batch):
    batch = random_batch(properties=("magmom",))
    batch.site_properties["magmom"][:] = torch.nan
    with pytest.raises(InvalidInputError, match="'magmom' is known for no site"):
        make_head(Microproperty(values="magmom")).fit_statistics(as_dataset(batch))


def test_statistics_are_saved_with_the_weights(random_batch, run_head):
    batch = random_batch()
    objective = Microproperty(values=TABLE, mask_ratio=0.5)
    head, other = make_head(objective), make_head(objective, seed=1)
    head.fit_statistics(as_dataset(batch))
    other.load_state_dict(head.state_dict())
    assert run_head(objective, head, batch).loss == run_head(objective, other, batch).loss


def test_arrays_and_mappings_become_plain_comparable_values():
    from_array = Microproperty(values=TABLE)
    assert from_array == Microproperty(values=TABLE[1:].tolist())
    assert hash(from_array) == hash(Microproperty(values=TABLE.copy()))
    assert from_array != Microproperty(values=TABLE + 1)
    partial = Microproperty(values={"Fe": 2, "O": 1.5})
    assert partial == Microproperty(values={8: 1.5, 26: 2.0})
    assert partial.values[25:28] == (None, 2.0, None)
    assert partial == replace(partial)


@pytest.mark.parametrize(
    "setting, message",
    [
        ({"task": "regress"}, "task must be one of .*, got 'regress'; did you mean 'regression'"),
        ({"values": "magmom", "task": "classification"}, "n_classes is needed"),
        ({"values": {"Xx": 1.0}}, "Xx"),
        ({"values": [1.0, 2.0]}, "shape"),
        ({"n_classes": 2.5}, "n_classes must be an integer >= 1, got 2.5"),
        ({"weight": math.inf}, "weight must be a finite number >= 0"),
    ],
)
def test_unusable_settings_are_named(setting, message):
    with pytest.raises(InvalidInputError, match=message):
        Microproperty(**setting)
