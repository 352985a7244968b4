"""Networks: crystal graphs to site embeddings, to crystal embeddings, to predictions."""

from dssl_sklearn.models.architecture import make_backbone
from dssl_sklearn.models.backbone import Backbone
from dssl_sklearn.models.deeper_gatgnn import DeeperGATGNN
from dssl_sklearn.models.encoder import CrystalEncoder, PropertyModel
from dssl_sklearn.models.gated import GatedBackbone
from dssl_sklearn.models.heads import EnsembleHead
from dssl_sklearn.models.layers import DistanceExpansion, SiteEncoder
from dssl_sklearn.models.readout import (
    AttentionReadout,
    MeanMaxReadout,
    MeanReadout,
    MeanStdReadout,
    Readout,
    make_readout,
)

__all__ = [
    "AttentionReadout",
    "Backbone",
    "CrystalEncoder",
    "DeeperGATGNN",
    "DistanceExpansion",
    "EnsembleHead",
    "GatedBackbone",
    "MeanMaxReadout",
    "MeanReadout",
    "MeanStdReadout",
    "PropertyModel",
    "Readout",
    "SiteEncoder",
    "make_backbone",
    "make_readout",
]
