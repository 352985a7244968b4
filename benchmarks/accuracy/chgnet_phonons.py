"""What CHGNet 0.3.0 says of the vibrations of unlabeled crystals: targets of the distilled weights.

Usage: ``python benchmarks/accuracy/chgnet_phonons.py --corpus ../shared/data/mp_unlabeled.npz
--out outputs/chgnet --seconds 3600``. Needs ``pip install dssl-sklearn[benchmarks]``. Works through
the same crystals in the same order as ``chgnet_targets.py``, of whose shards it takes the usable
rows, and goes on after the last whole shard when it is started again.

For every crystal, at the positions of the file (nothing is relaxed) and at the zone center:

- the largest frequency (1/cm; NaN where it is imaginary), from at most seven Lanczos vectors of the
  dynamical matrix, started at random and orthogonal to the translations;
- per site: the force constant (eV/angstrom^2), a third of the trace of the site's own block, as the
  same vectors v see it: m sum(v . D v) / sum(v . v). It is exact where they span all moves, and
  otherwise much less noisy than a single random move.

A product of the dynamical matrix with a vector is the change of the forces when all sites move
along it, the farthest by 0.015 angstrom.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# ruff: noqa: E402 - the modules beside this one are a package that a script is outside of
sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import torch
from chgnet.model.model import CHGNet
from numpy.typing import NDArray
from pymatgen.core import Structure

from accuracy.chgnet_targets import BATCH, corpus_structure, site_graph

N_VECTORS = 7
MOVE_ANGSTROM = 0.015
#: Square root of eV / (angstrom^2 atomic mass unit), over 2 pi c, in 1/cm.
WAVENUMBER = 521.4708
#: A residual this small against the first one means that the vectors span what there is.
EXHAUSTED = 1e-3

Array = NDArray[np.floating]


def main() -> None:
    """Compute shards until those of ``chgnet_targets.py`` or the time are used up."""
    options = _options()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    model = CHGNet.load(model_name="0.3.0", use_device="cpu", verbose=False)
    corpus = dict(np.load(options.corpus, allow_pickle=False))
    started = time.monotonic()
    for shard in sorted(options.out.glob("shard_????.npz"))[options.worker :: options.workers]:
        path = shard.with_name(shard.name.replace("shard", "phonons"))
        if path.exists():
            continue
        if time.monotonic() - started > options.seconds:
            break
        targets = dict(np.load(shard))
        rng = np.random.default_rng([1, int(shard.stem[-4:])])
        structures = [corpus_structure(corpus, row) for row in targets["row"]]
        forces = np.split(targets["force"], np.cumsum(targets["sites"])[:-1])
        frequency, stiffness = vibrations(model, structures, forces, rng)
        part = path.with_suffix(".part.npz")
        np.savez(part, row=targets["row"], frequency=frequency, stiffness=stiffness)
        part.rename(path)
        print(f"{path.name} after {time.monotonic() - started:.0f} s", flush=True)


def vibrations(
    model: CHGNet, structures: list[Structure], forces: list[Array], rng: np.random.Generator
) -> tuple[Array, Array]:
    """Largest frequency of every crystal, in 1/cm, and force constants of all sites."""
    spaces = [
        KrylovSpace(np.array([float(site.specie.atomic_mass) for site in s]), rng)
        for s in structures
    ]
    for _ in range(N_VECTORS):
        going_on = [k for k, space in enumerate(spaces) if space.direction is not None]
        moves = [spaces[k].move() for k in going_on]
        moved = _forces(
            model, [_moved(structures[k], m) for k, m in zip(going_on, moves, strict=True)]
        )
        for k, move, force in zip(going_on, moves, moved, strict=True):
            spaces[k].extend(move, None if force is None else force - forces[k])
    frequency = np.array([space.largest_frequency() for space in spaces])
    return frequency, np.concatenate([space.force_constants() for space in spaces])


class KrylovSpace:
    """Vectors that the dynamical matrix of a crystal makes of a random one, orthonormal.

    Parameters
    ----------
    masses : ndarray of shape (n_sites,)
        Masses of the sites.
    rng : Generator
        For the first vector.
    """

    def __init__(self, masses: Array, rng: np.random.Generator) -> None:
        self.root = np.sqrt(np.repeat(masses, 3))
        translations = np.tile(np.eye(3), len(masses)) * self.root
        self.basis = list(translations / np.linalg.norm(translations, axis=1, keepdims=True))
        self.images: list[Array] = []
        self.direction: Array | None = None
        self._orthogonalize(rng.normal(size=len(self.root)))

    @property
    def vectors(self) -> Array:
        """The vectors beside the translations that were multiplied, shape (n, 3 n_sites)."""
        return np.array(self.basis[3 : 3 + len(self.images)]).reshape(-1, len(self.root))

    def move(self) -> Array:
        """Displacements along the next vector, shape (n_sites, 3), in angstrom."""
        move: Array = (self.direction / self.root).reshape(-1, 3)
        move *= MOVE_ANGSTROM / np.linalg.norm(move, axis=1).max()
        return move

    def extend(self, move: Array, change: Array | None) -> None:
        """Take the change of the forces after `move`; None ends the search."""
        if change is None:
            self.direction = None
            return
        scale = np.linalg.norm(self.root * move.ravel())
        image = -change.ravel() / self.root / scale
        self.basis.append(self.direction)
        self.images.append(image)
        self._orthogonalize(image)

    def _orthogonalize(self, vector: Array) -> None:
        length = np.linalg.norm(vector)
        for _ in range(2):  # twice is enough for rounding
            for other in self.basis:
                vector = vector - (other @ vector) * other
        left = np.linalg.norm(vector)
        full = len(self.basis) == len(self.root)
        self.direction = None if full or left <= EXHAUSTED * length else vector / left

    def largest_frequency(self) -> float:
        """Root of the largest eigenvalue within the space, in 1/cm; NaN below zero or without."""
        if not self.images:
            return np.nan
        inside = self.vectors @ np.array(self.images).T
        largest = np.linalg.eigvalsh((inside + inside.T) / 2)[-1]
        return float(np.sqrt(largest) * WAVENUMBER) if largest > 0 else np.nan

    def force_constants(self) -> Array:
        """Mean force constant of every site, shape (n_sites,); NaN where nothing is known."""
        n_sites = len(self.root) // 3
        if not self.images:
            return np.full(n_sites, np.nan)
        vectors, images = self.vectors, np.array(self.images)
        own = (vectors * images).sum(0).reshape(n_sites, 3).sum(1)
        seen = (vectors**2).sum(0).reshape(n_sites, 3).sum(1)
        mass = self.root[::3] ** 2
        constants: Array = np.where(
            seen > EXHAUSTED, mass * own / np.maximum(seen, EXHAUSTED), np.nan
        )
        return constants


def _moved(structure: Structure, move: Array) -> Structure:
    positions = structure.cart_coords + move
    return Structure(structure.lattice, structure.species, positions, coords_are_cartesian=True)


def _forces(model: CHGNet, structures: list[Structure]) -> list[Array | None]:
    graphs = [site_graph(model, structure) for structure in structures]
    found = [graph for graph in graphs if graph is not None]
    results: Iterator[Any] = iter(model.predict_graph(found, task="ef", batch_size=BATCH))
    return [None if graph is None else next(results)["f"] for graph in graphs]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--worker", type=int, default=0, help="number of this process")
    parser.add_argument("--workers", type=int, default=1, help="processes that share the work")
    return parser.parse_args()


if __name__ == "__main__":
    main()
