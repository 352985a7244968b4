"""The two whole networks: crystals to embeddings, and crystals to predictions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dssl_sklearn.crystals.batch import CrystalBatch
from dssl_sklearn.models.heads import EnsembleHead


class CrystalEncoder(nn.Module):
    """Backbone and readout: what pretraining trains and fine-tuning starts from.

    Parameters
    ----------
    backbone : nn.Module
        Graph batch to site embeddings; has an integer ``width``.
    readout : nn.Module
        Site embeddings to crystal embeddings; has an integer ``width``.
    """

    def __init__(self, backbone: nn.Module, readout: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.readout = readout

    @property
    def site_width(self) -> int:
        """Length of a site embedding."""
        return int(self.backbone.width)  # type: ignore[arg-type]

    @property
    def crystal_width(self) -> int:
        """Length of a crystal embedding."""
        return int(self.readout.width)  # type: ignore[arg-type]

    def forward(self, batch: CrystalBatch) -> tuple[Tensor, Tensor]:
        """Embed sites and crystals.

        Returns
        -------
        Tensor of shape (n_sites, site_width)
            Site embeddings.
        Tensor of shape (n_crystals, crystal_width)
            Crystal embeddings.
        """
        sites = self.backbone(batch)
        return sites, self.readout(sites, batch)


class PropertyModel(nn.Module):
    """Encoder, standardization of the embeddings, and heads: what fine-tuning trains.

    The head sees embeddings in units of their spread over the labeled crystals before training
    (`fit_statistics`), whatever scale pretraining left them at.

    Parameters
    ----------
    encoder : CrystalEncoder
        Pretrained or fresh.
    n_outputs : int
        Targets, or classes.
    n_members : int, default=1
        Heads, which share the encoder. Where the readout has a `plain_width`, every second of
        them reads only so many of its entries.
    hidden : int, default=256
        Width of a head's hidden layers.
    n_hidden_layers : int, default=1
        Depth of a head.
    dropout : float, default=0
        Dropout in the heads.
    """

    mean: Tensor
    scale: Tensor

    def __init__(
        self,
        encoder: CrystalEncoder,
        n_outputs: int,
        *,
        n_members: int = 1,
        hidden: int = 256,
        n_hidden_layers: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.register_buffer("mean", torch.zeros(encoder.crystal_width))
        self.register_buffer("scale", torch.ones(encoder.crystal_width))
        self.head = EnsembleHead(
            encoder.crystal_width,
            n_outputs,
            n_members=n_members,
            plain_width=getattr(encoder.readout, "plain_width", None),
            hidden=hidden,
            n_hidden_layers=n_hidden_layers,
            dropout=dropout,
        )

    def fit_statistics(self, embeddings: Tensor) -> None:
        """Learn mean and spread of the embeddings.

        Parameters
        ----------
        embeddings : Tensor of shape (n_crystals, crystal_width)
            What the encoder makes of the labeled crystals before training.
        """
        spread = embeddings.std(0, correction=0)
        self.mean.copy_(embeddings.mean(0))
        # Entries that hardly vary, and those of a single crystal, must not be blown up.
        floor = 1e-3 * float(spread.square().mean().sqrt())
        self.scale.copy_(spread.clamp_min(floor) if floor > 0 else torch.ones_like(spread))

    def forward(self, batch: CrystalBatch) -> Tensor:
        """Predict with every head, shape (n_crystals, n_members, n_outputs)."""
        _, crystals = self.encoder(batch)
        output: Tensor = self.head((crystals - self.mean) / self.scale)
        return output
