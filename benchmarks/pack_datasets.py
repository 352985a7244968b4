"""Pack the four labeled data sets that ship with the package into compact npz files.

Run once, from the root of the repository, where the source records are at hand::

    python benchmarks/pack_datasets.py --source ../shared/data

The same records always give the same bytes.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Element

from dssl_sklearn._atomic import atomic_path
from dssl_sklearn.datasets._files import read_json_gz
from dssl_sklearn.datasets._shipped import DATA_FOLDER, MILLIONTHS

Record: TypeAlias = dict[str, Any]

#: Source file -> name of the packed file, and its columns by the name they get.
SETS: dict[str, tuple[str, dict[str, str]]] = {
    "elastic.json.gz": (
        "elasticity",
        {
            "K_VRH": "K_VRH_GPa",
            "G_VRH": "G_VRH_GPa",
            "K_Voigt": "K_Voigt_GPa",
            "K_Reuss": "K_Reuss_GPa",
            "G_Voigt": "G_Voigt_GPa",
            "G_Reuss": "G_Reuss_GPa",
            "poisson_ratio": "poisson_ratio",
            "elastic_anisotropy": "elastic_anisotropy",
            "elastic_tensor": "elastic_tensor_GPa",
            "space_group": "spacegroup",
        },
    ),
    "dielectric.json.gz": (
        "dielectric",
        {
            "n": "n",
            "band_gap": "band_gap_eV",
            "poly_electronic": "poly_electronic",
            "poly_total": "poly_total",
            "pot_ferroelectric": "pot_ferroelectric",
            "e_electronic": "e_electronic",
            "e_total": "e_total",
            "space_group": "spacegroup",
        },
    ),
    "piezo.json.gz": (
        "piezoelectricity",
        {
            "eij_max": "eij_max_C_m2",
            "piezoelectric_tensor": "piezoelectric_tensor_C_m2",
            "space_group": "spacegroup",
        },
    ),
    "flla.json.gz": (
        "formation_energy",
        {
            "formation_energy": "formation_energy_per_atom_eV",
            "e_above_hull": "e_above_hull_eV",
        },
    ),
}


def pack(records: Sequence[Record], columns: Mapping[str, str]) -> dict[str, NDArray[Any]]:
    """Turn records with structure dicts into flat arrays.

    Parameters
    ----------
    records : sequence of dict
        With ``"id"``, ``"formula"``, ``"structure"`` (ordered) and the columns.
    columns : mapping of str to str
        Name of the array -> key of the record.

    Returns
    -------
    dict of str to ndarray
        What `dssl_sklearn.datasets._shipped` reads.
    """
    structures = [record["structure"] for record in records]
    sites = [site for structure in structures for site in structure["sites"]]
    arrays = {
        "ids": np.array([record["id"] for record in records]),
        "formulas": np.array([record["formula"] for record in records]),
        "n_sites": np.array([len(structure["sites"]) for structure in structures], dtype=np.uint16),
        "numbers": np.array([_atomic_number(site) for site in sites], dtype=np.uint8),
        "frac_coords": _millionths([site["abc"] for site in sites]),
        "lattices": _millionths([structure["lattice"]["matrix"] for structure in structures]),
    }
    for name, key in columns.items():
        values = np.array([record[key] for record in records])
        arrays[name] = values.astype(np.uint8) if name == "space_group" else values
    return arrays


def _atomic_number(site: Record) -> int:
    (species,) = site["species"]
    if species["occu"] != 1:
        raise ValueError(f"disordered site {site}")
    return int(Element(species["element"]).Z)


def _millionths(values: Sequence[Any]) -> NDArray[np.int32]:
    exact = np.array(values, dtype=np.float64)
    whole = np.rint(exact * MILLIONTHS).astype(np.int32)
    if not np.array_equal(whole / MILLIONTHS, exact):
        raise ValueError("the source has more than six decimals; they would be lost")
    return whole


def main() -> None:
    """Pack every set and print the sizes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path, required=True, help="folder of the *.json.gz files")
    parser.add_argument("--destination", type=Path, default=DATA_FOLDER)
    arguments = parser.parse_args()
    arguments.destination.mkdir(parents=True, exist_ok=True)
    for file_name, (name, columns) in SETS.items():
        records = read_json_gz(arguments.source / file_name, "Give its folder as --source.")
        arrays: dict[str, Any] = pack(records, columns)
        path = arguments.destination / f"{name}.npz"
        with atomic_path(path) as part, part.open("wb") as file:
            np.savez_compressed(file, **arrays)
        print(f"{path}: {len(records)} crystals, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
