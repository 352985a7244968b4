"""Where the time of one pretraining epoch goes."""

from __future__ import annotations

import time
from typing import Any

from epochs import pretrain
from measuring import Settings
from nets import GATED
from samples import load_graphs
from torch.profiler import ProfilerActivity, profile

from dssl_sklearn.training.data import CrystalDataset

_N_OPERATORS = 15


def measure(settings: Settings) -> dict[str, Any]:
    """Profile one epoch of the gated network through `DSSLPretrainer`, and of the default one.

    Returns
    -------
    dict
        Per network: "operators" (name, calls and share of the epoch of those that take most);
        "in_operators": share of all operators and functions of autograd; "outside": the rest,
        Python of torch, skorch and ours; "loader" and "optimizer": shares of making batches and of
        the optimizer's steps, measured by themselves (they are parts of the two shares above).
    """
    gated = {**GATED, "objectives": "denoise"}
    return {"gated 3 x 64": _profile(settings, **gated), "default": _profile(settings)}


def _profile(settings: Settings, **params: Any) -> dict[str, Any]:  # noqa: ANN401
    graphs = load_graphs(settings)
    fitted = pretrain(graphs, settings, 1, **params, validation_fraction=0.0)
    net, dataset = fitted.net_, CrystalDataset(graphs)
    plain_epoch = _seconds(lambda: net.partial_fit(dataset))
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        # The profiler reads the wall clock.
        start = time.perf_counter()
        net.partial_fit(dataset)
        profiled_epoch = time.perf_counter() - start
    found = [event for event in profiler.key_averages() if event.self_cpu_time_total > 0]
    # Annotations (loader, optimizer) are no operators: what is theirs alone is Python.
    operators = [event for event in found if "#" not in event.key]
    operators.sort(key=lambda event: -event.self_cpu_time_total)
    microseconds = profiled_epoch * 1e6
    share = sum(event.self_cpu_time_total for event in operators) / microseconds
    optimizer = _seconds(lambda: [net.optimizer_.step() for _ in _batches(net, dataset)])
    loader = _seconds(lambda: list(_batches(net, dataset)))
    return {
        "cpu_seconds": plain_epoch,
        "wall_seconds_profiled": profiled_epoch,
        "operators": [
            {
                "name": event.key,
                "calls": event.count,
                "share": event.self_cpu_time_total / microseconds,
            }
            for event in operators[:_N_OPERATORS]
        ],
        "in_operators": share,
        "outside": 1 - share,
        "loader": loader / plain_epoch,
        "optimizer": (optimizer - loader) / plain_epoch,
    }


def _batches(net: Any, dataset: CrystalDataset) -> Any:  # noqa: ANN401
    return iter(net.get_iterator(dataset, training=True))


def _seconds(job: Any) -> float:  # noqa: ANN401
    start = time.process_time()
    job()
    return time.process_time() - start
