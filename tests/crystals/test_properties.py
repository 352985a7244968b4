import pickle

import numpy as np
import pytest
import torch

from dssl_sklearn.crystals.builder import GraphBuilder
from dssl_sklearn.crystals.dataset import GraphDataset
from dssl_sklearn.crystals.graph import Crystal
from dssl_sklearn.crystals.properties import joined
from dssl_sklearn.crystals.ragged import narrow, pointer, ranges
from dssl_sklearn.exceptions import InvalidInputError

FIELDS = (
    "numbers", "frac_coords", "lattice", "site_ptr", "edge_ptr",
    "source", "target", "shift", "distance",
)  # fmt: skip


def assert_same(left, right):
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name))
    assert (left.cutoff, left.max_neighbors) == (right.cutoff, right.max_neighbors)
    for name in ("site_properties", "crystal_properties"):
        mine, other = getattr(left, name), getattr(right, name)
        assert set(mine) == set(other)
        for key in mine:
            assert mine[key].dtype == other[key].dtype
            np.testing.assert_array_equal(mine[key], other[key])


@pytest.fixture(scope="module")
def bare(real_structures):
    return GraphBuilder(5.0, 4).dataset(real_structures)


@pytest.fixture(scope="module")
def dataset(bare):
    """Every value tells its row; some are unknown."""
    sites, crystals = np.arange(len(bare.numbers)), np.arange(len(bare))
    energy = np.where(crystals % 3 == 0, np.nan, crystals)
    return bare.with_properties(
        site={"charge": sites, "feature": np.column_stack([sites, -sites, np.full(len(sites), 7)])},
        crystal={"energy": energy, "moduli": np.column_stack([crystals, 100 + crystals])},
    )


# ---- attaching ------------------------------------------------------------------------------


def test_values_are_attached_beside_the_graphs(bare, dataset):
    assert bare.site_properties == bare.crystal_properties == {}
    assert all(getattr(dataset, name) is getattr(bare, name) for name in FIELDS)
    assert {k: v.shape[1:] for k, v in dataset.site_properties.items()} == {
        "charge": (),
        "feature": (3,),
    }
    assert {k: v.shape[1:] for k, v in dataset.crystal_properties.items()} == {
        "energy": (),
        "moduli": (2,),
    }
    for values in (*dataset.site_properties.values(), *dataset.crystal_properties.values()):
        assert values.dtype == np.float32


def test_later_values_replace_those_of_the_same_name_only(dataset):
    again = dataset.with_properties(crystal={"energy": [5] * len(dataset)})
    assert (again.crystal_properties["energy"] == 5).all()
    assert again.crystal_properties["moduli"] is dataset.crystal_properties["moduli"]
    assert again.site_properties == dataset.site_properties
    assert np.isnan(dataset.crystal_properties["energy"][0])


def test_large_arrays_are_not_copied_and_none_is_unknown(bare):
    values = np.zeros((len(bare.numbers), 4), dtype=np.float32)
    one = [None, *range(1, len(bare))]
    attached = bare.with_properties(site={"x": values}, crystal={"y": one})
    assert attached.site_properties["x"] is values
    assert np.isnan(attached.crystal_properties["y"]).tolist() == [True] + [False] * (len(bare) - 1)


@pytest.mark.parametrize(
    "shape, message",
    [
        ((3,), r"has shape \(3,\), expected \({n},\) or \({n}, k\): one row per {level}"),
        ((), r"has shape \(\), expected"),
        (("n", 3, 3), r"has shape \({n}, 3, 3\), expected"),
        (("n", 0), r"has shape \({n}, 0\), expected"),
    ],
)
@pytest.mark.parametrize("level", ["site", "crystal"])
def test_arrays_of_another_shape_are_refused(bare, level, shape, message):
    n = len(bare.numbers) if level == "site" else len(bare)
    values = np.zeros([n if size == "n" else size for size in shape])
    message = rf"{level}\['x'\] " + message.format(n=n, level=level)
    with pytest.raises(InvalidInputError, match=message):
        bare.with_properties(**{level: {"x": values}})


def test_arrays_of_something_else_are_refused(bare):
    with pytest.raises(InvalidInputError, match=r"crystal\['x'\] is not an array of numbers"):
        bare.with_properties(crystal={"x": ["high"] * len(bare)})
    with pytest.raises(InvalidInputError, match=r"site\['x'\] is not an array of numbers"):
        bare.with_properties(site={"x": [[1.0], [1.0, 2.0]]})


# ---- through the records --------------------------------------------------------------------


def test_round_trip_through_single_graphs(dataset):
    graphs = list(dataset)
    site = 0
    for row, graph in enumerate(graphs):
        crystal = graph.crystal
        rows = np.arange(site, site + len(crystal))
        np.testing.assert_array_equal(crystal.site_properties["charge"], rows)
        np.testing.assert_array_equal(crystal.site_properties["feature"][:, 1], -rows)
        expected = np.nan if row % 3 == 0 else row
        np.testing.assert_array_equal(crystal.crystal_properties["energy"], expected)
        assert crystal.crystal_properties["energy"].shape == ()
        np.testing.assert_array_equal(crystal.crystal_properties["moduli"], [row, 100 + row])
        site += len(crystal)
    assert_same(GraphDataset.from_graphs(graphs), dataset)
    assert_same(GraphBuilder(5.0, 4).dataset(dataset), dataset)
    assert_same(pickle.loads(pickle.dumps(dataset)), dataset)


def test_concatenation(dataset):
    parts = [dataset.take(range(2)), dataset.take([2]), dataset.take(range(3, len(dataset)))]
    assert_same(GraphDataset.concatenate(parts), dataset)


def test_what_only_some_have_is_left_out(bare, dataset):
    joint = GraphDataset.concatenate(
        [dataset, bare.with_properties(crystal={"moduli": bare.n_sites[:, None].repeat(2, 1)})]
    )
    assert joint.site_properties == {}
    assert set(joint.crystal_properties) == {"moduli"}
    assert set(GraphDataset.from_graphs([dataset[0], bare[1]]).site_properties) == set()


def test_vectors_of_different_lengths_are_refused(bare, dataset):
    scalars = bare.with_properties(crystal={"moduli": np.zeros(len(bare))})
    message = r"'moduli' has rows of different shapes \[\(\), \(2,\)\]"
    with pytest.raises(InvalidInputError, match=message):
        GraphDataset.concatenate([dataset, scalars])
    with pytest.raises(InvalidInputError, match=message):
        GraphDataset.from_graphs([dataset[0], scalars[1]])
    with pytest.raises(InvalidInputError, match="'moduli'"):
        joined([dataset.crystal_properties, scalars.crystal_properties])


def test_a_structure_takes_them_along(dataset):
    structure = dataset[1].crystal.to_structure()
    features = np.array(structure.site_properties["feature"])
    np.testing.assert_array_equal(features, dataset[1].crystal.site_properties["feature"])
    assert structure.properties == {"energy": 1.0, "moduli": [1.0, 101.0]}


def test_a_crystal_without_them_stays_as_it_was():
    crystal = Crystal(np.array([14]), np.zeros((1, 3)), 3 * np.eye(3))
    assert crystal.site_properties == crystal.crystal_properties == {}
    assert crystal.to_structure().properties == {}


# ---- cutting --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "indices", [[0], [3, 1, 2], [5, 5, 0, 5], range(8), np.array([4, -1]), np.arange(7) % 2]
)
def test_take_equals_gathering_graph_by_graph(dataset, indices):
    one_by_one = GraphDataset.from_graphs([dataset[int(i)] for i in indices])
    assert_same(dataset.take(indices), one_by_one)


def test_take_by_mask(dataset):
    mask = np.arange(len(dataset)) % 2 == 1
    assert_same(dataset.take(mask), dataset.take(np.flatnonzero(mask)))


def test_take_copies(dataset):
    taken = dataset.take(range(len(dataset)))
    assert_same(taken, dataset)
    assert not any(np.shares_memory(getattr(taken, n), getattr(dataset, n)) for n in FIELDS)


def test_nothing_can_be_taken_and_added(dataset):
    none = dataset.take([])
    assert len(none) == len(none.numbers) == len(none.source) == 0
    assert none.site_properties["feature"].shape == (0, 3)
    assert_same(GraphDataset.concatenate([none, dataset]), dataset)


@pytest.mark.parametrize("indices", [[100], [-100], [True, False]])
def test_what_is_not_there_cannot_be_taken(dataset, indices):
    with pytest.raises(IndexError):
        dataset.take(indices)


# ---- batches --------------------------------------------------------------------------------


def test_batches_hold_the_values_of_their_crystals(dataset):
    order = [4, 1, 4, 0]
    batch = dataset.batch(order)
    np.testing.assert_array_equal(batch.crystal_properties["energy"], [4, 1, 4, np.nan])
    np.testing.assert_array_equal(batch.crystal_properties["moduli"][:, 1], [104, 101, 104, 100])
    rows = np.concatenate([np.arange(*dataset.site_ptr[i : i + 2]) for i in order])
    np.testing.assert_array_equal(batch.site_properties["charge"], rows)
    np.testing.assert_array_equal(batch.site_properties["feature"][:, 0], rows)
    assert batch.site_properties["feature"].dtype == torch.float32


def test_permuted_crystals_permute_the_values(dataset):
    order = np.random.default_rng(0).permutation(len(dataset))
    rows = np.arange(len(dataset))
    assert order.tolist() != rows.tolist()
    here, there = dataset.take(order).batch(rows), dataset.batch(order)
    for name in ("site_properties", "crystal_properties"):
        mine, other = getattr(here, name), getattr(there, name)
        for key in mine:
            np.testing.assert_array_equal(mine[key], other[key])
    np.testing.assert_array_equal(here.crystal_properties["moduli"][:, 0], order)


def test_batches_are_cast_and_moved_with_them(dataset):
    batch = dataset.batch([1, 2]).to("meta", torch.float64)
    tensors = [*batch.site_properties.values(), *batch.crystal_properties.values()]
    assert len(tensors) == 4
    assert {(t.device.type, t.dtype) for t in tensors} == {("meta", torch.float64)}


def test_batches_without_them_have_none(bare):
    batch = bare.batch([1, 2]).to(torch.float64)
    assert batch.site_properties == batch.crystal_properties == {}


# ---- runs -----------------------------------------------------------------------------------


def test_runs():
    assert pointer([2, 0, 3]).tolist() == [0, 2, 2, 5]
    assert pointer([]).tolist() == [0]
    assert ranges(np.array([5, 1, 0]), np.array([2, 0, 3])).tolist() == [5, 6, 0, 1, 2]
    empty = np.array([], dtype=np.int64)
    assert ranges(empty, empty).tolist() == []


@pytest.mark.parametrize(
    "values, dtype",
    [([], np.int8), ([127], np.int8), ([-128], np.int16), ([128], np.int16), ([70_000], np.int32)],
)
def test_integers_become_as_narrow_as_they_can(values, dtype):
    narrowed = narrow(np.array(values, dtype=np.int64))
    assert narrowed.dtype == dtype
    assert narrowed.tolist() == values
