"""Embeddings from a trained encoder, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from dssl_sklearn.crystals.dataset import GraphDataset
from dssl_sklearn.models.encoder import CrystalEncoder
from dssl_sklearn.training.data import EdgeBudgetSampler, prediction_batch_size


def encode(
    encoder: CrystalEncoder, graphs: GraphDataset | None, batch_size: int, device: str
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]]:
    """Embed crystals in order without gradients.

    Parameters
    ----------
    encoder : CrystalEncoder
        On the device; switched to evaluation mode.
    graphs : GraphDataset or None
        Crystals; None for none.
    batch_size : int
        Mean number of crystals in a batch; small crystals come in larger ones.
    device : str
        Where to compute.

    Yields
    ------
    ndarray of shape (n_sites, site_width)
        Site embeddings of one batch.
    ndarray of shape (n_crystals, crystal_width)
        Crystal embeddings of one batch.
    ndarray of shape (n_crystals,)
        Sites of each crystal of the batch.
    """
    if graphs is None:
        return
    encoder.eval()
    size = prediction_batch_size(graphs.n_edges, batch_size)
    for indices in EdgeBudgetSampler(graphs.n_edges, size, shuffle=False):
        with torch.inference_mode():
            sites, crystals = encoder(graphs.batch(indices).to(device))
        yield sites.float().cpu().numpy(), crystals.float().cpu().numpy(), graphs.n_sites[indices]


def embed(
    encoder: CrystalEncoder, graphs: GraphDataset | None, batch_size: int, device: str
) -> NDArray[np.float32]:
    """Crystal embeddings of `encode` in one array, shape (n_crystals, crystal_width)."""
    parts = [crystals for _, crystals, _ in encode(encoder, graphs, batch_size, device)]
    return np.concatenate(parts or [np.empty((0, encoder.crystal_width), dtype=np.float32)])
