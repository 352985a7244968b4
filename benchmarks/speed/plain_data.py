"""Plain reference forms of what comes before a network: graphs and batches, crystal by crystal."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from dssl_sklearn.crystals.batch import CrystalBatch
from dssl_sklearn.crystals.graph import CrystalGraph


def plain_batch(graphs: Sequence[CrystalGraph]) -> CrystalBatch:
    """Batch made crystal by crystal from small objects."""
    numbers, positions, owner, ends, shifts, distances = [], [], [], [], [], []
    first = 0
    for index, graph in enumerate(graphs):
        crystal = graph.crystal
        numbers.append(torch.tensor(crystal.numbers))
        positions.append(torch.tensor(crystal.frac_coords @ crystal.lattice, dtype=torch.float32))
        owner.append(torch.full((len(crystal),), index))
        ends.append(torch.tensor(np.stack([graph.source, graph.target]), dtype=torch.int64) + first)
        shifts.append(torch.tensor(graph.shift, dtype=torch.float32))
        distances.append(torch.tensor(graph.distance))
        first += len(crystal)
    return CrystalBatch(
        numbers=torch.cat(numbers),
        positions=torch.cat(positions),
        lattice=torch.tensor(np.stack([g.crystal.lattice for g in graphs]), dtype=torch.float32),
        batch=torch.cat(owner),
        edge_index=torch.cat(ends, dim=1),
        edge_shift=torch.cat(shifts),
        edge_distance=torch.cat(distances),
        n_crystals=len(graphs),
    )


def plain_graph(
    positions: NDArray[np.float64],
    lattice: NDArray[np.float64],
    cutoff: float,
    max_neighbors: int,
    tolerance: float = 1e-3,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Neighbors of every site from the distances to all images of all sites, whole shells.

    Parameters
    ----------
    positions : ndarray of shape (n_sites, 3)
        Cartesian coordinates within the cell, in angstrom.
    lattice : ndarray of shape (3, 3)
        Lattice vectors as rows, in angstrom.
    cutoff : float
        Largest distance in angstrom.
    max_neighbors : int
        Neighbors of each site before completion of the last shell.
    tolerance : float, default=1e-3
        Gap that ends a shell, in angstrom.

    Returns
    -------
    target, source : ndarray of shape (n_edges,)
        Ends.
    shift : ndarray of shape (n_edges, 3)
        Image of the source.
    distance : ndarray of shape (n_edges,)
        Lengths, in angstrom.
    """
    spacing = 1 / np.linalg.norm(np.linalg.inv(lattice), axis=0)
    reach = [math.ceil(cutoff / s) + 1 for s in spacing]
    images = np.array(list(itertools.product(*(range(-n, n + 1) for n in reach))))
    everywhere = positions[None] + (images @ lattice)[:, None]
    found = []
    for site, position in enumerate(positions):
        distance = np.linalg.norm(everywhere - position, axis=2)
        distance[len(images) // 2, site] = np.inf  # the site itself
        image, source = np.nonzero(distance <= cutoff + 10 * tolerance)
        length = distance[image, source]
        order = np.argsort(length)
        length = length[order]
        last = min(max_neighbors, int((length <= cutoff + tolerance).sum()))
        while 0 < last < len(length) and length[last] - length[last - 1] < tolerance:
            last += 1
        kept = order[:last]
        target = np.full(last, site)
        found.append((target, source[kept], images[image[kept]], length[:last]))
    target, source, shift, length = (np.concatenate(part) for part in zip(*found, strict=True))
    return target, source, shift, length
