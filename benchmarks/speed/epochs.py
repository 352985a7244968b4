"""Whole epochs through the estimators, with all that the training loop costs."""

from __future__ import annotations

import copy
import time
from functools import partial
from typing import Any

import numpy as np
import torch
from agreement import agreement
from arithmetic import matrix_flops, sgemm_rate
from measuring import Job, Settings, compared, interleaved, rate, ratio, spread
from nets import (
    GATED,
    PAPER,
    check,
    in_double,
    plain_pretraining_net,
    pretraining_net,
    regressor,
    step,
)
from plain_loops import PlainFineTuning, PlainPretraining
from samples import labels, load_graphs, spread_sample

from dssl_sklearn import DSSLPretrainer
from dssl_sklearn.crystals.dataset import GraphDataset
from dssl_sklearn.estimators.kernel_part import ComparedCrystals, KernelPart
from dssl_sklearn.training.data import CrystalDataset


def measure(settings: Settings) -> dict[str, Any]:
    """Measure the epochs of the small gated network and of the default one.

    Returns
    -------
    dict
        Tables "gated", "default", "process" and "loader".
    """
    return {
        "gated": _gated(settings),
        "default": _default(settings),
        "process": _process(settings),
        "loader": _loader_shares(settings),
    }


def _n_epochs(settings: Settings) -> int:
    return 2 if settings.quick else 3


def pretrain(
    graphs: GraphDataset,
    settings: Settings,
    n_epochs: int,
    **params: Any,  # noqa: ANN401
) -> DSSLPretrainer:
    """Pretrain from ready graphs; a tenth of the crystals is held out, as by default.

    Parameters
    ----------
    graphs : GraphDataset
        Crystals.
    settings : Settings
        Gives the seed.
    n_epochs : int
        Number of epochs.
    **params
        Further arguments of `DSSLPretrainer`.

    Returns
    -------
    DSSLPretrainer
        The fitted pretrainer.
    """
    params = {"device": "cpu", "random_state": settings.seed, **params}
    return DSSLPretrainer(max_epochs=n_epochs, **params).fit(graphs)


def _n_trained(pretrainer: DSSLPretrainer, n_crystals: int) -> int:
    """Crystals that an epoch trains on: those held out do not count."""
    return n_crystals - round(pretrainer.validation_fraction * n_crystals)


def _gated(settings: Settings) -> dict[str, Any]:
    graphs = load_graphs(settings)
    objects, n_epochs = list(graphs), _n_epochs(settings)
    params = {**GATED, "objectives": "denoise"}
    rows: dict[str, Any] = {}

    few = GraphDataset.from_graphs([objects[i] for i in spread_sample(graphs, 16)])
    net = pretraining_net(few, settings, **params)
    twin = plain_pretraining_net(net, few, settings, **params)
    difference = check(net, twin, CrystalDataset(few), spread_sample(few, 16))

    ours = pretrain(graphs, settings, 1, **params)
    plain = PlainPretraining(ours.net_, objects)
    jobs: dict[str, Job] = {
        "ours": partial(pretrain, graphs, settings, n_epochs, **params),
        "plain": plain.epoch,
    }
    n_crystals = len(graphs)
    crystals = {"ours": n_epochs * _n_trained(ours, n_crystals), "plain": n_crystals}
    row = compared(crystals, _interleaved(jobs, settings))
    rows["pretraining"] = {**row, "difference": difference}

    difference = _fine_tuning_difference(few, settings)
    model = regressor(graphs, settings, **GATED)
    y = torch.as_tensor(labels(n_crystals, settings.seed), dtype=torch.float32)
    tuning = PlainFineTuning(model.net_, objects, y)
    jobs = {
        "ours": partial(regressor, graphs, settings, max_epochs=n_epochs, **GATED),
        "plain": tuning.epoch,
    }
    crystals = {"ours": n_epochs * n_crystals, "plain": n_crystals}
    row = compared(crystals, _interleaved(jobs, settings))
    rows["fine_tuning"] = {**row, "difference": difference}
    predictions: dict[str, Job] = {"ours": partial(model.predict, graphs), "plain": tuning.predict}
    crystals = dict.fromkeys(predictions, n_crystals)
    rows["prediction"] = compared(crystals, interleaved(predictions, settings.repeats))
    return rows


def _fine_tuning_difference(graphs: GraphDataset, settings: Settings) -> float:
    """Compare loss and gradients of all crystals in double precision."""
    net = regressor(graphs, settings, **GATED).net_
    net.module_.double().train()
    plain = PlainFineTuning(net, list(graphs), torch.empty(0))
    plain.model.double()
    batch, targets = in_double(_labeled(graphs), np.arange(len(graphs)))
    return agreement(
        (net.module_, lambda: net.get_loss(net.infer(batch), targets, batch, training=True)),
        (plain.model, lambda: plain.loss(batch, targets["y"][:, 0].double())),
    )


def _interleaved(jobs: dict[str, Job], settings: Settings) -> dict[str, list[float]]:
    return interleaved(jobs, max(2, settings.repeats - 2))


def _default(settings: Settings) -> dict[str, Any]:
    """The default network and tasks, beside the matrix products that they need."""
    graphs, n_epochs = load_graphs(settings), _n_epochs(settings)
    n_crystals = len(graphs)
    pretrainer = pretrain(graphs, settings, 1)
    model = regressor(graphs, settings)
    jobs: dict[str, Job] = {
        "pretraining": partial(pretrain, graphs, settings, n_epochs),
        "fine_tuning": partial(regressor, graphs, settings, max_epochs=n_epochs),
        "prediction": partial(model.predict, graphs),
    }
    seconds = _interleaved(jobs, settings)
    counts = {
        "pretraining": n_epochs * _n_trained(pretrainer, n_crystals),
        "fine_tuning": n_epochs * n_crystals,
        "prediction": n_crystals,
    }
    flops = {
        "pretraining": matrix_flops(partial(_one_step, pretraining_net(graphs, settings), graphs)),
        "fine_tuning": matrix_flops(partial(_one_step, model.net_, graphs)),
        "prediction": matrix_flops(partial(model.predict, _part(graphs))),
    }
    sgemm = sgemm_rate()
    architecture = pretrainer.architecture_
    rows: dict[str, Any] = {
        "network": f"{architecture.backbone} {dict(architecture.backbone_params) or ''}".strip(),
        "n_weights": sum(p.numel() for p in pretrainer.encoder_.parameters()),
        "sgemm_gflops": sgemm / 1e9,
    }
    for name, count in counts.items():
        per_crystal = flops[name] / _PART
        took = [s / count for s in seconds[name]]
        rows[name] = {
            "per_second": rate(1, took),
            "mflop_per_crystal": per_crystal / 1e6,
            "share_of_sgemm": ratio([per_crystal / sgemm] * len(took), took),
        }
    return rows


def _process(settings: Settings) -> dict[str, Any]:
    """What the Gaussian process beside a pretrained network adds, after some thousand labels."""
    graphs = load_graphs(settings)
    model = regressor(graphs, settings, pretrained="mp", max_epochs=1, kernel_share=None)
    alone = copy.copy(model)
    alone.kernel_ = None
    targets, weight = _labeled(graphs).targets["y"].numpy(), np.ones(len(graphs))
    encoder = None if model.kernel_ is None else model.kernel_.encoder

    def fit() -> KernelPart:
        compared = ComparedCrystals.of(encoder, graphs, settings.seed, model.net_.batch_size)
        return KernelPart.fit(0.5, compared, targets, weight)[0]

    jobs: dict[str, Job] = {
        "both": partial(model.predict, graphs),
        "network": partial(alone.predict, graphs),
        "fit": fit,
    }
    seconds = _interleaved(jobs, settings)
    return {
        "n_labels": len(graphs),
        "fit_seconds": spread(seconds["fit"]),
        "per_second": rate(len(graphs), seconds["both"]),
        "network_per_second": rate(len(graphs), seconds["network"]),
    }


#: Crystals whose matrix products are counted.
_PART = 64


def _part(graphs: GraphDataset) -> GraphDataset:
    return GraphDataset.from_graphs([graphs[int(i)] for i in spread_sample(graphs, _PART)])


def _labeled(graphs: GraphDataset) -> CrystalDataset:
    y = labels(len(graphs), 0).astype("f4")
    return CrystalDataset(graphs, y=y[:, None], weight=0 * y + 1)


def _one_step(net: Any, graphs: GraphDataset) -> None:  # noqa: ANN401
    part = _part(graphs)
    step(net, _labeled(part), spread_sample(part, _PART))


def _loader_shares(settings: Settings) -> dict[str, Any]:
    """Time to make the batches of an epoch, as a share of the steps."""
    size = 16 if settings.quick else 48
    graphs = load_graphs(settings)
    few = GraphDataset.from_graphs([graphs[int(i)] for i in spread_sample(graphs, size)])
    return {
        "gated, pretraining": _loader_share(
            pretraining_net(graphs, settings, **GATED, objectives="denoise"), graphs, settings
        ),
        "gated, fine-tuning": _loader_share(
            regressor(graphs, settings, **GATED).net_, graphs, settings
        ),
        "DeeperGATGNN 15 x 115, three views": _loader_share(
            pretraining_net(few, settings, **PAPER), few, settings
        ),
    }


def _loader_share(net: Any, graphs: GraphDataset, settings: Settings) -> dict[str, Any]:  # noqa: ANN401
    dataset = _labeled(graphs)
    shares, micros = [], []
    for turn in range(settings.repeats + 1):
        loading = stepping = 0.0
        start = time.process_time()
        for batch in net.get_iterator(dataset, training=True):
            loaded = time.process_time()
            net.train_step(batch)
            loading += loaded - start
            start = time.process_time()
            stepping += start - loaded
        if turn:
            shares.append(loading / (loading + stepping))
            micros.append(loading / len(graphs) * 1e6)
    return {"share": spread(shares), "microseconds_per_crystal": spread(micros)}
