"""The data sets that ship with the package: their format on disk and the one loader they share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dssl_sklearn.crystals.ragged import pointer
from dssl_sklearn.datasets._bunch import Quantity, TargetChoice, make_bunch
from dssl_sklearn.datasets._files import explain_failure, read_npz
from dssl_sklearn.datasets._structures import build_structures

DATA_FOLDER = Path(__file__).parent / "data"

#: Coordinates and lattices are published with six decimals and stored as whole millionths: exact,
#: and a third of the size of floats once compressed.
MILLIONTHS = 1_000_000

MATMINER = (
    "The records that the source distribution of matminer 0.3.5 on PyPI carries, packed by "
    "benchmarks/pack_datasets.py; coordinates and lattices have six decimals."
)

_CRYSTAL_ARRAYS = ("ids", "formulas", "n_sites", "numbers", "frac_coords", "lattices")
_CURE = "The installation is damaged; install dssl_sklearn anew."


@dataclass(frozen=True)
class ShippedDataset:
    """What is known about a shipped data set beside its numbers.

    Attributes
    ----------
    name : str
        Stem of the file in the data folder.
    title : str
        Title of its description.
    summary : str
        What it holds and how it was computed.
    targets : tuple of Quantity
        Columns that may be asked for as targets.
    arrays : tuple of Quantity
        Further arrays of the file, handed out beside the targets.
    source : str
        Where the records come from.
    license : str
        Under which terms.
    references : tuple of str
        What to cite.
    """

    name: str
    title: str
    summary: str
    targets: tuple[Quantity, ...]
    arrays: tuple[Quantity, ...]
    source: str
    license: str
    references: tuple[str, ...]

    @property
    def path(self) -> Path:
        """File with the numbers."""
        return DATA_FOLDER / f"{self.name}.npz"

    def describe(self, n_crystals: int) -> str:
        """Write the description that the loader hands out."""
        parts = [
            _headed(self.title, f"{n_crystals} crystals. {self.summary}", "="),
            _headed("Targets", _listed(self.targets)),
        ]
        if self.arrays:
            parts.append(_headed("Further arrays", _listed(self.arrays)))
        parts += [
            _headed("Source", self.source),
            _headed("License", self.license),
            _headed("References", "\n".join(f"- {reference}" for reference in self.references)),
        ]
        return "\n\n".join(parts) + "\n"


def load_shipped(
    dataset: ShippedDataset, *, target: TargetChoice, return_X_y: bool, as_frame: bool
) -> Any:  # noqa: ANN401 - Bunch, or (X, y) if asked for
    """Load one of the shipped data sets; the public loaders document arguments and result."""
    stored = _read(dataset)
    with explain_failure(dataset.path, _CURE):
        structures = build_structures(
            stored["numbers"],
            stored["frac_coords"] / MILLIONTHS,
            stored["lattices"] / MILLIONTHS,
            pointer(stored["n_sites"]),
        )
    columns = {quantity.name: _column(quantity, stored) for quantity in dataset.targets}
    bunch = make_bunch(
        structures,
        columns,
        target,
        stored["ids"].tolist(),
        as_frame=as_frame,
        units={quantity.name: quantity.unit for quantity in dataset.targets + dataset.arrays},
        formulas=stored["formulas"].tolist(),
        DESCR=dataset.describe(len(structures)),
        filename=str(dataset.path),
        **{quantity.name: stored[quantity.name] for quantity in dataset.arrays},
    )
    return (bunch.data, bunch.target) if return_X_y else bunch


def _read(dataset: ShippedDataset) -> dict[str, NDArray[Any]]:
    quantities = {q.log10_of or q.name for q in dataset.targets + dataset.arrays}
    return read_npz(dataset.path, {*_CRYSTAL_ARRAYS, *quantities}, _CURE)


def _column(quantity: Quantity, stored: dict[str, NDArray[Any]]) -> NDArray[Any]:
    if not quantity.log10_of:
        return stored[quantity.name]
    values = stored[quantity.log10_of]
    logarithm = np.full(values.shape, np.nan)
    np.log10(values, out=logarithm, where=values > 0)
    return logarithm


def _headed(heading: str, text: str, underline: str = "-") -> str:
    return f"{heading}\n{underline * len(heading)}\n{text}"


def _listed(quantities: tuple[Quantity, ...]) -> str:
    return "\n".join(f"- {q.name} [{q.unit}]: {q.meaning}" for q in quantities)
