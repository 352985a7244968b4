"""Hide the element of some sites."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from dssl_sklearn.crystals.batch import CrystalBatch

#: Atomic number that stands for a hidden element.
MASKED = 0


def mask_sites(
    batch: CrystalBatch, ratio: float, generator: torch.Generator
) -> tuple[CrystalBatch, Tensor]:
    """Set the atomic number of a random share of the sites to 0.

    Everything downstream, the composition vector of the attention readout included, is computed
    from the numbers of the view, so a masked element cannot leak.

    Parameters
    ----------
    batch : CrystalBatch
        Clean crystals; not changed.
    ratio : float
        Share of the sites of the batch to hide, at least one site.
    generator : torch.Generator
        Source of randomness, on the batch's device.

    Returns
    -------
    CrystalBatch
        The masked copy.
    Tensor of shape (n_masked,)
        Indices of the masked sites, ascending.
    """
    n_masked = min(batch.n_sites, max(1, round(ratio * batch.n_sites)))
    device = batch.numbers.device
    order = torch.randperm(batch.n_sites, generator=generator, device=device)
    masked = order[:n_masked].sort().values
    return replace(batch, numbers=batch.numbers.index_fill(0, masked, MASKED)), masked
