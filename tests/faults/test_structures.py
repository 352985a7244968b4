"""A small budget of the fuzzing in benchmarks/robustness/fuzz_structures.py, and its findings."""

import contextlib
import tracemalloc
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from dssl_sklearn import DSSLPretrainer
from dssl_sklearn.crystals.builder import GraphBuilder
from dssl_sklearn.crystals.graph import Crystal
from dssl_sklearn.exceptions import InvalidStructureError, IsolatedSiteWarning

BUILDER = GraphBuilder(8.0, 12, use_cache=False)


def graphs_of(X):
    return BUILDER.usable_graphs(X, skip=False)[0]


LENGTHS = st.sampled_from([1e-3, 0.05, 0.3, 1.0, 2.5, 5.0, 40.0, 1e4])
ANGLES = st.sampled_from([0.01, 5.0, 60.0, 90.0, 119.9, 175.0])
COORDINATES = st.floats(0, 1) | st.sampled_from([0.5, -7.25, 1e5, 1e12, np.nan, np.inf])


def crystal(lattice, frac):
    frac = np.asarray(frac, dtype=float)
    return Crystal(np.full(len(frac), 6), frac, np.asarray(lattice, dtype=float))


def cube(side, frac):
    return crystal(side * np.eye(3), frac)


def grid(n_sites, spacing):
    side = int(np.ceil(n_sites ** (1 / 3)))
    return np.stack(np.meshgrid(*[np.arange(side)] * 3), -1).reshape(-1, 3)[:n_sites] * spacing


@pytest.fixture(scope="module")
def embed():
    return DSSLPretrainer(pretrained="mp", max_epochs=0, device="cpu").fit([cube(3.0, [[0, 0, 0]])])


@given(
    lengths=st.tuples(LENGTHS, LENGTHS, LENGTHS),
    angles=st.tuples(ANGLES, ANGLES, ANGLES),
    frac=st.lists(st.tuples(COORDINATES, COORDINATES, COORDINATES), min_size=1, max_size=6),
    hand=st.sampled_from([1, -1]),
)
@settings(max_examples=60, deadline=None, derandomize=True)
@pytest.mark.filterwarnings("ignore::dssl_sklearn.exceptions.IsolatedSiteWarning")
def test_any_cell_is_refused_or_embedded_in_numbers(embed, lengths, angles, frac, hand):
    with np.errstate(all="ignore"):
        lattice = hand * np.array(Lattice.from_parameters(*lengths, *angles).matrix)
    with contextlib.suppress(InvalidStructureError):
        assert np.isfinite(embed.transform([crystal(lattice, frac)])).all()


def memory_of(item):
    """Megabytes that numpy takes at most while an item is refused or built."""
    tracemalloc.start()
    try:
        graphs_of([item])
        refused = ""
    except InvalidStructureError as error:
        refused = error.reasons[0]
    finally:
        peak = tracemalloc.get_traced_memory()[1] / 1e6
        tracemalloc.stop()
    return peak, refused


@pytest.mark.parametrize(
    "item, reason",
    [
        pytest.param(cube(1e-3, [[0, 0, 0]]), "unit of the lattice", id="tiny"),
        pytest.param(cube(1e-3, np.linspace(0, 0.9, 120).reshape(40, 3)), "unit", id="tiny, full"),
        pytest.param(
            crystal(np.diag([1e-3, 1e4, 1e4]), np.full((30, 3), 0.1)), "unit", id="needle"
        ),
        pytest.param(
            crystal(np.diag([0.11, 0.11, 1e4]), grid(400, 0.1)), "many neighbors|two atoms|cube",
            id="bar",
        ),
        pytest.param(cube(60, np.zeros((10_000, 3))), "10000 sites .* cube", id="one"),
        pytest.param(cube(1e4, grid(10_000, 1e-6)), "10000 sites .* within a cube", id="ball"),
        pytest.param(cube(1e7, [[0, 0, 0]]), "edge of 1e\\+07 angstrom", id="huge"),
        pytest.param(cube(1e200, [[0, 0, 0]]), "edge|zero volume|NaN", id="beyond floats"),
    ],
)  # fmt: skip
def test_what_would_have_too_many_neighbors_is_refused_before_the_memory_goes(item, reason):
    peak, refused = memory_of(item)
    with pytest.raises(ValueError, match=reason):
        raise ValueError(refused)
    assert peak < 20


@pytest.mark.parametrize(
    "item, most",
    [
        # Ten thousand sites at the distances of a crystal, far apart, and clustered in vacuum.
        pytest.param(cube(60, grid(10_000, 1 / 22)), 400, id="bulk"),
        pytest.param(cube(1e4, grid(100, 0.2)), 100, id="gas"),
        pytest.param(cube(1e4, grid(2000, 1.5e-4)), 200, id="cluster"),
        pytest.param(crystal(np.diag([3.0, 3.0, 1e4]), grid(60, 1 / 4)), 50, id="slab"),
        pytest.param(crystal(np.diag([0.51, 1e4, 1e4]), [[0, i / 20, 0] for i in range(20)] * 1 +
                             [[0, i / 21, 0.5] for i in range(21)]), 200, id="plate"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::dssl_sklearn.exceptions.IsolatedSiteWarning")
def test_large_and_empty_cells_take_little_memory(item, most):
    peak, refused = memory_of(item)
    assert not refused
    assert peak < most


@pytest.mark.filterwarnings("ignore::dssl_sklearn.exceptions.IsolatedSiteWarning")
def test_a_clustered_crystal_has_the_edges_of_the_plain_search():
    """The first radius of a cell that is mostly vacuum only saves time."""
    frac = np.concatenate([grid(60, 0.02), [[0.5, 0.5, 0.5]]])
    (graph,) = graphs_of([cube(80.0, frac)])
    # The lone site reaches across the vacuum, every other one to its nearest twelve at least.
    n_edges = np.bincount(graph.target)
    assert (n_edges[:60] >= 12).all()
    assert n_edges[60] >= 1
    positions = frac * 80.0
    for target in range(60):
        distances = np.sort(np.linalg.norm(positions[:60] - positions[target], axis=1))[1:]
        found = np.sort(graph.distance[graph.target == target])
        np.testing.assert_allclose(found, distances[: len(found)], rtol=1e-6)


def test_the_text_of_a_file_in_place_of_its_path():
    text = "data_NaCl\n_cell_length_a 5.6\n" * 300
    with pytest.raises(InvalidStructureError, match="the text of a file, not its path"):
        graphs_of([text])


def test_a_file_that_is_too_large(tmp_path):
    path = tmp_path / "huge.cif"
    with path.open("wb") as file:
        file.truncate(100 * 2**20)
    with pytest.raises(InvalidStructureError, match="has 100 MB, expected one crystal"):
        graphs_of([path])


GARBAGE = st.sampled_from(
    [b"nan", b"1e999", b"?", b"'", b";\n", b"loop_\n", b"\x00\xff", b"9" * 400, b"(" * 300, b"1/0"]
)


@given(places=st.lists(st.tuples(st.floats(0, 1), GARBAGE), min_size=1, max_size=4))
@settings(max_examples=40, deadline=None, derandomize=True)
@pytest.mark.filterwarnings("ignore")  # pymatgen's
def test_garbage_in_a_cif_file(places, tmp_path_factory):
    salt = Structure(Lattice.cubic(4.1), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    data = bytearray(str(salt.to(fmt="cif")).encode())
    for share, garbage in places:
        place = int(share * len(data))
        data[place : place + 3] = garbage
    path = tmp_path_factory.getbasetemp() / "fuzzed.cif"
    path.write_bytes(data)
    try:
        graphs = graphs_of([path])
    except InvalidStructureError:
        return
    assert np.isfinite(graphs[0].distance).all()


def test_isolated_sites_still_warn():
    with pytest.warns(IsolatedSiteWarning):
        graphs_of([cube(1e4, [[0, 0, 0]])])


@pytest.mark.parametrize("edges", [(2.2, 1e4, 13.0), (3.0, 3.0, 1e4), (1e3, 1e3, 2.2)])
@pytest.mark.filterwarnings("ignore::dssl_sklearn.exceptions.IsolatedSiteWarning")
def test_turned_and_skewed_long_cells_have_the_same_edges(edges):
    """The box around such a cell is huge, and so is the number of images that fill it."""
    lattice, frac = np.diag(edges), grid(60, 0.24) + 0.01
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    skew = np.array([[1, 0, 0], [40, 1, 0], [3, -7, 1]])
    found = []
    for change, rotation in product((np.eye(3), skew), (np.eye(3), turn)):
        item = crystal(change @ lattice @ rotation, frac @ np.linalg.inv(change))
        peak, refused = memory_of(item)
        assert not refused
        assert peak < 50
        found.append(np.sort(graphs_of([item])[0].distance))
    for distances in found[1:]:
        np.testing.assert_allclose(distances, found[0], rtol=1e-5)
