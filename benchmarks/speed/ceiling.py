"""What the DeeperGATGNN at the reference's size needs, and what this core could do at most.

Counts the operations and bytes per crystal of a prediction, a fine-tuning step and a pretraining
step with three views (15 layers, width 115, 4 heads; batches of 64 shipped elastic crystals),
measures how fast one thread of this machine does each kind of operation on data in its cache, and
from both the crystals per CPU-second that no code of these operations can surpass. Then measures
what the package reaches. Prints JSON.

    python benchmarks/speed/ceiling.py
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dssl_sklearn import StructureToGraph
from dssl_sklearn.crystals.batch import CrystalBatch
from dssl_sklearn.crystals.dataset import GraphDataset
from dssl_sklearn.datasets import load_elasticity
from dssl_sklearn.models import AttentionReadout, CrystalEncoder, DeeperGATGNN, PropertyModel
from dssl_sklearn.models.ends import BLOCK, edge_ends
from dssl_sklearn.models.workspace import n_kept_layers
from dssl_sklearn.views.view import ViewSpec, draw_views, stack_views

N_LAYERS, WIDTH, N_HEADS, N_GROUPS = 15, 115, 4, 10
COLUMNS = N_HEADS * WIDTH
BATCH_SIZE, N_BATCHES, N_TRIES = 64, 3, 3
VIEWS = (
    ViewSpec(mask_ratio=0.15),
    ViewSpec(move=0.5, move_kind="sphere"),
    ViewSpec(move=0.5, move_kind="sphere", draw=1),
)
FLOAT = 4


@dataclass(frozen=True)
class Sizes:
    """Numbers per crystal, over all its views."""

    sites: float
    edges: float
    ends: float
    levels: float

    @classmethod
    def of(cls, batches: list[CrystalBatch]) -> Sizes:
        """Take them from batches, whatever the number of views in these."""
        all_ends = [edge_ends(batch) for batch in batches]
        counts = [(e.n_sites, len(e.target), len(e), len(e.distance)) for e in all_ends]
        n_crystals = BATCH_SIZE * len(batches)
        return cls(*(sum(count) / n_crystals for count in zip(*counts, strict=True)))


def forward_work(size: Sizes) -> dict[str, float]:
    """Operations of one layer: a matrix product and a sum as two, all else by element."""
    return {
        **activation_work(size),
        "product_scores": 4 * N_HEADS * COLUMNS * size.ends,
        "product_embed": 2 * (COLUMNS + 3 * N_GROUPS) * WIDTH * size.sites,
        "bag": size.edges * COLUMNS,
    }


def activation_work(size: Sizes) -> dict[str, float]:
    """The part of `forward_work` that layers which are not kept repeat in the backward pass."""
    return {
        "product_forward": 2 * WIDTH * COLUMNS * size.levels,
        "exp2": size.levels * COLUMNS,
        "gather": size.ends * COLUMNS,
        "multiply_add": size.ends * COLUMNS,
        "log2": size.ends * COLUMNS,
    }


def backward_work(size: Sizes) -> dict[str, float]:
    """Operations of the gradient of one layer, nothing repeated."""
    return {
        "product_weight": 2 * WIDTH * COLUMNS * size.levels,
        "product_edges": 2 * WIDTH * COLUMNS * size.levels,
        "product_scores": 4 * N_HEADS * COLUMNS * size.ends,
        "product_embed": 4 * (COLUMNS + 3 * N_GROUPS) * WIDTH * size.sites,
        # Of the attention: gathered, multiplied and summed.
        "gather": size.edges * COLUMNS,
        "multiply_add": 2 * size.edges * COLUMNS,
        # Of the ends: what they receive, times the derivative, added to the sites and distances.
        "bag": (size.edges + 2 * size.ends) * COLUMNS,
        "exp2": size.ends * COLUMNS,
        "divide_add": size.ends * COLUMNS,
        "add_to_sites": size.ends * COLUMNS,
        "add_pairs": size.ends * COLUMNS,
    }


def total_work(size: Sizes, *, trained: bool) -> dict[str, float]:
    """Operations of all layers per crystal."""
    parts = [(N_LAYERS, forward_work(size))]
    if trained:
        repeated = n_repeated(size)
        parts += [(N_LAYERS, backward_work(size)), (repeated, activation_work(size))]
    total: dict[str, float] = {}
    for n_layers, work in parts:
        for name, amount in work.items():
            total[name] = total.get(name, 0.0) + n_layers * amount
    return total


def n_repeated(size: Sizes) -> int:
    """Layers whose activation is computed again in the backward pass of a step."""
    tensor = int(BATCH_SIZE * size.ends * COLUMNS * FLOAT)
    # The last layer finds its own in what the others share.
    return max(0, N_LAYERS - n_kept_layers(tensor) - 1)


def memory_bytes(size: Sizes, *, trained: bool) -> float:
    """Bytes that pass between memory and cache: tensors of the size of the ends only."""
    tensor = size.ends * COLUMNS * FLOAT
    # Written, and read for the messages; again where repeated; read twice in the backward pass.
    passes = 2 * N_LAYERS
    if trained:
        passes += n_repeated(size) + 2 * N_LAYERS
    return passes * tensor


def best_seconds(job: Callable[[], object], n_tries: int = 200) -> float:
    """Least CPU-seconds of a call."""
    job()
    seconds = []
    for _ in range(n_tries):
        start = time.process_time_ns()
        job()
        seconds.append(time.process_time_ns() - start)
    return min(seconds) / 1e9


def measured_rates() -> dict[str, float]:
    """Operations per CPU-second of each kind, on blocks as the package works on them."""
    n, n_sites = BLOCK, 40
    rows, other, out = (torch.rand(n, COLUMNS) + 1 for _ in range(3))
    levels, product = torch.rand(n // 2, WIDTH), torch.empty(n // 2, COLUMNS)
    weight, scores = torch.rand(WIDTH, COLUMNS), torch.rand(2 * N_HEADS, COLUMNS)
    grad_weight, grad_edges = torch.empty(WIDTH, COLUMNS), torch.empty(WIDTH, n // 2)
    sites, site = torch.rand(n_sites, COLUMNS), torch.randint(n_sites, (n,))
    table = torch.rand(n_sites, WIDTH)
    # Three rows for each head of an end: a neighbor and the two scores.
    bag = torch.randint(n_sites, (3 * n * N_HEADS,))
    starts, factors = torch.arange(n * N_HEADS) * 3, torch.rand(3 * n * N_HEADS)
    one = torch.ones(())
    flops, elements = 2 * (n // 2) * WIDTH * COLUMNS, n * COLUMNS

    def gathered_sum() -> Tensor:
        return F.embedding_bag(bag, table, starts, mode="sum", per_sample_weights=factors)

    jobs: dict[str, tuple[float, Callable[[], object]]] = {
        "product_forward": (flops, lambda: torch.mm(levels, weight, out=product)),
        "product_weight": (flops, lambda: torch.mm(levels.t(), product, out=grad_weight)),
        "product_edges": (flops, lambda: torch.mm(weight, product.t(), out=grad_edges)),
        "product_scores": (4 * N_HEADS * elements, lambda: scores @ rows.t()),
        "exp2": (elements, lambda: torch.exp2(rows, out=out)),
        "log2": (elements, lambda: torch.log2(rows, out=out)),
        "gather": (elements, lambda: torch.index_select(sites, 0, site, out=out)),
        "multiply_add": (elements, lambda: torch.addcmul(one, rows, other, out=out)),
        "divide_add": (elements, lambda: torch.addcdiv(rows, rows, other, value=-1, out=out)),
        "bag": (3 * elements, gathered_sum),
        "add_to_sites": (elements, lambda: sites.index_add_(0, site, rows)),
        "add_pairs": (elements, lambda: torch.add(rows[::2], rows[1::2], out=product)),
    }
    rates = {name: work / best_seconds(job) for name, (work, job) in jobs.items()}
    rates["product_embed"] = rates["product_forward"]
    return rates


def copy_rate() -> float:
    """Bytes read and written per CPU-second by a copy far larger than the cache."""
    source = torch.ones(25_000_000)
    target = torch.empty_like(source)
    return 2 * FLOAT * len(source) / best_seconds(lambda: target.copy_(source), 10)


def elastic_batches() -> list[CrystalBatch]:
    """Random batches of the shipped elastic set."""
    structures, _ = load_elasticity(target="log10_K_VRH", return_X_y=True)
    order = np.random.default_rng(0).permutation(len(structures))[: BATCH_SIZE * N_BATCHES]
    graphs = StructureToGraph().fit_transform([structures[k] for k in order])
    if not isinstance(graphs, GraphDataset):
        graphs = GraphDataset.from_graphs(list(graphs))
    return [graphs.batch(part) for part in np.split(np.arange(len(order)), N_BATCHES)]


def stacked_views(batch: CrystalBatch, seed: int = 0) -> CrystalBatch:
    """Three new views of a batch as one."""
    views = draw_views(batch, VIEWS, torch.Generator().manual_seed(seed))
    return stack_views([view.batch for view in views.values()])


def measured_speeds(batches: list[CrystalBatch]) -> dict[str, float]:
    """Crystals per CPU-second of the package: best try of each batch, as the rates are best."""
    model = PropertyModel(CrystalEncoder(DeeperGATGNN(), AttentionReadout(WIDTH)), 1)
    optimizer = torch.optim.AdamW(model.parameters())

    def predict(batch: CrystalBatch) -> None:
        model.eval()
        with torch.inference_mode():
            model(batch)

    def fine_tune(batch: CrystalBatch) -> None:
        model.train()
        optimizer.zero_grad()
        model(batch).square().mean().backward()
        optimizer.step()

    def pretrain(batch: CrystalBatch) -> None:
        model.train()
        optimizer.zero_grad()
        sites, crystals = model.encoder(stacked_views(batch))
        (sites.square().mean() + crystals.square().mean()).backward()
        optimizer.step()

    speeds = {}
    for job in (predict, fine_tune, pretrain):
        seconds = sum(best_seconds(partial(job, batch), N_TRIES) for batch in batches)
        speeds[job.__name__] = BATCH_SIZE * len(batches) / seconds
    return speeds


def main() -> None:
    """Count, measure and print."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    batches = elastic_batches()
    rates, bytes_per_second = measured_rates(), copy_rate()
    speeds = measured_speeds(batches)
    plain, views = Sizes.of(batches), Sizes.of([stacked_views(batch) for batch in batches])
    report: dict[str, Any] = {
        "operations_per_second": rates,
        "copied_bytes_per_second": bytes_per_second,
        "rows": {},
    }
    for name, size, trained in (
        ("predict", plain, False),
        ("fine_tune", plain, True),
        ("pretrain", views, True),
    ):
        work, n_bytes = total_work(size, trained=trained), memory_bytes(size, trained=trained)
        seconds = {kind: amount / rates[kind] for kind, amount in work.items()}
        ceiling = 1 / max(sum(seconds.values()), n_bytes / bytes_per_second)
        report["rows"][name] = {
            "per_crystal": vars(size),
            "operations": work,
            "milliseconds": {kind: 1e3 * value for kind, value in seconds.items()},
            "bytes": n_bytes,
            "milliseconds_of_bytes": 1e3 * n_bytes / bytes_per_second,
            "ceiling_crystals_per_second": ceiling,
            "measured_crystals_per_second": speeds[name],
            "share_of_ceiling": speeds[name] / ceiling,
        }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
