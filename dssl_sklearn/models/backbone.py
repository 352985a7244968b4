"""The contract of a backbone, crystal graphs to site embeddings, and choosing one by name."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn

from dssl_sklearn.crystals.batch import CrystalBatch
from dssl_sklearn.models._build import build_module


class Backbone(nn.Module, ABC):
    """Turns a batch of crystal graphs into one embedding per site.

    A module need not derive from this class to serve as a backbone: an integer attribute ``width``
    and this ``forward`` are enough. Crystals of a batch must not see each other (statistics of a
    batch normalization in training excepted), and the order of the edges of a site must not
    matter.

    Attributes
    ----------
    width : int
        Length of a site embedding.
    """

    width: int

    @abstractmethod
    def forward(self, batch: CrystalBatch) -> Tensor:
        """Embed the sites.

        Parameters
        ----------
        batch : CrystalBatch
            Crystal graphs; atomic number 0 is a masked site.

        Returns
        -------
        Tensor of shape (n_sites, width)
            Site embeddings.
        """


def make_backbone(
    backbone: str | nn.Module | type[nn.Module],
    **params: Any,  # noqa: ANN401 - whatever the backbone takes
) -> nn.Module:
    """Build a backbone.

    Parameters
    ----------
    backbone : {"gated", "deeper_gatgnn"}, nn.Module or type
        Name, module (copied with its weights), or class of a module.
    **params
        Arguments of the constructor; none where a module is given.

    Returns
    -------
    nn.Module
        Module that follows the contract of `Backbone`.

    Raises
    ------
    InvalidInputError
        If the name or a parameter is unknown, a value is out of range, or the module has no
        integer attribute ``width``.

    Examples
    --------
    >>> make_backbone("gated", width=32).width
    32
    """
    return build_module("backbone", backbone, _known_backbones(), **params)


def backbone_defaults(name: str) -> dict[str, Any]:
    """Arguments of a backbone of that name where nothing else is said; none of an unknown one."""
    known = _known_backbones()
    parameters = inspect.signature(known[name]).parameters.values() if name in known else ()
    return {parameter.name: parameter.default for parameter in parameters}


def _known_backbones() -> dict[str, type[nn.Module]]:
    # Both derive from the class above.
    from dssl_sklearn.models.deeper_gatgnn import DeeperGATGNN
    from dssl_sklearn.models.gated import GatedBackbone

    return {"gated": GatedBackbone, "deeper_gatgnn": DeeperGATGNN}
