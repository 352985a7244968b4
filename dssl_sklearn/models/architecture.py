"""Choosing a backbone by name, and an encoder as a description that can be written down."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from dssl_sklearn.crystals.graph import DEFAULT_CUTOFF, DEFAULT_MAX_NEIGHBORS
from dssl_sklearn.exceptions import WeightsError
from dssl_sklearn.models._build import build_module
from dssl_sklearn.models.deeper_gatgnn import DeeperGATGNN
from dssl_sklearn.models.encoder import CrystalEncoder
from dssl_sklearn.models.gated import GatedBackbone
from dssl_sklearn.models.readout import make_readout

_BACKBONES: dict[str, type[nn.Module]] = {
    "gated": GatedBackbone,
    "deeper_gatgnn": DeeperGATGNN,
}


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
    return build_module("backbone", backbone, _BACKBONES, **params)


def backbone_defaults(name: str) -> dict[str, Any]:
    """Arguments of a backbone of that name where nothing else is said; none of an unknown one."""
    if name not in _BACKBONES:
        return {}
    parameters = inspect.signature(_BACKBONES[name]).parameters.values()
    return {parameter.name: parameter.default for parameter in parameters}


@dataclass(frozen=True)
class Architecture:
    """Everything that fixes the shape of an encoder and of the graphs it reads.

    Parameters
    ----------
    backbone : str or nn.Module
        Name of a backbone, or a module that follows the contract of `Backbone`.
    backbone_params : mapping, default={}
        Arguments of a backbone given by name; those left out are filled in, so that files keep
        what was built, whatever a later version takes by default.
    readout : str or nn.Module, default="mean"
        Name of a readout, or a module that follows the contract of `Readout`.
    readout_params : mapping, default={}
        Arguments of a readout given by name.
    cutoff : float, default=8.0
        Largest edge length in angstrom.
    max_neighbors : int, default=12
        Neighbors per site before completion of the last shell.
    """

    backbone: str | nn.Module
    backbone_params: Mapping[str, Any] = field(default_factory=dict)
    readout: str | nn.Module = "mean"
    readout_params: Mapping[str, Any] = field(default_factory=dict)
    cutoff: float = DEFAULT_CUTOFF
    max_neighbors: int = DEFAULT_MAX_NEIGHBORS

    def __post_init__(self) -> None:
        if isinstance(self.backbone, str):
            # The distance expansion of the library's backbones spans the graph's edges.
            params = {**backbone_defaults(self.backbone), "cutoff": self.cutoff}
            object.__setattr__(self, "backbone_params", {**params, **self.backbone_params})

    def build(self) -> CrystalEncoder:
        """Make the encoder with fresh weights from torch's global generator."""
        backbone = make_backbone(self.backbone, **self.backbone_params)
        width = int(backbone.width)  # type: ignore[arg-type] # make_backbone has checked it
        readout = make_readout(self.readout, width, **self.readout_params)
        return CrystalEncoder(backbone, readout)

    def to_config(self) -> dict[str, Any]:
        """Values for JSON.

        Raises
        ------
        WeightsError
            If a module was handed in: a file of weights cannot hold its code.
        """
        for name in ("backbone", "readout"):
            value = getattr(self, name)
            if not isinstance(value, str):
                raise WeightsError(
                    f"{name} is a module of class {type(value).__name__}, whose code a file of "
                    "weights cannot hold; pickle the estimator (joblib.dump) instead"
                )
        return {
            "backbone": self.backbone,
            "backbone_params": dict(self.backbone_params),
            "readout": self.readout,
            "readout_params": dict(self.readout_params),
            "cutoff": self.cutoff,
            "max_neighbors": self.max_neighbors,
        }
