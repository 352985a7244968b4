import numpy as np
import pytest
from matplotlib.patches import Circle
from pymatgen.core import Lattice, Structure

from dssl_sklearn.crystals.elements import element_property
from dssl_sklearn.crystals.inputs import read_crystals
from dssl_sklearn.exceptions import InvalidInputError, InvalidStructureError
from dssl_sklearn.explain import integrated_gradients, site_contributions
from dssl_sklearn.plotting import SiteContributionsDisplay
from dssl_sklearn.plotting._projection import atoms_in_cell, cell_edges, view_axes


@pytest.fixture
def salt():
    return Structure(Lattice.cubic(2.9), ["Na", "Cl"], [[0, 0, 0.9999], [0.5, 0.5, 0.5]])


def circles(display):
    return [patch for patch in display.ax_.patches if isinstance(patch, Circle)]


def test_atoms_on_the_faces_are_on_all_sides(salt):
    sites, places = atoms_in_cell(read_crystals([salt])[0])
    assert np.bincount(sites).tolist() == [8, 1]
    corners = {tuple(np.round(place / 2.9).astype(int)) for place in places[sites == 0]}
    assert corners == {(i, j, k) for i in (0, 1) for j in (0, 1) for k in (0, 1)}


def test_a_cell_has_twelve_edges():
    lattice = np.array([[3.0, 0, 0], [1, 4, 0], [0.5, 0.5, 5]])
    edges = cell_edges(lattice)
    lengths = sorted(np.linalg.norm(edges[:, 1] - edges[:, 0], axis=1))
    np.testing.assert_allclose(lengths, np.repeat(sorted(np.linalg.norm(lattice, axis=1)), 4))
    assert len({tuple(np.round(e.sum(axis=0), 6)) for e in edges}) == 12


@pytest.mark.parametrize("elev, azim", [(0, 0), (12, 25), (90, 0), (-40, 200)])
def test_a_view_is_a_rotation(elev, azim):
    view = view_axes(elev, azim)
    np.testing.assert_allclose(view @ view.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(view) == pytest.approx(1)


def test_a_view_from_x_shows_y_to_the_right():
    np.testing.assert_allclose(view_axes(0, 0), [[0, 1, 0], [0, 0, 1], [1, 0, 0]], atol=1e-12)


def test_colors_are_symmetric_and_sizes_those_of_the_elements(salt):
    display = SiteContributionsDisplay.from_contributions(salt, [0.1, -0.4])
    low, high = display.colorbar_.vmin, display.colorbar_.vmax
    assert (low, high) == (-0.4, 0.4)
    radii = element_property("atomic_radius")[[11, 17]]
    found = sorted({circle.radius for circle in circles(display)})
    assert found[1] / found[0] == pytest.approx(radii.max() / radii.min())
    assert len(circles(display)) == 9
    assert len({circle.get_facecolor() for circle in circles(display)}) == 2


def test_near_atoms_hide_far_ones(salt):
    display = SiteContributionsDisplay.from_contributions(salt, [0.1, -0.4], elev=0, azim=0)
    # Seen along x, sodium at x = 0 lies behind sodium at x = 2.9.
    by_place = {}
    for circle in circles(display):
        by_place.setdefault(tuple(np.round(circle.center, 2)), []).append(circle.zorder)
    pairs = [orders for orders in by_place.values() if len(orders) == 2]
    assert len(pairs) == 4
    assert all(abs(a - b) == pytest.approx(2.9) for a, b in pairs)


def test_a_linear_head_is_split_exactly(linear_regressor, elastic, texts):
    crystal = elastic[0][30]
    display = SiteContributionsDisplay.from_estimator(
        linear_regressor, crystal, target_name="log10 K", unit="log10 GPa"
    )
    expected = site_contributions(linear_regressor, [crystal])
    np.testing.assert_allclose(display.contributions, expected[0])
    assert display.prediction == pytest.approx(linear_regressor.predict([crystal])[0], abs=1e-5)
    said = "\n".join(texts(display.figure_))
    assert f"{display.prediction:.3f} = {display.baseline:.3f} (baseline)" in said
    assert "contribution to log10 K (log10 GPa)" in said


def test_integrated_gradients_can_be_asked_for(linear_regressor, elastic):
    crystal = elastic[0][30]
    display = SiteContributionsDisplay.from_estimator(
        linear_regressor, crystal, method="integrated_gradients"
    )
    expected = integrated_gradients(linear_regressor, [crystal])[0]
    np.testing.assert_allclose(display.contributions, expected)
    with pytest.raises(InvalidInputError, match="method must be one of"):
        SiteContributionsDisplay.from_estimator(linear_regressor, crystal, method="exact")


def test_zero_everywhere_is_drawn(salt, texts):
    assert texts(SiteContributionsDisplay.from_contributions(salt, [0, 0]).figure_)


def test_bad_input_is_explained(salt):
    with pytest.raises(InvalidInputError, match="contributions has 3 entries, expected 2"):
        SiteContributionsDisplay.from_contributions(salt, [1, 2, 3])
    with pytest.raises(InvalidInputError, match="nan at site 1"):
        SiteContributionsDisplay.from_contributions(salt, [1, np.nan])
    with pytest.raises(InvalidStructureError, match="structure 0"):
        SiteContributionsDisplay.from_contributions(7, [1])
