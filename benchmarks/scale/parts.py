"""What is measured, each part for a process of its own."""

from __future__ import annotations

import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from itertools import islice, repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import memory_mb
from skorch.callbacks import Callback

from dssl_sklearn import DSSLPretrainer, DSSLRegressor
from dssl_sklearn.crystals.dataset import GraphDataset
from dssl_sklearn.crystals.graph import Crystal
from dssl_sklearn.crystals.store import GraphStore
from dssl_sklearn.datasets import load_corpus, load_elasticity
from dssl_sklearn.training.data import CrystalDataset

_BATCH = 64
#: Steps, or cut batches, that a candidate does before it is the other one's turn.
_TURN = 5


class FirstSteps(Callback):  # type: ignore[misc]
    """End the training after some steps and watch the memory at each.

    Parameters
    ----------
    n_steps : int
        Steps.
    """

    def __init__(self, n_steps: int) -> None:
        self.n_steps = n_steps
        self.anon_mb = 0.0
        self.file_mb = 0.0
        self.n_done = 0
        self.net: Any = None

    def on_batch_end(self, net: Any, **_: Any) -> None:  # noqa: ANN401 - skorch's signature
        """Look, and stop when it is enough."""
        self.n_done += 1
        self.net = net
        self.anon_mb = max(self.anon_mb, memory_mb("RssAnon"))
        self.file_mb = max(self.file_mb, memory_mb("RssFile"))
        if self.n_done >= self.n_steps:
            raise KeyboardInterrupt


def build(args: Namespace, _: int) -> dict[str, Any]:
    """Build the store, unless it is there, and open it."""
    folder = Path(args.store)
    seconds = None
    if not (folder / "header.json").exists():
        corpus = load_corpus(args.corpus)
        start = time.process_time()
        GraphStore.build(folder, corpus)
        seconds = time.process_time() - start
    start = time.process_time()
    store = GraphStore(folder)
    verified = time.process_time() - start
    start = time.process_time()
    GraphStore(folder, verify=False)
    return {
        "crystals": len(store),
        "sites": len(store.numbers),
        "edges": len(store.source),
        "bytes": sum(path.stat().st_size for path in folder.iterdir()),
        "build_cpu_s": seconds,
        "open_verified_cpu_s": verified,
        "open_cpu_s": time.process_time() - start,
    }


def memory(args: Namespace, _: int) -> dict[str, Any]:
    """Fit the default pretrainer on the whole store, for its first steps."""
    watch = FirstSteps(args.steps)
    _fit_first_steps(GraphStore(args.store), watch)
    return {
        "steps": watch.n_done,
        "peak_mb": memory_mb("VmHWM"),
        "anon_mb": max(watch.anon_mb, memory_mb("RssAnon")),
        "file_mb": max(watch.file_mb, memory_mb("RssFile")),
    }


def _fit_first_steps(store: GraphStore, watch: FirstSteps) -> None:
    pretrainer = DSSLPretrainer(max_epochs=1, random_state=0, batch_size=_BATCH, device="cpu")
    # The instance itself, which fit would copy.
    pretrainer.set_params(net_params={"callbacks": [("first_steps", watch)]})
    try:
        pretrainer.fit(store)
    except KeyboardInterrupt:
        print(f"stopped after {watch.n_done} steps")


def speed(args: Namespace, _: int) -> dict[str, Any]:
    """Training steps and cut batches, from the store and from memory in turns."""
    store = GraphStore(args.store)
    watch = FirstSteps(1)
    _fit_first_steps(store, watch)
    net = watch.net
    in_memory: GraphDataset = store.take(np.arange(len(store)))
    graphs = {"store": store, "memory": in_memory}

    def steps(data: GraphDataset) -> Iterator[int]:
        net.initialize_history()
        net.history.new_epoch()
        net.seed_views(0)
        for batch in net.get_iterator(CrystalDataset(data), training=True):
            net.history.new_batch()
            net.train_step(batch)
            yield len(batch[0])

    trained = _in_turns({k: steps(v) for k, v in graphs.items()}, args.steps)
    rng = np.random.default_rng(0)

    def cuts(data: GraphDataset) -> Iterator[int]:
        while True:
            data.batch(rng.integers(len(data), size=_BATCH))
            yield _BATCH

    cut = _in_turns({k: cuts(v) for k, v in graphs.items()}, 500)
    return {
        "steps": args.steps,
        "store_per_cpu_s": trained["store"][0],
        "memory_per_cpu_s": trained["memory"][0],
        "ratio": trained["store"][0] / trained["memory"][0],
        "wall_ratio": trained["store"][1] / trained["memory"][1],
        "store_batches_per_cpu_s": cut["store"][0],
        "memory_batches_per_cpu_s": cut["memory"][0],
    }


def _in_turns(candidates: dict[str, Iterator[int]], n_steps: int) -> dict[str, tuple[float, float]]:
    """Crystals per second of CPU and of wall clock, after one turn to warm up."""
    for steps in candidates.values():
        sum(islice(steps, _TURN))
    spent = {name: np.zeros(3) for name in candidates}
    for _ in range(0, n_steps, _TURN):
        for name, steps in candidates.items():
            cpu, wall = time.process_time(), time.perf_counter()
            n_crystals = sum(islice(steps, _TURN))
            spent[name] += n_crystals, time.process_time() - cpu, time.perf_counter() - wall
    return {name: (n / cpu, n / wall) for name, (n, cpu, wall) in spent.items()}


def formats(args: Namespace, _: int) -> dict[str, Any]:
    """Random batches from flat arrays and from torch-geometric's database of objects."""
    from torch_geometric.data import Batch, Data  # type: ignore[import-untyped]
    from torch_geometric.data.database import SQLiteDatabase  # type: ignore[import-untyped]

    whole = GraphStore(args.store, verify=False)
    n_crystals = 4096
    rows = np.linspace(0, len(whole) - 1, n_crystals).astype(np.int64)
    with tempfile.TemporaryDirectory() as folder:
        store = GraphStore.build(f"{folder}/store", whole.take(rows))
        path = Path(folder) / "graphs.db"
        database = SQLiteDatabase(str(path), "graphs")
        for index in range(n_crystals):
            batch = store.batch([index])
            data = Data(
                z=batch.numbers.to(torch.uint8),
                pos=batch.positions,
                lattice=batch.lattice,
                edge_index=batch.edge_index.to(torch.int16),
                shift=batch.edge_shift.to(torch.int8),
                distance=batch.edge_distance,
            )
            database.insert(index, data)
        database.close()
        database = SQLiteDatabase(str(path), "graphs")
        rng = np.random.default_rng(0)

        def cuts() -> Iterator[int]:
            while True:
                store.batch(rng.integers(n_crystals, size=_BATCH))
                yield _BATCH

        def objects() -> Iterator[int]:
            while True:
                chosen = rng.integers(n_crystals, size=_BATCH).tolist()
                Batch.from_data_list(database.multi_get(chosen))
                yield _BATCH

        rates = _in_turns({"store": cuts(), "sqlite": objects()}, 100)
        n_bytes = sum(file.stat().st_size for file in store.path.iterdir())
        return {
            "crystals": n_crystals,
            "store_per_cpu_s": rates["store"][0],
            "sqlite_per_cpu_s": rates["sqlite"][0],
            "store_bytes": n_bytes / n_crystals,
            "sqlite_bytes": path.stat().st_size / n_crystals,
        }


def generated(n_crystals: int) -> Iterator[Crystal]:
    """Draw small crystals, one at a time."""
    rng = np.random.default_rng(0)
    for _ in repeat(None, n_crystals):
        n_sites = int(rng.integers(2, 9))
        lattice = np.eye(3) * 5.5 + rng.normal(scale=0.2, size=(3, 3))
        # Near different corners of the half cell, so that no two sites meet.
        corners = np.indices((2, 2, 2)).reshape(3, 8).T[rng.permutation(8)[:n_sites]]
        sites = corners / 2 + rng.normal(scale=0.02, size=(n_sites, 3))
        yield Crystal(rng.integers(1, 90, size=n_sites), sites, lattice)


def stream(_: Namespace, n_crystals: int) -> dict[str, Any]:
    """Predict generated crystals, none of which is kept."""
    structures, y = load_elasticity(target="log10_K_VRH", return_X_y=True)
    model = DSSLRegressor(max_epochs=1, random_state=0, device="cpu").fit(structures[:64], y[:64])
    for _ in model.predict_iter(generated(2048)):
        pass
    start = time.process_time()
    seen = sum(len(piece) for piece in model.predict_iter(generated(n_crystals)))
    seconds = time.process_time() - start
    return {"crystals": seen, "peak_mb": memory_mb("VmHWM"), "per_cpu_s": seen / seconds}


PARTS: dict[str, Callable[[Namespace, int], dict[str, Any]]] = {
    "build": build,
    "memory": memory,
    "speed": speed,
    "formats": formats,
    "stream": stream,
}
