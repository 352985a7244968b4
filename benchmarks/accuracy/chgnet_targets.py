"""What CHGNet 0.3.0 computes on unlabeled crystals: the targets of the distilled weights.

Usage: ``python benchmarks/accuracy/chgnet_targets.py --corpus ../shared/data/mp_unlabeled.npz
--out outputs/chgnet --seconds 3600``. Needs ``pip install dssl-sklearn[benchmarks]``. Works through
a fixed random order of the small crystals, writes one shard of 256 crystals at a time and goes on
after the last whole shard when it is started again.

For every crystal, at the positions of the file (nothing is relaxed):

- energy (eV/atom), stress (GPa) and crystal embedding; per site: energy, magnetic moment, force,
  embedding;
- bulk modulus (GPa) from the energies of cells scaled by 1 +- 0.01;
- shear modulus (GPa) of two random traceless strains, orthonormal in the five-dimensional space of
  such strains, whose mean over all five directions is Voigt's average; the atoms move with the
  cell, so both moduli are those of clamped ions;
- per site: the force constant -F.u/u.u (eV/angstrom^2) after all sites moved by a random u of 0.03
  angstrom per axis. Neighbors move too, hence it is a noisy, unbiased estimate of a third of the
  trace of the site's own force constants.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from chgnet.graph.crystalgraph import CrystalGraph
from chgnet.model.model import CHGNet
from pymatgen.core import Lattice, Structure

SHARD = 256
BATCH = 16
EV_PER_A3_IN_GPA = 160.21766208
ISOTROPIC_STRAIN = 0.01
SHEAR_STRAIN = 0.015
MOVE_ANGSTROM = 0.03


def main() -> None:
    """Compute shards until the corpus or the time is used up."""
    options = _options()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    model = CHGNet.load(model_name="0.3.0", use_device="cpu", verbose=False)
    corpus = dict(np.load(options.corpus, allow_pickle=False))
    order = crystal_order(corpus["ptr"], options.max_sites)
    started = time.monotonic()
    for shard in range(options.worker, len(order) // SHARD, options.workers):
        path = options.out / f"shard_{shard:04d}.npz"
        if path.exists():
            continue
        if time.monotonic() - started > options.seconds:
            break
        rows = order[shard * SHARD : (shard + 1) * SHARD]
        rng = np.random.default_rng([0, shard])
        with_forces = shard < options.force_shards
        targets = shard_targets(model, corpus, rows, rng, with_force_constants=with_forces)
        part = path.with_suffix(".part.npz")
        np.savez(part, **targets)  # type: ignore[arg-type]
        part.rename(path)
        print(f"{path.name} after {time.monotonic() - started:.0f} s", flush=True)


def crystal_order(ptr: np.ndarray, max_sites: int) -> np.ndarray:
    """Rows of the corpus with 1 to `max_sites` sites, in a fixed random order."""
    small = np.flatnonzero(np.diff(ptr) <= max_sites)
    return np.random.default_rng(0).permutation(small)


def shard_targets(
    model: CHGNet,
    corpus: dict[str, np.ndarray],
    rows: np.ndarray,
    rng: np.random.Generator,
    *,
    with_force_constants: bool,
) -> dict[str, np.ndarray]:
    """All targets of the crystals in `rows`; those that CHGNet cannot take are left out."""
    usable = []
    for row in rows:
        structure = corpus_structure(corpus, row)
        graph = site_graph(model, structure)
        if graph is not None:
            usable.append((row, structure, graph))
    structures = [structure for _, structure, _ in usable]
    base: Any = model.predict_graph(
        [graph for _, _, graph in usable],
        task="efsm",
        return_site_energies=True,
        return_atom_feas=True,
        return_crystal_feas=True,
        batch_size=BATCH,
    )
    sites = np.array([len(structure) for structure in structures])
    energy = np.array([float(result["e"]) for result in base])
    stress = np.array([result["s"] for result in base])
    return {
        "row": np.array([row for row, _, _ in usable]),
        "sites": sites,
        "energy": energy,
        "stress": stress,
        "crystal_embedding": np.array([result["crystal_fea"] for result in base]),
        "site_energy": np.concatenate([result["site_energies"] for result in base]),
        "magmom": np.concatenate([result["m"] for result in base]),
        "force": np.concatenate([result["f"] for result in base]),
        "site_embedding": np.concatenate([result["atom_fea"] for result in base]).astype("f2"),
        "bulk_modulus": _bulk_modulus(model, structures, energy * sites),
        "shear_modulus": _shear_moduli(model, structures, energy * sites, stress, rng),
        "force_constant": _force_constants(model, structures, rng)
        if with_force_constants
        else np.full(sites.sum(), np.nan),
    }


def corpus_structure(corpus: dict[str, np.ndarray], row: int) -> Structure:
    """Crystal number `row` of the corpus arrays."""
    at = slice(corpus["ptr"][row], corpus["ptr"][row + 1])
    lattice = Lattice(corpus["lattice"][row])
    return Structure(lattice, corpus["atomic_number"][at].tolist(), corpus["frac_coords"][at])


def site_graph(model: CHGNet, structure: Structure) -> CrystalGraph | None:
    """CHGNet's graph of a crystal; None where an isolated atom has none."""
    try:
        graph: CrystalGraph = model.graph_converter(structure)
    except ValueError:  # an isolated atom has no graph in CHGNet
        return None
    return graph


def _energies(model: CHGNet, structures: list[Structure]) -> np.ndarray:
    """Energies of the cells in eV; NaN where strain isolated an atom."""
    graphs = [site_graph(model, structure) for structure in structures]
    found = [graph for graph in graphs if graph is not None]
    energies: Iterator[Any] = iter(model.predict_graph(found, task="e", batch_size=BATCH))
    return np.array(
        [
            np.nan if graph is None else float(next(energies)["e"]) * len(structure)
            for graph, structure in zip(graphs, structures, strict=True)
        ]
    )


def _strained(structure: Structure, strain: np.ndarray) -> Structure:
    lattice = structure.lattice.matrix @ (np.eye(3) + strain)
    return Structure(Lattice(lattice), structure.species, structure.frac_coords)


def _bulk_modulus(model: CHGNet, structures: list[Structure], energy: np.ndarray) -> np.ndarray:
    volume = np.array([structure.volume for structure in structures])
    step = ISOTROPIC_STRAIN
    wide = _energies(model, [_strained(s, step * np.eye(3)) for s in structures])
    narrow = _energies(model, [_strained(s, -step * np.eye(3)) for s in structures])
    modulus: np.ndarray = (wide + narrow - 2 * energy) / (9 * step**2 * volume) * EV_PER_A3_IN_GPA
    return modulus


def _shear_moduli(
    model: CHGNet,
    structures: list[Structure],
    energy: np.ndarray,
    stress: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    volume = np.array([structure.volume for structure in structures])
    directions = np.array([_traceless_directions(rng) for _ in structures])
    moduli = []
    for mode in range(directions.shape[1]):
        strain = SHEAR_STRAIN * directions[:, mode]
        strained = _energies(
            model, [_strained(*pair) for pair in zip(structures, strain, strict=True)]
        )
        work = volume * np.einsum("nij,nij->n", stress, strain) / EV_PER_A3_IN_GPA
        curvature = 2 * (strained - energy - work) / (SHEAR_STRAIN**2 * volume)
        moduli.append(curvature / 2 * EV_PER_A3_IN_GPA)
    return np.stack(moduli, axis=1)


def _traceless_directions(rng: np.random.Generator, count: int = 2) -> np.ndarray:
    """`count` random orthonormal directions among the traceless symmetric strains."""
    half = np.sqrt(0.5)
    basis = np.zeros((5, 3, 3))
    basis[0] = np.diag([1, -1, 0]) * half
    basis[1] = np.diag([1, 1, -2]) / np.sqrt(6)
    for index, (i, j) in enumerate([(1, 2), (0, 2), (0, 1)]):
        basis[2 + index, i, j] = basis[2 + index, j, i] = half
    rotation, _ = np.linalg.qr(rng.normal(size=(5, count)))
    directions: np.ndarray = np.einsum("kc,kij->cij", rotation, basis)
    return directions


def _force_constants(
    model: CHGNet, structures: list[Structure], rng: np.random.Generator
) -> np.ndarray:
    constants: list[np.ndarray] = []
    moves = [rng.normal(scale=MOVE_ANGSTROM, size=(len(s), 3)) for s in structures]
    graphs = []
    for structure, move in zip(structures, moves, strict=True):
        positions = structure.cart_coords + move
        moved = Structure(
            structure.lattice, structure.species, positions, coords_are_cartesian=True
        )
        graphs.append(site_graph(model, moved))
    found = [graph for graph in graphs if graph is not None]
    results: Iterator[Any] = iter(model.predict_graph(found, task="ef", batch_size=BATCH))
    for graph, move in zip(graphs, moves, strict=True):
        if graph is None:
            constants.append(np.full(len(move), np.nan))
            continue
        force = next(results)["f"]
        constants.append(-(force * move).sum(1) / (move**2).sum(1))
    return np.concatenate(constants)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--max-sites", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument(
        "--force-shards", type=int, default=40, help="shards with force constants (a third more)"
    )
    parser.add_argument("--worker", type=int, default=0, help="number of this process")
    parser.add_argument("--workers", type=int, default=1, help="processes that share the work")
    return parser.parse_args()


if __name__ == "__main__":
    main()
