"""Integrated gradients over the embeddings of the sites' elements, through captum."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from dssl_sklearn._checks import check_choice, check_integer
from dssl_sklearn._optional import import_optional
from dssl_sklearn.crystals.batch import CrystalBatch
from dssl_sklearn.crystals.dataset import GraphDataset
from dssl_sklearn.estimators.property import PropertyEstimator
from dssl_sklearn.exceptions import InvalidInputError
from dssl_sklearn.explain._network import (
    TargetUnit,
    beside_network,
    check_estimator,
    explained,
    split_sites,
)
from dssl_sklearn.explain.attributions import SiteAttributions
from dssl_sklearn.models.layers import SiteEncoder

#: Edges of the copies of a crystal that go through the network at once, which bounds memory.
_EDGE_BUDGET = 20_000


def integrated_gradients(
    estimator: PropertyEstimator,
    structures: Any,  # noqa: ANN401 - whatever the estimators take
    target: int = 0,
    *,
    n_steps: int = 32,
    baseline: Literal["mean", "masked"] = "mean",
) -> SiteAttributions:
    r"""Split predictions of any network over the sites by integrated gradients.

    The inputs :math:`e_i` are the embeddings of the sites' elements, before any of them has met
    its neighbors; positions and distances (and the composition that the attention readout reads)
    stay as they are. Along the straight line from a baseline :math:`e'` at all sites,

    .. math:: c_i = (e_i - e') \cdot \int_0^1 \frac{\partial F}{\partial e_i}
              \big(e' + \alpha (e - e')\big)\, d\alpha ,

    by Gauss-Legendre quadrature [1]_. The values add up to the prediction less that at the
    baseline; ``residuals`` of the result holds what the quadrature misses. Of a `DSSLRegressor`
    with a Gaussian process beside its network (`kernel_share`) only the network's part is split,
    and that of the process stands in the baseline.

    Where the regressor learned logarithms of the target (``y_is_log_``), the natural logarithm of
    the prediction is what is split; where a limit (``y_has_floor_``, ``y_has_ceiling_``) cuts a
    prediction, what it was before.

    Parameters
    ----------
    estimator : DSSLRegressor or DSSLClassifier
        Fitted; with one of the library's backbones.
    structures : sequence of crystals
        As for ``predict``.
    target : int, default=0
        Column of the targets, or index of the class, whose logit is then split.
    n_steps : int, default=32
        Points of the quadrature; each costs a forward and a backward pass of the crystal.
    baseline : {"mean", "masked"}, default="mean"
        What stands at all sites where nothing is said: the mean embedding of all elements, or the
        vector of a masked atom, which only networks pretrained on masked atoms have learned.

    Returns
    -------
    SiteAttributions
        One array per crystal, one value per site in the unit of the target; with the predictions,
        and as baselines those for the same geometry with the baseline at every site.

    Raises
    ------
    MissingDependencyError
        If captum is not installed.
    InvalidInputError
        If an argument is unusable, or the backbone has no `SiteEncoder`.
    InvalidStructureError
        If a crystal cannot be used, unless the estimator has ``on_error="skip"``.
    NotFittedError
        If the estimator is not fitted.

    References
    ----------
    .. [1] Sundararajan, Taly and Yan, "Axiomatic Attribution for Deep Networks", ICML 2017,
       equation 1; arXiv:1703.01365.
    """
    check_estimator(estimator, PropertyEstimator, "DSSLRegressor or DSSLClassifier")
    check_integer("n_steps", n_steps)
    check_choice("baseline", baseline, ("mean", "masked"))
    unit = TargetUnit.of(estimator, target)
    model = estimator.net_.module_.eval()
    inputs = _site_encoder(model.encoder.backbone)
    captum = import_optional("captum.attr", "integrated_gradients", "explain")

    def split(graphs: GraphDataset) -> SiteAttributions:
        values, outputs, references = [], [], []
        for index in range(len(graphs)):
            crystal = _OneCrystal(estimator.net_, inputs, graphs, index, unit.column)
            with torch.no_grad():
                actual = inputs(crystal.batch(1).numbers).unsqueeze(0)
                reference = _baseline(inputs, baseline).expand_as(actual).contiguous()
                outputs.append(float(crystal(actual)))
                references.append(float(crystal(reference)))
            found = captum.IntegratedGradients(crystal).attribute(
                actual,
                baselines=reference,
                n_steps=n_steps,
                method="gausslegendre",
                internal_batch_size=max(1, _EDGE_BUDGET // int(graphs.n_edges[index])),
            )
            of_sites = found.squeeze(0).sum(dim=1) * unit.scale
            values += split_sites(of_sites, graphs.n_sites[index : index + 1])
        rest = unit.mean + beside_network(estimator, graphs, unit)
        return SiteAttributions(
            values, unit.scale * np.array(references) + rest, unit.scale * np.array(outputs) + rest
        )

    return explained(estimator, structures, split)


@dataclass(frozen=True)
class _OneCrystal:
    """One output of the network for a crystal as a function of its element embeddings."""

    net: Any
    inputs: SiteEncoder
    graphs: GraphDataset
    index: int
    column: int

    def batch(self, n_copies: int) -> CrystalBatch:
        """Put copies of the crystal into one batch."""
        return self.graphs.batch([self.index] * n_copies).to(self.net.device)

    def __call__(self, embeddings: Tensor) -> Tensor:
        """Predict, (n_copies,) from embeddings (n_copies, n_sites, width)."""
        with _replaced_output(self.inputs, embeddings.flatten(0, 1)):
            output: Tensor = self.net.module_(self.batch(len(embeddings)))
        return output.mean(dim=1)[:, self.column]


@contextmanager
def _replaced_output(module: nn.Module, output: Tensor) -> Iterator[None]:
    handle = module.register_forward_hook(lambda *_: output)
    try:
        yield
    finally:
        handle.remove()


def _site_encoder(backbone: nn.Module) -> SiteEncoder:
    found = [module for module in backbone.modules() if isinstance(module, SiteEncoder)]
    if len(found) != 1:
        raise InvalidInputError(
            f"estimator has a backbone of class {type(backbone).__name__} with {len(found)} "
            "SiteEncoder modules; integrated gradients start from the one that embeds the elements"
        )
    return found[0]


def _baseline(inputs: SiteEncoder, baseline: str) -> Tensor:
    """Embedding without an element, shape (width,)."""
    if baseline == "masked":
        return inputs.masked.detach()
    elements = torch.arange(1, len(inputs.table), device=inputs.table.device)
    mean: Tensor = inputs(elements).mean(dim=0)
    return mean
