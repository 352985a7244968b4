"""What the doctor can find: names of the checks, how serious they are, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "info", "ok"]

#: Check -> severity and advice.
CHECKS: dict[str, tuple[Severity, str]] = {
    "unreadable": ("error", "correct or remove it, or fit with on_error='skip'"),
    "disordered": (
        "error",
        "order it, as with pymatgen's OrderDisorderedStructureTransformation, or remove it",
    ),
    "unknown_element": ("error", "remove it; elements from H to Lr (Z = 1 to 103) are known"),
    "bad_cell": ("error", "correct lattice and coordinates, or remove it"),
    "overlapping_sites": ("error", "remove one of the two sites, or the structure"),
    "conflicting_duplicate": (
        "error",
        "keep the target that is right, or the mean; no model can learn both",
    ),
    "duplicate": (
        "warning",
        "keep one, or see that equal crystals stay on one side of a split (cv by group)",
    ),
    "close_sites": ("warning", "look at the geometry; real atoms are rarely that close"),
    "unusual_volume": (
        "warning",
        "look at the cell: wrong units, missing atoms, or vacuum of a slab or molecule",
    ),
    "isolated_atom": (
        "warning",
        "raise `cutoff`, or look at the cell; the nearest atoms are linked however far they are",
    ),
    "large_cell": (
        "warning",
        "use the primitive cell if there is a smaller one; time and memory grow with the sites",
    ),
    "single_atom": ("info", "fine; its periodic images are its neighbors"),
    "reader_remark": ("info", "compare the structure with its source"),
    "length_mismatch": ("error", "give one target for each structure, in the same order"),
    "bad_targets": ("error", "give an array, Series or DataFrame with one row per structure"),
    "not_a_number": ("error", "give a number, or NaN where the target is unknown"),
    "infinite_target": ("error", "remove the structure, or mark its target as NaN"),
    "constant_target": ("error", "there is nothing to learn; check the column"),
    "no_labels": ("error", "give at least one known target (DSSLPretrainer needs none)"),
    "one_class": ("error", "a classifier needs at least two classes"),
    "rare_class": ("warning", "collect more of it, join it with another class, or leave it out"),
    "few_labels": (
        "warning",
        "start from pretrained weights (pretrained='mp') and judge by repeated cross-validation",
    ),
    "skewed_target": ("warning", "look at the distribution; absolute errors are led by its tail"),
    "log10_target": (
        "warning",
        "DSSLRegressor learns logarithms where that pays (target_scale); give others log10(y)",
    ),
    "outlier": ("warning", "check the value and its unit; keep it if it is right"),
    "missing_target": ("info", "counts as unlabeled in fit"),
    "none": ("ok", ""),
}

#: From the most serious to the least.
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info", "ok")


@dataclass(frozen=True)
class Finding:
    """One thing found.

    Attributes
    ----------
    index : int or None
        Position of the structure, None for what concerns the data as a whole.
    check : str
        Name of the check, a key of `CHECKS`.
    message : str
        What was found.
    """

    index: int | None
    check: str
    message: str

    @property
    def severity(self) -> Severity:
        """How serious it is."""
        return CHECKS[self.check][0]

    @property
    def advice(self) -> str:
        """What to do."""
        return CHECKS[self.check][1]
