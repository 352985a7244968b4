"""Compilation, half precision, threads, allocator: what each does to a pretraining step."""

from __future__ import annotations

import time
from contextlib import nullcontext
from typing import Any

import torch
from measuring import Settings, in_process, spread
from nets import GATED, PAPER, plain_pretraining_net, pretraining_net
from samples import load_graphs, spread_sample

from dssl_sklearn.crystals.dataset import GraphDataset
from dssl_sklearn.training.data import CrystalDataset

#: Blocks up to 1 GB come from the heap, and freed ones stay there.
_ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**34)}
_NETWORKS: dict[str, dict[str, Any]] = {
    "gated 3 x 64": {**GATED, "objectives": "denoise"},
    "DeeperGATGNN 15 x 115": PAPER,
}
#: Row -> how the steps run, and the environment of their process.
_OPTIONS: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "as it is": ({}, {}),
    "torch.compile": ({"compiled": True}, {}),
    "bfloat16 autocast": ({"autocast": True}, {}),
    "two threads": ({"n_threads": 2}, {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}),
    "allocator keeps its memory": ({}, _ALLOCATOR),
    "plain form": ({"plain": True}, {}),
    "plain form, allocator keeps its memory": ({"plain": True}, _ALLOCATOR),
}
#: What takes minutes for the deep network.
_TOO_SLOW = {("DeeperGATGNN 15 x 115", "torch.compile")}


def measure(settings: Settings) -> dict[str, Any]:
    """Measure every option, each in a process of its own.

    Returns
    -------
    dict
        For each network and option the microseconds per crystal (CPU, and wall clock), the
        CPU-seconds of the first step, or the error that the option ends in.
    """
    table: dict[str, Any] = {}
    networks = list(_NETWORKS)[:1] if settings.quick else list(_NETWORKS)
    for network in networks:
        rows = table.setdefault(network, {})
        for option, (params, env) in _OPTIONS.items():
            slow = (network, option) in _TOO_SLOW or (settings.quick and "compiled" in params)
            if slow:
                continue
            try:
                rows[option] = in_process(
                    "options:steps", network, params, settings.to_json(), env=env
                )
            except RuntimeError as error:
                rows[option] = {"error": str(error)[:300]}
    return table


def steps(network: str, params: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Time pretraining steps on batches of different sizes.

    Parameters
    ----------
    network : str
        Name in the table of networks.
    params : dict
        Any of "compiled", "autocast" and "plain" (bool), and "n_threads" (int).
    settings : dict
        As of `Settings`.

    Returns
    -------
    dict
        "cpu" and "wall": microseconds per crystal of every turn; "first": CPU-seconds of the first
        step; "crystals" of a batch on average.
    """
    chosen = Settings(**settings)
    torch.set_num_threads(params.get("n_threads", 1))
    torch.set_default_device("cpu")
    size, n_batches = (64, 4) if network.startswith("gated") else (16, 1)
    all_graphs = load_graphs(chosen)
    graphs = GraphDataset.from_graphs(
        [all_graphs[int(i)] for i in spread_sample(all_graphs, size * n_batches)]
    )
    net = pretraining_net(graphs, chosen, **_NETWORKS[network])
    if params.get("plain"):
        net = plain_pretraining_net(net, graphs, chosen, **_NETWORKS[network])
    if params.get("compiled"):
        net.module_.compile(dynamic=True)
    dataset = CrystalDataset(graphs)
    # Every batch holds small and large crystals.
    batches = [
        dataset.__getitems__(list(range(k, len(graphs), n_batches))) for k in range(n_batches)
    ]

    def turn(some: list[Any]) -> tuple[float, float]:
        cpu, wall = time.process_time(), time.perf_counter()
        for batch in some:
            with torch.autocast("cpu") if params.get("autocast") else nullcontext():
                net.train_step(batch)
        return time.process_time() - cpu, time.perf_counter() - wall

    first, _ = turn(batches[:1])
    turn(batches)
    turns = [turn(batches) for _ in range(chosen.repeats)]
    cpu, wall = (spread([t[k] / len(graphs) * 1e6 for t in turns]) for k in (0, 1))
    return {"cpu": cpu, "wall": wall, "first": first, "crystals": size}
