"""Pretraining sees new views in every epoch, nothing leaks into them, and every weight learns."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback

from dssl_sklearn import DSSLClassifier, DSSLPretrainer, DSSLRegressor
from dssl_sklearn.objectives import Contrastive, Denoising, MaskedAtoms, Microproperty
from dssl_sklearn.views.view import ViewSpec, draw_view

PAPER = {
    "recipe": "paper",
    "backbone_params": {"width": 12, "n_layers": 2, "n_heads": 2, "n_groups": 3},
}
DEFAULT = {"backbone_params": {"width": 12, "n_layers": 2}}


class Views(Callback):
    """Keep what the network saw of the one batch of each epoch."""

    def on_train_begin(self, net, **kwargs):
        self.kept = {True: [], False: []}

    def on_batch_end(self, net, batch=None, training=None, y_pred=None, **kwargs):
        self.kept[training].append(
            (y_pred.clean, [encoded.view for encoded in y_pred.views.values()])
        )


def seen(crystals, part, **params):
    """Clean batch and views of each epoch."""
    settings = {**DEFAULT, "max_epochs": 4, "batch_size": 64, "random_state": 0}
    pretrainer = DSSLPretrainer(
        **{**settings, **params}, validation_fraction=0.5, callbacks=[Views()]
    ).fit(crystals)
    return dict(pretrainer.net_.callbacks_)["Views"].kept[part == "train"]


def masks(epochs):
    return [set(view.masked.tolist()) for _, (view, *_) in epochs]


def moves(epochs):
    """Lengths of the moves of all sites, sorted: the order of crystals changes, too."""
    return [
        (view.batch.positions - clean.positions).norm(dim=1).sort().values
        for clean, views in epochs
        for view in views
    ]


class TestViews:
    def test_masks_are_drawn_anew_in_every_epoch(self, crystals):
        found = masks(seen(crystals, "train", objectives="mask"))
        assert len(found) == 4
        assert all(found)
        assert len({frozenset(mask) for mask in found}) == 4

    def test_moves_are_drawn_anew_in_every_epoch_and_for_each_view(self, crystals):
        found = moves(seen(crystals, "train", objectives="contrastive"))
        assert len(found) == 8
        for k, first in enumerate(found):
            assert all(not torch.allclose(first, other) for other in found[:k])

    @pytest.mark.parametrize("objective", ["mask", "contrastive", "denoise"])
    def test_validation_looks_at_the_same_views_in_every_epoch(self, crystals, objective):
        first, *others = seen(crystals, "valid", objectives=objective)
        for clean, views in others:
            assert torch.equal(clean.numbers, first[0].numbers)
            for found, expected in zip(views, first[1], strict=True):
                assert torch.equal(found.masked, expected.masked)
                assert torch.equal(found.batch.positions, expected.batch.positions)

    def test_order_of_crystals_is_drawn_anew_in_every_epoch(self, crystals):
        found = [clean.numbers for clean, _ in seen(crystals, "train", objectives="mask")]
        assert len({tuple(numbers.tolist()) for numbers in found}) == 4
        assert len({tuple(numbers.sort().values.tolist()) for numbers in found}) == 1

    def test_runs_of_other_seeds_see_others(self, crystals):
        first, second = (
            masks(seen(crystals, "train", objectives="mask", random_state=seed)) for seed in (0, 1)
        )
        assert not set(map(frozenset, first)) & set(map(frozenset, second))

    def test_objectives_share_a_view(self, crystals):
        ((_, views), *_) = seen(crystals, "train", objectives=["mask", "microproperty"])
        assert len(views) == 1

    def test_distances_follow_the_moves(self, crystals):
        for clean, views in seen(crystals, "train", objectives="denoise"):
            for view in views:
                expected = view.batch.edge_vectors().norm(dim=1)
                torch.testing.assert_close(view.batch.edge_distance, expected)
                assert not torch.allclose(view.batch.edge_distance, clean.edge_distance)

    def test_the_share_of_masked_sites_is_as_asked(self, crystals):
        for ratio in (0.15, 0.5):
            epochs = seen(crystals, "train", objectives="mask", mask_ratio=ratio)
            for clean, (view,) in epochs:
                assert len(view.masked) == round(ratio * clean.n_sites)

    def test_the_stored_crystals_are_never_changed(self, crystals):
        first, *others = seen(crystals, "valid", objectives=["mask", "denoise", "contrastive"])
        for clean, _ in others:
            for name in ("numbers", "positions", "edge_distance", "lattice"):
                assert torch.equal(getattr(clean, name), getattr(first[0], name))


@pytest.mark.parametrize("params", [DEFAULT, PAPER, {**DEFAULT, "readout": "attention"}], ids=str)
def test_a_masked_view_does_not_know_the_masked_elements(params, crystals):
    """No leak through stored numbers, composition, or whatever else the network reads."""
    pretrainer = DSSLPretrainer(**params, max_epochs=1, random_state=0).fit(crystals)
    batch = pretrainer._builder(pretrainer.architecture_).dataset(crystals).batch(range(12))
    spec = ViewSpec(mask_ratio=0.3, move=0.1)

    def embed(numbers):
        view = draw_view(replace(batch, numbers=numbers), spec, torch.Generator().manual_seed(0))
        with torch.inference_mode():
            return view.masked, *pretrainer.encoder_.eval()(view.batch)

    masked, sites, whole = embed(batch.numbers)
    assert len(masked) == round(0.3 * batch.n_sites)
    changed = batch.numbers.clone()
    changed[masked] = 1 + (changed[masked] + 40) % 103
    for found, expected in zip(embed(changed), (masked, sites, whole), strict=True):
        assert torch.equal(found, expected)
    # While the elements of the other sites are seen.
    others = batch.numbers.clone()
    others[~torch.isin(torch.arange(batch.n_sites), masked)] = 20
    assert not torch.allclose(embed(others)[2], whole)


class Gradients(Callback):
    """Largest gradient that each weight has met."""

    def on_train_begin(self, net, **kwargs):
        self.peak = {}

    def on_grad_computed(self, net, named_parameters, **kwargs):
        for part in (net.module_, net.criterion_):
            for name, parameter in part.named_parameters():
                key = f"{type(part).__name__}.{name}"
                size = 0.0 if parameter.grad is None else float(parameter.grad.abs().max())
                self.peak[key] = max(size, self.peak.get(key, 0.0))


def unreached(estimator, *data):
    estimator.set_params(callbacks=[Gradients()], max_epochs=2, batch_size=4, random_state=0)
    estimator.fit(*data)
    peak = dict(estimator.net_.callbacks_)["Gradients"].peak
    assert len(peak) > 10
    return sorted(name for name, size in peak.items() if not size > 0)


EVERY_TASK = {"objectives": ["mask", "microproperty", "contrastive", "denoise"]}


class TestGradients:
    def test_of_the_default_recipe(self, crystals):
        assert unreached(DSSLPretrainer(**DEFAULT), crystals) == []

    def test_without_masked_sites_nothing_asks_for_their_embedding(self, crystals):
        found = unreached(DSSLPretrainer(**DEFAULT, objectives="denoise"), crystals)
        assert found == ["CrystalEncoder.backbone.sites.masked"]

    @pytest.mark.parametrize("params", [PAPER, {**DEFAULT, **EVERY_TASK}, {**PAPER, **EVERY_TASK}])
    def test_of_pretraining_with_masks(self, crystals, params):
        assert unreached(DSSLPretrainer(**params), crystals) == []

    @pytest.mark.parametrize("loss", ["cosine", "ntxent", "barlow", "vicreg"])
    def test_of_every_contrastive_loss(self, crystals, loss):
        objectives = [Contrastive(loss=loss, mask_ratio=0.2)]
        assert unreached(DSSLPretrainer(**DEFAULT, objectives=objectives), crystals) == []

    @pytest.mark.parametrize(
        "objective",
        [
            MaskedAtoms(),
            Microproperty(),
            Microproperty(values="valence"),
            Denoising(mask_ratio=0.2),
        ],
    )
    def test_of_every_site_task(self, crystals, objective):
        assert unreached(DSSLPretrainer(**DEFAULT, objectives=objective), crystals) == []

    @pytest.mark.parametrize("cls", [DSSLRegressor, DSSLClassifier])
    @pytest.mark.parametrize("params", [DEFAULT, PAPER, {**DEFAULT, "readout": "mean_std"}])
    def test_of_fine_tuning(self, crystals, cls, params):
        found = unreached(cls(**params), crystals, np.arange(12) % 3)
        assert [name.rpartition(".")[2] for name in found] == ["masked"]

    def test_after_freezing(self, crystals):
        model = DSSLRegressor(**DEFAULT, freeze_epochs=1)
        found = unreached(model, crystals, np.arange(12.0))
        assert [name.rpartition(".")[2] for name in found] == ["masked"]


def test_every_weight_moves(crystals):
    """Gradients alone would not tell of weights that the optimizer does not know."""
    settings = {**PAPER, "random_state": 0}
    start = DSSLPretrainer(**settings, max_epochs=0).fit(crystals)
    before = copy.deepcopy(dict(start.encoder_.named_parameters()))
    after = dict(DSSLPretrainer(**settings, max_epochs=1).fit(crystals).encoder_.named_parameters())
    still = [name for name in before if torch.equal(before[name], after[name])]
    assert still == []
