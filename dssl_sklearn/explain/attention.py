"""How much of each site the attention readout takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dssl_sklearn.estimators.base import CrystalEstimator
from dssl_sklearn.exceptions import InvalidInputError
from dssl_sklearn.explain._network import (
    check_estimator,
    graphs_of,
    split_sites,
)
from dssl_sklearn.models.readout import AttentionReadout
from dssl_sklearn.training.inference import prediction_batches


def attention_weights(
    estimator: CrystalEstimator,
    structures: Any,  # noqa: ANN401 - whatever the estimators take
) -> list[NDArray[np.float64]]:
    """Get the weights with which the attention readout averages the site embeddings.

    They say what the network looks at, which need not be what decides the prediction; for that,
    see `site_contributions` and `integrated_gradients`.

    Parameters
    ----------
    estimator : DSSLPretrainer, DSSLRegressor or DSSLClassifier
        Fitted with the readout "attention", that of ``recipe="paper"``.
    structures : sequence of crystals
        As for ``predict`` or ``transform``.

    Returns
    -------
    list of ndarray of shape (n_sites,), float64
        One array per crystal, sites in the order of the structure; each sums to 1, or is empty for
        a skipped structure.

    Raises
    ------
    InvalidInputError
        If the readout is another one, or `estimator` holds no network.
    InvalidStructureError
        If a crystal cannot be used, unless the estimator has ``on_error="skip"``.
    NotFittedError
        If the estimator is not fitted.

    Examples
    --------
    >>> from dssl_sklearn import DSSLRegressor
    >>> from dssl_sklearn.datasets import load_elasticity
    >>> from dssl_sklearn.explain import attention_weights
    >>> structures, y = load_elasticity(target="log10_K_VRH", return_X_y=True)
    >>> model = DSSLRegressor(readout="attention", max_epochs=1, random_state=0)
    >>> weights = attention_weights(model.fit(structures[:64], y[:64]), structures[:2])
    >>> [float(w.sum().round(6)) for w in weights]
    [1.0, 1.0]
    """
    check_estimator(estimator, CrystalEstimator, "DSSLPretrainer, DSSLRegressor or DSSLClassifier")
    encoder = estimator.encoder_.eval()
    readout = encoder.readout
    if not isinstance(readout, AttentionReadout):
        raise InvalidInputError(
            f"estimator has the readout {type(readout).__name__}, which has no attention weights; "
            "fit it with readout='attention' (or recipe='paper')"
        )
    net, usable = estimator.net_, graphs_of(estimator, structures)
    weights: list[NDArray[np.float64]] = []
    with torch.inference_mode():
        for batch, n_sites in prediction_batches(usable.graphs, net.batch_size, net.device):
            of_sites = readout.weights(encoder.backbone(batch), batch).squeeze(1)
            weights += split_sites(of_sites, n_sites)
    return usable.spread_sites(weights, np.empty(0))
