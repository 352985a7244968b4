"""Losses on the embeddings of two views of the same crystals.

All take two tensors of shape (n_crystals, width), row ``i`` of both being views of crystal ``i``,
and return a tensor of shape (). They do not change when the two views are exchanged or when the
crystals are put in another order, and they are finite for a single crystal.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

#: Keeps standard deviations differentiable where an embedding has collapsed.
_TINY = 1e-5
#: The same constant in VICReg, where it is part of the published loss.
_VICREG_TINY = 1e-4


def cosine_loss(first: Tensor, second: Tensor) -> Tensor:
    r"""Positive-only cosine loss: pull the two views of each crystal together.

    .. math:: 1 - \frac{1}{n} \sum_i \cos(z_i, z'_i)

    Nothing pushes different crystals apart, so the embedding may collapse to one direction; the
    loss is here for comparison with the paper [1]_.

    Parameters
    ----------
    first, second : Tensor of shape (n_crystals, width)
        Projected embeddings of the two views.

    Returns
    -------
    Tensor of shape ()
        Between 0 and 2.

    References
    ----------
    .. [1] Chen and He, "Exploring Simple Siamese Representation Learning", CVPR 2021, equation 1.
    """
    return 1 - F.cosine_similarity(first, second, dim=-1).mean()


def ntxent_loss(first: Tensor, second: Tensor, temperature: float = 0.1) -> Tensor:
    r"""Normalized, temperature-scaled cross entropy: tell the other view from all other crystals.

    For each of the :math:`2n` embeddings, with its other view at :math:`j(i)`,

    .. math::
        -\log \frac{\exp(\cos(z_i, z_{j(i)}) / \tau)}{\sum_{k \neq i} \exp(\cos(z_i, z_k) / \tau)}

    averaged over :math:`i`. It is 0, without gradient, for a single crystal.

    Parameters
    ----------
    first, second : Tensor of shape (n_crystals, width)
        Projected embeddings of the two views.
    temperature : float, default=0.1
        :math:`\tau`; smaller values weigh the nearest wrong crystals more.

    Returns
    -------
    Tensor of shape ()
        Mean over the embeddings, in nats.

    References
    ----------
    .. [1] Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations",
       ICML 2020, equation 1.
    """
    n_crystals = len(first)
    embeddings = F.normalize(torch.cat([first, second]), dim=-1)
    logits = (embeddings @ embeddings.T / temperature).fill_diagonal_(-torch.inf)
    other_view = torch.arange(2 * n_crystals, device=first.device).roll(n_crystals)
    return F.cross_entropy(logits, other_view)


def barlow_loss(first: Tensor, second: Tensor, redundancy: float = 0.005) -> Tensor:
    r"""Barlow Twins: make the cross-correlation of the two views' features the unit matrix.

    .. math:: \frac{1}{d} \Big( \sum_i (1 - C_{ii})^2 + \lambda \sum_{i \neq j} C_{ij}^2 \Big)

    where :math:`C` correlates the :math:`d` features of the first view with those of the second
    over the crystals. The division by :math:`d` is ours: it keeps the loss near 1 at the start, on
    the scale of the other objectives, whatever the width.

    Parameters
    ----------
    first, second : Tensor of shape (n_crystals, width)
        Projected embeddings of the two views.
    redundancy : float, default=0.005
        :math:`\lambda`, weight of the decorrelation.

    Returns
    -------
    Tensor of shape ()

    References
    ----------
    .. [1] Zbontar et al., "Barlow Twins: Self-Supervised Learning via Redundancy Reduction",
       ICML 2021, equations 1 and 2.
    """
    correlation = _standardize(first).T @ _standardize(second) / len(first)
    diagonal = correlation.diagonal()
    off_diagonal = correlation.square().sum() - diagonal.square().sum()
    return ((1 - diagonal).square().sum() + redundancy * off_diagonal) / first.shape[1]


def vicreg_loss(first: Tensor, second: Tensor) -> Tensor:
    r"""VICReg: agree between the views, keep every feature's spread, decorrelate the features.

    .. math::
        \frac{1}{nd} \lVert Z - Z' \rVert^2
        + \frac{1}{2} \big( v(Z) + v(Z') \big) + \frac{1}{25} \big( c(Z) + c(Z') \big)

    with the hinge :math:`v(Z) = \frac{1}{d} \sum_j \max(0, 1 - \sqrt{\mathrm{Var}(Z_{\cdot j}) +
    10^{-4}})` and :math:`c(Z) = \frac{1}{d} \sum_{i \neq j} \mathrm{Cov}(Z)_{ij}^2`, averages as
    in the authors' program and coefficients 25, 25 and 1 divided by 25.

    Parameters
    ----------
    first, second : Tensor of shape (n_crystals, width)
        Projected embeddings of the two views.

    Returns
    -------
    Tensor of shape ()

    References
    ----------
    .. [1] Bardes, Ponce and LeCun, "VICReg: Variance-Invariance-Covariance Regularization for
       Self-Supervised Learning", ICLR 2022, equations 1 to 6.
    """
    loss = F.mse_loss(first, second)
    for view in (first, second):
        centered = view - view.mean(0)
        # One crystal has no spread: a divisor of 1 makes its covariance 0 instead of undefined.
        cov = centered.T @ centered / max(len(view) - 1, 1)
        variances = cov.diagonal()
        hinge = F.relu(1 - (variances + _VICREG_TINY).sqrt()).mean()
        off_diagonal = (cov.square().sum() - variances.square().sum()) / view.shape[1]
        loss = loss + hinge / 2 + 0.04 * off_diagonal
    return loss


def _standardize(embeddings: Tensor) -> Tensor:
    """Shift and scale each feature to mean 0 and variance 1 over the crystals."""
    centered = embeddings - embeddings.mean(0)
    return centered * (centered.square().mean(0) + _TINY).rsqrt()
