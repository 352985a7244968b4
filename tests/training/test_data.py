from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Subset

from dssl_sklearn.crystals.builder import GraphBuilder
from dssl_sklearn.datasets import load_elasticity
from dssl_sklearn.training.data import (
    CrystalDataset,
    EdgeBudgetSampler,
    HoldOut,
    edge_counts,
    prediction_batch_size,
)


@pytest.fixture(scope="module")
def graphs():
    structures, _ = load_elasticity(return_X_y=True)
    return GraphBuilder(8.0, 12).dataset(structures[::60])


@pytest.fixture
def dataset(graphs):
    n = len(graphs)
    return CrystalDataset(graphs, y=np.arange(n, dtype=np.float32), weight=np.eye(n)[:, :2])


def batches(n_edges, batch_size, *, shuffle=False):
    return list(EdgeBudgetSampler(np.asarray(n_edges), batch_size, shuffle=shuffle))


# ---- EdgeBudgetSampler ----------------------------------------------------------------------

sizes = st.lists(st.integers(1, 3000), min_size=1, max_size=60)


@given(n_edges=sizes, batch_size=st.integers(1, 80), shuffle=st.booleans())
@settings(max_examples=150, deadline=None, derandomize=True)
def test_each_crystal_comes_exactly_once_in_the_promised_number_of_batches(
    n_edges, batch_size, shuffle
):
    sampler = EdgeBudgetSampler(np.array(n_edges), batch_size, shuffle=shuffle)
    for _ in range(2):
        found = list(sampler)
        assert len(found) == len(sampler) == -(-len(n_edges) // batch_size)
        assert all(found)
        flat = [crystal for batch in found for crystal in batch]
        assert sorted(flat) == list(range(len(n_edges)))
        assert shuffle or flat == sorted(flat)


@given(n_edges=sizes, batch_size=st.integers(1, 80))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_batches_hold_about_equally_many_edges(n_edges, batch_size):
    found = batches(n_edges, batch_size)
    budget = sum(n_edges) / len(found)
    if max(n_edges) > budget:
        return  # one crystal alone is larger than a batch should be
    totals = [sum(n_edges[i] for i in batch) for batch in found]
    assert max(totals) <= budget + max(n_edges)


def test_equal_crystals_fill_equal_batches():
    assert batches([24] * 10, 5) == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    assert [len(batch) for batch in batches([24] * 9, 3)] == [3, 3, 3]


@pytest.mark.parametrize("place", [0, 7, 19])
def test_one_huge_crystal(place):
    n_edges = np.full(20, 50)
    n_edges[place] = 100_000
    found = batches(n_edges, 4)
    assert sorted(chain.from_iterable(found)) == list(range(20))
    assert len(found) == 5


def test_one_crystal_only():
    assert batches([100], 32) == [[0]]
    assert batches([100], 32, shuffle=True) == [[0]]
    assert batches([7, 9], 1) == [[0], [1]]


def test_the_order_is_drawn_anew_in_each_epoch_and_follows_torch_s_seed():
    sampler = EdgeBudgetSampler(np.arange(1, 41), 8, shuffle=True)
    torch.manual_seed(3)
    first, second = list(sampler), list(sampler)
    torch.manual_seed(3)
    again = list(sampler)
    torch.manual_seed(4)
    other = list(sampler)
    assert first == again
    assert first != second
    assert first != other


def test_without_shuffling_no_random_number_is_drawn():
    before = torch.get_rng_state()
    batches(range(1, 30), 4)
    assert torch.equal(before, torch.get_rng_state())


# ---- CrystalDataset -------------------------------------------------------------------------


def test_edge_counts_of_nested_subsets(graphs, dataset):
    outer = Subset(dataset, [5, 3, 9, 0])
    assert edge_counts(dataset).tolist() == graphs.n_edges.tolist()
    assert edge_counts(outer).tolist() == graphs.n_edges[[5, 3, 9, 0]].tolist()
    assert edge_counts(Subset(outer, [2, 1])).tolist() == graphs.n_edges[[9, 3]].tolist()
    with pytest.raises(TypeError, match="expected a CrystalDataset, got list"):
        edge_counts([1, 2])


@pytest.mark.parametrize("indices", [None, [5, 3, 9, 0, 11, 7, 2]], ids=["all", "Subset"])
@pytest.mark.parametrize("shuffle", [False, True])
def test_through_a_data_loader(graphs, dataset, indices, shuffle):
    chosen = list(range(len(dataset))) if indices is None else indices
    data = dataset if indices is None else Subset(Subset(dataset, indices[::-1]), range(6, -1, -1))
    sampler = EdgeBudgetSampler(edge_counts(data), 3, shuffle=shuffle)
    loader = DataLoader(data, batch_sampler=sampler, collate_fn=lambda batch: batch)
    seen = []
    for batch, targets in loader:
        rows = targets["y"].to(int).tolist()
        assert set(targets) == {"y", "weight"}
        assert batch.n_crystals == len(rows)
        expected = graphs.batch(rows)
        assert torch.equal(batch.positions, expected.positions)
        assert torch.equal(batch.edge_index, expected.edge_index)
        np.testing.assert_array_equal(targets["weight"], np.eye(len(dataset))[rows, :2])
        seen += rows
    assert len(loader) == -(-len(chosen) // 3)
    assert sorted(seen) == sorted(chosen)
    assert shuffle or seen == chosen


def test_a_single_item_is_a_batch_of_one(dataset):
    batch, targets = dataset[4]
    assert batch.n_crystals == 1
    assert targets["y"].tolist() == [4.0]
    assert len(dataset) == len(dataset.graphs)


# ---- HoldOut --------------------------------------------------------------------------------


@pytest.mark.parametrize("fraction", [0.1, 0.33, 0.9])
def test_parts_are_disjoint_complete_and_of_the_right_size(dataset, fraction):
    train, valid = HoldOut(fraction, seed=0)(dataset)
    assert not set(train.indices) & set(valid.indices)
    assert sorted([*train.indices, *valid.indices]) == list(range(len(dataset)))
    assert (
        len(valid) == HoldOut(fraction, 0).n_valid(len(dataset)) == round(fraction * len(dataset))
    )
    assert train.dataset is valid.dataset is dataset


def test_the_seed_alone_decides_what_is_held_out(dataset):
    first = HoldOut(0.3, seed=1)(dataset)[1].indices
    torch.manual_seed(99)
    np.random.default_rng(0)
    assert HoldOut(0.3, seed=1)(dataset, y=None)[1].indices == first
    assert HoldOut(0.3, seed=2)(dataset)[1].indices != first


@pytest.mark.parametrize("n_crystals, fraction", [(1, 0.5), (3, 0.1), (5, 0.0)])
def test_without_a_single_crystal_nothing_is_held_out(dataset, n_crystals, fraction):
    data = Subset(dataset, range(n_crystals))
    assert HoldOut(fraction, seed=0)(data) == (data, None)


def test_at_least_one_crystal_stays_for_training(dataset):
    train, valid = HoldOut(0.99, seed=0)(Subset(dataset, range(3)))
    assert (len(train), len(valid)) == (1, 2)


# ---- prediction_batch_size ------------------------------------------------------------------


def test_predictions_take_many_small_crystals_at_a_time():
    assert prediction_batch_size(np.full(500, 99), 32) == 200
    assert prediction_batch_size(np.full(500, 99), 300) == 300


def test_prediction_batches_are_never_smaller_than_asked_for():
    assert prediction_batch_size(np.full(5, 1_000_000), 3) == 3


@pytest.mark.parametrize("n_edges", [np.zeros(0, dtype=np.int64), np.zeros(3, dtype=np.int64)])
def test_prediction_batches_without_edges(n_edges):
    assert prediction_batch_size(n_edges, 2) >= 2
