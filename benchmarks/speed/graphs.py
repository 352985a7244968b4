"""From pymatgen Structures to graphs, beside bare neighbor searches and the plain form."""

from __future__ import annotations

from typing import Any

import numpy as np
from measuring import Job, Settings, compared, interleaved, rate, ratio
from plain_data import plain_graph
from pymatgen.core import Structure
from samples import CUTOFF, MAX_NEIGHBORS, fresh_copies, load_structures
from searches import Cell, adaptive, searches

from dssl_sklearn import StructureToGraph
from dssl_sklearn.crystals.builder import GraphBuilder
from dssl_sklearn.crystals.graph import CrystalGraph

#: Crystals that the plain form and ASE, the slowest, are measured on.
_FEW = 128


def measure(settings: Settings) -> dict[str, Any]:
    """Measure graphs per CPU-second.

    Returns
    -------
    dict
        "graphs": through `StructureToGraph`, beside the plain form; "dataset": the estimators' way,
        to the contiguous data set; "searches": the bare neighbor search of every library;
        "over_fastest_search": cost of ours, in units of the cheapest search of the run.
    """
    structures = load_structures(settings)
    few = structures[:: max(1, len(structures) // _FEW)]
    _check(few)
    box: dict[str, list[Structure]] = {}

    def refill() -> None:
        box["fresh"] = fresh_copies(structures)

    transformer = StructureToGraph(cutoff=CUTOFF, max_neighbors=MAX_NEIGHBORS, cache=False)
    builder = GraphBuilder(CUTOFF, MAX_NEIGHBORS, use_cache=False)
    jobs: dict[str, Job] = {
        "graphs": lambda: transformer.transform(box["fresh"]),
        "dataset": lambda: builder.dataset(box["fresh"]),
    }
    cells = [Cell.of(structure) for structure in structures]
    few_cells = [Cell.of(structure) for structure in few]
    counts = {}
    for name, search in searches().items():
        chosen = few_cells if name == "ase" else cells
        counts[name] = len(chosen)
        jobs[name] = lambda search=search, chosen=chosen: [  # type: ignore[misc]
            adaptive(search, cell, CUTOFF, MAX_NEIGHBORS) for cell in chosen
        ]
    jobs["plain"] = lambda: [_plain(cell) for cell in few_cells]
    prepare = dict.fromkeys(("graphs", "dataset"), refill)
    seconds = interleaved(jobs, settings.repeats, prepare=prepare)

    each = {name: [s / counts[name] for s in seconds[name]] for name in counts}
    fastest = min(each, key=lambda name: float(np.median(each[name])))
    ours = {name: [s / len(structures) for s in seconds[name]] for name in ("graphs", "dataset")}
    crystals = {"ours": len(structures), "plain": len(few)}
    return {
        "graphs": compared(crystals, {**seconds, "ours": seconds["graphs"]}),
        "dataset": compared(crystals, {**seconds, "ours": seconds["dataset"]}),
        "searches": {name: rate(1, per_crystal) for name, per_crystal in each.items()},
        "fastest_search": fastest,
        "over_fastest_search": {
            name: ratio(per_crystal, each[fastest]) for name, per_crystal in ours.items()
        },
    }


def _plain(cell: Cell) -> Any:  # noqa: ANN401
    return plain_graph(cell.positions, cell.lattice, CUTOFF, MAX_NEIGHBORS)


def _check(structures: list[Structure]) -> None:
    """Compare the edges of ours with those of the plain form, crystal by crystal."""
    transformer = StructureToGraph(cutoff=CUTOFF, max_neighbors=MAX_NEIGHBORS, cache=False)
    for structure, graph in zip(structures, transformer.transform(structures), strict=True):
        expected = _sorted(*_plain(Cell.of(structure)))
        found = _sorted(graph.target, graph.source, _wrapped_shift(graph), graph.distance)
        same_edges = np.array_equal(found[:, :5], expected[:, :5])
        if not (same_edges and np.allclose(found[:, 5], expected[:, 5], rtol=1e-6)):
            raise AssertionError(f"{structure.formula}: edges differ from those of the plain form")


def _wrapped_shift(graph: CrystalGraph) -> Any:  # noqa: ANN401
    """Shifts between the sites wrapped into the cell, as the plain form has them."""
    frac = graph.crystal.frac_coords
    wrap = np.rint(frac - frac % 1.0).astype(int)
    return graph.shift + wrap[graph.source] - wrap[graph.target]


def _sorted(*columns: Any) -> Any:  # noqa: ANN401
    target, source, shift, distance = columns
    table = np.column_stack([target, source, shift, distance])
    return table[np.lexsort(table[:, 4::-1].T)]
