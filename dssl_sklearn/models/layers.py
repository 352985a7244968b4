"""Blocks that the backbones share: what a site is, and how long an edge is."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from dssl_sklearn._checks import check_choice, check_integer, check_number
from dssl_sklearn.crystals.elements import MAX_ATOMIC_NUMBER, element_features

#: Numbers that underflow cost many times as much as others, here and in the products that follow.
_SMALLEST_EXPONENT = -60.0

#: What a network knows of an element.
SiteFeatures: TypeAlias = Literal["physical", "onehot"]


class DistanceExpansion(nn.Module):
    r"""Expand distances in Gaussians with centers spread evenly over [0, `cutoff`].

    .. math:: g_k(d) = \exp\left(-\frac{(d - \mu_k)^2}{2 \sigma^2}\right), \qquad
              \mu_k = k \sigma, \qquad \sigma = \frac{r_\mathrm{cut}}{n_\mathrm{basis} - 1}

    A Gaussian is as wide as the distance between centers, so that the sum of them is flat to
    1e-8 inside, and no distance falls into a gap.

    Parameters
    ----------
    n_basis : int
        Number of Gaussians, at least 2.
    cutoff : float
        Center of the last one, in angstrom.

    Raises
    ------
    InvalidInputError
        If a parameter is out of range.
    """

    centers: Tensor

    def __init__(self, n_basis: int, cutoff: float) -> None:
        super().__init__()
        check_integer("n_basis", n_basis, minimum=2)
        check_number("cutoff", cutoff)
        self.n_basis = n_basis
        self.sigma = cutoff / (n_basis - 1)
        # Follows from the parameters, so there is nothing to store.
        self.register_buffer("centers", torch.linspace(0, cutoff, n_basis), persistent=False)

    def forward(self, distance: Tensor) -> Tensor:
        """Expand distances.

        Parameters
        ----------
        distance : Tensor of shape (n_edges,)
            Lengths in angstrom.

        Returns
        -------
        Tensor of shape (n_edges, n_basis)
            Values of the Gaussians, in [0, 1], in the precision of the module.
        """
        # Half precision could not tell 7.99 from 8 angstrom.
        with torch.autocast(distance.device.type, enabled=False):
            offset = distance.to(self.centers.dtype).unsqueeze(1) - self.centers
            exponent = offset.square() * (-0.5 / self.sigma**2)
            return exponent.clamp_min(_SMALLEST_EXPONENT).exp()


class SiteEncoder(nn.Module):
    """Embed the elements of the sites; a masked site gets a vector of its own.

    Parameters
    ----------
    width : int
        Length of the embedding.
    site_features : {"physical", "onehot"}, default="physical"
        Standardized properties of the element (`element_features`), or its identity alone.

    Raises
    ------
    InvalidInputError
        If a parameter is out of range.

    Notes
    -----
    The table of features is part of the state dict: stored weights keep the features they were
    trained with when pymatgen's element data change.
    """

    table: Tensor

    def __init__(self, width: int, site_features: SiteFeatures = "physical") -> None:
        super().__init__()
        check_integer("width", width)
        check_choice("site_features", site_features, ("physical", "onehot"))
        if site_features == "physical":
            table = torch.as_tensor(element_features(), dtype=torch.get_default_dtype())
        else:
            table = torch.eye(MAX_ATOMIC_NUMBER + 1)[:, 1:].clone()
        self.register_buffer("table", table)
        self.linear = nn.Linear(table.shape[1], width)
        self.masked = nn.Parameter(torch.randn(width) / width**0.5)

    def forward(self, numbers: Tensor) -> Tensor:
        """Embed sites.

        Parameters
        ----------
        numbers : Tensor of shape (n_sites,), int64
            Atomic numbers, 0 for a masked site.

        Returns
        -------
        Tensor of shape (n_sites, width)
            Embeddings.
        """
        # In full precision, since every later layer adds to this embedding; it costs little, as
        # the table has fewer rows than most batches have sites.
        with torch.autocast(numbers.device.type, enabled=False):
            elements: Tensor = self.linear(self.table[1:])
            embeddings = torch.cat([self.masked.unsqueeze(0), elements])
            return embeddings.index_select(0, numbers)


def linear_layer(weight: Tensor, bias: Tensor) -> nn.Linear:
    """Make a linear layer of given weights, without drawing random ones first.

    Parameters
    ----------
    weight : Tensor of shape (out_width, in_width)
        Its matrix.
    bias : Tensor of shape (out_width,)
        Its offsets.

    Returns
    -------
    nn.Linear
        Layer that holds these tensors.
    """
    with torch.device("meta"):
        layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight, layer.bias = nn.Parameter(weight), nn.Parameter(bias)
    return layer
