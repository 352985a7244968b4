"""Make the element tables that ship with the package from pymatgen's element data.

Writes ``elements.csv`` (one row an element, no gaps) and ``element_gaps.csv`` (one row for each
entry that pymatgen does not know, with the rule and the elements it was filled from) to
``dssl_sklearn/crystals/data``. What the columns mean is said in ``dssl_sklearn.crystals.elements``.

Gaps are filled column by column, columns with values over orders of magnitude on a log scale. Rule
1 comes first; then rules 2 and 3 (the first that applies) and rule 4 take turns until nothing is
missing. A turn reads only what was known when it began.

1. proxy: the empirical atomic radius is the calculated one.
2. series: d and f elements with known elements on both sides in their period and block are
   interpolated linearly over the atomic number.
3. group: mean of the nearest known elements above and below in the group, or of the two nearest
   where only one side has any, weighted by one over the distance in periods; the group of a
   lanthanide is the actinide below it, and the other way round.
4. period: linear interpolation over the atomic number in the same period and block, constant beyond
   the ends; not for hydrogen and helium, which have nothing in common.

Run as ``python benchmarks/make_element_table.py [folder]``.
"""

from __future__ import annotations

import csv
import importlib.metadata
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Element

from dssl_sklearn.crystals.elements import (
    ELEMENT_FEATURE_NAMES,
    LOG_SCALE_FEATURES,
    MAX_ATOMIC_NUMBER,
)

DATA_FOLDER = Path(__file__).parents[1] / "dssl_sklearn" / "crystals" / "data"
HARTREE_IN_EV = 27.211386245988
NOBLE_GASES = (2, 10, 18, 36, 54, 86)
SHELL_CAPACITY = {"s": 2, "p": 6, "d": 10, "f": 14}

#: Shells of each block that are closed and take no part in bonds: 3d10 in Ga, 4f14 in Hf.
CLOSED_SHELLS = {"s": "", "p": "df", "d": "f", "f": ""}

#: Gaps of the first column are taken from the second where that one is known.
PROXIES = {"atomic_radius": "atomic_radius_calculated"}

ELEMENTS = [Element.from_Z(z) for z in range(1, MAX_ATOMIC_NUMBER + 1)]

Reader = Callable[[Element], float]
Column = NDArray[np.float64]


class Gap(NamedTuple):
    """One filled entry: of which element and feature, by which rule, from which elements."""

    symbol: str
    feature: str
    rule: str
    filled_from: str


class Estimate(NamedTuple):
    """What a rule says about one gap, and the rows (Z - 1) it read."""

    value: float
    rows: list[int]


def tabulated(key: str) -> Reader:
    """Make a reader of one number of pymatgen's table, NaN where it has none."""
    return lambda element: float(element.data.get(key) or math.nan)


def ionization_energy(electron: int) -> Reader:
    """Make a reader of the energy in eV that removes the first (0) or second (1) electron."""
    return lambda element: float(
        dict(enumerate(element.ionization_energies)).get(electron, math.nan)
    )


def highest_orbital_energy(element: Element) -> float:
    """Energy in eV of the highest occupied orbital of the free atom."""
    orbitals = element.data.get("Atomic orbitals")
    return float(max(orbitals.values())) * HARTREE_IN_EV if orbitals else math.nan


def common_oxidation_states(element: Element) -> list[int]:
    """Return the common oxidation states; 0 alone for a noble gas without compounds."""
    return element.data.get("Common oxidation states") or [0]


def ionic_radius(element: Element) -> float:
    """Radius of the usual anion, else mean over usual cations, else over all ions that are listed.

    "Usual" are the common oxidation states; an average of Cl(-1) and Cl(+7) would mean nothing.
    """
    radii = {
        int(state): radius for state, radius in (element.data.get("Ionic radii") or {}).items()
    }
    usual = {state: radii[state] for state in common_oxidation_states(element) if state in radii}
    anions = {state: radius for state, radius in usual.items() if state < 0}
    listed = list((anions or usual or radii).values())
    return float(np.mean(listed)) if listed else math.nan


def density(element: Element) -> float:
    """Mass over molar volume in g/cm3, so that gases have one and the two columns agree."""
    return float(element.atomic_mass) / tabulated("Molar volume")(element)


def open_electrons(element: Element) -> dict[str, int]:
    """Count s, p, d and f electrons outside the noble gas core of the neutral atom."""
    cores = [z for z in NOBLE_GASES if z < element.Z]
    core = Element.from_Z(cores[-1]).full_electronic_structure if cores else []
    filled = {(n, kind) for n, kind, _ in core}
    counts = dict.fromkeys(SHELL_CAPACITY, 0)
    for n, kind, number in element.full_electronic_structure:
        if (n, kind) not in filled:
            counts[kind] += number
    return counts


def block(element: Element) -> str:
    """Block of the periodic table; helium, whose electrons are 1s, belongs to s."""
    return "s" if element.symbol == "He" else str(element.block)


def valence(element: Element) -> float:
    """Count the electrons outside the noble gas core and outside closed d and f shells."""
    closed = CLOSED_SHELLS[block(element)]
    return float(sum(n for kind, n in open_electrons(element).items() if kind not in closed))


def electrons(kind: str) -> Reader:
    """Make a counter of the electrons of one kind outside the noble gas core."""
    return lambda element: float(open_electrons(element)[kind])


def vacancies(kind: str) -> Reader:
    """Make a counter of the free places in a shell of one kind that has begun to fill."""
    return lambda element: float(-open_electrons(element)[kind] % SHELL_CAPACITY[kind])


def in_block(kind: str) -> Reader:
    """Make an indicator of one block."""
    return lambda element: float(block(element) == kind)


READERS: dict[str, Reader] = {
    "group": lambda element: float(element.group),
    "period": lambda element: float(element.row),
    "mendeleev_number": tabulated("Mendeleev no"),
    "atomic_mass": tabulated("Atomic mass"),
    "electronegativity": tabulated("X"),
    "atomic_radius": tabulated("Atomic radius"),
    "atomic_radius_calculated": tabulated("Atomic radius calculated"),
    "van_der_waals_radius": tabulated("Van der waals radius"),
    "ionic_radius": ionic_radius,
    "first_ionization_energy": ionization_energy(0),
    "second_ionization_energy": ionization_energy(1),
    "electron_affinity": tabulated("Electron affinity"),
    "highest_orbital_energy": highest_orbital_energy,
    "molar_volume": tabulated("Molar volume"),
    "density": density,
    "melting_point": tabulated("Melting point"),
    "boiling_point": tabulated("Boiling point"),
    "thermal_conductivity": tabulated("Thermal conductivity"),
    "bulk_modulus": tabulated("Bulk modulus"),
    "valence": valence,
    **{f"{kind}_electrons": electrons(kind) for kind in SHELL_CAPACITY},
    **{f"{kind}_vacancies": vacancies(kind) for kind in SHELL_CAPACITY},
    **{f"{kind}_block": in_block(kind) for kind in SHELL_CAPACITY},
    "min_oxidation_state": lambda element: float(min(common_oxidation_states(element))),
    "max_oxidation_state": lambda element: float(max(common_oxidation_states(element))),
}


def family(element: Element) -> tuple[str, int]:
    """Group for the purpose of filling; a lanthanide shares one with the actinide below it."""
    return ("f", (element.Z - 57) % 32) if element.block == "f" else ("main", element.group)


def by_period(row: int, values: Column) -> Estimate | None:
    """Rule 4: interpolate over Z in the period and block, constant beyond the ends."""
    here = ELEMENTS[row]
    rows = [
        r
        for r, other in enumerate(ELEMENTS)
        if other.row == here.row > 1 and other.block == here.block and not np.isnan(values[r])
    ]
    if not rows:
        return None
    ends = [r for r in rows if r < row][-1:] + [r for r in rows if r > row][:1]
    return Estimate(float(np.interp(row, ends, values[ends])), ends)


def by_series(row: int, values: Column) -> Estimate | None:
    """Rule 2: interpolate a d or f element between known ones on both sides."""
    estimate = by_period(row, values) if ELEMENTS[row].block in ("d", "f") else None
    return estimate if estimate is not None and len(estimate.rows) == 2 else None


def by_group(row: int, values: Column) -> Estimate | None:
    """Rule 3: average the nearest known elements of the group above and below."""
    here = ELEMENTS[row]
    distance = {
        r: abs(other.row - here.row)
        for r, other in enumerate(ELEMENTS)
        if family(other) == family(here) and not np.isnan(values[r])
    }
    above = [r for r in distance if r < row][::-1]
    below = [r for r in distance if r > row]
    nearest = above[:1] + below[:1] if above and below else (above or below)[:2]
    if not nearest:
        return None
    weights = [1 / distance[r] for r in nearest]
    return Estimate(float(np.average(values[nearest], weights=weights)), nearest)


Rules = dict[str, Callable[[int, Column], Estimate | None]]

TURNS: tuple[Rules, Rules] = ({"series": by_series, "group": by_group}, {"period": by_period})


def fill(feature: str, raw: Column) -> tuple[Column, list[Gap]]:
    """Fill the gaps of one column by rules 2 to 4 and say how."""
    is_log = feature in LOG_SCALE_FEATURES
    values = np.log(raw) if is_log else raw.copy()
    gaps: list[Gap] = []
    for turn in range(len(ELEMENTS)):
        known = values.copy()
        for row in np.flatnonzero(np.isnan(known)).tolist():
            estimates = ((name, rule(row, known)) for name, rule in TURNS[turn % 2].items())
            rule, estimate = next((e for e in estimates if e[1] is not None), ("", None))
            if estimate is not None:
                values[row] = estimate.value
                sources = " ".join(ELEMENTS[r].symbol for r in estimate.rows)
                gaps.append(Gap(ELEMENTS[row].symbol, feature, rule, sources))
    filled = np.exp(values) if is_log else values
    # Going through the logarithm and back would change the last digits of what was never missing.
    return np.where(np.isnan(raw), filled, raw), gaps


def make_table() -> tuple[dict[str, Column], list[Gap]]:
    """Read all features from pymatgen and fill their gaps.

    Returns
    -------
    dict of str to ndarray of shape (103,)
        Values of each feature, in its unit.
    list of Gap
        The filled entries.
    """
    raw = {name: np.array([READERS[name](e) for e in ELEMENTS]) for name in ELEMENT_FEATURE_NAMES}
    table: dict[str, Column] = {}
    gaps: list[Gap] = []
    for name, column in raw.items():
        proxy = PROXIES.get(name, name)
        start = np.where(np.isnan(column), raw[proxy], column)
        taken = np.flatnonzero(np.isnan(column) & ~np.isnan(start)).tolist()
        gaps += [Gap(ELEMENTS[row].symbol, name, "proxy", proxy) for row in taken]
        table[name], filled = fill(name, start)
        gaps += filled
    return table, gaps


def write_csv(path: Path, rows: Iterable[Sequence[str]]) -> None:
    """Write rows below a comment that says where they come from."""
    version = importlib.metadata.version("pymatgen")
    with path.open("w", newline="") as file:
        file.write(f"# benchmarks/make_element_table.py, element data of pymatgen {version}\n")
        csv.writer(file, lineterminator="\n").writerows(rows)


def write_table(folder: Path) -> None:
    """Write ``elements.csv`` and ``element_gaps.csv`` to a folder."""
    table, gaps = make_table()
    if np.isnan(list(table.values())).any():
        raise RuntimeError("some gaps are filled by no rule")
    lines = zip(*table.values(), strict=True)
    texts = [[f"{value:.8g}" for value in line] for line in lines]
    rows = [[e.symbol, *text] for e, text in zip(ELEMENTS, texts, strict=True)]
    write_csv(folder / "elements.csv", [["symbol", *table], *rows])
    write_csv(folder / "element_gaps.csv", [Gap._fields, *gaps])
    print(f"{len(table)} features of {len(ELEMENTS)} elements; {len(gaps)} entries filled")


if __name__ == "__main__":
    write_table(Path(sys.argv[1]) if len(sys.argv) > 1 else DATA_FOLDER)
