"""DeeperGATGNN at the paper's size: steps, predictions, memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from measuring import Settings, compared, in_process, interleaved, peak_memory, rate
from nets import (
    PAPER,
    check,
    plain_pretraining_net,
    plain_regressor,
    pretraining_net,
    regressor,
    step,
)
from samples import labels, load_graphs, spread_sample

from dssl_sklearn.crystals.dataset import GraphDataset
from dssl_sklearn.training.data import CrystalDataset

#: Batch sizes of the paper: pretraining and fine-tuning.
_PAPER_BATCH = {"pretraining": 256, "fine_tuning": 100}


def measure(settings: Settings) -> dict[str, Any]:
    """Measure all rows of the paper's network.

    Returns
    -------
    dict
        Rows "pretraining", "fine_tuning", "prediction" (three views a step, crystals per
        CPU-second, beside the plain form) and "memory" (MB per crystal of a pretraining batch).
    """
    size = 8 if settings.quick else 32
    rows: dict[str, Any] = {
        "pretraining": _pretraining(settings, size),
        **_fine_tuning(settings, size),
        "memory": _memory(settings),
    }
    if not settings.quick:
        for name, batch_size in _PAPER_BATCH.items():
            rows[f"{name}_paper_batch"] = _large_batch(settings, name, batch_size)
    return rows


def _sample(settings: Settings, size: int) -> GraphDataset:
    graphs = load_graphs(settings)
    return GraphDataset.from_graphs([graphs[int(i)] for i in spread_sample(graphs, size)])


def _both(size: int) -> dict[str, int]:
    return {"ours": size, "plain": size}


def _labeled(graphs: GraphDataset, settings: Settings) -> CrystalDataset:
    y = labels(len(graphs), settings.seed).astype("f4")
    return CrystalDataset(graphs, y=y[:, None], weight=0 * y + 1)


def _pretraining(settings: Settings, size: int) -> dict[str, Any]:
    def nets(graphs: GraphDataset) -> tuple[Any, Any]:
        ours = pretraining_net(graphs, settings, **PAPER)
        return ours, plain_pretraining_net(ours, graphs, settings, **PAPER)

    few = _sample(settings, 6)
    difference = check(*nets(few), CrystalDataset(few), spread_sample(few, 6))
    graphs = _sample(settings, size)
    rows, dataset = spread_sample(graphs, size), CrystalDataset(graphs)
    jobs = {
        name: partial(step, net, dataset, rows)
        for name, net in zip(("ours", "plain"), nets(graphs), strict=True)
    }
    seconds = interleaved(jobs, settings.repeats)
    return {**compared(_both(size), seconds), "difference": difference, "views": 3}


def _fine_tuning(settings: Settings, size: int) -> dict[str, Any]:
    def models(graphs: GraphDataset) -> tuple[Any, Any]:
        ours = regressor(graphs, settings, **PAPER)
        return ours, plain_regressor(ours, graphs, settings, **PAPER)

    few = _sample(settings, 6)
    ours, plain = models(few)
    difference = check(ours.net_, plain.net_, _labeled(few, settings), spread_sample(few, 6))
    graphs = _sample(settings, size)
    rows, dataset = spread_sample(graphs, size), _labeled(graphs, settings)
    named = dict(zip(("ours", "plain"), models(graphs), strict=True))
    steps = {name: partial(step, model.net_, dataset, rows) for name, model in named.items()}
    fine_tuning = interleaved(steps, settings.repeats)
    predictions = {name: partial(model.predict, graphs) for name, model in named.items()}
    prediction = interleaved(predictions, settings.repeats)
    return {
        "fine_tuning": {**compared(_both(size), fine_tuning), "difference": difference},
        "prediction": compared(_both(size), prediction),
    }


def _large_batch(settings: Settings, kind: str, size: int) -> dict[str, Any]:
    """Ours at the batch size of the paper, where the plain form would need 20 GB."""
    graphs = _sample(settings, size)
    if kind == "pretraining":
        net, dataset = pretraining_net(graphs, settings, **PAPER), CrystalDataset(graphs)
    else:
        net = regressor(graphs, settings, **PAPER).net_
        dataset = _labeled(graphs, settings)
    job = partial(step, net, dataset, spread_sample(graphs, size))
    return {"crystals": size, "per_second": rate(size, interleaved({"ours": job}, 2)["ours"])}


# ---- memory ------------------------------------------------------------------------------------


def _memory(settings: Settings) -> dict[str, Any]:
    # Small batches may keep more of the layers, up to a fixed sum: what a crystal costs shows in
    # those that are too large for that.
    sizes = {"ours": (192, 288), "plain": (8, 24)}
    if settings.quick:
        sizes = {"ours": (16, 48), "plain": (4, 12)}
    row: dict[str, Any] = {}
    for form, (small, large) in sizes.items():
        peaks = [
            in_process("networks:memory_of_step", form, size, settings.to_json())
            for size in (small, large)
        ]
        used = [peak["peak"] - peak["before"] for peak in peaks]
        row[form] = {
            "mb_per_crystal": (used[1] - used[0]) / (large - small),
            "batch_sizes": [small, large],
            "mb_above_rest": used,
        }
    row["ratio"] = row["plain"]["mb_per_crystal"] / row["ours"]["mb_per_crystal"]
    return row


def memory_of_step(form: str, size: int, settings: dict[str, Any]) -> dict[str, float]:
    """Memory of this process around one three-view pretraining step.

    Parameters
    ----------
    form : {"ours", "plain"}
        Which network.
    size : int
        Crystals in the batch.
    settings : dict
        As of `Settings`.

    Returns
    -------
    dict
        As of `peak_memory`.
    """
    chosen = Settings(**settings)
    graphs = _sample(chosen, size)
    net = pretraining_net(graphs, chosen, **PAPER)
    if form == "plain":
        net = plain_pretraining_net(net, graphs, chosen, **PAPER)
    dataset = CrystalDataset(graphs)
    # The optimizer's moments and torch's own buffers exist after a first, small step.
    step(net, dataset, spread_sample(graphs, 2))
    job: Callable[[], None] = partial(step, net, dataset, spread_sample(graphs, size))
    return peak_memory(job)
