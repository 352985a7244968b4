"""What CHGNet computed, as targets for a `Teacher`: shards of numbers to properties of crystals."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dssl_sklearn.crystals.dataset import GraphDataset
from dssl_sklearn.crystals.elements import ELEMENT_SYMBOLS
from dssl_sklearn.objectives import Teacher

Arrays = dict[str, NDArray[np.floating]]

#: Formation energies beyond this, in eV per atom, come from crystals that CHGNet cannot judge.
LARGEST_FORMATION_ENERGY = 6.0
#: Soft or unstable directions give small or negative moduli; they count as this many GPa.
SMALLEST_MODULUS = 1.0
#: And frequencies as this many 1/cm.
SMALLEST_FREQUENCY = 30.0

#: Linear predictors, so that each quantity lies along a direction of the embedding.
TEACHERS = (
    Teacher(crystal=("formation_energy", "log10_bulk", "log10_shear", "log10_frequency"), hidden=0),
    Teacher(site=("embedding",), hidden=0),
    Teacher(weight=0.3, site=("stiffness", "magmom", "site_energy"), hidden=0),
)


def read_targets(folder: Path) -> tuple[NDArray[np.int64], Arrays, Arrays]:
    """Read all shards.

    Parameters
    ----------
    folder : Path
        Where ``chgnet_targets.py`` and ``chgnet_phonons.py`` wrote their shards and
        ``chgnet_elements.py`` elements.json. What has no phonons gets NaN for them.

    Returns
    -------
    rows : ndarray of shape (n_crystals,)
        Rows of the corpus file.
    site, crystal : dict of str to ndarray
        Targets, sites in the order of the rows.
    """
    shards = [_read_shard(path) for path in sorted(folder.glob("shard_????.npz"))]
    joined = {name: np.concatenate([shard[name] for shard in shards]) for name in shards[0]}
    bulk, shear = (np.clip(joined[k], SMALLEST_MODULUS, None) for k in _MODULI)
    site = {
        "embedding": joined["site_embedding"].astype(np.float32),
        "magmom": joined["magmom"],
        "site_energy": joined["site_energy"],
        # Soft sites may be below zero, stiff ones far above the others.
        "stiffness": np.arcsinh(joined["stiffness"] / 2),
    }
    crystal = {
        "energy": joined["energy"],
        "log10_bulk": np.log10(bulk),
        "log10_shear": np.log10(shear),
        "log10_frequency": np.log10(np.clip(joined["frequency"], SMALLEST_FREQUENCY, None)),
    }
    return joined["row"], site, crystal


_MODULI = ("bulk_modulus", "shear_modulus")


def attach(dataset: GraphDataset, rows: NDArray[np.int64], folder: Path) -> GraphDataset:
    """Keep the crystals that have targets, and give them those.

    Parameters
    ----------
    dataset : GraphDataset
        Graphs of some rows of the corpus.
    rows : ndarray of shape (n_crystals,)
        Those rows of the corpus file.
    folder : Path
        As for `read_targets`.

    Returns
    -------
    GraphDataset
        Crystals with site and crystal properties.
    """
    of_row, site, crystal = read_targets(folder)
    position = {int(row): k for k, row in enumerate(rows)}
    known = np.array([k for k, row in enumerate(of_row) if int(row) in position])
    chosen = dataset.take(np.array([position[int(row)] for row in of_row[known]]))
    n_sites = np.concatenate([_site_counts(path) for path in sorted(folder.glob("shard_????.npz"))])
    start = np.cumsum(n_sites) - n_sites
    sites = np.concatenate([np.arange(start[k], start[k] + n_sites[k]) for k in known])
    zero = np.array(list(_element_energies(folder)))
    total = np.add.reduceat(zero[chosen.numbers], chosen.site_ptr[:-1])
    energy = crystal.pop("energy")[known] - total / chosen.n_sites
    energy[np.abs(energy) > LARGEST_FORMATION_ENERGY] = np.nan
    return chosen.with_properties(
        site={name: values[sites] for name, values in site.items()},
        crystal={
            "formation_energy": energy,
            **{name: values[known] for name, values in crystal.items()},
        },
    )


def _read_shard(path: Path) -> Arrays:
    shard: Arrays = dict(np.load(path))
    phonons = path.with_name(path.name.replace("shard", "phonons"))
    if phonons.exists():
        more = np.load(phonons)
        return {**shard, "frequency": more["frequency"], "stiffness": more["stiffness"]}
    n_sites = int(shard["sites"].sum())
    missing = {
        "frequency": np.full(len(shard["row"]), np.nan),
        "stiffness": np.full(n_sites, np.nan),
    }
    return {**shard, **missing}


def _site_counts(path: Path) -> NDArray[np.int64]:
    counts: NDArray[np.int64] = np.load(path)["sites"]
    return counts


def _element_energies(folder: Path) -> Iterator[float]:
    energies = json.loads((folder / "elements.json").read_text())
    for symbol in ELEMENT_SYMBOLS:
        yield energies.get(symbol, np.nan)
