"""Small networks on top of the embeddings, and averages that skip missing entries."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from dssl_sklearn.models.normalization import SmallBatchNorm


def site_mlp(site_width: int, n_outputs: int) -> nn.Sequential:
    """Two layers from site embeddings to `n_outputs` numbers per site."""
    return nn.Sequential(
        nn.Linear(site_width, site_width), nn.SiLU(), nn.Linear(site_width, n_outputs)
    )


def projector(width: int, hidden: Sequence[int]) -> nn.Sequential:
    """Fully connected layers of the widths `hidden`, batch-normalized but for the last.

    The layers have no bias: the normalizations, and most losses on the output, cancel it.
    """
    layers: list[nn.Module] = []
    for k, n_outputs in enumerate(hidden):
        layers.append(nn.Linear(width, n_outputs, bias=False))
        if k < len(hidden) - 1:
            layers += [SmallBatchNorm(n_outputs), nn.ReLU()]
        width = n_outputs
    return nn.Sequential(*layers)


def mean_where(values: Tensor, counted: Tensor) -> Tensor:
    """Mean of the entries of `values` where `counted` is true; 0 where there is none."""
    return (values * counted).sum() / counted.sum().clamp_min(1)
