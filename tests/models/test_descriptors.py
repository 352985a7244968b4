import numpy as np
import pytest
import torch
from pymatgen.core import Lattice, Structure

from dssl_sklearn.crystals.builder import GraphBuilder
from dssl_sklearn.crystals.elements import element_features
from dssl_sklearn.models.descriptors import describe, element_table, feature_groups


def of(structures):
    batch = GraphBuilder(8.0, 12).dataset(structures).batch(np.arange(len(structures)))
    features = torch.as_tensor(element_features()).float()
    return feature_groups(batch, element_table(), features), batch


@pytest.fixture(scope="module")
def crystals(elastic):
    return [s for s in elastic[0] if 2 <= len(s) <= 6][:6]


def test_columns(crystals):
    (densities, bonds, composition, spread, arrangement), batch = of(crystals)
    assert densities.shape == (6, 5)
    assert bonds.shape == (6, 28)
    n_features = element_features().shape[1]
    assert composition.shape == (6, n_features)
    assert spread.shape == (6, 3 * n_features)
    assert arrangement.shape == (6, (n_features + 6) * (n_features + 5) // 2)
    _, crystals_of = describe(batch, element_table())
    torch.testing.assert_close(torch.cat([densities, bonds[:, :6]], 1), crystals_of[:, :11])
    shortest = [s.distance_matrix[~np.eye(len(s), dtype=bool)].min() for s in crystals]
    assert bonds[:, 2 * 7 + 6].numpy() == pytest.approx(shortest, rel=1e-5)


def test_supercells_and_other_cells_of_a_crystal_are_equal(crystals):
    first, _ = of(crystals)
    for change in (
        lambda s: s.make_supercell([2, 1, 1], in_place=False),
        lambda s: s.make_supercell([[1, 1, 0], [0, 1, 0], [0, 0, 1]], in_place=False),
        lambda s: type(s).from_sites(list(reversed(s))),
    ):
        second, _ = of([change(s.copy()) for s in crystals])
        for a, b in zip(first, second, strict=True):
            torch.testing.assert_close(a, b, atol=2e-3, rtol=1e-4)


def test_composition_tells_the_elements_apart(crystals):
    """Mean, deviation and extremes of the element features over the sites."""
    (_, _, mean, spread, _), _ = of(crystals)
    table = element_features()
    for row, structure in enumerate(crystals):
        of_sites = table[[site.specie.Z for site in structure]]
        expected = [of_sites.mean(0), of_sites.std(0), of_sites.min(0), of_sites.max(0)]
        found = torch.cat([mean[row], spread[row]])
        np.testing.assert_allclose(found, np.concatenate(expected), atol=1e-5)


def test_arrangement_is_the_covariance_over_the_sites(crystals):
    (*_, arrangement), batch = of(crystals)
    sites, _ = describe(batch, element_table())
    known = np.column_stack([sites[:, :6].numpy(), element_features()[batch.numbers.numpy()]])
    upper = np.triu_indices(known.shape[1], 1)
    for row in range(len(crystals)):
        expected = np.cov(known[batch.batch.numpy() == row], rowvar=False, bias=True)[upper]
        np.testing.assert_allclose(arrangement[row], expected, atol=1e-4)


def test_arrangement_tells_which_element_sits_where():
    """In a perovskite and its inverse, composition and lengths are the same for one cell."""

    def perovskite(corner, center):
        sites = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
        return Structure(Lattice.cubic(4), [corner, center, "O", "O", "O"], sites)

    (*_, mean, spread, arrangement), _ = of([perovskite("Ba", "Ti"), perovskite("Ti", "Ba")])
    torch.testing.assert_close(mean[0], mean[1])
    torch.testing.assert_close(spread[0], spread[1])
    assert (arrangement[0] - arrangement[1]).abs().max() > 0.1
