import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dssl_sklearn.crystals import neighbors
from dssl_sklearn.crystals.builder import GraphBuilder
from dssl_sklearn.crystals.graph import Crystal
from dssl_sklearn.crystals.limits import MIN_DISTANCE
from dssl_sklearn.crystals.neighbors import SHELL_TOLERANCE, build_graphs
from dssl_sklearn.crystals.table import CrystalTable
from dssl_sklearn.exceptions import IsolatedSiteWarning

TOLERANCE = 1e-3
FCC = 3.6 * np.array([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])


def one_atom(lattice):
    return Crystal(np.array([29]), np.zeros((1, 3)), np.asarray(lattice, dtype=float))


def build_graph(crystal, cutoff=8.0, max_neighbors=12):
    """Graph of one crystal and its number of isolated sites."""
    table, errors = build_graphs(CrystalTable.of([crystal]), cutoff, max_neighbors)
    assert not errors
    return table.graph(0), table.n_isolated[0]


def in_box(positions, edge=40.0):
    """Atoms in a cubic box."""
    frac = np.asarray(positions, dtype=float) / edge
    return Crystal(np.full(len(frac), 6), frac, edge * np.eye(3))


def all_neighbors(crystal, target, radius):
    """Every (distance, source, shift) within the radius of a site, over all images, in float64."""
    spacing = 1 / np.linalg.norm(np.linalg.inv(crystal.lattice), axis=0)
    found = []
    for source, frac in enumerate(crystal.frac_coords):
        apart = frac - crystal.frac_coords[target]
        home = -np.round(apart).astype(int)
        reach = np.ceil(radius / spacing).astype(int) + 1
        shift = home + np.array(list(itertools.product(*(range(-n, n + 1) for n in reach))))
        distance = np.linalg.norm((apart + shift) @ crystal.lattice, axis=1)
        keep = distance <= radius
        if source == target:
            keep &= shift.any(axis=1)
        rows = zip(distance[keep], shift[keep], strict=True)
        found += [(d, source, tuple(s.tolist())) for d, s in rows]
    return sorted(found)


def reference(crystal, cutoff, max_neighbors):
    """Whole shells of nearest neighbors by the plainest search: edges, isolated sites, margin.

    The margin tells how far all distances are from a threshold at which rounding would decide.
    """
    edges, isolated, margin = [], [], np.inf
    for target in range(len(crystal)):
        radius = min(4.0, cutoff + 10 * TOLERANCE)
        while True:
            found = all_neighbors(crystal, target, radius)
            near = [d for d, *_ in found if d <= cutoff + TOLERANCE]
            wanted = min(len(near), max_neighbors) if near else max_neighbors
            distances = np.array([d for d, *_ in found])
            gaps = np.diff(distances, append=radius)
            ends = [k for k in range(wanted - 1, len(found)) if gaps[k] >= TOLERANCE]
            seen_all = radius > cutoff + 2 * TOLERANCE or len(near) >= max_neighbors
            if seen_all and len(found) >= wanted and ends:
                break
            radius *= 1.3
        if not near:
            isolated.append(target)
        kept = found[: ends[0] + 1]
        edges += [(target, source, *shift, d) for d, source, shift in kept]
        close = np.abs(gaps[wanted - 1 : ends[0] + 1] - TOLERANCE)
        margin = min(margin, *close, *np.abs(distances - cutoff - TOLERANCE))
    return np.array(sorted(edges)), isolated, margin


def edges_of(graph):
    rows = np.column_stack([graph.target, graph.source, graph.shift, graph.distance])
    return rows[np.lexsort(rows[:, 4::-1].T)]


def check_against_reference(crystal, cutoff=8.0, max_neighbors=12):
    expected, isolated, _ = reference(crystal, cutoff, max_neighbors)
    graph, n_isolated = build_graph(crystal, cutoff, max_neighbors)
    found = edges_of(graph)
    np.testing.assert_array_equal(found[:, :5], expected[:, :5])
    np.testing.assert_allclose(found[:, 5], expected[:, 5], rtol=1e-6)
    assert n_isolated == len(isolated)
    return graph


def check_distances(graph):
    """Stored distances are those of coordinates, lattice and shifts."""
    crystal = graph.crystal
    apart = crystal.frac_coords[graph.source] + graph.shift - crystal.frac_coords[graph.target]
    length = np.linalg.norm(apart @ crystal.lattice, axis=1)
    np.testing.assert_allclose(graph.distance, length, rtol=1e-6)


# ---- against the plain search ---------------------------------------------------------------


@pytest.mark.parametrize("cutoff, max_neighbors", [(8.0, 12), (5.0, 30), (3.0, 4)])
def test_real_crystals(real_crystals, cutoff, max_neighbors):
    for crystal in real_crystals:
        if len(crystal) > 40:  # the plain search takes seconds
            continue
        graph = check_against_reference(crystal, cutoff, max_neighbors)
        check_distances(graph)
        np.testing.assert_array_equal(graph.crystal.frac_coords, crystal.frac_coords)
        assert (graph.cutoff, graph.max_neighbors) == (cutoff, max_neighbors)


SHEAR = np.array([[1, 0, 0], [4, 1, 0], [-3, 5, 1]])


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(SHEAR, id="skewed"),
        pytest.param(np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1]]), id="left-handed"),
        pytest.param(-np.eye(3, dtype=int), id="inverted"),
        pytest.param(SHEAR @ np.diag([1, 1, -1]), id="skewed and left-handed"),
    ],
)
def test_other_lattice_vectors(real_crystals, change):
    for crystal in real_crystals:
        if len(crystal) > 8:
            continue
        other = Crystal(
            crystal.numbers,
            crystal.frac_coords @ np.linalg.inv(change),
            change @ crystal.lattice,
        )
        graph = check_against_reference(other)
        check_distances(graph)


def test_coordinates_outside_the_cell(real_crystals):
    rng = np.random.default_rng(0)
    for crystal in real_crystals:
        if len(crystal) > 20:
            continue
        cells = rng.integers(-9, 10, size=(len(crystal), 3))
        moved = Crystal(crystal.numbers, crystal.frac_coords + cells, crystal.lattice)
        graph = check_against_reference(moved)
        check_distances(graph)
        assert np.abs(graph.shift).max() > 2


@pytest.mark.parametrize("frac", [0.0, 1.0, -1e-17, 1 - 1e-16, -1e-9, 0.5])
def test_coordinates_on_the_faces_of_the_cell(frac):
    crystal = Crystal(
        np.array([11, 17]), np.array([[frac, 0, 0], [0.6, 0.5, 0.5]]), 3.5 * np.eye(3)
    )
    check_against_reference(crystal)


@pytest.mark.parametrize(
    "lattice, degree",
    [
        pytest.param(FCC, 12, id="fcc"),
        pytest.param(3.0 * np.eye(3), 18, id="simple cubic, 6 + 12"),
        pytest.param(1.5 * (1 - 2 * np.eye(3)), 14, id="bcc, 8 + 6"),
    ],
)
def test_single_atom_cells(lattice, degree):
    graph = check_against_reference(one_atom(lattice))
    assert graph.n_edges == degree
    assert (graph.source == 0).all()
    assert graph.shift.any(axis=1).all()


@pytest.mark.parametrize("vacuum", [15.0, 100.0, 3000.0])
def test_slab_with_vacuum(vacuum):
    bond = 1.42
    lattice = np.array([[bond * 3**0.5, 0, 0], [bond * 3**0.5 / 2, 1.5 * bond, 0], [0, 0, vacuum]])
    layer = Crystal(np.array([6, 6]), np.array([[0, 0, 0.5], [1 / 3, 1 / 3, 0.5]]), lattice)
    graph = check_against_reference(layer)
    assert not graph.shift[:, 2].any()
    assert graph.n_edges == 2 * (3 + 6 + 3)


@pytest.mark.parametrize("length", [60.0, 2e4])
def test_long_thin_cell(length):
    frac = np.array([[0, 0, 0], [0.5, 0.5, 2 / length], [0, 0, 0.4]])
    crystal = Crystal(np.array([22, 8, 8]), frac, np.diag([3.0, 3.2, length]))
    check_distances(check_against_reference(crystal))


@st.composite
def random_crystals(draw):
    """One to four atoms in a cell that may be oblique and left-handed."""
    n_sites = draw(st.integers(1, 4))
    frac = draw(arrays(float, (n_sites, 3), elements=st.floats(-2, 3)))
    scale = draw(st.floats(1.5, 9))
    noise = draw(arrays(float, (3, 3), elements=st.floats(-0.4, 0.4)))
    a, b, c = draw(st.tuples(*[st.integers(-3, 3)] * 3))
    lattice = scale * np.array([[1, 0, 0], [a, 1, 0], [b, c, 1]]) @ (np.eye(3) + noise)
    assume(abs(np.linalg.det(lattice)) > 0.3 * scale**3)
    lattice = lattice[::-1] if draw(st.booleans()) else lattice
    return Crystal(np.arange(1, n_sites + 1), frac, lattice)


@given(
    crystal=random_crystals(),
    cutoff=st.sampled_from([1.5, 4.0, 6.0]),
    max_neighbors=st.integers(1, 14),
)
@settings(max_examples=100, deadline=None, derandomize=True)
def test_random_cells(crystal, cutoff, max_neighbors):
    nearest = [all_neighbors(crystal, site, MIN_DISTANCE) for site in range(len(crystal))]
    assume(not any(nearest))
    _, _, margin = reference(crystal, cutoff, max_neighbors)
    assume(margin > 1e-7)
    check_distances(check_against_reference(crystal, cutoff, max_neighbors))


# ---- shells, cutoff, isolated sites ---------------------------------------------------------


def test_the_tolerance_is_the_documented_one():
    assert SHELL_TOLERANCE == TOLERANCE
    assert "1e-3 angstrom" in build_graphs.__doc__


@pytest.mark.parametrize("gap, degree", [(0.9e-3, 3), (1.1e-3, 2)])
def test_a_shell_ends_at_a_gap_of_the_tolerance(gap, degree):
    crystal = in_box([[0, 0, 0], [2, 0, 0], [0, 2.5, 0], [0, 0, 2.5 + gap]])
    graph, _ = build_graph(crystal, cutoff=8.0, max_neighbors=2)
    assert (graph.target == 0).sum() == degree


def test_a_shell_may_be_a_chain_of_small_steps():
    directions = np.vstack([np.eye(3), -np.eye(3)])
    radii = 2.5 + 0.8e-3 * np.arange(6)
    crystal = in_box([[0, 0, 0], *(radii[:, None] * directions)])
    graph = check_against_reference(crystal, cutoff=8.0, max_neighbors=1)
    assert (graph.target == 0).sum() == 6


def test_a_shell_across_the_cutoff_is_kept_whole():
    directions = np.vstack([np.eye(3), -np.eye(3)])
    radii = 2.5 + 0.9e-3 * np.arange(6)
    crystal = in_box([[0, 0, 0], *(radii[:, None] * directions)])
    graph = check_against_reference(crystal, cutoff=2.5, max_neighbors=12)
    assert (graph.target == 0).sum() == 6


def test_no_neighbor_is_left_out_that_is_as_near_as_one_taken(real_crystals):
    for crystal in real_crystals:
        graph, _ = build_graph(crystal)
        for site in range(0, len(crystal), 4):
            farthest = float(graph.distance[graph.target == site].max())
            within = all_neighbors(crystal, site, farthest + TOLERANCE - 1e-5)
            assert len(within) == (graph.target == site).sum() >= 12


def test_a_cutoff_on_a_shell_includes_it():
    graph, n_isolated = build_graph(one_atom(3 * np.eye(3)), 3.0, 12)
    assert (graph.n_edges, n_isolated) == (6, 0)
    np.testing.assert_allclose(graph.distance, 3.0)


def test_few_neighbors_within_the_cutoff():
    graph = check_against_reference(one_atom(3 * np.eye(3)), cutoff=4.5, max_neighbors=100)
    assert graph.n_edges == 6 + 12


@pytest.mark.parametrize("max_neighbors, degree", [(12, 12), (5, 12), (13, 18)])
def test_an_isolated_site_gets_its_nearest_whole_shells(max_neighbors, degree):
    graph, n_isolated = build_graph(one_atom(FCC), 1.0, max_neighbors)
    assert n_isolated == 1
    assert graph.n_edges == degree
    check_against_reference(one_atom(FCC), 1.0, max_neighbors)


@pytest.mark.parametrize("edge", [9.0, 50.0, 1e4])
def test_an_atom_alone_in_a_box(edge):
    graph = check_against_reference(one_atom(edge * np.eye(3)))
    assert graph.n_edges == 18


def test_only_the_isolated_site_is_widened():
    crystal = in_box([[0, 0, 0], [1.2, 0, 0], [0, 0, 20]])
    graph = check_against_reference(crystal, cutoff=8.0, max_neighbors=3)
    assert np.bincount(graph.target).tolist()[:2] == [1, 1]
    assert graph.distance[graph.target == 2].min() == pytest.approx(20)


def test_the_warning_names_the_structures_with_isolated_sites():
    crystals = [one_atom(FCC), one_atom(9 * np.eye(3)), one_atom(FCC), one_atom(20 * np.eye(3))]
    with pytest.warns(IsolatedSiteWarning, match=r"2 structure\(s\).*positions 1, 3\)"):
        GraphBuilder(8.0, 12).usable_graphs(crystals, skip=False)


# ---- atoms too close ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "frac, names",
    [
        ([[0.2, 0.3, 0.4], [0.2, 0.3, 0.4]], "sites 0 and 1"),
        ([[0, 0, 0], [1, 2, -3]], "sites 0 and 1"),
        ([[0.5, 0.5, 0.5], [0.001, 0, 0], [0.999, 0, 1]], "sites 1 and 2"),
    ],
)
def test_atoms_that_are_too_close_are_refused(frac, names):
    crystal = Crystal(np.full(len(frac), 6), np.array(frac, dtype=float), 4 * np.eye(3))
    _, errors = build_graphs(CrystalTable.of([crystal]), 8.0, 12)
    assert errors[0].startswith(f"two atoms too close: {names}")


def test_what_is_refused_is_named_across_blocks(monkeypatch):
    monkeypatch.setattr(neighbors, "_PAIRS_PER_BLOCK", 1)
    fine = one_atom(3 * np.eye(3))
    double = Crystal(np.array([1, 1]), np.zeros((2, 3)), 3 * np.eye(3))
    _, errors = build_graphs(CrystalTable.of([fine, fine, double, fine, double]), 8.0, 12)
    assert set(errors) == {2, 4}


def test_an_atom_on_its_own_image_is_refused():
    crystal = one_atom(np.diag([0.01, 4.0, 4.0]))
    _, errors = build_graphs(CrystalTable.of([crystal]), 8.0, 12)
    assert "site 0 and its periodic image" in errors[0]


def test_cells_in_nanometers_are_refused(real_crystals):
    for crystal in real_crystals:
        small = Crystal(crystal.numbers, crystal.frac_coords, crystal.lattice / 10)
        _, errors = build_graphs(CrystalTable.of([small]), 8.0, 12)
        assert "look at the unit of the" in errors[0]


def test_hydrogen_molecules_are_not_too_close():
    crystal = Crystal(np.array([1, 1]), np.array([[0, 0, 0], [0.074, 0, 0]]), 10 * np.eye(3))
    _, errors = build_graphs(CrystalTable.of([crystal]), 8.0, 12)
    assert not errors


# ---- form of the record ---------------------------------------------------------------------


def test_edges_are_sorted_by_target_then_distance(real_crystals):
    for crystal in real_crystals:
        graph, _ = build_graph(crystal)
        steps = np.diff(graph.target)
        assert (steps >= 0).all()
        assert (np.diff(graph.distance)[steps == 0] >= 0).all()
        assert len(np.unique(edges_of(graph)[:, :5], axis=0)) == graph.n_edges
        types = [a.dtype for a in (graph.source, graph.target, graph.shift, graph.distance)]
        assert types == [np.int32, np.int32, np.int32, np.float32]


@pytest.mark.parametrize("growth", [1.02, 4.0])
def test_the_growth_of_the_search_radius_does_not_show(
    real_crystals, monkeypatch, assert_same_graph, growth
):
    before = [build_graph(crystal)[0] for crystal in real_crystals]
    monkeypatch.setattr(neighbors, "_GROWTH", growth)
    for graph in before:
        assert_same_graph(graph, build_graph(graph.crystal)[0])


def test_a_crystal_has_the_same_graph_alone_and_among_others(real_crystals):
    first = real_crystals[0]
    skewed = Crystal(first.numbers, first.frac_coords @ np.linalg.inv(SHEAR), SHEAR @ first.lattice)
    overlapping = Crystal(np.array([1, 1]), np.zeros((2, 3)), 3 * np.eye(3))
    alone = one_atom(40 * np.eye(3))
    crystals = [alone, *real_crystals, overlapping, skewed]
    table, errors = build_graphs(CrystalTable.of(crystals), 8.0, 12)
    for row, crystal in enumerate(crystals):
        if crystal is overlapping:
            assert "sites 0 and 1 are 0 angstrom apart" in errors.pop(row)
        else:
            expected, expected_isolated = build_graph(crystal)
            for name in ("source", "target", "shift", "distance"):
                np.testing.assert_array_equal(
                    getattr(table.graph(row), name), getattr(expected, name)
                )
            assert table.n_isolated[row] == expected_isolated == (crystal is alone)
    assert not errors


def test_memory_layout_does_not_matter():
    """A strained pymatgen Structure has its lattice vectors in Fortran order."""
    lattice, frac = np.array([[3.0, 0.1, 0.2], [0, 3.2, 0.1], [0.1, 0, 3.1]]), np.eye(3)[:2] / 2
    numbers = np.array([26, 8])
    expected, _ = build_graph(Crystal(numbers, frac, lattice))
    fortran = Crystal(numbers, np.asfortranarray(frac), np.asfortranarray(lattice))
    found, _ = build_graph(fortran)
    np.testing.assert_array_equal(found.distance, expected.distance)
    np.testing.assert_array_equal(found.shift, expected.shift)
