"""Feature tables of the classical methods and of frozen CHGNet, computed once and kept.

Every row depends on its crystal alone, so that a table may be computed before the folds are made.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from accuracy.neighborhood import neighborhood_features, neighborhood_labels, site_statistics

if TYPE_CHECKING:
    from pymatgen.core import Structure

#: Crystals of one file: what is lost at an interruption.
CHUNK = 64
CHGNET_WEIGHTS = "0.3.0"


@dataclass(frozen=True)
class TableSpec:
    """How a feature table is made.

    Attributes
    ----------
    compute : callable
        From crystals to an array of shape (n_crystals, n_features), NaN where a feature fails.
    library : str
        Library whose version belongs to the content.
    revision : int
        To be raised when the definition of the features changes.
    """

    compute: Callable[[Sequence[Structure]], NDArray[np.float64]]
    library: str
    revision: int = 1


def load_table(
    name: str, structures: Sequence[Structure], folder: Path, *, quiet: bool = False
) -> NDArray[np.float64]:
    """Read a feature table, computing what is not there yet.

    Parameters
    ----------
    name : str
        Key of `TABLES`.
    structures : sequence of Structure of shape (n_crystals,)
        The crystals.
    folder : Path
        Where tables are kept, one file for each 64 crystals, named after their content.
    quiet : bool, default=False
        Show no progress.

    Returns
    -------
    ndarray of shape (n_crystals, n_features)
        Features, NaN where one could not be computed.
    """
    spec = TABLES[name]
    folder.mkdir(parents=True, exist_ok=True)
    starts = range(0, len(structures), CHUNK)
    parts = []
    for start in tqdm(starts, desc=f"{name} features", unit="chunk", disable=quiet, leave=False):
        chunk = structures[start : start + CHUNK]
        path = folder / f"{name}_{table_key(name, chunk)}.npz"
        if not path.exists():
            _write(path, spec.compute(chunk))
        with np.load(path) as stored:
            parts.append(stored["values"])
    return np.concatenate(parts)


def table_key(name: str, structures: Sequence[Structure]) -> str:
    """Name the content of a table: the crystals, the definition, the library's version."""
    spec = TABLES[name]
    digest = hashlib.sha256(f"{name} {spec.revision} {version(spec.library)}".encode())
    for structure in structures:
        numbers = np.array([site.specie.Z for site in structure], np.int64)
        for array in (numbers, structure.frac_coords, structure.lattice.matrix):
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def _write(path: Path, values: NDArray[np.float64]) -> None:
    part = path.with_name(f"{path.stem}.{os.getpid()}.part.npz")
    np.savez_compressed(part, values=values)
    part.replace(path)


# ---- composition and structure ------------------------------------------------------------------


def composition_table(structures: Sequence[Structure]) -> NDArray[np.float64]:
    """Magpie statistics, stoichiometry, valence orbitals and ionicity of the compositions."""
    compositions = [structure.composition for structure in structures]
    return np.hstack([_featurized(f, compositions) for f in _composition_featurizers()])


def structure_table(structures: Sequence[Structure]) -> NDArray[np.float64]:
    """Density, symmetry, complexity, and statistics of two fingerprints of the sites."""
    matminer = [_featurized(f, structures) for f in _structure_featurizers()]
    own = np.array([neighborhood_features(structure) for structure in structures])
    return np.hstack([*matminer, own.reshape(len(structures), len(neighborhood_labels()))])


@cache
def _composition_featurizers() -> tuple[Any, ...]:
    from matminer.featurizers import composition

    return (
        composition.ElementProperty.from_preset("magpie", impute_nan=True),
        composition.Stoichiometry(),
        composition.ValenceOrbital(impute_nan=True),
        composition.IonProperty(fast=True, impute_nan=True),
    )


@cache
def _structure_featurizers() -> tuple[Any, ...]:
    from matminer.featurizers import site, structure

    statistics = ("mean", "std_dev", "minimum", "maximum")
    return (
        structure.DensityFeatures(),
        structure.GlobalSymmetryFeatures(
            ["spacegroup_num", "crystal_system_int", "is_centrosymmetric", "n_symmetry_ops"]
        ),
        structure.StructuralComplexity(),
        structure.SiteStatsFingerprint(site.AGNIFingerprints(directions=[None]), stats=statistics),
    )


def _featurized(featurizer: Any, items: Sequence[Any]) -> NDArray[np.float64]:  # noqa: ANN401
    """Features of all items; NaN where the featurizer fails, which it does in many ways."""
    rows: list[Any] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for item in items:
            try:
                rows.append(np.asarray(featurizer.featurize(item), float))
            except Exception:  # noqa: BLE001 - the imputer in the pipeline takes it from here
                rows.append(None)
    width = len(featurizer.feature_labels())
    return np.array([np.full(width, np.nan) if row is None else row for row in rows])


# ---- CHGNet -------------------------------------------------------------------------------------


def chgnet_table(structures: Sequence[Structure]) -> NDArray[np.float64]:
    """What frozen CHGNet 0.3.0 makes of crystals that it is only shown.

    Mean, standard deviation, minimum and maximum over the sites of the 64 features of a site, of
    its energy (eV) and of its magnetic moment; the 64 features of the crystal; and the energy per
    atom (eV).

    Parameters
    ----------
    structures : sequence of Structure of shape (n_crystals,)
        The crystals.

    Returns
    -------
    ndarray of shape (n_crystals, 329)
        NaN for crystals that CHGNet refuses, such as those with an isolated atom.

    References
    ----------
    Deng et al., Nat. Mach. Intell. 5, 1031 (2023), doi:10.1038/s42256-023-00716-3.
    """
    model = _chgnet()
    values = np.full((len(structures), 4 * (64 + 2) + 64 + 1), np.nan)
    for row, structure in enumerate(structures):
        try:
            graph = model.graph_converter(structure)
        except ValueError:  # an isolated atom
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = model.predict_graph(
                graph,
                task="em",
                return_site_energies=True,
                return_atom_feas=True,
                return_crystal_feas=True,
            )
        sites = np.column_stack([found["atom_fea"], found["site_energies"], found["m"]])
        values[row] = [*site_statistics(sites), *found["crystal_fea"], float(found["e"])]
    return values


@cache
def _chgnet() -> Any:  # noqa: ANN401 - a CHGNet
    from chgnet.model.model import CHGNet

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = CHGNet.load(model_name=CHGNET_WEIGHTS, use_device="cpu", verbose=False)
    model.graph_converter.set_isolated_atom_response("error")
    return model


TABLES: dict[str, TableSpec] = {
    "composition": TableSpec(composition_table, "matminer"),
    "structure": TableSpec(structure_table, "matminer"),
    "chgnet": TableSpec(chgnet_table, "chgnet"),
}
