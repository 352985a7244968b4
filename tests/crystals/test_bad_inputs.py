import gzip
import pickle
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ase import Atoms
from pymatgen.core import Composition, Lattice, Molecule, Structure
from sklearn.utils import Bunch

from dssl_sklearn.crystals.builder import GraphBuilder
from dssl_sklearn.crystals.graph import Crystal
from dssl_sklearn.crystals.inputs import as_sequence, read_crystals
from dssl_sklearn.exceptions import DSSLError, InvalidInputError, InvalidStructureError

HERE = Path(__file__).parent
CUBE = Lattice.cubic(4.0)
BUILDER = GraphBuilder(8.0, 12, use_cache=False)


def graphs_of(X):
    return BUILDER.usable_graphs(X, skip=False)[0]


def salt():
    return Structure(CUBE, ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])


# ---- what cannot be used --------------------------------------------------------------------


def ase_with(**kwargs):
    ase = pytest.importorskip("ase")
    return ase.Atoms(**{"symbols": "C", "cell": [4, 4, 4], "pbc": True, **kwargs})


@pytest.mark.parametrize(
    "more",
    [
        "data_global\n_publ_text\n;\ndata_collection at _cell_length_a\n;\n",
        "data_powder_pattern\n_cell_length_a 4\n",
        "data_other\n_cell_length_a 4\nloop_\n_atom_site_aniso_label\n_atom_site_aniso_U_11\nC 1\n",
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_blocks_of_a_cif_file_without_a_structure(tmp_path, more):
    (tmp_path / "one.cif").write_text(salt().to(fmt="cif") + more)
    assert len(graphs_of([tmp_path / "one.cif"])[0].crystal) == 2


def test_hydrogen_is_no_missing_name(tmp_path):
    hydrogen = Structure(CUBE, ["H"], [[0, 0, 0]])
    for name in ("POSCAR", "POSCAR_from_cif"):
        hydrogen.to(filename=str(tmp_path / name), fmt="poscar")
        assert graphs_of([tmp_path / name])[0].crystal.numbers.tolist() == [1]


@pytest.fixture
def bad_inputs(tmp_path):
    """Each unusable input with words that its reason must have."""
    nowhere = tmp_path / "nowhere.cif"
    (tmp_path / "garbage.cif").write_text("this is no crystal")
    (tmp_path / "empty.cif").write_text("")
    text = salt().to(fmt="cif")
    text += text.replace("data_", "data_another_")
    (tmp_path / "two.cif").write_text(text)
    (tmp_path / "two.cif.gz").write_bytes(gzip.compress(text.encode()))
    poscar = salt().to(fmt="poscar").splitlines()
    sites = [line.rsplit(" ", 1)[0] for line in poscar[8:]]
    lines = ["no names", *poscar[1:5], *poscar[6:8], *sites]
    (tmp_path / "POSCAR_of_vasp_4").write_text("\n".join(lines))
    fine = (np.array([6, 6]), np.array([[0, 0, 0], [0.5, 0.5, 0.5]]), 4 * np.eye(3))
    on_one_place = [[0.1, 0, 0], [1.1, 0, 0]]
    return [
        (3.5, "not a structure: found float"),
        (None, "not a structure: found NoneType .left out before"),
        (salt().sites[0], "not a structure: found PeriodicSite"),
        ([salt()], "not a structure: found list"),
        (Structure, "not a structure"),
        (Structure(CUBE, [], []), "empty"),
        (ase_with(symbols=""), "empty"),
        (Structure(CUBE, [{"Na": 0.5, "K": 0.5}], [[0, 0, 0]]), "site 0 is disordered"),
        (Structure(CUBE, ["Cl", {"Na": 0.5}], [[0, 0, 0], [0.5] * 3]), "site 1 is disordered"),
        (Structure(CUBE, ["X"], [[0, 0, 0]]), "no element"),
        (Structure(CUBE, ["Rf"], [[0, 0, 0]]), "site 0 holds Rf, which is no element"),
        (ase_with(symbols="X"), "site 0 has atomic number 0"),
        (Structure(CUBE, ["C"], [[np.nan, 0, 0]]), "site 0 has NaN"),
        (Crystal(fine[0], np.array([[0, 0, 0], [np.inf, 0, 0]]), fine[2]), "site 1 has NaN"),
        (ase_with(positions=[[0, np.inf, 0]]), "site 0 has NaN or infinite"),
        (Structure(Lattice(np.full((3, 3), np.nan)), ["C"], [[0, 0, 0]]), "lattice has NaN"),
        (Structure(Lattice(np.ones((3, 3))), ["C"], [[0, 0, 0]]), "zero volume"),
        (Structure(Lattice(np.zeros((3, 3))), ["C"], [[0, 0, 0]]), "zero volume"),
        (ase_with(cell=[4, 4, 0], pbc=[1, 1, 0]), "zero volume"),
        (Structure(CUBE, ["C", "O"], on_one_place), "sites 0 and 1"),
        (Structure(Lattice.cubic(0.05), ["C"], [[0, 0, 0]]), "its periodic image"),
        (Molecule(["H", "H"], [[0, 0, 0], [0, 0, 0.74]]), "molecule without a lattice"),
        (ase_with(cell=None), "molecule without a lattice"),
        (ase_with(pbc=False), "molecule without a lattice"),
        (Structure(Lattice(CUBE.matrix, pbc=(False,) * 3), ["C"], [[0] * 3]), "molecule"),
        (Molecule(["H"], [[0, 0, 0]]).as_dict(), "molecule"),
        ({"lattice": "no", "sites": 3}, "not a valid structure dict"),
        (str(nowhere), "no such file: '.*nowhere.cif'"),
        (nowhere, "no such file"),
        (tmp_path, "is a folder: .*sorted.Path"),
        ("no_such_folder/", "no such file"),
        ("~nobody_of_that_name/a.cif", "no such file"),
        ("data_C\n_cell_length_a 4\n", "the text of a file, not its path"),
        (salt().to_json(), "the text of a file, not its path"),
        (Composition("NaCl"), "a dict without a 'lattice'"),
        (tmp_path / "garbage.cif", "cannot read"),
        (tmp_path / "empty.cif", "cannot read"),
        (tmp_path / "two.cif", "holds 2 structures, expected one"),
        (tmp_path / "two.cif.gz", "holds 2 structures, expected one"),
        (tmp_path / "POSCAR_of_vasp_4", "names no elements"),
        (Crystal(fine[0][:1], *fine[1:]), "do not fit 1 sites"),
        (Crystal(np.array([0, 104]), *fine[1:]), "site 0 has atomic number 0"),
        (Crystal(fine[0], fine[1] + 1e7, fine[2]), "cells away"),
    ]


def test_thirds_of_a_cif_file_are_no_reason_for_a_warning(tmp_path):
    lattice = Lattice.hexagonal(3.0, 5.0)
    structure = Structure(lattice, ["Mg", "Mg"], [[0.3333, 0.6667, 0.25], [0.6667, 0.3333, 0.75]])
    structure.to(filename=str(tmp_path / "mg.cif"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        graph = graphs_of([tmp_path / "mg.cif"])[0]
    assert graph.crystal.frac_coords[0, 0] == pytest.approx(1 / 3, abs=1e-9)


def test_equal_reasons_share_a_line():
    with pytest.raises(InvalidStructureError) as caught:
        graphs_of([3.5, salt(), "lost.cif", 4.5])
    lines = str(caught.value).splitlines()[1:]
    assert len(lines) == 2
    assert lines[0].startswith("  structures 0, 3: not a structure: found float")
    assert lines[1].startswith("  structure 2: no such file")


def test_crystals_are_named_by_index_and_formula():
    flat = Structure(Lattice(np.ones((3, 3))), ["C", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    items, labels = [salt(), "lost.cif", flat], ["mp-1", "mp-2", "mp-3"]
    for X in (pd.Series(items, labels), pd.DataFrame({"structure": items}, labels)):
        for read in (graphs_of, read_crystals):
            with pytest.raises(InvalidStructureError) as caught:
                read(X)
            assert caught.value.reasons[1] == "no such file: 'lost.cif'"
            again = pickle.loads(pickle.dumps(caught.value))
            for error in (caught.value, again):
                assert "structure 1 (index mp-2): no such file" in str(error)
                assert "structure 2 (index mp-3, C1 O1): the cell has" in str(error)
    with pytest.raises(InvalidStructureError, match=r"structure 1: no such(?s:.*)2 \(C1 O1\):"):
        graphs_of(pd.Series(items))


@pytest.mark.parametrize("number", [200, -3])
def test_numbers_that_are_no_element_have_no_formula(number):
    bad = Atoms(numbers=[number, 8], positions=[[0, 0, 0], [2, 2, 2]], cell=4 * np.eye(3), pbc=True)
    with pytest.raises(InvalidStructureError, match=rf"structure 1: site 0 .*{number}"):
        graphs_of([salt(), bad])


def test_an_index_with_missing_labels():
    X = pd.Series([salt(), "lost.cif"], index=pd.Index([pd.NA, "mp-2"], dtype=object))
    with pytest.raises(InvalidStructureError, match=r"structure 1 \(index mp-2\)"):
        graphs_of(X)


def test_messages_name_the_first_ones_and_the_error_all():
    with pytest.raises(InvalidStructureError, match="and 80 more, see the attribute") as caught:
        graphs_of(["lost.cif"] * 100)
    assert len(caught.value.reasons) == 100
    assert len(str(caught.value)) < 3000


# pymatgen warns of the infinite values and of CIF files it cannot read.
@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::UserWarning")
def test_all_bad_inputs_are_named_in_one_error(bad_inputs):
    X, expected = [salt()], {}
    for item, words in bad_inputs:
        expected[len(X)] = words
        X += [item, salt(), salt()]
    with pytest.raises(InvalidStructureError) as caught:
        graphs_of(X)
    error = caught.value
    assert sorted(error.reasons) == sorted(expected)
    for index, words in expected.items():
        with pytest.raises(InvalidStructureError, match=words):
            raise InvalidStructureError({index: error.reasons[index]}, 1)
    assert f"{len(expected)} unusable structure(s) of {len(X)}" in str(error)
    assert isinstance(error, DSSLError)
    assert isinstance(error, ValueError)


def test_the_error_survives_pickling():
    error = InvalidStructureError({3: "a reason", 1: "another"}, 5)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is InvalidStructureError
    assert (again.reasons, again.n_structures) == (error.reasons, 5)
    assert str(again) == str(error)


def test_the_error_of_one_bad_row_of_an_array_of_sites():
    array = np.asarray([salt(), Structure(CUBE, ["X", "C"], [[0, 0, 0], [0.5] * 3])])
    with pytest.raises(InvalidStructureError) as caught:
        graphs_of(array)
    assert set(caught.value.reasons) == {1}


# ---- containers that are refused ------------------------------------------------------------


@pytest.mark.parametrize(
    "X, message",
    [
        pytest.param(salt(), r"single Structure.*write \[X\]", id="Structure"),
        pytest.param(salt().as_dict(), "single dict", id="structure dict"),
        pytest.param({"mp-1": salt()}, r"X is a dict.*list\(X.values\(\)\)", id="dict"),
        pytest.param(read_crystals([salt()])[0], "single Crystal", id="Crystal"),
        pytest.param(graphs_of([salt()])[0], "single CrystalGraph", id="graph"),
        pytest.param("crystal.cif", r"single str.*write \[X\] for one", id="str"),
        pytest.param(str(HERE), r"write sorted\(Path\('.*'\)\.glob\('\*\.cif'\)", id="folder"),
        pytest.param("a/**/*.cif", r"write sorted\(Path\('a'\).glob\('\*\*/\*\.cif'", id="deep"),
        pytest.param("data_x\n*\n/\n" * 300, r"write \[X\] for one", id="text of a file"),
        pytest.param("a/*.cif", r"write sorted\(Path\('a'\).glob\('\*\.cif'\)", id="pattern"),
        pytest.param(Bunch(data=[salt()]), r"X is a Bunch.* write X\.data", id="Bunch"),
        pytest.param(b"crystal.cif", "single bytes", id="bytes"),
        pytest.param((salt() for _ in range(2)), "of type generator", id="generator"),
        pytest.param({1, 2}, "of type set", id="set"),
        pytest.param(None, "of type NoneType", id="None"),
        pytest.param(3, "of type int", id="number"),
        pytest.param([], "X is empty", id="empty list"),
        pytest.param(np.array([], dtype=object), "X is empty", id="empty array"),
        pytest.param(pd.Series([], dtype=object), "X is empty", id="empty Series"),
        pytest.param(pd.DataFrame({"s": []}), "X is empty", id="empty DataFrame"),
        pytest.param(np.zeros((3, 4)), "array of dtype float64", id="numbers"),
        pytest.param(np.empty((2, 2, 2), dtype=object), r"shape \(2, 2, 2\)", id="3-D array"),
        pytest.param(
            pd.DataFrame({"structure": [salt()], "y": [1.0]}),
            r"2 columns \['structure', 'y'\].*give X\['structure'\] alone",
            id="two columns",
        ),
        pytest.param(
            pd.DataFrame({"a": ["NaCl"], "y": [1.0]}), "give the column of", id="no crystals"
        ),
        pytest.param(
            pd.Series([salt(), salt()]).to_numpy()[None],
            r"shape \(1, 2\)",
            id="a row of structures",
        ),
    ],
)
def test_containers_that_are_refused(X, message):
    with pytest.raises(InvalidInputError, match=message):
        graphs_of(X)


def test_a_single_ase_crystal_is_refused():
    with pytest.raises(InvalidInputError, match="unlabeled is a single Atoms"):
        as_sequence(ase_with(), name="unlabeled")
