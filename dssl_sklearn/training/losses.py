"""Losses of fine-tuning, with weights and missing targets."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

RegressionLoss = Literal["mae", "mse", "huber"]

_ELEMENTWISE = {
    "mae": F.l1_loss,
    "mse": F.mse_loss,
    "huber": F.smooth_l1_loss,
}


class TargetLoss(nn.Module):
    """Mean loss over the known entries of several standardized targets.

    Parameters
    ----------
    loss : {"mae", "mse", "huber"}
        Loss of one entry; "huber" is quadratic below one standard deviation, linear above.
    """

    def __init__(self, loss: RegressionLoss) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, prediction: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        """Compute the loss.

        Parameters
        ----------
        prediction : Tensor of shape (n_crystals, n_members, n_targets)
            Of every head, standardized; each is trained for itself.
        y : Tensor of shape (n_crystals, n_targets)
            Standardized; NaN marks a missing entry.
        weight : Tensor of shape (n_crystals,)
            Sample weights, 1 on average over the training: dividing by those of the batch would
            make light crystals count like heavy ones in a batch without any.

        Returns
        -------
        Tensor of shape ()
            Mean of the weighted losses of the known entries, 0 if nothing is known.
        """
        y = y[:, None].expand_as(prediction)
        known = ~y.isnan()
        # Missing entries get the prediction itself as target: no loss and no gradient, never NaN.
        filled = torch.where(known, y, prediction.detach())
        losses = _ELEMENTWISE[self.loss](prediction, filled, reduction="none")
        losses = losses * weight[:, None, None] * known
        return losses.sum() / known.sum().clamp_min(1)


class ClassLoss(nn.Module):
    """Mean of weighted cross entropies.

    Parameters
    ----------
    smoothing : float, default=0.0
        Share of every label that is spread evenly over all classes.
    """

    def __init__(self, smoothing: float = 0.0) -> None:
        super().__init__()
        self.smoothing = smoothing

    def forward(self, prediction: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        """Compute the loss.

        Parameters
        ----------
        prediction : Tensor of shape (n_crystals, n_members, n_classes)
            Logits of every head; each is trained for itself.
        y : Tensor of shape (n_crystals,)
            Class indices.
        weight : Tensor of shape (n_crystals,)
            Sample weights, as of `TargetLoss`.

        Returns
        -------
        Tensor of shape ()
            Mean of the weighted losses.
        """
        y = y[:, None].expand(prediction.shape[:2])
        of_heads = F.cross_entropy(
            prediction.transpose(1, 2), y, reduction="none", label_smoothing=self.smoothing
        )
        return (of_heads.mean(dim=1) * weight).mean()
