import numpy as np
import pytest
import torch

from dssl_sklearn.crystals import builder as builder_module
from dssl_sklearn.crystals.builder import GraphBuilder
from dssl_sklearn.crystals.cache import GRAPH_CACHE, GraphCache, content_keys
from dssl_sklearn.crystals.chunks import in_chunks
from dssl_sklearn.crystals.dataset import GraphDataset
from dssl_sklearn.crystals.graph import Crystal
from dssl_sklearn.crystals.graph_table import GraphTable
from dssl_sklearn.crystals.inputs import read_crystals
from dssl_sklearn.crystals.table import CrystalTable
from dssl_sklearn.exceptions import (
    InvalidInputError,
    InvalidStructureError,
    IsolatedSiteWarning,
)

BUILDER = GraphBuilder(8.0, 12)


def graphs_of(X, builder=BUILDER):
    return builder.usable_graphs(X, skip=False)[0]


@pytest.fixture(autouse=True)
def empty_cache():
    GRAPH_CACHE.clear()
    yield
    GRAPH_CACHE.clear()


@pytest.fixture
def graphs(real_structures):
    return graphs_of(real_structures)


@pytest.fixture
def dataset(real_structures):
    return BUILDER.dataset(real_structures)


def with_property(structures, name="charge"):
    copies = [structure.copy() for structure in structures]
    for structure in copies[::2]:
        structure.add_site_property(name, np.arange(len(structure)).tolist())
    return copies


# ---- cache ----------------------------------------------------------------------------------


def test_equal_crystals_share_a_graph(real_structures):
    first = graphs_of(real_structures)
    again = graphs_of([structure.copy() for structure in real_structures], GraphBuilder(8.0, 12))
    assert all(a is b for a, b in zip(first, again, strict=True))
    assert len(GRAPH_CACHE) == len(real_structures)


def test_kinds_of_crystals_share_a_graph(real_structures):
    (first,) = graphs_of(real_structures[:1])
    kinds = [real_structures[0].as_dict(), read_crystals([real_structures[0]])[0]]
    assert all(graph is first for graph in graphs_of(kinds))


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.translate_sites([0], [0.001, 0, 0]),
        lambda s: s.replace(0, "Xe"),
        lambda s: s.scale_lattice(1.001 * s.volume),
        lambda s: s.remove_sites([0]),
    ],
    ids=["moved", "replaced", "scaled", "removed"],
)
def test_a_changed_structure_gets_a_new_graph(real_structures, change):
    structure = next(s for s in real_structures if len(s) > 2).copy()
    (before,) = graphs_of([structure])
    change(structure)
    (after,) = graphs_of([structure])
    (expected,) = graphs_of([structure], GraphBuilder(8.0, 12, use_cache=False))
    assert after is not before
    np.testing.assert_array_equal(after.distance, expected.distance)
    np.testing.assert_array_equal(after.crystal.numbers, expected.crystal.numbers)


@pytest.mark.parametrize(
    "other",
    [
        GraphBuilder(7.0, 12),
        GraphBuilder(8.0, 11),
        GraphBuilder(8.0, 12, site_properties=("charge",)),
    ],
    ids=["cutoff", "max_neighbors", "site_properties"],
)
def test_settings_are_part_of_the_key(real_structures, other):
    (left,), (right,) = (graphs_of(real_structures[:1], b) for b in (BUILDER, other))
    assert left is not right
    assert (right.cutoff, right.max_neighbors) == (other.cutoff, other.max_neighbors)
    assert set(right.crystal.site_properties) == set(other.site_properties)


def test_the_values_of_site_properties_are_part_of_the_key(real_structures):
    one, two = real_structures[0].copy(), real_structures[0].copy()
    one.add_site_property("charge", [1.0] * len(one))
    two.add_site_property("charge", [2.0] * len(two))
    graphs = graphs_of([one, two], GraphBuilder(8.0, 12, site_properties=("charge",)))
    assert [g.crystal.site_properties["charge"][0] for g in graphs] == [1.0, 2.0]


def test_without_the_cache_nothing_is_kept(real_structures):
    GraphBuilder(8.0, 12, use_cache=False).dataset(real_structures)
    assert len(GRAPH_CACHE) == 0


def test_a_corpus_is_not_kept(real_corpus):
    dataset = BUILDER.dataset(real_corpus)
    assert dataset.n_sites.tolist() == real_corpus.n_sites.tolist()
    assert len(GRAPH_CACHE) == 0


def test_the_warning_comes_again_with_a_cached_graph():
    lonely = Crystal(np.array([18]), np.zeros((1, 3)), 9 * np.eye(3))
    for _ in range(2):
        with pytest.warns(IsolatedSiteWarning, match="positions 0"):
            graphs_of([lonely])


def test_graphs_of_the_cache_are_safe_from_their_users(real_structures):
    crystal = read_crystals([real_structures[0]])[0]
    (graph,) = graphs_of([crystal])
    with pytest.raises(ValueError, match="read-only"):
        graph.distance[:] = 0
    crystal.frac_coords[:] += 0.25
    np.testing.assert_array_equal(graph.crystal.frac_coords, real_structures[0].frac_coords)


def n_bytes(table):
    return sum(array.nbytes for array in table.arrays())


@pytest.fixture
def tables(graphs):
    """One table for each graph."""
    return [GraphTable.of([graph]) for graph in graphs]


def test_equal_keys_are_equal_crystals(graphs):
    crystals = CrystalTable.of([graph.crystal for graph in graphs])
    keys = content_keys(crystals, 8.0, 12)
    assert len(set(keys)) == len(graphs)
    assert content_keys(crystals.crystal_table(2, 5), 8.0, 12) == keys[2:5]
    assert content_keys(crystals.take(np.array([4, 4, 1])), 8.0, 12) == [keys[4], keys[4], keys[1]]


def test_the_least_recently_used_tables_make_room(tables):
    cache = GraphCache(max_bytes=sum(map(n_bytes, tables[:3])))
    for number, table in enumerate(tables[:3]):
        cache.put([str(number).encode()], table)
        assert cache.get([b"no such key", str(number).encode()]) == {
            str(number).encode(): (table, 0)
        }
    assert len(cache) == 3
    assert len(cache.get([b"0"])) == 1
    cache.put([b"one more"], GraphTable.concatenate([tables[2], tables[2]]).take(np.array([1])))
    assert cache.get([b"1"]) == {}
    assert set(cache.get([b"0", b"one more"])) == {b"0", b"one more"}


def test_a_table_goes_with_all_its_rows(tables):
    several = GraphTable.concatenate(tables[:3])
    cache = GraphCache(max_bytes=n_bytes(several) + 10)
    cache.put([b"a", b"b", b"c"], several)
    assert cache.get([b"c", b"a"]) == {b"c": (several, 2), b"a": (several, 0)}
    cache.put([b"d"], tables[4])
    assert len(cache) == 1


def test_a_crystal_put_twice_outlives_the_first_table(tables):
    cache = GraphCache(max_bytes=2 * n_bytes(tables[0]) + n_bytes(tables[1]) - 1)
    twin = GraphTable.concatenate([tables[0], tables[1]]).take(np.array([0]))
    cache.put([b"a"], tables[0])
    cache.put([b"a"], twin)
    cache.put([b"b"], tables[1])
    assert cache.get([b"a"])[b"a"][0] is twin
    assert len(cache) == 2


def test_the_cache_stays_within_its_bound(tables):
    bound = 3 * max(map(n_bytes, tables)) // 2
    cache = GraphCache(bound)
    for number in range(200):
        table = tables[number % len(tables)].take(np.array([0, 0])).take(np.array([0]))
        cache.put([str(number).encode()], table)
        kept = cache.get([str(k).encode() for k in range(number + 1)])
        assert sum(n_bytes(table) for table, _ in kept.values()) <= bound
        assert str(number).encode() in kept
    cache.clear()
    assert len(cache) == 0


def test_a_table_larger_than_the_cache_is_not_kept(tables):
    cache = GraphCache(max_bytes=10)
    cache.put([b"key"], tables[0])
    assert cache.get([b"key"]) == {}
    assert len(cache) == 0


# ---- chunks and processes -------------------------------------------------------------------


def assert_same_dataset(left, right):
    for name in (
        "numbers", "frac_coords", "lattice", "site_ptr", "edge_ptr",
        "source", "target", "shift", "distance",
    ):  # fmt: skip
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name))
    assert (left.cutoff, left.max_neighbors) == (right.cutoff, right.max_neighbors)
    assert set(left.site_properties) == set(right.site_properties)
    for name, values in left.site_properties.items():
        np.testing.assert_array_equal(values, right.site_properties[name])


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(builder_module, "CHUNK", 5)


@pytest.mark.usefixtures("small_chunks")
def test_chunks_do_not_show(real_structures, monkeypatch):
    structures = with_property(real_structures)
    builder = GraphBuilder(8.0, 12, site_properties=("charge",))
    cut = builder.dataset(structures)
    graphs = graphs_of(structures, builder)
    monkeypatch.undo()
    assert len(structures) > 5
    assert_same_dataset(cut, builder.dataset(structures))
    assert len(graphs) == len(structures)
    np.testing.assert_array_equal([len(g.crystal) for g in graphs], cut.n_sites)


@pytest.mark.usefixtures("small_chunks")
def test_processes_do_not_show(real_structures, assert_same_graph):
    structures = with_property(real_structures)
    one, two = (GraphBuilder(8.0, 12, n_jobs=n, site_properties=("charge",)) for n in (None, 2))
    assert_same_dataset(one.dataset(structures), two.dataset(structures))
    for left, right in zip(graphs_of(structures, one), graphs_of(structures, two), strict=True):
        assert_same_graph(left, right, atol=0)
    assert len(graphs_of(one.dataset(structures), two)) == len(structures)

    bad = [*structures[:6], None, *structures[6:], "nowhere.cif"]
    with pytest.raises(InvalidStructureError) as caught:
        two.dataset(bad)
    assert set(caught.value.reasons) == {6, len(bad) - 1}

    lonely = Crystal(np.array([18]), np.zeros((1, 3)), 9 * np.eye(3))
    with pytest.warns(IsolatedSiteWarning, match="positions 7,"):
        graphs_of([*structures[:7], lonely, lonely], two)


@pytest.mark.usefixtures("small_chunks")
def test_processes_take_pieces_of_a_corpus(real_corpus):
    builder = GraphBuilder(8.0, 12, n_jobs=2)
    expected = GraphBuilder(8.0, 12).dataset(real_corpus)
    assert_same_dataset(builder.dataset(real_corpus), expected)
    pieces = [builder.dataset(piece) for piece in in_chunks(real_corpus, 7)]
    assert_same_dataset(GraphDataset.concatenate(pieces), expected)


def test_every_copy_of_a_bad_crystal_is_named():
    fine = [Crystal(np.array([29]), np.zeros((1, 3)), a * np.eye(3)) for a in (3.0, 3.1)]
    bad = Crystal(np.array([1, 1]), np.zeros((2, 3)), 3.3 * np.eye(3))
    graphs_of(fine[:1])
    graphs, reasons = BUILDER.usable_graphs([fine[0], bad, fine[1], bad])
    assert set(reasons) == {1, 3}
    assert [graph.crystal.lattice[0, 0] for graph in graphs] == [3.0, 3.1]


@pytest.mark.usefixtures("small_chunks")
def test_bad_positions_over_several_chunks(real_structures):
    bad = [None, *real_structures[:7], None]
    with pytest.raises(InvalidStructureError) as caught:
        BUILDER.dataset(bad)
    assert set(caught.value.reasons) == {0, 8}


# ---- graphs and data sets as input ----------------------------------------------------------


def test_graphs_pass_through(graphs):
    assert all(a is b for a, b in zip(graphs_of(graphs), graphs, strict=True))


@pytest.mark.parametrize("also_structures", [False, True])
def test_graphs_in_a_list_keep_their_order(real_structures, graphs, dataset, also_structures):
    items = list(graphs)
    if also_structures:
        items[1::3] = real_structures[1::3]
    assert_same_dataset(BUILDER.dataset(items), dataset)
    assert all(a is b for a, b in zip(graphs_of(items), graphs, strict=True))


def test_a_dataset_passes_through(dataset):
    assert BUILDER.dataset(dataset) is dataset
    assert len(graphs_of(dataset)) == len(dataset)


@pytest.mark.parametrize("build", ["usable_graphs", "dataset", "usable_dataset"])
def test_graphs_with_other_settings_are_no_bad_crystals(real_structures, graphs, build):
    builder = GraphBuilder(6.0, 12)
    X = [real_structures[0], None, *graphs_of(real_structures[:1], builder), graphs[1]]
    message = "a graph built with cutoff=8.0 and max_neighbors=12, expected 6.0 and 12"
    with pytest.raises(InvalidInputError, match=message):
        getattr(builder, build)(X)


def test_a_dataset_with_other_settings_is_refused(dataset):
    with pytest.raises(InvalidInputError, match=r"max_neighbors=12, expected .*max_neighbors=9"):
        GraphBuilder(8.0, 9).dataset(dataset)
    with pytest.raises(InvalidInputError, match=r"without the site properties \['charge'\]"):
        GraphBuilder(8.0, 12, site_properties=("charge",)).usable_dataset(dataset)


def test_graphs_without_a_site_property_are_refused(real_structures, graphs, dataset):
    builder = GraphBuilder(8.0, 12, site_properties=("charge",))
    with pytest.raises(InvalidInputError, match=r"site_properties=\['charge'\]"):
        graphs_of([real_structures[0], graphs[1]], builder)
    with pytest.raises(InvalidInputError, match="without the site properties"):
        builder.dataset(dataset)


# ---- GraphDataset ---------------------------------------------------------------------------


def moved_out(structures):
    """Copies with whole cells added to the coordinates of some sites."""
    rng = np.random.default_rng(0)
    return [
        Crystal(c.numbers, c.frac_coords + rng.integers(-300, 300, (len(c), 3)), c.lattice)
        for c in read_crystals(structures)
    ]


@pytest.mark.parametrize("prepare", [list, moved_out], ids=["inside", "outside the cell"])
def test_round_trip(real_structures, prepare):
    graphs = graphs_of(prepare(real_structures))
    dataset = GraphDataset.from_graphs(graphs)
    assert len(dataset) == len(graphs)
    assert dataset.n_sites.tolist() == [g.n_sites for g in graphs]
    assert dataset.n_edges.tolist() == [g.n_edges for g in graphs]
    for before, after in zip(graphs, dataset, strict=True):
        frac = after.crystal.frac_coords
        assert (frac >= 0).all()
        assert (frac <= 1).all()
        np.testing.assert_array_equal(after.crystal.numbers, before.crystal.numbers)
        np.testing.assert_array_equal(after.distance, before.distance)
        np.testing.assert_array_equal(after.source, before.source)
        np.testing.assert_array_equal(after.target, before.target)
        apart = frac[after.source] + after.shift - frac[after.target]
        length = np.linalg.norm(apart @ after.crystal.lattice, axis=1)
        np.testing.assert_allclose(length, before.distance, atol=1e-5)
        assert (after.cutoff, after.max_neighbors) == (8.0, 12)
    assert_same_dataset(GraphDataset.from_graphs(list(dataset)), dataset)


def test_indexing(dataset):
    last = dataset[len(dataset) - 1]
    np.testing.assert_array_equal(dataset[-1].distance, last.distance)
    assert [g.n_edges for g in dataset[1:6:2]] == dataset.n_edges[1:6:2].tolist()
    for index in (len(dataset), -len(dataset) - 1):
        with pytest.raises(IndexError, match="out of range"):
            dataset[index]


def test_concatenation(real_structures, dataset):
    parts = [BUILDER.dataset(real_structures[a:b]) for a, b in ((0, 2), (2, 3), (3, None))]
    assert_same_dataset(GraphDataset.concatenate(parts), dataset)
    assert GraphDataset.concatenate(parts[:1]) is parts[0]


def test_integers_are_stored_no_wider_than_needed(dataset):
    assert dataset.numbers.dtype == np.uint8
    assert dataset.shift.dtype == np.int8
    assert dataset.source.dtype == np.min_scalar_type(-int(dataset.n_sites.max()))


@pytest.mark.parametrize("peak", [127, 128, 300, 40_000])
def test_large_shifts_survive(peak):
    # A thin oblique cell: the nearest neighbors along a lie far away in the image numbers of c.
    lattice = np.array([[4.0, 0, 0], [0, 4.0, 0], [4.0 * peak + 0.5, 0, 4.0]])
    graph = graphs_of([Crystal(np.array([84]), np.zeros((1, 3)), lattice)], GraphBuilder(5.0, 6))[0]
    assert np.abs(graph.shift).max() >= peak
    small = GraphBuilder(5.0, 6).dataset(
        [Crystal(np.array([84]), np.zeros((1, 3)), 4.0 * np.eye(3))]
    )
    joined = GraphDataset.concatenate([small, GraphDataset.from_graphs([graph])])
    np.testing.assert_array_equal(joined[1].shift, graph.shift)
    assert np.iinfo(joined.shift.dtype).max >= peak


# ---- batches --------------------------------------------------------------------------------


@pytest.mark.parametrize("indices", [[0], [3, 1, 2], [5, 5, 0, 5], range(12), np.array([4, 2])])
def test_batch(graphs, dataset, indices):
    batch = dataset.batch(indices)
    chosen = [graphs[i] for i in indices]
    assert len(batch) == batch.n_crystals == len(chosen)
    assert batch.n_sites == sum(g.n_sites for g in chosen)
    site = edge = 0
    for number, graph in enumerate(chosen):
        sites, edges = slice(site, site + graph.n_sites), slice(edge, edge + graph.n_edges)
        crystal = graph.crystal
        assert batch.numbers[sites].tolist() == crystal.numbers.tolist()
        assert (batch.batch[sites] == number).all()
        np.testing.assert_array_equal(batch.edge_index[0, edges] - site, graph.source)
        np.testing.assert_array_equal(batch.edge_index[1, edges] - site, graph.target)
        np.testing.assert_array_equal(batch.edge_distance[edges], graph.distance)
        np.testing.assert_allclose(batch.lattice[number], crystal.lattice, rtol=1e-6)
        wrapped = crystal.frac_coords - np.floor(crystal.frac_coords)
        np.testing.assert_allclose(batch.positions[sites], wrapped @ crystal.lattice, atol=1e-5)
        site, edge = site + graph.n_sites, edge + graph.n_edges
    assert (site, edge) == (len(batch.numbers), batch.edge_index.shape[1])
    integers = (batch.numbers, batch.batch, batch.edge_index)
    floats = (batch.positions, batch.lattice, batch.edge_shift, batch.edge_distance)
    assert {t.dtype for t in integers} == {torch.int64}
    assert {t.dtype for t in floats} == {torch.float32}


@pytest.mark.parametrize("prepare", [list, moved_out], ids=["inside", "outside the cell"])
def test_edge_vectors_fit_the_distances(real_structures, prepare):
    dataset = BUILDER.dataset(prepare(real_structures))
    batch = dataset.batch(range(len(dataset)))
    lengths = batch.edge_vectors().norm(dim=1)
    torch.testing.assert_close(lengths, batch.edge_distance, atol=5e-5, rtol=0)


def test_site_properties_are_carried(real_structures):
    structures = with_property(real_structures)
    dataset = GraphBuilder(8.0, 12, site_properties=("charge",)).dataset(structures)
    indices = [1, 2, 0]
    values = dataset.batch(indices).site_properties["charge"]
    expected = [
        np.arange(len(structures[i])) if i % 2 == 0 else np.full(len(structures[i]), np.nan)
        for i in indices
    ]
    assert values.dtype == torch.float32
    np.testing.assert_array_equal(values, np.concatenate(expected))
    np.testing.assert_array_equal(
        dataset[2].crystal.site_properties["charge"], np.arange(len(structures[2]))
    )


def test_a_batch_is_cast_and_moved(dataset):
    batch = dataset.batch([0, 1])
    double = batch.to(torch.float64)
    assert double.positions.dtype == double.edge_shift.dtype == torch.float64
    assert double.numbers.dtype == double.edge_index.dtype == torch.int64
    moved = batch.to("meta", torch.float64)
    tensors = (moved.positions, moved.numbers, moved.batch, moved.edge_index)
    assert {t.device.type for t in tensors} == {"meta"}
    assert [t.dtype for t in tensors] == [torch.float64, *[torch.int64] * 3]
    assert batch.to(device="cpu").positions is batch.positions
