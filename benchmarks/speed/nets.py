"""Networks of the package and their plain forms, in the package's training loop."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from agreement import agreement
from measuring import Settings
from numpy.typing import NDArray
from plain import plain_module
from samples import labels
from torch import nn

from dssl_sklearn import DSSLPretrainer, DSSLRegressor
from dssl_sklearn.crystals.batch import CrystalBatch
from dssl_sklearn.crystals.dataset import GraphDataset
from dssl_sklearn.training.data import CrystalDataset

#: The small network that the targets speak of.
GATED: dict[str, Any] = {"backbone": "gated", "backbone_params": {"width": 64, "n_layers": 3}}
#: The paper's network and training: 15 layers, width 115, 4 heads; three views.
PAPER: dict[str, Any] = {"recipe": "paper"}


def pretraining_net(graphs: GraphDataset, settings: Settings, **params: Any) -> Any:  # noqa: ANN401
    """Make a skorch net that is ready for single steps.

    Parameters
    ----------
    graphs : GraphDataset
        Crystals that the targets of the tasks are scaled to.
    settings : Settings
        Gives the seed.
    **params
        Arguments of `DSSLPretrainer`.

    Returns
    -------
    PretextNet
        Untrained, with optimizer.
    """
    params = {"device": "cpu", "random_state": settings.seed, **params}
    net = DSSLPretrainer(max_epochs=0, **params).fit(graphs).net_
    net.criterion_.fit_statistics(graphs)
    return _for_steps(net)


def plain_pretraining_net(
    ours: Any,  # noqa: ANN401 - skorch nets have no types
    graphs: GraphDataset,
    settings: Settings,
    **params: Any,  # noqa: ANN401
) -> Any:  # noqa: ANN401
    """The same net around the plain forms of backbone and readout, with the same weights."""
    params |= {"backbone_params": None, **_plain_parts(ours.module_)}
    net = pretraining_net(graphs, settings, **params)
    net.criterion_.load_state_dict(ours.criterion_.state_dict())
    return net


def regressor(graphs: GraphDataset, settings: Settings, **params: Any) -> DSSLRegressor:  # noqa: ANN401
    """Fit a regressor to made-up labels.

    Parameters
    ----------
    graphs : GraphDataset
        Crystals.
    settings : Settings
        Gives the seed.
    **params
        Arguments of `DSSLRegressor`; without `max_epochs` nothing is trained, and without
        `kernel_share` there is the network alone.

    Returns
    -------
    DSSLRegressor
        The regressor; its net is ready for single steps.
    """
    params = {"device": "cpu", "random_state": settings.seed, "max_epochs": 0, **params}
    params.setdefault("kernel_share", 0.0)
    model = DSSLRegressor(**params).fit(graphs, labels(len(graphs), settings.seed))
    _for_steps(model.net_)
    return model


def plain_regressor(
    ours: DSSLRegressor,
    graphs: GraphDataset,
    settings: Settings,
    **params: Any,  # noqa: ANN401
) -> DSSLRegressor:
    """The same regressor around the plain forms of backbone and readout, same weights."""
    module = ours.net_.module_
    params |= {"backbone_params": None, **_plain_parts(module.encoder)}
    made = regressor(graphs, settings, **params)
    made.net_.module_.load_state_dict(module.state_dict())
    return made


def _plain_parts(encoder: Any) -> dict[str, nn.Module]:  # noqa: ANN401
    return {name: plain_module(getattr(encoder, name)) for name in ("backbone", "readout")}


def _for_steps(net: Any) -> Any:  # noqa: ANN401
    """What the loop of an epoch would set up."""
    net.history.new_epoch()
    net.history.new_batch()
    if hasattr(net, "seed_views"):
        net.seed_views(0)
    return net


def step(net: Any, dataset: CrystalDataset, rows: NDArray[Any]) -> None:  # noqa: ANN401
    """One training step, from the crystals' numbers to new weights.

    Parameters
    ----------
    net : CrystalNet
        Ready for single steps.
    dataset : CrystalDataset
        Crystals and targets.
    rows : ndarray of int
        The crystals of the batch.
    """
    net.train_step(dataset.__getitems__(rows.tolist()))


def in_double(
    dataset: CrystalDataset, rows: NDArray[Any]
) -> tuple[CrystalBatch, dict[str, torch.Tensor]]:
    """Batch in double precision, and its targets."""
    crystals, targets = dataset.__getitems__(rows.tolist())
    batch = crystals.to(torch.float64)
    # The stored lengths of an edge and of the one back along it are each rounded to float32.
    return replace(batch, edge_distance=batch.edge_vectors().norm(dim=1)), targets


def check(ours: Any, plain: Any, dataset: CrystalDataset, rows: NDArray[Any]) -> float:  # noqa: ANN401
    """Compare two nets in double precision: loss of a training batch, and all gradients.

    Both nets are left in double precision.

    Parameters
    ----------
    ours, plain : CrystalNet
        Nets with equal weights.
    dataset : CrystalDataset
        Crystals and targets.
    rows : ndarray of int
        The crystals of the batch.

    Returns
    -------
    float
        Largest relative difference.

    Raises
    ------
    AssertionError
        If the two are not equal.
    """
    batch, targets = in_double(dataset, rows)

    def prepared(net: Any) -> Any:  # noqa: ANN401
        module = nn.ModuleList([net.module_, net.criterion_]).double().train()

        def loss() -> Any:  # noqa: ANN401
            if hasattr(net, "seed_views"):
                net.seed_views(0)
            return net.get_loss(net.infer(batch), targets, batch, training=True)

        return module, loss

    return agreement(prepared(ours), prepared(plain))
