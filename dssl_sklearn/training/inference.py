"""What a trained network says, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from dssl_sklearn.crystals.batch import CrystalBatch
from dssl_sklearn.crystals.dataset import GraphDataset
from dssl_sklearn.models.encoder import CrystalEncoder
from dssl_sklearn.training.data import EdgeBudgetSampler, prediction_batch_size


def prediction_batches(
    graphs: GraphDataset | None, batch_size: int, device: str | torch.device
) -> Iterator[tuple[CrystalBatch, NDArray[np.int64]]]:
    """Cut crystals, in their order, into batches where nothing is kept for a backward pass.

    Parameters
    ----------
    graphs : GraphDataset or None
        Crystals; None for none.
    batch_size : int
        Mean number of crystals in a batch of training; small ones come more at a time.
    device : str or torch.device
        Where to put the batches.

    Yields
    ------
    CrystalBatch
        A batch.
    ndarray of shape (n_crystals,)
        Sites of each of its crystals.
    """
    if graphs is None:
        return
    size = prediction_batch_size(graphs.n_edges, batch_size)
    for rows in EdgeBudgetSampler(graphs.n_edges, size, shuffle=False):
        yield graphs.batch(rows).to(device), graphs.n_sites[rows]


def encode(
    encoder: CrystalEncoder, graphs: GraphDataset | None, batch_size: int, device: str
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]]:
    """Embed crystals in order without gradients.

    Parameters
    ----------
    encoder : CrystalEncoder
        On the device; switched to evaluation mode.
    graphs, batch_size, device
        As for `prediction_batches`.

    Yields
    ------
    ndarray of shape (n_sites, site_width)
        Site embeddings of one batch.
    ndarray of shape (n_crystals, crystal_width)
        Crystal embeddings of one batch.
    ndarray of shape (n_crystals,)
        Sites of each crystal of the batch.
    """
    encoder.eval()
    for batch, n_sites in prediction_batches(graphs, batch_size, device):
        with torch.inference_mode():
            sites, crystals = encoder(batch)
        yield sites.float().cpu().numpy(), crystals.float().cpu().numpy(), n_sites


def embed(
    encoder: CrystalEncoder, graphs: GraphDataset | None, batch_size: int, device: str
) -> NDArray[np.float32]:
    """Crystal embeddings of `encode` in one array, shape (n_crystals, crystal_width)."""
    parts = [crystals for _, crystals, _ in encode(encoder, graphs, batch_size, device)]
    return np.concatenate(parts or [np.empty((0, encoder.crystal_width), dtype=np.float32)])
