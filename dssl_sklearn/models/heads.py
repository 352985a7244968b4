"""Predictors on top of the embeddings."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dssl_sklearn._checks import check_integer, check_probability


class EnsembleHead(nn.Module):
    """Several heads of one shape, fully connected layers with SiLU between them.

    The members start from different random weights and never see each other, so that their mean
    errs less than one of them, and their spread tells where the labels leave the answer open.

    Parameters
    ----------
    in_width : int
        Length of an embedding.
    out_width : int
        Number of outputs of a member.
    n_members : int
        Number of heads.
    plain_width : int or None
        Every second head reads only so many entries from the front. None: all read everything.
    hidden : int
        Width of the hidden layers.
    n_hidden_layers : int
        Number of hidden layers; 0 makes the heads linear.
    dropout : float
        Share of hidden features dropped in training.

    Raises
    ------
    InvalidInputError
        If a parameter is out of range.

    References
    ----------
    .. [1] B. Lakshminarayanan, A. Pritzel and C. Blundell, "Simple and Scalable Predictive
       Uncertainty Estimation using Deep Ensembles", NeurIPS (2017); here the members share all
       but the head.
    """

    visible: Tensor

    def __init__(
        self,
        in_width: int,
        out_width: int,
        *,
        n_members: int,
        plain_width: int | None,
        hidden: int,
        n_hidden_layers: int,
        dropout: float,
    ) -> None:
        super().__init__()
        check_integer("n_members", n_members)
        check_integer("in_width", in_width)
        check_integer("out_width", out_width)
        check_integer("hidden", hidden)
        check_integer("n_hidden_layers", n_hidden_layers, minimum=0)
        check_probability("dropout", dropout)
        self.dropout = dropout
        visible = torch.ones(n_members, 1, in_width)
        if plain_width is not None:
            visible[1::2, :, plain_width:] = 0
        self.register_buffer("visible", visible, persistent=False)
        widths = [in_width, *[hidden] * n_hidden_layers, out_width]
        members = [[nn.Linear(*ends) for ends in pairwise(widths)] for _ in range(n_members)]
        # One stack of matrices per layer: as many products as a single head, whatever n_members.
        layers = list(zip(*members, strict=True))
        self.weights = nn.ParameterList(
            torch.stack([member.weight.detach().T for member in layer]) for layer in layers
        )
        self.biases = nn.ParameterList(
            torch.stack([member.bias.detach()[None] for member in layer]) for layer in layers
        )

    def forward(self, embeddings: Tensor) -> Tensor:
        """Predict with every member.

        Parameters
        ----------
        embeddings : Tensor of shape (n_rows, in_width)
            Embeddings of sites or crystals.

        Returns
        -------
        Tensor of shape (n_rows, n_members, out_width)
            Outputs.
        """
        output = embeddings * self.visible
        last = len(self.weights) - 1
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            output = torch.baddbmm(bias, output, weight)
            if layer < last:
                output = F.dropout(F.silu(output), self.dropout, self.training)
        return output.transpose(0, 1)
