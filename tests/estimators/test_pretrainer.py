"""Pretraining: objectives, history, early stopping, going on, embedding."""

import copy
import pickle
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from interruption import PowerCut
from sklearn.base import clone
from skorch.callbacks import Callback
from torch import nn
from torch.utils.data import Subset

from dssl_sklearn import DSSLPretrainer, DSSLRegressor, StructureToGraph
from dssl_sklearn.exceptions import InvalidInputError, TrainingError, WeightsError
from dssl_sklearn.models import AttentionReadout, DeeperGATGNN, GatedBackbone
from dssl_sklearn.objectives import (
    CONTRASTIVE_LOSSES,
    Contrastive,
    Denoising,
    Descriptors,
    Displacement,
    MaskedAtoms,
    Microproperty,
    Objective,
    ObjectiveHead,
    Outcome,
)
from dssl_sklearn.training.data import CrystalDataset, HoldOut
from dssl_sklearn.views.view import ViewSpec


@pytest.fixture(scope="module")
def corpus(elastic):
    return elastic[0][:24]


@pytest.fixture(scope="module")
def new(elastic):
    return elastic[0][30:36]


def weights_of(pretrainer):
    return {**pretrainer.encoder_.state_dict(), **pretrainer.net_.criterion_.state_dict()}


def same_weights(first, second):
    first, second = weights_of(first), weights_of(second)
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


class TestHistory:
    def test_has_every_term_in_every_epoch(self, tiny, corpus):
        objectives = ["mask", "microproperty", "contrastive", "denoise"]
        pretrainer = DSSLPretrainer(**tiny, objectives=objectives).fit(corpus)
        assert len(pretrainer.history_) == 2
        assert pretrainer.history_ is pretrainer.net_.history
        for part in ("train", "valid"):
            for name in (
                "loss",
                "mask_loss",
                "mask_accuracy",
                "microproperty_loss",
                "microproperty_mae",
                "contrastive_loss",
                "contrastive_cosine",
                "denoise_loss",
                "denoise_mae",
            ):
                values = pretrainer.history_[:, f"{part}_{name}"]
                assert np.isfinite(values).all()
        accuracies = pretrainer.history_[:, ("train_mask_accuracy", "valid_mask_accuracy")]
        assert all(0 <= value <= 1 for pair in accuracies for value in pair)

    def test_the_loss_is_the_weighted_sum_of_the_terms(self, tiny, corpus):
        pretrainer = DSSLPretrainer(**tiny, objectives={"mask": 0.5, "denoise": 2.0}).fit(corpus)
        for part in ("train", "valid"):
            for epoch in pretrainer.history_:
                expected = 0.5 * epoch[f"{part}_mask_loss"] + 2 * epoch[f"{part}_denoise_loss"]
                assert epoch[f"{part}_loss"] == pytest.approx(expected, rel=1e-5)

    def test_has_the_effective_rank_of_the_held_out_embeddings(self, tiny, corpus):
        pretrainer = DSSLPretrainer(**tiny, validation_fraction=0.25).fit(corpus)
        # Six embeddings, centered, of width eight.
        assert all(1 < rank <= 5 for rank in pretrainer.history_[:, "effective_rank"])

    def test_has_the_effective_rank_without_validation(self, tiny, corpus):
        pretrainer = DSSLPretrainer(**tiny, validation_fraction=0).fit(corpus)
        assert all(1 < rank <= 8 for rank in pretrainer.history_[:, "effective_rank"])

    def test_a_collapsed_embedding_shows(self, tiny, corpus):
        class Flat(nn.Module):
            width = 4

            def forward(self, sites, batch):
                return (sites.sum() * 0).expand(batch.n_crystals, 4)

        pretrainer = DSSLPretrainer(**tiny, readout=Flat()).fit(corpus)
        assert pretrainer.history_[:, "effective_rank"] == [0, 0]


class TestValidation:
    @pytest.mark.parametrize("fraction", [0.25, 0.5])
    def test_share_is_held_out(self, tiny, corpus, fraction):
        pretrainer = DSSLPretrainer(**tiny, validation_fraction=fraction).fit(corpus)
        for part, expected in (("valid", fraction), ("train", 1 - fraction)):
            sizes = pretrainer.history_[:, "batches", :, f"{part}_batch_size"]
            assert [sum(filter(None, epoch)) for epoch in sizes] == [expected * 24] * 2

    def test_none_is_held_out(self, tiny, corpus):
        pretrainer = DSSLPretrainer(**tiny, validation_fraction=0).fit(corpus)
        assert "valid_loss" not in pretrainer.history_[-1]

    def test_the_schedule_ends_with_the_training_of_the_others(self, tiny, corpus):
        pretrainer = DSSLPretrainer(**tiny, validation_fraction=0.5).fit(corpus)
        n_steps = sum(pretrainer.history_[:, "train_batch_count"])
        assert dict(pretrainer.net_.callbacks_)["schedule"].n_steps == n_steps

    def test_which_are_held_out_follows_the_seed(self, tiny, corpus):
        def held_out(seed):
            pretrainer = DSSLPretrainer(**{**tiny, "random_state": seed}).fit(corpus)
            return pretrainer.net_.train_split(list(range(24)))[1].indices

        assert held_out(0) == held_out(0)
        assert held_out(0) != held_out(1)


@pytest.fixture(scope="module")
def stopped(tiny, corpus):
    """Pretrainer that stopped early, some epochs after its best."""
    params = {**tiny, "max_epochs": 60, "lr": 0.05, "schedule": "constant"}
    return DSSLPretrainer(
        **params, early_stopping=True, n_iter_no_change=4, validation_fraction=0.25
    ).fit(corpus)


class TestEarlyStopping:
    def test_stops(self, stopped):
        losses = stopped.history_[:, "valid_loss"]
        assert len(losses) < 60
        assert len(losses) - 1 - np.argmin(losses) <= 4

    def test_goes_back_to_the_best_network_and_heads(self, stopped, corpus):
        losses = stopped.history_[:, "valid_loss"]
        assert np.argmin(losses) < len(losses) - 1
        dataset = CrystalDataset(stopped._builder(stopped.architecture_).dataset(corpus))
        _, held_out = HoldOut(0.25, stopped.net_.seed)(dataset)
        assert isinstance(held_out, Subset)
        assert stopped.net_.pretext_loss(held_out) == pytest.approx(min(losses), rel=1e-6)

    def test_the_last_epoch_may_be_the_best(self, tiny, corpus):
        params = {**tiny, "lr": 1e-2, "schedule": "constant"}
        pretrainer = DSSLPretrainer(**params, early_stopping=True, validation_fraction=0.25)
        plain = DSSLPretrainer(**params, validation_fraction=0.25).fit(corpus)
        losses = plain.history_[:, "valid_loss"]
        assert losses[1] < losses[0] * (1 - 1e-4)
        assert same_weights(pretrainer.fit(corpus), plain)


class TestWarmStart:
    def test_goes_on_as_if_it_had_never_stopped(self, tiny, corpus, new):
        settings = {**tiny, "schedule": "constant"}
        halves = DSSLPretrainer(**settings, warm_start=True).fit(corpus).fit(corpus)
        whole = DSSLPretrainer(**settings).set_params(max_epochs=4).fit(corpus)
        assert len(halves.history_) == 4
        assert halves.history_[:, "train_loss"] == whole.history_[:, "train_loss"]
        assert same_weights(halves, whole)
        np.testing.assert_array_equal(halves.transform(new), whole.transform(new))

    def test_first_fit_is_like_any_other(self, tiny, corpus):
        warm = DSSLPretrainer(**tiny, warm_start=True).fit(corpus)
        assert same_weights(warm, DSSLPretrainer(**tiny).fit(corpus))

    def test_without_it_fit_starts_anew(self, tiny, corpus):
        twice = DSSLPretrainer(**tiny).fit(corpus).fit(corpus)
        assert len(twice.history_) == 2
        assert same_weights(twice, DSSLPretrainer(**tiny).fit(corpus))

    def test_schedule_begins_anew(self, tiny, corpus):
        rates = []

        class Rate(Callback):
            def on_batch_begin(self, net, training=None, **kwargs):
                if training:
                    rates.append(net.optimizer_.param_groups[0]["lr"])

        pretrainer = DSSLPretrainer(**tiny, warm_start=True, callbacks=[Rate()]).fit(corpus)
        first, rates = rates, []
        assert max(first) > 5 * min(first)
        pretrainer.fit(corpus)
        assert rates == first

    def test_arguments_count_as_they_are_now(self, tiny, corpus, capsys):
        pretrainer = DSSLPretrainer(**tiny, warm_start=True).fit(corpus)
        pretrainer.set_params(
            lr=0.25, batch_size=4, weight_decay=0.5, schedule="constant", max_epochs=1, verbose=1
        ).fit(corpus)
        group = pretrainer.net_.optimizer_.param_groups[0]
        assert (group["lr"], group["weight_decay"]) == (0.25, 0.5)
        assert pretrainer.history_[:, "train_batch_count"] == [3, 3, 6]
        assert "DSSLPretrainer" in capsys.readouterr().err

    def test_on_other_crystals(self, tiny, corpus, elastic):
        pretrainer = DSSLPretrainer(**tiny, warm_start=True).fit(corpus)
        before = weights_of(copy.deepcopy(pretrainer))
        pretrainer.fit(elastic[0][50:80])
        after = weights_of(pretrainer)
        assert any(not torch.equal(before[name], after[name]) for name in before)
        assert len(pretrainer.history_) == 4

    def test_another_network_is_an_error(self, tiny, corpus):
        pretrainer = DSSLPretrainer(**tiny, warm_start=True).fit(corpus)
        with pytest.raises(InvalidInputError, match=r"cutoff=3\.0 contradicts"):
            pretrainer.set_params(cutoff=3.0).fit(corpus)

    def test_no_epochs_change_nothing(self, tiny, corpus):
        pretrainer = DSSLPretrainer(**tiny, warm_start=True).fit(corpus)
        before = copy.deepcopy(pretrainer)
        assert same_weights(pretrainer.set_params(max_epochs=0).fit(corpus), before)

    def test_from_no_epochs_is_like_any_first_fit(self, tiny, corpus):
        embedder = DSSLPretrainer(**tiny).set_params(max_epochs=0).fit(corpus)
        further = DSSLPretrainer(pretrained=embedder, max_epochs=1, random_state=0).fit(corpus)
        warm = clone(embedder).set_params(warm_start=True).fit(corpus)
        warm.set_params(max_epochs=2).fit(corpus)
        first = DSSLPretrainer(**tiny).fit(corpus)
        assert same_weights(warm, first)
        for name, statistics in first.net_.criterion_.named_buffers():
            found = dict(further.net_.criterion_.named_buffers())[name]
            torch.testing.assert_close(found, statistics, rtol=0.2, atol=0.2)

    @pytest.mark.parametrize("through_a_file", [False, True])
    def test_an_embedder_keeps_what_the_heads_learned(self, tiny, corpus, tmp_path, through_a_file):
        start = DSSLPretrainer(**tiny).fit(corpus)
        embedder = DSSLPretrainer(pretrained=start, max_epochs=0, random_state=0).fit(corpus[:9])
        if through_a_file:
            embedder.save(tmp_path / "w.safetensors")
            embedder = DSSLPretrainer.load(tmp_path / "w.safetensors")
        params = {"max_epochs": 1, "lr": 1e-12, "random_state": 0}
        further = DSSLPretrainer(pretrained=embedder, **params).fit(corpus[:9])
        warm = embedder.set_params(warm_start=True, **params).fit(corpus[:9])
        expected = start.net_.criterion_.state_dict()
        for pretrainer in (further, warm):
            found = pretrainer.net_.criterion_.state_dict()
            for name, tensor in expected.items():
                torch.testing.assert_close(found[name], tensor, rtol=1e-6, atol=1e-6)

    def test_estimators_that_started_from_it_keep_their_weights(self, tiny, corpus, new):
        pretrainer = DSSLPretrainer(**tiny, warm_start=True).fit(corpus)
        copied = clone(DSSLRegressor(pretrained=pretrainer)).pretrained
        before = copied.transform(new)
        pretrainer.fit(corpus)
        np.testing.assert_array_equal(copied.transform(new), before)
        assert not np.array_equal(pretrainer.transform(new), before)

    def test_with_another_optimizer(self, tiny, corpus):
        pretrainer = DSSLPretrainer(**tiny, warm_start=True).fit(corpus)
        pretrainer.set_params(net_params={"optimizer": torch.optim.SGD}).fit(corpus)
        assert type(pretrainer.net_.optimizer_) is torch.optim.SGD
        assert len(pretrainer.history_) == 4

    def test_after_a_file(self, tiny, corpus, tmp_path):
        pretrainer = DSSLPretrainer(**tiny, warm_start=True).fit(corpus)
        pretrainer.save(tmp_path / "w.safetensors")
        loaded = DSSLPretrainer.load(tmp_path / "w.safetensors")
        assert loaded.warm_start
        loaded.fit(corpus)
        assert len(loaded.history_) == 4
        # What was held out stays held out.
        assert loaded.net_.train_split.seed == pretrainer.net_.train_split.seed


class TestScore:
    def test_needs_what_an_objective_predicts(self, tiny, corpus, new):
        known = [s.copy(site_properties={"moment": np.arange(len(s), dtype=float)}) for s in corpus]
        params = {**tiny, "objectives": "microproperty", "microproperty": "moment"}
        pretrainer = DSSLPretrainer(**params).fit(known)
        assert np.isfinite(pretrainer.score(known[:4]))
        with pytest.raises(InvalidInputError, match="no known 'moment'"):
            pretrainer.score(new)

    def test_is_deterministic(self, fitted_pretrainer, new):
        first = fitted_pretrainer.score(new)
        assert isinstance(first, float)
        assert first == fitted_pretrainer.score(new) == clone_fitted(fitted_pretrainer).score(new)

    def test_leaves_the_history_alone(self, fitted_pretrainer, new):
        before = len(fitted_pretrainer.history_)
        fitted_pretrainer.score(new)
        assert len(fitted_pretrainer.history_) == before
        with pytest.raises(ValueError, match="empty"):
            fitted_pretrainer.score([])
        assert len(fitted_pretrainer.history_) == before

    @pytest.mark.parametrize("objectives", ["mask", "microproperty", "denoise", "contrastive"])
    def test_rises_with_training(self, tiny, elastic, objectives):
        params = {**tiny, "batch_size": 16, "lr": 1e-2, "objectives": objectives}
        before = DSSLPretrainer(**{**params, "max_epochs": 1, "lr": 1e-8}).fit(elastic[0][:64])
        after = DSSLPretrainer(**{**params, "max_epochs": 12}).fit(elastic[0][:64])
        unseen = elastic[0][64:128]
        assert after.score(unseen) > before.score(unseen) + 0.01


def clone_fitted(pretrainer):
    return pickle.loads(pickle.dumps(pretrainer))


class TestObjectives:
    @pytest.mark.parametrize("loss", CONTRASTIVE_LOSSES)
    def test_every_contrastive_loss_trains(self, tiny, corpus, loss):
        pretrainer = DSSLPretrainer(**tiny, objectives="contrastive", contrastive_loss=loss)
        pretrainer.fit(corpus)
        assert pretrainer.objectives_ == [Contrastive(loss=loss)]
        assert np.isfinite(pretrainer.history_[:, "train_contrastive_loss"]).all()

    @pytest.mark.parametrize(
        "objectives, expected",
        [
            ("mask", [MaskedAtoms(mask_ratio=0.3)]),
            (["mask", "denoise"], [MaskedAtoms(mask_ratio=0.3), Denoising(move=0.1)]),
            ([("mask", 0.5)], [MaskedAtoms(weight=0.5, mask_ratio=0.3)]),
            ({"mask": 2.0}, [MaskedAtoms(weight=2.0, mask_ratio=0.3)]),
            (MaskedAtoms(mask_ratio=0.5), [MaskedAtoms(mask_ratio=0.5)]),
            ((Denoising(move=0.4), "mask"), [Denoising(move=0.4), MaskedAtoms(mask_ratio=0.3)]),
        ],
    )
    def test_ways_to_ask_for_them(self, tiny, corpus, objectives, expected):
        pretrainer = DSSLPretrainer(**tiny, objectives=objectives, mask_ratio=0.3, move=0.1)
        assert pretrainer.fit(corpus).objectives_ == expected

    @pytest.mark.parametrize("name", ["stiffness", "valence", {"O": 1.0, 26: 2.0, "Co": 4.0}])
    def test_microproperty_of_the_elements(self, tiny, corpus, name):
        pretrainer = DSSLPretrainer(**tiny, objectives="microproperty", microproperty=name)
        assert np.isfinite(pretrainer.fit(corpus).history_[:, "train_microproperty_loss"]).all()
        kind = "accuracy" if name == "valence" else "mae"
        assert f"train_microproperty_{kind}" in pretrainer.history_[-1]

    def test_microproperty_of_the_sites(self, tiny, corpus):
        charged = [structure.copy() for structure in corpus]
        for structure in charged:
            structure.add_site_property("charge", [0.5 * z for z in structure.atomic_numbers])
        params = {**tiny, "objectives": "microproperty", "microproperty": "charge"}
        pretrainer = DSSLPretrainer(**params).fit(charged)
        numbers = np.concatenate([structure.atomic_numbers for structure in corpus])
        head = pretrainer.net_.criterion_.heads["microproperty"]
        assert float(head.mean) == pytest.approx(0.5 * numbers.mean(), rel=1e-5)
        graphs = StructureToGraph(site_properties=["charge"]).transform(charged)
        assert same_weights(DSSLPretrainer(**params).fit(graphs), pretrainer)
        # Embeddings and a start from these weights need no charges.
        assert pretrainer.transform(corpus).shape == (24, 8)
        embedder = DSSLPretrainer(pretrained=pretrainer, max_epochs=0)
        assert embedder.fit(StructureToGraph().transform(corpus)).objectives_ == [
            Microproperty(values="charge")
        ]

    def test_one_of_your_own(self, tiny, corpus):
        pretrainer = DSSLPretrainer(**tiny, objectives=[CountSites(), "mask"]).fit(corpus)
        assert "valid_count_sites_loss" in pretrainer.history_[-1]

    def test_a_loss_that_is_no_number_stops_the_training(self, tiny, corpus):
        pretrainer = DSSLPretrainer(**tiny, objectives=[Broken(), "mask"])
        with pytest.raises(
            TrainingError, match=r"epoch 1, batch 1: .*'broken' became nan .*'mask'.*lr"
        ):
            pretrainer.fit(corpus)
        assert not hasattr(pretrainer, "net_")


class _CountHead(ObjectiveHead):
    def __init__(self, width):
        super().__init__()
        self.linear = nn.Linear(width, 1)

    def forward(self, encoded, clean):
        count = torch.bincount(clean.batch, minlength=clean.n_crystals)
        return Outcome((self.linear(encoded[0].crystals)[:, 0] - count).square().mean())


@dataclass(frozen=True)
class CountSites(Objective):
    name: ClassVar[str] = "count_sites"

    def specs(self):
        return (ViewSpec(),)

    def make_head(self, site_width, crystal_width):
        return _CountHead(crystal_width)


class _BrokenHead(_CountHead):
    def forward(self, encoded, clean):
        return Outcome(super().forward(encoded, clean).loss * torch.nan)


@dataclass(frozen=True)
class Broken(CountSites):
    name: ClassVar[str] = "broken"

    def make_head(self, site_width, crystal_width):
        return _BrokenHead(crystal_width)


class TestRecipes:
    def test_paper_sets_what_it_says(self, corpus):
        pretrainer = DSSLPretrainer(
            recipe="paper",
            backbone_params={"n_layers": 2, "width": 20},
            max_epochs=1,
            random_state=0,
        ).fit(corpus)
        backbone = pretrainer.encoder_.backbone
        assert isinstance(backbone, DeeperGATGNN)
        assert (backbone.width, len(backbone.layers)) == (20, 2)
        assert isinstance(pretrainer.encoder_.readout, AttentionReadout)
        assert pretrainer.objectives_ == [
            MaskedAtoms(weight=0.1, mask_ratio=0.15),
            Microproperty(weight=0.1, values="stiffness", mask_ratio=0.15),
            Contrastive(weight=1.0, loss="cosine", move=0.5, move_kind="sphere"),
        ]
        net = pretrainer.net_
        assert (net.batch_size, net.lr) == (256, 5e-3)
        assert type(net.optimizer_) is torch.optim.AdamW
        assert (pretrainer.architecture_.cutoff, pretrainer.architecture_.max_neighbors) == (8, 12)

    def test_paper_has_the_published_size(self):
        backbone = DeeperGATGNN()
        assert (backbone.width, len(backbone.layers)) == (115, 15)

    def test_arguments_act_on_the_recipe(self, tiny_paper, corpus):
        pretrainer = DSSLPretrainer(
            **tiny_paper,
            mask_ratio=0.3,
            move=0.1,
            microproperty="valence",
            contrastive_loss="ntxent",
        ).fit(corpus)
        assert pretrainer.objectives_ == [
            MaskedAtoms(weight=0.1, mask_ratio=0.3),
            Microproperty(weight=0.1, values="valence", mask_ratio=0.3),
            Contrastive(weight=1.0, loss="ntxent", move=0.1, move_kind="sphere"),
        ]

    def test_arguments_act_on_our_recipe(self, tiny, corpus):
        pretrainer = DSSLPretrainer(**tiny, mask_ratio=0.3, move=0.2).fit(corpus)
        assert pretrainer.objectives_ == [
            Descriptors(),
            Displacement(weight=0.3, move=0.2, mask_ratio=0.3),
            MaskedAtoms(weight=0.06, move=0.2, mask_ratio=0.3),
        ]

    @pytest.mark.parametrize(
        "argument", [{"microproperty": "valence"}, {"contrastive_loss": "ntxent"}]
    )
    def test_argument_of_a_task_that_is_not_there(self, tiny, corpus, argument):
        match = f"{next(iter(argument))} has no effect: .*'paper'"
        with pytest.warns(UserWarning, match=match) as found:
            DSSLPretrainer(**tiny, **argument).fit(corpus)
        assert found[0].filename == __file__

    def test_default_uses_the_gated_network(self, tiny, corpus):
        assert isinstance(DSSLPretrainer(**tiny).fit(corpus).encoder_.backbone, GatedBackbone)

    def test_another_backbone_drops_the_arguments_of_the_recipe_s(self, corpus):
        pretrainer = DSSLPretrainer(recipe="paper", backbone="gated", max_epochs=1).fit(corpus)
        assert isinstance(pretrainer.encoder_.backbone, GatedBackbone)


class ElementTable(nn.Module):
    """The least that a backbone can be."""

    width = 5

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(104, 5)

    def forward(self, batch):
        near = self.table(batch.numbers)[batch.edge_index[0]]
        near = near * torch.exp(-batch.edge_distance)[:, None]
        return self.table(batch.numbers).index_add(0, batch.edge_index[1], near)


@pytest.mark.parametrize("nothing", [None, 3])
def test_from_pretrained_wants_a_name(nothing):
    with pytest.raises((TypeError, InvalidInputError), match=r"None|int"):
        DSSLPretrainer.from_pretrained(nothing)


class TestModules:
    @pytest.fixture
    def params(self, tiny):
        return {**tiny, "backbone_params": None}

    def test_a_backbone_of_your_own(self, params, corpus, new):
        module = ElementTable()
        before = copy.deepcopy(module.state_dict())
        pretrainer = DSSLPretrainer(**params, backbone=module, lr=0.1).fit(corpus)
        assert pretrainer.transform(new).shape == (6, 5)
        assert torch.equal(module.table.weight, before["table.weight"])
        assert not torch.equal(pretrainer.encoder_.backbone.table.weight, module.table.weight)
        assert same_weights(clone(pretrainer).fit(corpus), pretrainer)
        np.testing.assert_array_equal(
            clone_fitted(pretrainer).transform(new), pretrainer.transform(new)
        )
        model = DSSLRegressor(pretrained=pretrainer, max_epochs=1).fit(corpus, np.arange(24.0))
        assert isinstance(model.net_.module_.encoder.backbone, ElementTable)

    def test_which_a_file_cannot_hold(self, params, corpus, tmp_path):
        pretrainer = DSSLPretrainer(**params, backbone=ElementTable()).fit(corpus)
        with pytest.raises(WeightsError, match=r"backbone is a module.*joblib"):
            pretrainer.save(tmp_path / "w.safetensors")
        assert not list(tmp_path.iterdir())

    def test_which_lacks_a_width(self, params, corpus):
        with pytest.raises(InvalidInputError, match="width"):
            DSSLPretrainer(**params, backbone=nn.Linear(2, 2)).fit(corpus)

    def test_a_readout_by_name(self, tiny, corpus, new):
        for readout, width in (("mean", 8), ("mean_std", 16), ("attention", 8)):
            pretrainer = DSSLPretrainer(**tiny, readout=readout).fit(corpus)
            assert pretrainer.transform(new).shape == (6, width)
            assert pretrainer.n_features_out_ == width


class TestEmbedding:
    def test_of_sites_in_their_order(self, fitted_pretrainer, elastic):
        structures = elastic[0][100:120]
        found = fitted_pretrainer.transform_sites(structures)
        assert [part.shape for part in found] == [(len(s), 8) for s in structures]
        for part, structure in zip(found, structures, strict=True):
            turned = structure.copy()
            turned._sites = turned._sites[::-1]
            (other,) = fitted_pretrainer.transform_sites([turned])
            np.testing.assert_allclose(other[::-1], part, atol=2e-6)

    def test_of_crystals_is_the_mean_over_the_sites(self, fitted_pretrainer, elastic):
        structures = elastic[0][100:120]
        sites = fitted_pretrainer.transform_sites(structures)
        np.testing.assert_allclose(
            fitted_pretrainer.transform(structures), [s.mean(axis=0) for s in sites], atol=1e-6
        )

    def test_no_epochs_embed_with_random_weights(self, tiny, corpus, new):
        untrained = DSSLPretrainer(**{**tiny, "max_epochs": 0}).fit(corpus)
        assert len(untrained.history_) == 0
        trained = DSSLPretrainer(**tiny).fit(corpus)
        assert not np.allclose(untrained.transform(new), trained.transform(new))


class TestOutput:
    def test_a_progress_bar_on_request(self, tiny, corpus, capsys):
        DSSLPretrainer(**tiny, verbose=1).fit(corpus)
        captured = capsys.readouterr()
        assert "DSSLPretrainer: 100%" in captured.err
        assert "2.0/2 epochs" in captured.err
        assert "train_loss=" in captured.err
        assert "valid_loss=" in captured.err
        assert not captured.out

    def test_a_table_on_request(self, tiny, corpus, capsys):
        DSSLPretrainer(**tiny, verbose=2).fit(corpus)
        assert "train_descriptors_loss" in capsys.readouterr().out

    def test_silence_otherwise(self, tiny, corpus, capsys):
        DSSLPretrainer(**tiny, early_stopping=True).fit(corpus).score(corpus)
        captured = capsys.readouterr()
        assert not captured.out
        assert not captured.err


class TestCheckpoints:
    @pytest.mark.parametrize("schedule", ["cosine", "constant", "plateau"])
    def test_an_interrupted_run_ends_as_an_uninterrupted_one(
        self, tiny, corpus, tmp_path, schedule
    ):
        # So high a rate that the loss does not fall and the plateau schedule acts.
        params = {**tiny, "max_epochs": 30, "lr": 1.0, "schedule": schedule}
        params["objectives"] = "mask"
        whole = DSSLPretrainer(**params).fit(corpus)
        final_rate = whole.net_.optimizer_.param_groups[0]["lr"]
        assert (final_rate == 1.0) == (schedule == "constant")
        interrupted = DSSLPretrainer(**params, checkpoint_dir=tmp_path / "runs")
        for epoch in (4, 25):
            interrupted.set_params(callbacks=[PowerCut(epoch)])
            with pytest.raises(OSError, match="power cut"):
                interrupted.fit(corpus)
        interrupted.set_params(callbacks=None).fit(corpus)
        assert len(interrupted.history_) == 30
        assert interrupted.history_[:, "valid_loss"] == whole.history_[:, "valid_loss"]
        assert same_weights(interrupted, whole)
        assert len(list((tmp_path / "runs").iterdir())) == 1
        # A rerun of a complete one trains nothing.
        again = clone(interrupted).set_params(callbacks=[PowerCut(1)]).fit(corpus)
        assert same_weights(again, whole)

    @pytest.mark.parametrize("schedule", ["cosine", "plateau"])
    def test_an_interrupted_warm_start_goes_on(self, tiny, corpus, tmp_path, schedule):
        params = {**tiny, "max_epochs": 6, "schedule": schedule, "warm_start": True}
        whole = DSSLPretrainer(**params).fit(corpus).fit(corpus)
        params["checkpoint_dir"] = tmp_path
        interrupted = DSSLPretrainer(**params).fit(corpus)
        interrupted.set_params(callbacks=[PowerCut(9)])
        with pytest.raises(OSError, match="power cut"):
            interrupted.fit(corpus)
        rerun = DSSLPretrainer(**params).fit(corpus).fit(corpus)
        assert len(rerun.history_) == 12
        assert rerun.history_[:, "train_loss"] == whole.history_[:, "train_loss"]
        assert same_weights(rerun, whole)
        assert len(list(tmp_path.iterdir())) == 2
        # Complete by now.
        again = DSSLPretrainer(**params, callbacks=[PowerCut(9)]).fit(corpus).fit(corpus)
        assert same_weights(again, whole)

    def test_other_crystals_or_settings_have_their_own(self, tiny, corpus, tmp_path):
        first = DSSLPretrainer(**tiny, checkpoint_dir=tmp_path).fit(corpus)
        clone(first).fit(corpus[:-1])
        clone(first).set_params(lr=0.1).fit(corpus)
        clone(first).set_params(mask_ratio=0.3, objectives="mask").fit(corpus)
        assert len(list(tmp_path.iterdir())) == 4

    def test_need_a_run_that_repeats(self, tiny, corpus, tmp_path):
        pretrainer = DSSLPretrainer(**tiny, checkpoint_dir=tmp_path).set_params(random_state=None)
        with pytest.raises(InvalidInputError, match="checkpoint_dir needs"):
            pretrainer.fit(corpus)

    def test_a_folder_that_cannot_be_made(self, tiny, corpus, tmp_path):
        (tmp_path / "file").write_text("in the way")
        with pytest.raises(WeightsError, match="checkpoint_dir"):
            DSSLPretrainer(**tiny, checkpoint_dir=tmp_path / "file").fit(corpus)
