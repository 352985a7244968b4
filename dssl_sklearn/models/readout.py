"""From site embeddings to crystal embeddings."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dssl_sklearn._checks import check_integer
from dssl_sklearn.crystals.batch import CrystalBatch
from dssl_sklearn.crystals.elements import MAX_ATOMIC_NUMBER
from dssl_sklearn.models._build import build_module
from dssl_sklearn.models.segments import mean_over_sites, segment_softmax, segment_sum

#: Keeps the gradient of the standard deviation finite where all sites are equal.
_VARIANCE_FLOOR = 1e-6


class Readout(nn.Module, ABC):
    """Turns site embeddings into one embedding per crystal.

    As with `Backbone`, an integer attribute ``width`` and this ``forward`` are enough.

    Attributes
    ----------
    width : int
        Length of a crystal embedding.
    """

    width: int

    @abstractmethod
    def forward(self, sites: Tensor, batch: CrystalBatch) -> Tensor:
        """Embed the crystals.

        Parameters
        ----------
        sites : Tensor of shape (n_sites, site_width)
            Site embeddings.
        batch : CrystalBatch
            The crystals that the sites belong to.

        Returns
        -------
        Tensor of shape (n_crystals, width)
            Crystal embeddings.
        """


class MeanReadout(Readout):
    """Mean over the sites of a crystal; the same for a cell and its supercells.

    Parameters
    ----------
    site_width : int
        Length of a site embedding.
    """

    def __init__(self, site_width: int) -> None:
        super().__init__()
        check_integer("site_width", site_width)
        self.width = site_width

    def forward(self, sites: Tensor, batch: CrystalBatch) -> Tensor:
        """Embed the crystals, shape (n_crystals, width)."""
        return mean_over_sites(sites, batch)


class MeanStdReadout(Readout):
    """Mean and standard deviation (of the population) over the sites of a crystal.

    The deviation is sqrt(variance + 1e-6) - sqrt(1e-6): zero for a single site, with a finite
    gradient.

    Parameters
    ----------
    site_width : int
        Length of a site embedding; the crystal embedding has twice as many entries.
    """

    def __init__(self, site_width: int) -> None:
        super().__init__()
        check_integer("site_width", site_width)
        self.width = 2 * site_width

    def forward(self, sites: Tensor, batch: CrystalBatch) -> Tensor:
        """Embed the crystals, shape (n_crystals, width)."""
        mean = mean_over_sites(sites, batch)
        variance = mean_over_sites((sites - mean.index_select(0, batch.batch)).square(), batch)
        deviation = (variance + _VARIANCE_FLOOR).sqrt() - _VARIANCE_FLOOR**0.5
        return torch.cat([mean, deviation], dim=1)


class MeanMaxReadout(Readout):
    """Mean and maximum over the sites of a crystal; the same for a cell and its supercells.

    The mean suits what adds up over the sites (energies), the maximum what a single kind of site
    decides (the highest phonon frequency).

    Parameters
    ----------
    site_width : int
        Length of a site embedding; the crystal embedding has twice as many entries.

    Attributes
    ----------
    plain_width : int
        The first entries, which are a readout by themselves: the mean.
    """

    def __init__(self, site_width: int) -> None:
        super().__init__()
        check_integer("site_width", site_width)
        self.width = 2 * site_width
        self.plain_width = site_width

    def forward(self, sites: Tensor, batch: CrystalBatch) -> Tensor:
        """Embed the crystals, shape (n_crystals, width)."""
        return torch.cat([mean_over_sites(sites, batch), _max(sites, batch)], dim=1)


class AttentionReadout(Readout):
    r"""Global attention of GATGNN: sites weighed in view of their crystal's composition.

    .. math:: h = \sum_i w_i x_i, \qquad
              w = \mathrm{softmax}_i\big(\mathrm{MLP}([x_i \,\Vert\, \mathrm{composition}])\big)

    The composition, fractions of the elements, is that of the view: masked sites are left out, so
    that it cannot tell which elements are hidden.

    Parameters
    ----------
    site_width : int
        Length of a site embedding, and of a crystal embedding.
    hidden : int, default=None
        Width of the two hidden layers; None for `site_width`.

    References
    ----------
    .. [1] Louis et al., Phys. Chem. Chem. Phys. 22, 18141 (2020).
    """

    def __init__(self, site_width: int, hidden: int | None = None) -> None:
        super().__init__()
        check_integer("site_width", site_width)
        hidden = site_width if hidden is None else hidden
        check_integer("hidden", hidden)
        self.width = site_width
        # The first layer reads [x_i, composition]; it is split to compute the second part once
        # a crystal.
        self.from_site = nn.Linear(site_width, hidden)
        self.from_composition = nn.Linear(MAX_ATOMIC_NUMBER, hidden, bias=False)
        self.hidden = nn.Linear(hidden, hidden)
        self.logit = nn.Linear(hidden, 1)

    def forward(self, sites: Tensor, batch: CrystalBatch) -> Tensor:
        """Embed the crystals, shape (n_crystals, width)."""
        weighted = sites * self.weights(sites, batch)
        return segment_sum(weighted, batch.batch, batch.n_crystals)

    def weights(self, sites: Tensor, batch: CrystalBatch) -> Tensor:
        """Compute the weights of the sites, shape (n_sites, 1); those of a crystal sum to 1."""
        of_crystal = self.from_composition(element_fractions(batch, self.logit.weight.dtype))
        inner = F.softplus(self.from_site(sites) + of_crystal.index_select(0, batch.batch))
        logits = self.logit(F.softplus(self.hidden(inner)))
        return segment_softmax(logits, batch.batch, batch.n_crystals)


def element_fractions(batch: CrystalBatch, dtype: torch.dtype = torch.float32) -> Tensor:
    """Fractions of the elements in each crystal, masked sites left out.

    Parameters
    ----------
    batch : CrystalBatch
        Crystals, or a view of them.
    dtype : torch.dtype, default=torch.float32
        Floating-point type of the result.

    Returns
    -------
    Tensor of shape (n_crystals, 103)
        Column ``Z - 1`` holds element ``Z``; rows sum to 1, or are zero if all sites are masked.
    """
    n_numbers = MAX_ATOMIC_NUMBER + 1
    flat = batch.batch * n_numbers + batch.numbers
    ones = torch.ones(len(flat), dtype=dtype, device=flat.device)
    counts = segment_sum(ones, flat, batch.n_crystals * n_numbers).view(-1, n_numbers)[:, 1:]
    return counts / counts.sum(dim=1, keepdim=True).clamp_min(1)


def make_readout(
    readout: str | nn.Module | type[nn.Module],
    site_width: int,
    **params: Any,  # noqa: ANN401 - whatever the readout takes
) -> nn.Module:
    """Build a readout.

    Parameters
    ----------
    readout : {"mean", "mean_std", "mean_max", "attention"}, nn.Module or type
        Name, module (copied with its weights), or class of a module whose first argument is the
        length of a site embedding.
    site_width : int
        Length of a site embedding.
    **params
        Further arguments of the constructor; none where a module is given.

    Returns
    -------
    nn.Module
        Module that follows the contract of `Readout`.

    Raises
    ------
    InvalidInputError
        If the name or a parameter is unknown, a value is out of range, or the module has no
        integer attribute ``width``.

    Examples
    --------
    >>> make_readout("mean_std", 64).width
    128
    """
    known: dict[str, type[nn.Module]] = {
        "mean": MeanReadout,
        "mean_std": MeanStdReadout,
        "mean_max": MeanMaxReadout,
        "attention": AttentionReadout,
    }
    return build_module("readout", readout, known, site_width, **params)


def _max(sites: Tensor, batch: CrystalBatch) -> Tensor:
    index = batch.batch[:, None].expand_as(sites)
    lowest = sites.new_full((batch.n_crystals, sites.shape[1]), torch.finfo(sites.dtype).min)
    return lowest.scatter_reduce(0, index, sites, "amax")
