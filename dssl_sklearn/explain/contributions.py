"""Exact contributions of the sites to the prediction of a linear head."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dssl_sklearn.crystals.batch import CrystalBatch
from dssl_sklearn.estimators.property import PropertyEstimator
from dssl_sklearn.exceptions import InvalidInputError
from dssl_sklearn.explain._network import (
    TargetUnit,
    batches_of,
    check_estimator,
    graphs_of,
    split_sites,
)
from dssl_sklearn.explain.attributions import SiteAttributions
from dssl_sklearn.models.encoder import PropertyModel
from dssl_sklearn.models.readout import AttentionReadout, MeanReadout
from dssl_sklearn.models.segments import segment_count

#: Layers without parts of their own whose composition is a matrix and an offset; dropout does
#: nothing in predictions.
_AFFINE_LAYERS = (nn.Linear, nn.Identity, nn.Dropout)
#: Readouts that average the site embeddings.
_AVERAGES = (MeanReadout, AttentionReadout)


def site_contributions(
    estimator: PropertyEstimator,
    structures: Any,  # noqa: ANN401 - whatever the estimators take
    target: int = 0,
) -> SiteAttributions:
    r"""Split predictions over the sites, exactly, where the head is linear.

    With a readout that averages the site embeddings :math:`x_i` with weights :math:`w_i` that sum
    to 1 (:math:`1/n` for the mean) and a linear head :math:`h` on the standardized embedding,

    .. math:: y = b + \sum_i c_i, \qquad
              c_i = w_i \left[h\left(\frac{x_i - m}{s}\right) - h(0)\right],

    in the unit of the target. The baseline :math:`b`, the same for all crystals, is the prediction
    :math:`h(0)` for the mean embedding :math:`m` that the labeled crystals had before training. A
    site embedding knows the site's surroundings: a contribution is that of an atom where it sits,
    not of its element alone.

    Parameters
    ----------
    estimator : DSSLRegressor or DSSLClassifier
        Fitted with ``head_params={"n_hidden_layers": 0}`` and the readout "mean" or "attention".
    structures : sequence of crystals
        As for ``predict``.
    target : int, default=0
        Column of the targets, or index of the class, whose logit is then split.

    Returns
    -------
    SiteAttributions
        One array per crystal, one value per site in the unit of the target; with the baselines and
        the predictions that they add up to (to single precision).

    Raises
    ------
    InvalidInputError
        If the head or the readout does not allow the split, `target` does not exist, or
        `estimator` holds no network.
    InvalidStructureError
        If a crystal cannot be used.
    NotFittedError
        If the estimator is not fitted.

    Examples
    --------
    >>> from dssl_sklearn import DSSLRegressor
    >>> from dssl_sklearn.datasets import load_elasticity
    >>> from dssl_sklearn.explain import site_contributions
    >>> structures, y = load_elasticity(target="log10_K_VRH", return_X_y=True)
    >>> model = DSSLRegressor(head_params={"n_hidden_layers": 0}, max_epochs=1, random_state=0)
    >>> split = site_contributions(model.fit(structures[:64], y[:64]), structures[:2])
    >>> [len(values) for values in split] == [len(structure) for structure in structures[:2]]
    True
    >>> bool(abs(split.residuals).max() < 1e-5)
    True
    """
    check_estimator(estimator, PropertyEstimator, "DSSLRegressor or DSSLClassifier")
    unit = TargetUnit.of(estimator, target)
    model = estimator.net_.module_.eval()
    _check_additive(model)
    graphs = graphs_of(estimator, structures)
    values, outputs = [], []
    with torch.inference_mode():
        offset = model.head(torch.zeros_like(model.mean).unsqueeze(0))[:, unit.column]
        for batch, n_sites in batches_of(estimator, graphs):
            sites = model.encoder.backbone(batch)
            per_site = model.head((sites - model.mean) / model.scale)[:, unit.column] - offset
            weights = _weights(model.encoder.readout, sites, batch)
            values += split_sites(per_site * weights * unit.scale, n_sites)
            outputs.append(model(batch)[:, unit.column].double().cpu().numpy())
    baseline = unit.scale * float(offset) + unit.mean
    predictions = unit.scale * np.concatenate(outputs) + unit.mean
    return SiteAttributions(values, np.full(len(values), baseline), predictions)


def is_affine(head: nn.Module) -> bool:
    """Whether a head, in predictions, is a matrix and an offset.

    Parameters
    ----------
    head : nn.Module
        Head of a `PropertyModel`.

    Returns
    -------
    bool
        True if it is made of linear layers (and dropout) only.

    Examples
    --------
    >>> from dssl_sklearn.explain.contributions import is_affine
    >>> from dssl_sklearn.models import MLPHead
    >>> is_affine(MLPHead(4, 1, n_hidden_layers=0)), is_affine(MLPHead(4, 1))
    (True, False)
    """
    leaves = [layer for layer in head.modules() if not any(layer.children())]
    return all(isinstance(layer, _AFFINE_LAYERS) for layer in leaves)


def is_additive(estimator: PropertyEstimator) -> bool:
    """Whether `site_contributions` can split the predictions of an estimator.

    Raises
    ------
    InvalidInputError, NotFittedError
        If there is no trained network in it.
    """
    check_estimator(estimator, PropertyEstimator, "DSSLRegressor or DSSLClassifier")
    model: PropertyModel = estimator.net_.module_
    return is_affine(model.head) and isinstance(model.encoder.readout, _AVERAGES)


def _check_additive(model: PropertyModel) -> None:
    alternative = "or use integrated_gradients, which splits any prediction"
    if not is_affine(model.head):
        raise InvalidInputError(
            "estimator has a head with hidden layers, whose output is no sum over sites; fit it "
            f'with head_params={{"n_hidden_layers": 0}}, {alternative}'
        )
    readout = model.encoder.readout
    if not isinstance(readout, _AVERAGES):
        raise InvalidInputError(
            f"estimator has the readout {type(readout).__name__}, which is no weighted mean of the "
            f"sites; fit it with readout='mean' or 'attention', {alternative}"
        )


def _weights(readout: nn.Module, sites: Tensor, batch: CrystalBatch) -> Tensor:
    """Weight of each site in its crystal's embedding, shape (n_sites,)."""
    if isinstance(readout, AttentionReadout):
        return readout.weights(sites, batch).squeeze(1)
    count = segment_count(batch.batch, batch.n_crystals).to(sites.dtype)
    return count.reciprocal().index_select(0, batch.batch).squeeze(1)
