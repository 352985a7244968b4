"""What a crystal says of itself before anything is learned: bonds, densities, composition.

All of it follows from the graph and from tables of the elements, and is the same for a cell and its
supercells. The pretext task `dssl_sklearn.objectives.Descriptors` predicts it, and the kernel part
of a `DSSLRegressor` compares crystals by it.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dssl_sklearn.crystals.batch import CrystalBatch
from dssl_sklearn.crystals.elements import element_features, element_property
from dssl_sklearn.crystals.stiffness import prior_stiffness
from dssl_sklearn.models.segments import mean_over_sites, segment_count, segment_sum

#: Decay length of the bond weights in angstrom, close to the 0.37 of bond valences (Brown and
#: Altermatt, Acta Cryst. B 41, 244 (1985)).
BOND_SOFTNESS = 0.4
#: Keeps a site without close neighbors finite.
_SMALLEST_WEIGHT = 1e-6

#: Element properties whose surroundings are described; the stiffness is the prior one, which has
#: seen no crystal.
DESCRIBED_PROPERTIES: tuple[str, ...] = (
    "electronegativity",
    "atomic_radius",
    "valence",
    "first_ionization_energy",
    "electron_affinity",
    "melting_point",
    "mendeleev_number",
    "bulk_modulus",
    "molar_volume",
    "group",
    "max_oxidation_state",
)


def element_table() -> Tensor:
    """Collect what `describe` needs of the elements.

    Returns
    -------
    Tensor of shape (104, 3 + 12)
        By atomic number: atomic radius in angstrom, valence electrons, prior stiffness in eV; then
        the standardized `DESCRIBED_PROPERTIES` and stiffness. Zeros in row 0.
    """
    stiffness = prior_stiffness()
    standardized = (stiffness - np.nanmean(stiffness)) / np.nanstd(stiffness)
    columns = [element_property("atomic_radius"), element_property("valence"), stiffness]
    features = element_features(DESCRIBED_PROPERTIES)
    table = np.column_stack([*columns, features, standardized])
    table[0] = 0
    return torch.as_tensor(table, dtype=torch.get_default_dtype())


def describe(batch: CrystalBatch, elements: Tensor) -> tuple[Tensor, Tensor]:
    """Describe sites and crystals, see `dssl_sklearn.objectives.Descriptors`.

    Parameters
    ----------
    batch : CrystalBatch
        Clean crystals, nothing masked.
    elements : Tensor of shape (104, 15)
        From `element_table`.

    Returns
    -------
    sites : Tensor of shape (n_sites, 30)
        Local environments.
    crystals : Tensor of shape (n_crystals, 89)
        Means, deviations and densities.
    """
    properties = elements.index_select(0, batch.numbers)[:, 3:]
    bonds = _Bonds(batch, elements)
    source, target = batch.edge_index
    around = bonds.average(properties[source])
    contrast = bonds.average((properties[source] - properties[target]).abs())
    sites = torch.cat([bonds.lengths(), around, contrast], 1)
    local = torch.cat([sites, properties], 1)
    mean = mean_over_sites(local, batch)
    variance = mean_over_sites((local - mean.index_select(0, batch.batch)).square(), batch)
    crystals = [_densities(batch, elements, bonds), mean, (variance + 1e-6).sqrt()]
    return sites, torch.cat(crystals, 1)


def feature_groups(batch: CrystalBatch, elements: Tensor, features: Tensor) -> tuple[Tensor, ...]:
    """Describe crystals, as a kernel compares them: densities, bonds, composition, arrangement.

    Parameters
    ----------
    batch : CrystalBatch
        Clean crystals, nothing masked.
    elements : Tensor of shape (104, 15)
        From `element_table`.
    features : Tensor of shape (104, n_features)
        Features of the elements.

    Returns
    -------
    densities : Tensor of shape (n_crystals, 5)
        Logarithms of volume per atom, packing fraction, and stiffness, valence electrons and bond
        weights per volume.
    bonds : Tensor of shape (n_crystals, 28)
        Mean, deviation, minimum and maximum over the sites of the six figures of bond lengths in
        `describe` and of the shortest distance.
    composition : Tensor of shape (n_crystals, n_features)
        Mean of the features over the sites.
    spread : Tensor of shape (n_crystals, 3 * n_features)
        Deviation, minimum and maximum of the features over the sites.
    arrangement : Tensor of shape (n_crystals, n * (n - 1) / 2) with n = 6 + n_features
        Covariances over the sites of every two of the six figures and the features: which elements
        come together, and which of them sits where. The composition knows neither.
    """
    bonds = _Bonds(batch, elements)
    longest = batch.edge_distance.new_full((batch.n_sites,), torch.inf)
    shortest = longest.scatter_reduce(0, batch.edge_index[1], batch.edge_distance, "amin")
    lengths, of_elements = bonds.lengths(), features.index_select(0, batch.numbers)
    of_sites = torch.cat([lengths, shortest.unsqueeze(1)], 1)
    mean, *spread = _statistics(of_elements, batch)
    return (
        _densities(batch, elements, bonds),
        torch.cat(_statistics(of_sites, batch), 1),
        mean,
        torch.cat(spread, 1),
        _covariances(torch.cat([lengths, of_elements], 1), batch),
    )


class _Bonds:
    """Weights of the edges as bonds, and what they say of the sites."""

    def __init__(self, batch: CrystalBatch, elements: Tensor) -> None:
        radius = elements.index_select(0, batch.numbers)[:, 0:1]
        source, self.target = batch.edge_index
        self.contact = radius[source] + radius[self.target]
        self.distance = batch.edge_distance.unsqueeze(1)
        softened = (self.contact - self.distance) / BOND_SOFTNESS
        self.weight = softened.exp() + _SMALLEST_WEIGHT
        self.n_sites = batch.n_sites
        self.sum = self._total(self.weight)

    def _total(self, of_edges: Tensor) -> Tensor:
        return segment_sum(of_edges, self.target, self.n_sites)

    def average(self, of_edges: Tensor) -> Tensor:
        """Weighted mean over the bonds of each site."""
        return self._total(self.weight * of_edges) / self.sum

    def lengths(self) -> Tensor:
        """Strength, number and lengths of the bonds of each site, shape (n_sites, 6)."""
        neighbors = self.sum.square() / self._total(self.weight.square())
        lengths = torch.cat([self.distance, self.distance / self.contact], 1)
        mean = self.average(lengths)
        deviation = (self.average((lengths - mean[self.target]).square()) + 1e-6).sqrt()
        return torch.cat([self.sum.log(), neighbors.log(), mean, deviation], 1)


def _densities(batch: CrystalBatch, elements: Tensor, bonds: _Bonds) -> Tensor:
    """Logarithms of volume per atom and of four quantities per volume."""
    of_site = elements.index_select(0, batch.numbers)
    radius, valence, stiffness = of_site[:, 0:1], of_site[:, 1:2], of_site[:, 2:3]
    volume = torch.linalg.det(batch.lattice).abs().unsqueeze(1)
    count = segment_count(batch.batch, batch.n_crystals)
    per_volume = torch.cat([4 / 3 * torch.pi * radius**3, stiffness, valence, bonds.sum], 1)
    total = segment_sum(per_volume, batch.batch, batch.n_crystals)
    return torch.cat([(volume / count).log(), (total / volume).clamp_min(1e-9).log()], 1)


def _statistics(sites: Tensor, batch: CrystalBatch) -> list[Tensor]:
    """Mean, deviation, minimum and maximum over the sites of each crystal."""
    mean = mean_over_sites(sites, batch)
    deviation = mean_over_sites((sites - mean.index_select(0, batch.batch)).square(), batch).sqrt()
    index = batch.batch.unsqueeze(1).expand_as(sites)
    empty = torch.zeros_like(mean)
    extremes = [
        empty.scatter_reduce(0, index, sites, kind, include_self=False) for kind in ("amin", "amax")
    ]
    return [mean, deviation, *extremes]


def _covariances(sites: Tensor, batch: CrystalBatch) -> Tensor:
    """Covariances over the sites of each crystal of every two columns."""
    count = segment_count(batch.batch, batch.n_crystals)
    centered = sites - mean_over_sites(sites, batch).index_select(0, batch.batch)
    # A product of matrices for each crystal takes an eighth of the time of one for each site.
    of_crystals = torch.split(centered, count.squeeze(1).long().tolist())
    products = torch.stack([columns.T @ columns for columns in of_crystals])
    width = sites.shape[1]
    one, other = torch.triu_indices(width, width, 1, device=sites.device)
    return products[:, one, other] / count
