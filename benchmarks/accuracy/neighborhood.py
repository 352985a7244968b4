"""A cheap fingerprint of every site's surroundings that also works for monolayers.

Voronoi cells, on which such fingerprints are usually built, fail for crystals with a vacuum and
take a quarter of a second per crystal; here neighbors fade out with their distance instead.
"""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pymatgen.core import Structure

CUTOFF = 8.0
#: A neighbor weighs (shortest distance / its distance) to this power ...
FADE = 8
#: ... and is left out below this weight.
SMALLEST_WEIGHT = 0.01
DEGREES = (2, 4, 6)
STATISTICS = ("mean", "std", "min", "max")
_GEOMETRY = (
    "shortest distance",
    "effective coordination number",
    "mean distance",
    "relative spread of distances",
    "distance over covalent radii",
    *(f"bond order q{degree}" for degree in DEGREES),
)
#: Properties of the elements compared with those of the neighbors; those of Ward et al. 2017.
_PROPERTIES = (
    "Number",
    "MendeleevNumber",
    "AtomicWeight",
    "MeltingT",
    "Column",
    "Row",
    "CovalentRadius",
    "Electronegativity",
    "NsValence",
    "NpValence",
    "NdValence",
    "NfValence",
    "NValence",
    "NsUnfilled",
    "NpUnfilled",
    "NdUnfilled",
    "NfUnfilled",
    "NUnfilled",
    "GSvolume_pa",
    "GSbandgap",
    "GSmagmom",
    "SpaceGroupNumber",
)
_RADIUS = _PROPERTIES.index("CovalentRadius")
_PM_PER_ANGSTROM = 100.0


def neighborhood_labels() -> list[str]:
    """Names of the columns of `neighborhood_features`."""
    of_site = [*_GEOMETRY, *(f"local difference of {name}" for name in _PROPERTIES)]
    return [f"{statistic} {name}" for statistic in STATISTICS for name in of_site]


def neighborhood_features(structure: Structure) -> NDArray[np.float64]:
    r"""Describe the surroundings of the sites of a crystal.

    For every site: shortest distance, effective coordination number :math:`\sum_j w_{ij}`, weighted
    mean and relative spread of the distances, mean distance over the sum of covalent radii,
    Steinhardt's bond-order parameters of degree 2, 4 and 6 [1]_, and the weighted mean of
    :math:`|p_j - p_i|` for 22 properties of the elements [2]_, all with
    :math:`w_{ij} = (d_i^{\min} / d_{ij})^8`; then mean, standard deviation, minimum and maximum
    over the sites.

    Parameters
    ----------
    structure : Structure
        The crystal.

    Returns
    -------
    ndarray of shape (120,)
        In the order of `neighborhood_labels`; NaN where no site has a neighbor within 8 angstrom.

    References
    ----------
    .. [1] Steinhardt, Nelson and Ronchetti, Phys. Rev. B 28, 784 (1983), equation 1.3b.
    .. [2] Ward et al., Phys. Rev. B 96, 024104 (2017), section II A; there the weights are the
       faces of Voronoi cells.
    """
    target, source, images, distance = structure.get_neighbor_list(CUTOFF)
    offset = structure.frac_coords[source] + images - structure.frac_coords[target]
    direction = offset @ structure.lattice.matrix / distance[:, None]
    numbers = np.array([site.specie.Z for site in structure])
    sites = []
    for site in range(len(structure)):
        edges = np.flatnonzero(target == site)
        if not len(edges):
            continue
        weight = (distance[edges].min() / distance[edges]) ** FADE
        near = weight > SMALLEST_WEIGHT
        edges, weight = edges[near], weight[near]
        shares = weight / weight.sum()
        own, others = _element_table()[numbers[site]], _element_table()[numbers[source[edges]]]
        sites.append(
            np.concatenate(
                [
                    _geometry(distance[edges], weight, own[_RADIUS] + others[:, _RADIUS]),
                    [_bond_order(direction[edges], shares, degree) for degree in DEGREES],
                    shares @ np.abs(others - own),
                ]
            )
        )
    if not sites:
        return np.full(len(neighborhood_labels()), np.nan)
    return site_statistics(np.array(sites))


def site_statistics(sites: NDArray[np.floating]) -> NDArray[np.float64]:
    """Mean, standard deviation, minimum and maximum of each column, one after the other."""
    sites = np.asarray(sites, float)
    return np.concatenate([sites.mean(0), sites.std(0), sites.min(0), sites.max(0)])


def _geometry(
    distance: NDArray[np.float64], weight: NDArray[np.float64], radii_pm: NDArray[np.float64]
) -> NDArray[np.float64]:
    shares = weight / weight.sum()
    mean = shares @ distance
    spread = np.sqrt(shares @ (distance - mean) ** 2) / mean
    relative = shares @ (distance * _PM_PER_ANGSTROM / radii_pm)
    return np.array([distance.min(), weight.sum(), mean, spread, relative])


def _bond_order(direction: NDArray[np.float64], shares: NDArray[np.float64], degree: int) -> float:
    """Steinhardt's q of this degree, by the addition theorem of spherical harmonics."""
    cosine = np.clip(direction @ direction.T, -1, 1)
    legendre = np.polynomial.legendre.legval(cosine, np.eye(degree + 1)[degree])
    return math.sqrt(max(float(shares @ legendre @ shares), 0.0))


@cache
def _element_table() -> NDArray[np.float64]:
    """Properties by atomic number, shape (104, 22)."""
    from matminer.utils.data import MagpieData
    from pymatgen.core import Element

    data = MagpieData(impute_nan=True)
    rows = [
        [data.get_elemental_property(Element.from_Z(z), name) for name in _PROPERTIES]
        for z in range(1, 104)
    ]
    return np.array([[np.nan] * len(_PROPERTIES), *rows], float)
