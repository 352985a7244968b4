"""Plain training loops: no library around them, every batch made from small objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from plain import PlainDenoising, plain_encoder, plain_module
from plain_data import plain_batch
from torch import Tensor

from dssl_sklearn.crystals.batch import CrystalBatch
from dssl_sklearn.crystals.graph import CrystalGraph


class PlainPretraining:
    """Distance denoising of one view with AdamW.

    Parameters
    ----------
    net : PretextNet
        Net of the package whose weights, learning rate and batch size are taken.
    graphs : sequence of CrystalGraph
        Crystals.
    """

    def __init__(self, net: Any, graphs: Sequence[CrystalGraph]) -> None:  # noqa: ANN401
        self.encoder = plain_encoder(net.module_)
        (objective,) = net.criterion_.objectives.values()
        self.move = objective.move
        (head,) = net.criterion_.heads.values()
        self.head = plain_module(head)
        self.graphs, self.batch_size = graphs, net.batch_size
        weights = [*self.encoder.parameters(), *self.head.parameters()]
        self.optimizer = torch.optim.AdamW(weights, lr=net.lr)

    def epoch(self) -> None:
        """Train on every crystal once."""
        for rows in torch.split(torch.randperm(len(self.graphs)), self.batch_size):
            clean = plain_batch([self.graphs[i] for i in rows.tolist()])
            self.optimizer.zero_grad()
            self.loss(clean, self._moved(clean)).backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()

    def loss(self, clean: CrystalBatch, moved: CrystalBatch) -> Tensor:
        """Loss of a view."""
        assert isinstance(self.head, PlainDenoising)  # noqa: S101 - for mypy
        sites, _ = self.encoder(moved)
        return self.head(sites, clean)  # type: ignore[no-any-return]

    def _moved(self, clean: CrystalBatch) -> CrystalBatch:
        positions = clean.positions + self.move * torch.randn_like(clean.positions)
        moved = replace(clean, positions=positions)
        return replace(moved, edge_distance=moved.edge_vectors().norm(dim=1))


class PlainFineTuning:
    """Regression with absolute errors of every head and AdamW, on embeddings of unit spread.

    Parameters
    ----------
    net : PropertyNet
        Net of the package whose weights, learning rate and batch size are taken.
    graphs : sequence of CrystalGraph
        Crystals.
    y : Tensor of shape (n_crystals,)
        Standardized targets.
    """

    def __init__(self, net: Any, graphs: Sequence[CrystalGraph], y: Tensor) -> None:  # noqa: ANN401
        model = net.module_
        self.mean, self.scale = model.mean, model.scale
        self.model = torch.nn.ModuleDict(
            {"encoder": plain_encoder(model.encoder), "head": plain_module(model.head)}
        )
        self.graphs, self.y, self.batch_size = graphs, y, net.batch_size
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=net.lr)

    def epoch(self) -> None:
        """Train on every crystal once."""
        self.model.train()
        for rows in torch.split(torch.randperm(len(self.graphs)), self.batch_size):
            batch = plain_batch([self.graphs[i] for i in rows.tolist()])
            self.optimizer.zero_grad()
            self.loss(batch, self.y[rows]).backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()

    def loss(self, batch: CrystalBatch, y: Tensor) -> Tensor:
        """Mean loss of all heads."""
        prediction = self._outputs(batch)
        return F.l1_loss(prediction, y[:, None, None].expand_as(prediction))

    def predict(self) -> Tensor:
        """Predict for every crystal."""
        self.model.eval()
        with torch.no_grad():
            batches = torch.split(torch.arange(len(self.graphs)), self.batch_size)
            return torch.cat(
                [
                    self._outputs(plain_batch([self.graphs[i] for i in rows.tolist()])).mean(1)
                    for rows in batches
                ]
            )

    def _outputs(self, batch: CrystalBatch) -> Tensor:
        """Outputs of every head, shape (n_crystals, n_members, 1)."""
        embeddings = (self.model["encoder"](batch)[1] - self.mean) / self.scale
        output: Tensor = self.model["head"](embeddings)
        return output
