"""Predictors on top of the embeddings."""

from __future__ import annotations

from torch import Tensor, nn

from dssl_sklearn._checks import check_integer, check_probability


class MLPHead(nn.Module):
    """Fully connected layers with SiLU between them.

    Parameters
    ----------
    in_width : int
        Length of an embedding.
    out_width : int
        Number of outputs.
    hidden : int, default=64
        Width of the hidden layers.
    n_hidden_layers : int, default=1
        Number of hidden layers; 0 makes the head linear.
    dropout : float, default=0.0
        Share of hidden features dropped in training.

    Raises
    ------
    InvalidInputError
        If a parameter is out of range.
    """

    def __init__(
        self,
        in_width: int,
        out_width: int,
        *,
        hidden: int = 64,
        n_hidden_layers: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_integer("in_width", in_width)
        check_integer("out_width", out_width)
        check_integer("hidden", hidden)
        check_integer("n_hidden_layers", n_hidden_layers, minimum=0)
        check_probability("dropout", dropout)
        layers: list[nn.Module] = []
        width = in_width
        for _ in range(n_hidden_layers):
            layers += [nn.Linear(width, hidden), nn.SiLU()]
            if dropout > 0:
                layers.append(nn.Dropout(dropout))
            width = hidden
        self.layers = nn.Sequential(*layers, nn.Linear(width, out_width))

    def forward(self, embeddings: Tensor) -> Tensor:
        """Predict.

        Parameters
        ----------
        embeddings : Tensor of shape (n_rows, in_width)
            Embeddings of sites or crystals.

        Returns
        -------
        Tensor of shape (n_rows, out_width)
            Outputs.
        """
        output: Tensor = self.layers(embeddings)
        return output
