"""Settings that belong together, by name: ours, and the paper's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import nn

from dssl_sklearn.estimators.target_scale import Scale
from dssl_sklearn.objectives import Contrastive, Descriptors, Displacement, MaskedAtoms
from dssl_sklearn.objectives.contrastive import ContrastiveLoss
from dssl_sklearn.training.losses import RegressionLoss
from dssl_sklearn.training.schedules import ScheduleName

RecipeName = Literal["default", "paper"]


@dataclass(frozen=True)
class Network:
    """Backbone and readout of a recipe."""

    backbone: str | nn.Module
    backbone_params: Mapping[str, Any] = field(default_factory=dict)
    readout: str | nn.Module = "mean"


@dataclass(frozen=True)
class PretrainRecipe(Network):
    """What a `DSSLPretrainer` takes for the arguments that are None."""

    objectives: Any = (
        Descriptors(),
        Displacement(weight=0.3, move=0.1, mask_ratio=0.15),
        MaskedAtoms(weight=0.06, move=0.1, mask_ratio=0.15),
    )
    mask_ratio: float = 0.15
    move: float = 0.2
    microproperty: Any = "stiffness"
    contrastive_loss: ContrastiveLoss = "barlow"
    max_epochs: int = 20
    batch_size: int = 64
    lr: float = 1e-3
    weight_decay: float = 1e-2
    schedule: ScheduleName = "cosine"


@dataclass(frozen=True)
class FineTuneRecipe(Network):
    """What a `DSSLRegressor` takes for the arguments that are None."""

    loss: RegressionLoss = "mae"
    max_epochs: int = 50
    batch_size: int = 32
    lr: float = 2e-3
    #: None lets it grow with the number of labels, see `backbone_lr_factor`.
    backbone_lr_factor: float | None = None
    weight_decay: float = 1e-2
    schedule: ScheduleName = "cosine"
    #: Heads on the shared encoder; their mean predicts, their spread is the uncertainty.
    n_members: int = 8
    #: Share of the Gaussian process in a prediction.
    kernel_share: float = 0.6
    #: Whether the logarithms of positive targets are learned.
    target_scale: Scale = "auto"
    #: Whether the head sees embeddings in units of their spread over the labeled crystals.
    standardize: bool = True


@dataclass(frozen=True)
class ClassificationRecipe(FineTuneRecipe):
    """What a `DSSLClassifier` takes for the arguments that are None."""

    kernel_share: float = 0.7
    #: Part of every label that is spread over all classes: a network on few labels is far too sure
    #: of itself without.
    label_smoothing: float = 0.2


def backbone_lr_factor(n_labeled: int) -> float:
    """Learning rate of a pretrained backbone, in units of that of the heads.

    Few labels must not wipe out what pretraining has learned, many may change it: 0.1 up to 100
    labels, from there with the square root of their number to 0.3 at 900.

    Parameters
    ----------
    n_labeled : int
        Labeled crystals.

    Returns
    -------
    float
        From 0.1 to 0.3.

    Examples
    --------
    >>> [round(backbone_lr_factor(n), 2) for n in (30, 100, 400, 30_000)]
    [0.1, 0.1, 0.2, 0.3]
    """
    return float(min(max(0.01 * n_labeled**0.5, 0.1), 0.3))


#: Network of the paper (Fu, Wei and Hu 2024): DeeperGATGNN with its attention readout.
_PAPER_NETWORK: dict[str, Any] = {"backbone": "deeper_gatgnn", "readout": "attention"}

PRETRAIN_RECIPES: dict[RecipeName, PretrainRecipe] = {
    "default": PretrainRecipe(backbone="gated"),
    "paper": PretrainRecipe(
        **_PAPER_NETWORK,
        objectives=(
            ("mask", 0.1),
            ("microproperty", 0.1),
            Contrastive(weight=1.0, loss="cosine", move=0.5, move_kind="sphere"),
        ),
        move=0.5,
        contrastive_loss="cosine",
        max_epochs=500,
        batch_size=256,
        lr=5e-3,
        schedule="plateau",
    ),
}

FINE_TUNE_RECIPES: dict[RecipeName, FineTuneRecipe] = {
    "default": FineTuneRecipe(backbone="gated", readout="mean_max"),
    "paper": FineTuneRecipe(
        **_PAPER_NETWORK,
        loss="mae",
        max_epochs=500,
        batch_size=100,
        lr=5e-3,
        backbone_lr_factor=1.0,
        schedule="plateau",
        n_members=1,
        kernel_share=0.0,
        target_scale="linear",
        standardize=False,
    ),
}

CLASSIFICATION_RECIPES: dict[RecipeName, ClassificationRecipe] = {
    "default": ClassificationRecipe(backbone="gated", readout="mean_max"),
    "paper": ClassificationRecipe(**vars(FINE_TUNE_RECIPES["paper"]), label_smoothing=0.0),
}
