"""How cost grows with the sites of a cell, the crystals, the layers and the width."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from epochs import pretrain
from fits import last_exponent, power_law
from measuring import Job, Settings, interleaved, spread
from nets import GATED, PAPER, pretraining_net, step
from samples import CUTOFF, MAX_NEIGHBORS, load_graphs, load_structures, spread_sample

from dssl_sklearn.crystals.builder import GraphBuilder
from dssl_sklearn.crystals.dataset import GraphDataset
from dssl_sklearn.training.data import CrystalDataset

_DEEP: dict[str, Any] = {"n_layers": 15, "width": 115}


def measure(settings: Settings) -> dict[str, Any]:
    """Measure the four curves.

    Returns
    -------
    dict
        Name of a curve -> "x", "seconds" (spread), "exponent" of the power law through all points
        and "last_exponent" between the last two.
    """
    return {
        **_by_sites(settings),
        "epoch of the gated network, by crystals": _by_crystals(settings),
        **_by_size(settings),
    }


def _curve(points: dict[int, Job], axis: str, settings: Settings) -> dict[str, Any]:
    named = {str(x): job for x, job in points.items()}
    seconds = interleaved(named, 1 if settings.quick else 3)
    summaries = [spread(values) for values in seconds.values()]
    x: Sequence[int] = list(points)
    best = [summary["min"] for summary in summaries]
    return {
        "axis": axis,
        "x": x,
        "seconds": summaries,
        "exponent": power_law(x, best),
        "last_exponent": last_exponent(x, best),
    }


def _by_sites(settings: Settings) -> dict[str, Any]:
    """Supercells of one crystal: graphs, and a pretraining step of eight of them."""
    structures = load_structures(settings)
    smallest = min(structures, key=lambda s: (abs(len(s) - 4), s.formula))
    builder = GraphBuilder(CUTOFF, MAX_NEIGHBORS, use_cache=False)
    builds: dict[int, Job] = {}
    trains: dict[int, Job] = {}
    for repeats in ((1, 1, 1), (2, 2, 1), (2, 2, 4), (4, 4, 4), (8, 8, 4)):
        cell = smallest.make_supercell(repeats, in_place=False).perturb(0.05)
        graphs = builder.dataset([cell] * 8)
        net = pretraining_net(graphs, settings, **GATED, objectives="denoise")
        builds[len(cell)] = partial(builder.dataset, [cell] * 8)
        trains[len(cell)] = partial(step, net, CrystalDataset(graphs), spread_sample(graphs, 8))
    axis = "sites per cell"
    return {
        "graphs of 8 cells, by sites": _curve(builds, axis, settings),
        "gated step of 8 cells, by sites": _curve(trains, axis, settings),
    }


def _by_crystals(settings: Settings) -> dict[str, Any]:
    graphs = load_graphs(settings)
    order = spread_sample(graphs, len(graphs))
    points: dict[int, Job] = {}
    for share in (8, 4, 2, 1):
        part = GraphDataset.from_graphs([graphs[int(i)] for i in order[::share]])
        points[len(part)] = partial(pretrain, part, settings, 1, **GATED, objectives="denoise")
    return _curve(points, "crystals", settings)


def _by_size(settings: Settings) -> dict[str, Any]:
    gated = {"n_layers": 3, "width": 64}
    curves = {}
    for name, base, base_params, size, layers, widths in (
        ("gated", GATED, gated, 64, (1, 2, 4, 8, 16), (16, 32, 64, 128, 256)),
        ("DeeperGATGNN", PAPER, _DEEP, 4, (1, 3, 7, 15), (16, 29, 58, 115, 230)),
    ):
        few = _sample(settings, size)
        for axis, key, values in (("layers", "n_layers", layers), ("width", "width", widths)):
            # The curve over the width of a network of few layers shows the same in less time.
            fixed = {**base_params, **({"n_layers": 3} if key == "width" else {})}
            points: dict[int, Job] = {}
            for value in values:
                params = {**base, "backbone_params": {**fixed, key: value}}
                net = pretraining_net(few, settings, **params)
                points[value] = partial(step, net, CrystalDataset(few), spread_sample(few, size))
            curves[f"{name} step, by {axis}"] = _curve(points, axis, settings)
    return curves


def _sample(settings: Settings, size: int) -> GraphDataset:
    graphs = load_graphs(settings)
    return GraphDataset.from_graphs([graphs[int(i)] for i in spread_sample(graphs, size)])
