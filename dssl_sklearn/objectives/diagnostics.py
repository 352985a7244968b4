"""Figures that tell whether an embedding is any good, without labels."""

from __future__ import annotations

import torch
from torch import Tensor


def effective_rank(embeddings: Tensor) -> float:
    r"""Number of dimensions that centered embeddings really use.

    .. math:: \exp\Big(-\sum_k p_k \ln p_k\Big), \qquad p_k = \sigma_k \Big/ \sum_l \sigma_l

    with the singular values :math:`\sigma_k` of the centered matrix. It is 1 where all embeddings
    lie on a line, and the width where they spread evenly.

    Parameters
    ----------
    embeddings : Tensor of shape (n_crystals, width)
        One embedding per row.

    Returns
    -------
    float
        Between 1 and ``min(n_crystals - 1, width)``; 0 if all embeddings are equal to rounding,
        NaN if one is not finite.

    References
    ----------
    .. [1] Roy and Vetterli, "The effective rank: A measure of effective dimensionality",
       EUSIPCO 2007.
    """
    if not embeddings.isfinite().all():
        return float("nan")
    values = embeddings.detach().double()
    centered = values - values.mean(0)
    singular = torch.linalg.svdvals(centered)
    # Rounding noise has full rank; of a collapsed embedding it is all that centering leaves.
    noise = 10 * torch.finfo(embeddings.dtype).eps * values.norm()
    singular = singular[singular > noise]
    if not len(singular):
        return 0.0
    share = singular / singular.sum()
    return float(torch.special.entr(share).sum().exp())
