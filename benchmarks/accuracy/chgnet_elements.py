"""Energies per atom of the elements in CHGNet 0.3.0, the zeros of its formation energies.

Usage: ``python benchmarks/accuracy/chgnet_elements.py --out outputs/chgnet/elements.json``. Takes
the lowest energy among a few simple structures of each element (ASE's reference structure, fcc,
bcc and diamond at the tabulated molar volume, a molecule in a box for gases), each scaled by 0.9 to
1.1. Elements whose true structure is not among them (boron, phosphorus, manganese) get a zero that
is up to a few tenths of an eV too high: a constant per element, which fine-tuning takes up.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk
from chgnet.model.model import CHGNet
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor

from dssl_sklearn.crystals.elements import ELEMENT_SYMBOLS, element_property

#: Bond lengths of molecules in angstrom.
MOLECULES = {"H": 0.74, "N": 1.10, "O": 1.21, "F": 1.42, "Cl": 1.99, "Br": 2.28, "I": 2.67}
SCALES = (0.9, 0.95, 1.0, 1.05, 1.1)
#: An energy below this, in eV per atom, is an artifact of a structure that CHGNet never saw.
LOWEST = -20.0
#: Heaviest element that CHGNet knows.
LAST = 94


def main() -> None:
    """Write symbol to energy as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    model = CHGNet.load(model_name="0.3.0", use_device="cpu", verbose=False)
    energies = {
        symbol: round(lowest_energy(model, symbol), 4) for symbol in ELEMENT_SYMBOLS[1 : LAST + 1]
    }
    options.out.write_text(json.dumps(energies, indent=1) + "\n")


def lowest_energy(model: CHGNet, symbol: str) -> float:
    """Lowest energy per atom among the candidates, in eV."""
    found = []
    for structure in candidates(symbol):
        for scale in SCALES:
            scaled = structure.copy()
            scaled.scale_lattice(structure.volume * scale**3)
            try:
                result: Any = model.predict_structure(scaled, task="e")
            except ValueError:  # an isolated atom has no graph in CHGNet
                continue
            energy = float(result["e"])
            if np.isfinite(energy) and energy > LOWEST:
                found.append(energy)
    return min(found)


def candidates(symbol: str) -> list[Structure]:
    """Simple structures of an element."""
    number = ELEMENT_SYMBOLS.index(symbol)
    volume = float(element_property("molar_volume")[number]) / 0.602214076
    cells = {
        kind: bulk(symbol, kind, a=(volume * atoms) ** (1 / 3))
        for kind, atoms in (("fcc", 4), ("bcc", 2), ("diamond", 8))
    }
    found = list(cells.values())
    # ASE has no reference structure of some elements.
    with contextlib.suppress(ValueError, KeyError, RuntimeError, NotImplementedError):
        found.append(bulk(symbol))
    if symbol in MOLECULES:
        sites = [[0, 0, 0], [0, 0, MOLECULES[symbol]]]
        found.append(Atoms([symbol, symbol], sites, cell=[4.5, 4.5, 5.5], pbc=True))
    return [AseAtomsAdaptor.get_structure(cell) for cell in found]


if __name__ == "__main__":
    main()
