import copy
import sys

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from sklearn.svm import SVR
from torch import nn

from dssl_sklearn import DSSLPretrainer, DSSLRegressor
from dssl_sklearn.exceptions import (
    InvalidInputError,
    InvalidStructureError,
    MissingDependencyError,
    SkippedStructuresWarning,
)
from dssl_sklearn.explain import (
    SiteAttributions,
    attention_weights,
    integrated_gradients,
    site_contributions,
)
from dssl_sklearn.explain.contributions import is_additive

LINEAR = {"n_hidden_layers": 0}


@pytest.fixture
def crystals(elastic):
    # Of different sizes, in two batches, none of them in the training set.
    return sorted(elastic[0][100:112], key=len)


@pytest.mark.parametrize("readout", [None, "mean", "attention"])
def test_contributions_sum_to_the_prediction(regressor, crystals, readout):
    model = regressor(head_params=LINEAR, readout=readout)
    split = site_contributions(model, crystals)
    predicted = model.predict(crystals)
    sums = np.array([values.sum() for values in split])
    np.testing.assert_allclose(split.baselines + sums, predicted, rtol=0, atol=1e-5)
    np.testing.assert_allclose(split.predictions, predicted, rtol=0, atol=1e-6)
    assert np.abs(split.residuals).max() < 1e-5
    assert [len(values) for values in split] == [len(s) for s in crystals]
    assert model.kernel_ is not None
    alone = site_contributions(
        regressor(head_params=LINEAR, readout=readout, kernel_share=0), crystals
    )
    assert np.ptp(alone.baselines) == 0
    np.testing.assert_allclose(split[0], (1 - model.kernel_.share) * alone[0], rtol=1e-5)
    assert max(np.abs(values).max() for values in split) > 1e-3


def test_contributions_are_the_terms_of_the_linear_map(regressor, crystals):
    model = regressor(head_params=LINEAR, readout="mean", kernel_share=0)
    network = model.net_.module_
    row = next(i for i, s in enumerate(crystals) if len(s) > 2)
    sites = copy.copy(DSSLPretrainer(max_epochs=0)).fit(crystals[:1])
    sites.net_, sites.architecture_ = copy.copy(model.net_), model.architecture_
    sites.net_.module_ = network.encoder
    (embedding,) = sites.transform_sites([crystals[row]])
    linear = network.head.weights[0].mean(0)[:, 0]
    weight = linear.detach().numpy() / network.scale.numpy()
    expected = (embedding - network.mean.numpy()) @ weight * model.y_scale_[0] / len(embedding)
    np.testing.assert_allclose(site_contributions(model, crystals)[row], expected, atol=1e-5)


def test_contributions_follow_the_sites(regressor, crystals):
    model = regressor(head_params=LINEAR)
    crystal = crystals[-1]
    order = np.random.default_rng(0).permutation(len(crystal))
    moved = type(crystal).from_sites([crystal[i] for i in order])
    split = site_contributions(model, [crystal, moved])
    np.testing.assert_allclose(split[1], split[0][order], atol=1e-5)


def test_several_targets_are_split_one_at_a_time(tiny, elastic, crystals):
    structures, y = elastic
    both = np.stack([y[:24], -3 * np.asarray(y[:24]) + 10], axis=1)
    model = DSSLRegressor(**tiny, head_params=LINEAR).fit(structures[:24], both)
    for target in (0, 1):
        split = site_contributions(model, crystals, target)
        np.testing.assert_allclose(split.predictions, model.predict(crystals)[:, target], atol=1e-5)
        assert np.abs(split.residuals).max() < 1e-4
    for wrong in (2, -1, 0.5, "K"):
        with pytest.raises(InvalidInputError, match="target must be the index of a target"):
            site_contributions(model, crystals, wrong)


@pytest.mark.parametrize("explain", [site_contributions, integrated_gradients])
def test_the_logit_of_a_class_is_split(classifier, crystals, explain):
    logits = np.stack([explain(classifier, crystals, k).predictions for k in range(3)], axis=1)
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = shifted / shifted.sum(axis=1, keepdims=True)
    network = copy.copy(classifier)
    network.kernel_ = None
    np.testing.assert_allclose(probabilities, network.predict_proba(crystals), atol=1e-5)
    assert np.abs(explain(classifier, crystals, 1).residuals).max() < 1e-3
    with pytest.raises(InvalidInputError, match="index of a class, an integer from 0 to 2"):
        explain(classifier, crystals, 3)


def test_what_cannot_be_split_says_what_would_work(regressor, crystals):
    with pytest.raises(InvalidInputError, match=r"n_hidden_layers.*integrated_gradients"):
        site_contributions(regressor(), crystals)
    model = regressor(head_params=LINEAR, readout="mean_std")
    with pytest.raises(InvalidInputError, match=r"MeanStdReadout.*integrated_gradients"):
        site_contributions(model, crystals)
    assert not is_additive(model)
    assert not is_additive(regressor())
    assert is_additive(regressor(head_params=LINEAR))


def test_equal_sites_share_the_maximum(regressor, crystals):
    """Sites of a supercell get the contributions of the cell's, divided by its multiplicity."""
    model = regressor(head_params=LINEAR)
    cell = crystals[0]
    double = cell.make_supercell([2, 1, 1], in_place=False)
    one, two = site_contributions(model, [cell, double])
    assert two.sum() == pytest.approx(one.sum(), abs=1e-4)
    np.testing.assert_allclose(two, one.repeat(2) / 2, atol=1e-3 * abs(one).max())


def test_attention_weights_average_the_site_embeddings(regressor, crystals):
    model = regressor(readout="attention")
    weights = attention_weights(model, crystals)
    assert [len(w) for w in weights] == [len(s) for s in crystals]
    for w in weights:
        assert (w > 0).all()
        assert w.sum() == pytest.approx(1, abs=1e-6)


def test_attention_of_a_pretrainer_gives_its_embedding(tiny, elastic, crystals):
    model = DSSLPretrainer(**tiny, readout="attention").fit(elastic[0][:24])
    embeddings = model.transform(crystals)
    parts = zip(attention_weights(model, crystals), model.transform_sites(crystals), strict=True)
    averages = np.stack([weights @ sites for weights, sites in parts])
    np.testing.assert_allclose(averages, embeddings, atol=1e-5)


def test_other_readouts_have_no_attention(regressor, crystals):
    with pytest.raises(InvalidInputError, match=r"MeanMaxReadout.*readout='attention'"):
        attention_weights(regressor(), crystals)


@pytest.mark.parametrize("baseline", ["mean", "masked"])
@pytest.mark.parametrize("readout", [None, "mean", "mean_std"])
def test_integrated_gradients_are_complete(regressor, crystals, readout, baseline):
    model = regressor(readout=readout)
    split = integrated_gradients(model, crystals, baseline=baseline)
    np.testing.assert_allclose(split.predictions, model.predict(crystals), atol=1e-5)
    distance = np.abs(split.predictions - split.baselines)
    assert distance.max() > 0.01
    # The default's maximum has kinks, where it passes from one site to another.
    tolerance = 1e-2 if readout is None else 1e-3
    assert np.abs(split.residuals).max() < tolerance * distance.max()
    assert [len(values) for values in split] == [len(s) for s in crystals]


def test_integrated_gradients_of_the_paper_network(tiny_paper, elastic, crystals):
    model = DSSLRegressor(**tiny_paper).fit(elastic[0][:24], elastic[1][:24])
    split = integrated_gradients(model, crystals[:4], n_steps=64)
    distance = np.abs(split.predictions - split.baselines)
    # Leaky units have kinks, at which the quadrature converges slowly.
    assert np.abs(split.residuals).max() < 0.05 * distance.max()


def test_more_steps_are_closer(regressor, crystals):
    errors = [
        np.abs(integrated_gradients(regressor(), crystals[-4:], n_steps=n).residuals).max()
        for n in (1, 16)
    ]
    assert errors[1] < 0.1 * errors[0]


def test_the_masked_baseline_is_the_prediction_for_masked_atoms(regressor, crystals):
    model = regressor(kernel_share=0)
    split = integrated_gradients(model, crystals[-1:], baseline="masked", n_steps=2)
    network = model.net_.module_
    builder = model._builder(model.architecture_)
    batch = builder.dataset(crystals[-1:]).batch([0])
    batch.numbers.zero_()
    with torch.inference_mode():
        output = float(network(batch).mean())
    expected = output * model.y_scale_[0] + model.y_mean_[0]
    assert split.baselines[0] == pytest.approx(expected, abs=1e-5)


def test_explaining_changes_nothing(regressor, crystals):
    model = regressor()
    before = model.predict(crystals)
    integrated_gradients(model, crystals[:2], n_steps=2)
    np.testing.assert_array_equal(model.predict(crystals), before)
    assert not model.net_.module_.encoder.backbone.sites._forward_hooks


def test_captum_is_asked_for_by_name(regressor, crystals, monkeypatch):
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "dssl_sklearn\[explain\]"'):
        integrated_gradients(regressor(), crystals)


def test_a_backbone_without_site_encoder_is_refused(regressor, crystals):
    model = copy.deepcopy(regressor())
    backbone = model.net_.module_.encoder.backbone
    backbone.sites = nn.Embedding(104, backbone.width)
    with pytest.raises(InvalidInputError, match="0 SiteEncoder modules"):
        integrated_gradients(model, crystals)


@pytest.mark.parametrize("explain", [site_contributions, integrated_gradients, attention_weights])
def test_bad_input_is_explained(regressor, crystals, explain):
    with pytest.raises(InvalidInputError, match=r"fitted .*got SVR"):
        explain(SVR(), crystals)
    with pytest.raises(NotFittedError):
        explain(DSSLRegressor(), crystals)
    model = regressor(head_params=LINEAR, readout="attention")
    with pytest.raises(InvalidInputError, match=r"structures is a single Structure"):
        explain(model, crystals[0])
    with pytest.raises(InvalidStructureError, match="structure 1"):
        explain(model, [crystals[0], 3])


@pytest.mark.parametrize("explain", [site_contributions, integrated_gradients, attention_weights])
def test_skipped_crystals_are_not_explained(regressor, crystals, explain):
    model = copy.copy(regressor(head_params=LINEAR, readout="attention"))
    model.set_params(on_error="skip")
    expected = explain(model, crystals[:2])
    mixed = [crystals[0], "nowhere.cif", crystals[1]]
    with pytest.warns(SkippedStructuresWarning, match=r"1 unusable .* of 3 in structures"):
        found = explain(model, mixed)
    assert [len(values) for values in found] == [len(crystals[0]), 0, len(crystals[1])]
    np.testing.assert_allclose(found[2], expected[1], rtol=1e-6)
    with pytest.warns(SkippedStructuresWarning):
        nothing = explain(model, [None, 3])
    assert [values.tolist() for values in nothing] == [[], []]
    if explain is not attention_weights:
        with pytest.warns(SkippedStructuresWarning):
            np.testing.assert_allclose(found.predictions, model.predict(mixed), atol=1e-5)
        np.testing.assert_allclose(found.baselines[[0, 2]], expected.baselines, rtol=1e-6)
        assert np.isnan(found.residuals).tolist() == [False, True, False]
        assert np.isnan([nothing.baselines, nothing.predictions, nothing.residuals]).all()


@pytest.mark.parametrize(
    "params, message",
    [({"n_steps": 0}, "n_steps"), ({"baseline": "zero"}, "baseline must be one of")],
)
def test_bad_settings_of_the_integral(regressor, crystals, params, message):
    with pytest.raises(InvalidInputError, match=message):
        integrated_gradients(regressor(), crystals, **params)


def test_attributions_are_a_sequence():
    values = [np.array([1.0, 2.0]), np.array([3.0])]
    split = SiteAttributions(values, np.array([0.5, 0.5]), np.array([3.5, 3.75]))
    assert len(split) == 2
    assert [v.tolist() for v in split[:1]] == [[1.0, 2.0]]
    assert list(split)[1] is values[1]
    np.testing.assert_allclose(split.residuals, [0, 0.25])
