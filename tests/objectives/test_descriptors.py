import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from dssl_sklearn.crystals.builder import GraphBuilder
from dssl_sklearn.crystals.elements import element_property
from dssl_sklearn.crystals.stiffness import prior_stiffness
from dssl_sklearn.datasets import load_elasticity
from dssl_sklearn.exceptions import InvalidInputError
from dssl_sklearn.models.descriptors import describe, element_table
from dssl_sklearn.objectives import Denoising, Descriptors
from dssl_sklearn.views.view import ViewSpec


@pytest.fixture(scope="module")
def structures():
    return load_elasticity().data[:40]


def as_batch(structures):
    dataset = GraphBuilder(8.0, 12).dataset(structures)
    return dataset.batch(range(len(dataset))).to(torch.float64)


def described(structures):
    return describe(as_batch(structures), element_table().double())


def make_head(batch_like=None):
    torch.manual_seed(0)
    head = Descriptors().make_head(8, 8).double()
    if batch_like is not None:
        head.fit_statistics(batch_like)
    return head


def test_looks_at_the_clean_crystal_unless_told_otherwise():
    assert Descriptors().specs() == (ViewSpec(),)
    noisy = Descriptors(move=0.2, mask_ratio=0.1)
    assert noisy.specs() == Denoising(move=0.2, mask_ratio=0.1).specs()


def test_sites_against_a_loop_over_the_neighbors(structures):
    structure = structures[3]
    dataset = GraphBuilder(8.0, 12).dataset([structure])
    graph = dataset[0]
    sites, _ = described([structure])
    radius = element_property("atomic_radius")
    electronegativity = element_property("electronegativity")
    column = 6  # the first of the element properties
    spread = electronegativity[1:].std()
    mean = electronegativity[1:].mean()
    numbers = graph.crystal.numbers
    for site in range(graph.n_sites):
        edges = np.flatnonzero(graph.target == site)
        weights, lengths, ratios, values = [], [], [], []
        for edge in edges:
            here, there = numbers[site], numbers[graph.source[edge]]
            contact = radius[here] + radius[there]
            distance = float(graph.distance[edge])
            weights.append(math.exp((contact - distance) / 0.4) + 1e-6)
            lengths.append(distance)
            ratios.append(distance / contact)
            values.append((electronegativity[there] - mean) / spread)
        own = (electronegativity[numbers[site]] - mean) / spread
        w = np.array(weights) / np.sum(weights)
        found = sites[site].numpy()
        assert found[0] == pytest.approx(math.log(sum(weights)), abs=1e-5)
        assert found[1] == pytest.approx(-math.log(np.sum(w**2)), abs=1e-5)
        assert found[2:4] == pytest.approx([w @ lengths, w @ ratios], abs=1e-5)
        for k, entries in ((4, lengths), (5, ratios)):
            variance = w @ (np.array(entries) - w @ entries) ** 2
            assert found[k] == pytest.approx(math.sqrt(variance + 1e-6), abs=1e-5)
        assert found[column] == pytest.approx(w @ values, abs=1e-5)
        assert found[column + 12] == pytest.approx(w @ np.abs(np.array(values) - own), abs=1e-5)


def test_densities_and_averages_of_a_crystal(structures):
    structure = structures[5]
    sites, crystals = described([structure])
    numbers = np.array(structure.atomic_numbers)
    radius = element_property("atomic_radius")[numbers]
    expected = [
        structure.volume / len(structure),
        (4 / 3 * np.pi * radius**3).sum() / structure.volume,
        prior_stiffness()[numbers].sum() / structure.volume,
        element_property("valence")[numbers].sum() / structure.volume,
        sites[:, 0].exp().sum().item() / structure.volume,
    ]
    assert crystals[0, :5].numpy() == pytest.approx(np.log(expected), abs=1e-5)
    assert crystals[0, 5:35].numpy() == pytest.approx(sites.mean(0).numpy(), abs=1e-9)
    chi = element_property("electronegativity")
    standardized = ((chi - chi[1:].mean()) / chi[1:].std())[numbers]
    assert crystals[0, 35].item() == pytest.approx(standardized.mean(), abs=1e-5)
    assert crystals[0, 47 + 30].item() == pytest.approx(
        math.sqrt(standardized.var() + 1e-6), abs=1e-5
    )


def test_a_supercell_and_a_rotated_cell_are_described_alike(structures):
    structure = structures[7]
    turned = structure.copy()
    angle = 0.7
    rotation = np.array(
        [
            [math.cos(angle), -math.sin(angle), 0],
            [math.sin(angle), math.cos(angle), 0],
            [0, 0, 1],
        ]
    )
    turned.lattice = type(structure.lattice)(structure.lattice.matrix @ rotation.T)
    _, crystals = described([structure, structure * (2, 1, 2), turned])
    assert crystals[1].numpy() == pytest.approx(crystals[0].numpy(), abs=1e-5)
    assert crystals[2].numpy() == pytest.approx(crystals[0].numpy(), abs=1e-5)


def test_gradients_reach_every_weight(structures, random_batch, assert_trains):
    head = make_head(GraphBuilder(8.0, 12).dataset(structures))
    assert_trains(Descriptors(mask_ratio=0.2, move=0.1), head, random_batch())


def test_targets_are_those_of_the_clean_crystal(structures, encode):
    dataset = GraphBuilder(8.0, 12).dataset(structures)
    head = make_head(dataset)
    batch = as_batch(structures[:4])
    with torch.no_grad():
        head.site.linear.weight.zero_()
        head.site.linear.bias.zero_()
    losses = []
    for objective in (Descriptors(), Descriptors(move=0.3, mask_ratio=0.5)):
        (view,) = encode(objective.specs(), batch).values()
        losses.append(head([view], batch).metrics["site"].item())
    assert losses[0] == losses[1]


def test_targets_have_unit_spread_in_training_and_are_cut(structures, encode):
    dataset = GraphBuilder(8.0, 12).dataset(structures)
    head = make_head(dataset)
    sites, crystals = described(structures)
    for part, values in ((head.site, sites), (head.crystal, crystals)):
        standardized = (values - part.mean) / part.scale
        assert standardized.mean(0).abs().max() < 1e-5
        spread = standardized.std(0, correction=0)
        assert ((spread - 1).abs() < 1e-5).double().mean() > 0.9
        assert (spread < 1 + 1e-5).all()
    batch = as_batch(structures[:2])
    # One angstrom between neighbors makes weights that no training crystal has.
    squeezed = replace(batch, edge_distance=batch.edge_distance * 0.1)
    (view,) = encode(Descriptors().specs(), batch).values()
    assert head([view], squeezed).loss.item() < 2 * 5


@pytest.mark.parametrize("settings", [{"weight": -1}, {"move": -0.1}, {"mask_ratio": 1.5}])
def test_settings_out_of_range(settings):
    with pytest.raises(InvalidInputError, match=next(iter(settings))):
        Descriptors(**settings)


def test_by_name_and_learns(structures):
    from dssl_sklearn import DSSLPretrainer

    pretrainer = DSSLPretrainer(
        objectives="descriptors", max_epochs=20, batch_size=8, validation_fraction=0, random_state=0
    ).fit(structures)
    history = pretrainer.history_
    first, last = history[0]["train_loss"], history[-1]["train_loss"]
    assert last < 0.5 * first
