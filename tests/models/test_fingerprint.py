import numpy as np
import pytest
import torch

from dssl_sklearn.crystals.builder import GraphBuilder
from dssl_sklearn.crystals.elements import element_features
from dssl_sklearn.models.descriptors import describe, element_table, fingerprint


def of(structures):
    batch = GraphBuilder(8.0, 12).dataset(structures).batch(np.arange(len(structures)))
    features = torch.as_tensor(element_features()).float()
    return fingerprint(batch, element_table(), features), batch


@pytest.fixture(scope="module")
def crystals(elastic):
    return [s for s in elastic[0] if 2 <= len(s) <= 6][:6]


def test_columns(crystals):
    (bonds, composition), batch = of(crystals)
    assert bonds.shape == (6, 33)
    assert composition.shape == (6, 4 * element_features().shape[1])
    _, crystals_of = describe(batch, element_table())
    torch.testing.assert_close(bonds[:, :11], crystals_of[:, :11])
    shortest = [s.distance_matrix[~np.eye(len(s), dtype=bool)].min() for s in crystals]
    assert bonds[:, 5 + 2 * 7 + 6].numpy() == pytest.approx(shortest, rel=1e-5)


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
    (_, composition), _ = of(crystals)
    table = element_features()
    for row, structure in enumerate(crystals):
        of_sites = table[[site.specie.Z for site in structure]]
        expected = [of_sites.mean(0), of_sites.std(0), of_sites.min(0), of_sites.max(0)]
        np.testing.assert_allclose(composition[row], np.concatenate(expected), atol=1e-5)
