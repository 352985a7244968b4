"""The two whole networks: crystals to embeddings, and crystals to predictions."""

from __future__ import annotations

from torch import Tensor, nn

from dssl_sklearn.crystals.batch import CrystalBatch
from dssl_sklearn.models.heads import MLPHead


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
    """Encoder and head: what fine-tuning trains.

    Parameters
    ----------
    encoder : CrystalEncoder
        Pretrained or fresh.
    n_outputs : int
        Targets, or classes.
    hidden : int, default=64
        Width of the head's hidden layers.
    n_hidden_layers : int, default=1
        Depth of the head.
    dropout : float, default=0
        Dropout in the head.
    """

    def __init__(
        self,
        encoder: CrystalEncoder,
        n_outputs: int,
        hidden: int = 64,
        n_hidden_layers: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = MLPHead(
            encoder.crystal_width,
            n_outputs,
            hidden=hidden,
            n_hidden_layers=n_hidden_layers,
            dropout=dropout,
        )

    def forward(self, batch: CrystalBatch) -> Tensor:
        """Predict, shape (n_crystals, n_outputs)."""
        _, crystals = self.encoder(batch)
        output: Tensor = self.head(crystals)
        return output
