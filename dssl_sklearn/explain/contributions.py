"""Exact contributions of the sites to the prediction of a linear head."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

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
from dssl_sklearn.models.encoder import PropertyModel
from dssl_sklearn.models.readout import AttentionReadout, MeanMaxReadout, MeanReadout
from dssl_sklearn.models.segments import segment_count, segment_sum
from dssl_sklearn.training.inference import prediction_batches

#: Readouts that are a sum of one term per site.
_SUMS = (MeanReadout, MeanMaxReadout, AttentionReadout)


def site_contributions(
    estimator: PropertyEstimator,
    structures: Any,  # noqa: ANN401 - whatever the estimators take
    target: int = 0,
) -> SiteAttributions:
    r"""Split predictions over the sites, exactly, where the heads are linear.

    The readouts "mean", "attention" and "mean_max" are sums of one term per site, :math:`z_i`
    (:math:`x_i / n`, :math:`w_i x_i`, and for a maximum :math:`x_i` in the entries in which the
    site holds it, equal holders sharing it). With a linear head :math:`h` on the standardized
    embedding, and weights :math:`w_i` of the sites that sum to 1,

    .. math:: y = b + \sum_i c_i, \qquad
              c_i = h\left(\frac{z_i - w_i m}{s}\right) - h(0),

    in the unit of the target. The baseline :math:`b` is the prediction :math:`h(0)` for the mean
    embedding :math:`m` that the labeled crystals had before training, the same for all crystals; of
    a `DSSLRegressor` with a Gaussian process beside its network (`kernel_share`) only the network's
    part is split, and that of the process, which knows no sites, stands in the baseline. A
    site embedding knows the site's surroundings: a contribution is that of an atom where it sits,
    not of its element alone. Of several heads the mean is split.

    Where the regressor learned logarithms of the target (``y_is_log_``), the natural logarithm of
    the prediction is what is split; where a limit (``y_has_floor_``, ``y_has_ceiling_``) cuts a
    prediction, what it was before.

    Parameters
    ----------
    estimator : DSSLRegressor or DSSLClassifier
        Fitted with ``head_params={"n_hidden_layers": 0}`` and one of these readouts.
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
        If a crystal cannot be used, unless the estimator has ``on_error="skip"``.
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
    net = estimator.net_
    model = net.module_.eval()
    _check_additive(model)

    def split(graphs: GraphDataset) -> SiteAttributions:
        values, outputs = [], []
        with torch.inference_mode():
            zero = torch.zeros_like(model.mean).unsqueeze(0)
            offset = model.head(zero).mean(dim=1)[:, unit.column]
            for batch, n_sites in prediction_batches(graphs, net.batch_size, net.device):
                sites = model.encoder.backbone(batch)
                terms, weights = _terms(model.encoder.readout, sites, batch)
                of_sites = model.head((terms - weights * model.mean) / model.scale).mean(dim=1)
                values += split_sites((of_sites[:, unit.column] - offset) * unit.scale, n_sites)
                outputs.append(model(batch).mean(dim=1)[:, unit.column].double().cpu().numpy())
        beside = beside_network(estimator, graphs, unit)
        baselines = unit.scale * float(offset) + unit.mean + beside
        predictions = unit.scale * np.concatenate(outputs) + unit.mean + beside
        return SiteAttributions(values, baselines, predictions)

    return explained(estimator, structures, split)


def is_additive(estimator: PropertyEstimator) -> bool:
    """Whether `site_contributions` can split the predictions of an estimator.

    Raises
    ------
    InvalidInputError, NotFittedError
        If there is no trained network in it.
    """
    check_estimator(estimator, PropertyEstimator, "DSSLRegressor or DSSLClassifier")
    model: PropertyModel = estimator.net_.module_
    return _is_linear(model) and isinstance(model.encoder.readout, _SUMS)


def _is_linear(model: PropertyModel) -> bool:
    return len(model.head.weights) == 1


def _check_additive(model: PropertyModel) -> None:
    alternative = "or use integrated_gradients, which splits any prediction"
    if not _is_linear(model):
        raise InvalidInputError(
            "estimator has a head with hidden layers, whose output is no sum over sites; fit it "
            f'with head_params={{"n_hidden_layers": 0}}, {alternative}'
        )
    readout = model.encoder.readout
    if not isinstance(readout, _SUMS):
        raise InvalidInputError(
            f"estimator has the readout {type(readout).__name__}, which is no sum over the "
            f"sites; fit it with readout='mean', 'mean_max' or 'attention', {alternative}"
        )


def _terms(readout: nn.Module, sites: Tensor, batch: CrystalBatch) -> tuple[Tensor, Tensor]:
    """Terms of the sites in the embedding, (n_sites, width), and their weights, (n_sites, 1)."""
    if isinstance(readout, AttentionReadout):
        weights = readout.weights(sites, batch)
        return weights * sites, weights
    count = segment_count(batch.batch, batch.n_crystals).to(sites.dtype)
    weights = count.reciprocal().index_select(0, batch.batch)
    if isinstance(readout, MeanReadout):
        return weights * sites, weights
    largest = readout(sites, batch)[:, sites.shape[1] :].index_select(0, batch.batch)
    # Sites that are equal by symmetry differ by rounding.
    holds = torch.isclose(sites, largest, rtol=1e-4, atol=1e-5).to(sites.dtype)
    holders = segment_sum(holds, batch.batch, batch.n_crystals).index_select(0, batch.batch)
    return torch.cat([weights * sites, largest * holds / holders], dim=1), weights
