import copy

import numpy as np
import pandas as pd
import pytest
from pymatgen.core import IStructure, Lattice, Structure

from dssl_sklearn.crystals.builder import GraphBuilder
from dssl_sklearn.crystals.graph import Crystal
from dssl_sklearn.crystals.inputs import crystals_of_table, read_crystals
from dssl_sklearn.exceptions import InvalidInputError, InvalidStructureError

CUBE = Lattice.cubic(4.0)
BUILDER = GraphBuilder(8.0, 12, use_cache=False)


def graphs_of(X, builder=BUILDER):
    return builder.usable_graphs(X, skip=False)[0]


def salt(a=4.0):
    return Structure(Lattice.cubic(a), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def single(element="Po"):
    return Structure(Lattice.cubic(3.35), [element], [[0, 0, 0]])


def object_array(items):
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array


def to_ase(structure):
    ase = pytest.importorskip("ase")
    return ase.Atoms(
        numbers=structure.atomic_numbers,
        scaled_positions=structure.frac_coords,
        cell=structure.lattice.matrix,
        pbc=True,
    )


class PolarsFrame:
    """What a DataFrame of polars has, where that is not installed."""

    class Column:
        def __init__(self, values):
            self.to_list = lambda: list(values)
            self.head = lambda n: list(values[:n])
            self.drop_nulls = lambda: type(self)([v for v in values if v is not None])

    def __init__(self, data):
        self.columns, self.shape = list(data), (len(next(iter(data.values()))), len(data))
        self.get_columns = lambda: [self.Column(values) for values in data.values()]

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, name):
        raise AssertionError("gives columns")


def polars_frame(data):
    try:
        import polars as pl
    except ImportError:
        return PolarsFrame(data)
    return pl.DataFrame({k: pl.Series(v, dtype=pl.Object) for k, v in data.items()})


# ---- kinds of crystals ----------------------------------------------------------------------

KINDS = {
    "IStructure": IStructure.from_sites,
    "dict": lambda s: s.as_dict(),
    "ASE Atoms": to_ase,
    "Crystal": lambda s: read_crystals([s])[0],
    "graph": lambda s: graphs_of([s])[0],
}


@pytest.mark.parametrize("convert", KINDS.values(), ids=KINDS.keys())
def test_every_kind_gives_the_same_graph(real_structures, assert_same_graph, convert):
    expected = graphs_of(real_structures)
    found = graphs_of([convert(s) for s in real_structures])
    for left, right in zip(expected, found, strict=True):
        assert_same_graph(left, right)


@pytest.mark.parametrize("name", ["crystal.cif", "POSCAR", "my_POSCAR_2", "relaxed.vasp"])
@pytest.mark.parametrize("kind", [str, lambda path: path], ids=["str", "Path"])
def test_files(tmp_path, assert_same_graph, name, kind):
    structure = Structure(
        Lattice.from_parameters(4.1, 5.2, 6.3, 81, 95, 102),
        ["Ti", "O", "O"],
        [[0, 0, 0], [0.3, 0.31, 0.2], [0.7, 0.62, 0.84]],
    )
    path = tmp_path / name
    structure.to(str(path), fmt="cif" if name.endswith("cif") else "poscar")
    expected, found = graphs_of([structure, kind(path)])
    assert_same_graph(expected, found, atol=1e-4)


def test_a_list_of_mixed_kinds(real_structures, assert_same_graph):
    converters = [lambda s: s, *KINDS.values()]
    mixed = [
        converters[i % len(converters)](structure) for i, structure in enumerate(real_structures)
    ]
    expected = graphs_of(real_structures)
    for left, right in zip(expected, graphs_of(mixed), strict=True):
        assert_same_graph(left, right)


CONTAINERS = {
    "tuple": tuple,
    "object array": object_array,
    "object column": lambda items: object_array(items)[:, None],
    "Series": lambda items: pd.Series(items, index=range(7, 7 + len(items))),
    "DataFrame": lambda items: pd.DataFrame({"structure": items}),
    "Index": lambda items: pd.Index(items, dtype=object),
    "values of a DataFrame": lambda items: pd.DataFrame({"structure": items}).to_numpy(),
}


@pytest.mark.parametrize("contain", CONTAINERS.values(), ids=CONTAINERS.keys())
@pytest.mark.parametrize("convert", [lambda s: s, to_ase], ids=["Structure", "ASE Atoms"])
def test_every_container_gives_the_same_graphs(
    real_structures, assert_same_graph, contain, convert
):
    items = [convert(s) for s in real_structures]
    found = graphs_of(contain(items))
    for left, right in zip(graphs_of(items), found, strict=True):
        assert_same_graph(left, right)


@pytest.mark.parametrize("convert", [lambda s: s, to_ase], ids=["Structure", "ASE Atoms"])
@pytest.mark.parametrize(
    "structures",
    [[salt(), salt(4.2), salt(3.9)], [single(), single("Fe")], [salt()], [single()]],
    ids=["two sites", "one site", "one crystal", "one crystal of one site"],
)
def test_arrays_of_sites(assert_same_graph, structures, convert):
    items = [convert(s) for s in structures]
    array = np.asarray(items)
    assert array.shape == (len(items), len(structures[0]))  # the trap this is about
    for left, right in zip(graphs_of(structures), graphs_of(array), strict=True):
        assert_same_graph(left, right)


def test_arrays_of_paths(tmp_path):
    salt().to(str(tmp_path / "a.cif"))
    paths = np.array([str(tmp_path / "a.cif")] * 2)
    assert [len(g.crystal) for g in graphs_of(paths)] == [2, 2]
    assert len(graphs_of(pd.Series(paths))) == 2


# ---- what is dropped and what is equal ------------------------------------------------------


def numbers_of(structure):
    return read_crystals([structure])[0].numbers.tolist()


def test_oxidation_states_are_dropped():
    charged = salt()
    charged.add_oxidation_state_by_element({"Cs": 1, "Cl": -1})
    assert numbers_of(charged) == [55, 17]


def test_one_element_in_two_oxidation_states_is_no_disorder():
    magnetite = Structure(CUBE, [{"Fe2+": 0.5, "Fe3+": 0.5}, "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    assert numbers_of(magnetite) == [26, 8]


def test_deuterium_and_tritium_are_hydrogen():
    coords = [[0, 0, 0], [0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5]]
    assert numbers_of(Structure(CUBE, ["D", "T", "H", "D+"], coords)) == [1, 1, 1, 1]
    assert numbers_of(Structure(CUBE, [{"D": 0.4, "H": 0.6}], coords[:1])) == [1]


def test_full_occupancy_given_as_species():
    structure = Structure(CUBE, [{"Na+": 1.0}, {"Cl": 0.9999}], [[0, 0, 0], [0.5, 0.5, 0.5]])
    assert numbers_of(structure) == [11, 17]


def test_charged_structures():
    structure = Structure(CUBE, ["Na"], [[0, 0, 0]], charge=1)
    assert numbers_of(structure) == [11]


def test_a_structure_with_partial_periodicity_counts_as_its_cell(assert_same_graph):
    slab = Structure(Lattice(CUBE.matrix, pbc=(True, True, False)), ["C"], [[0, 0, 0]])
    bulk = Structure(CUBE, ["C"], [[0, 0, 0]])
    assert_same_graph(*graphs_of([slab, bulk]))


def test_an_ase_slab_with_partial_periodicity(assert_same_graph):
    ase = pytest.importorskip("ase")
    cell = np.diag([2.5, 2.5, 20.0])
    slab, bulk = (ase.Atoms("C", cell=cell, pbc=pbc) for pbc in ([1, 1, 0], True))
    assert_same_graph(*graphs_of([slab, bulk]))


def test_site_properties():
    structure = salt()
    structure.add_site_property("magmom", [1.5, None])
    atoms = to_ase(salt())
    atoms.set_array("magmom", np.array([2, 3]))
    builder = GraphBuilder(8.0, 12, site_properties=("magmom", "charge"), use_cache=False)
    crystal = Crystal(
        np.array([55, 17]),
        structure.frac_coords,
        structure.lattice.matrix,
        {"charge": np.array([1.0, -1.0]), "not wanted": np.zeros(2)},
    )
    graphs = graphs_of([structure, atoms, salt(), crystal], builder)
    found = [graph.crystal.site_properties for graph in graphs]
    assert all(set(properties) == {"magmom", "charge"} for properties in found)
    nan = np.nan
    np.testing.assert_array_equal(
        [p["magmom"] for p in found], [[1.5, nan], [2, 3], *[[nan] * 2] * 2]
    )
    np.testing.assert_array_equal([p["charge"] for p in found], [*[[nan] * 2] * 3, [1, -1]])


@pytest.mark.parametrize("values", [[[0, 0, 1], [0, 1, 0]], ["up", "down"]], ids=["vectors", "str"])
def test_site_properties_that_are_no_numbers(values):
    structure = salt()
    structure.add_site_property("spin", values)
    atoms = to_ase(salt())
    atoms.set_array("spin", np.array(values))
    builder = GraphBuilder(8.0, 12, site_properties=("spin",))
    with pytest.raises(InvalidStructureError, match="'spin' is not one number per site") as caught:
        graphs_of([structure, salt(), atoms], builder)
    assert set(caught.value.reasons) == {0, 2}


# ---- the input stays as it is ---------------------------------------------------------------


def test_the_input_is_never_modified(real_structures):
    structures = copy.deepcopy(real_structures)
    for structure in structures:
        structure.translate_sites(range(len(structure)), [0.3, 1.2, -2], to_unit_cell=False)
        structure.add_oxidation_state_by_site([1] * len(structure))
    dicts = [structure.as_dict() for structure in structures]
    crystals = list(read_crystals(structures))
    atoms = [to_ase(structure) for structure in structures]
    before = copy.deepcopy((structures, dicts, atoms, crystals))
    array = np.asarray(structures[:1])
    for X in (structures, dicts, crystals, atoms, array):
        GraphBuilder(8.0, 12).dataset(X)
    for now, then in zip(structures, before[0], strict=True):
        assert now == then
        np.testing.assert_array_equal(now.frac_coords, then.frac_coords)
    assert dicts == before[1]
    assert atoms == before[2]
    for now, then in zip(crystals, before[3], strict=True):
        np.testing.assert_array_equal(now.frac_coords, then.frac_coords)
        assert now.frac_coords.flags.writeable


def test_tables_of_polars(assert_same_graph):
    items = [salt(), single()]
    for left, right in zip(
        graphs_of(items), graphs_of(polars_frame({"structure": items})), strict=True
    ):
        assert_same_graph(left, right)
    several = polars_frame({"structure": items, "y": [1.0, 2.0]})
    with pytest.raises(InvalidInputError, match=r"of 2 columns .*give X\['structure'\] alone"):
        graphs_of(several)
    assert crystals_of_table(several) == items


def test_the_one_column_of_crystals(tmp_path):
    salt().to(str(tmp_path / "salt.cif"))
    path = str(tmp_path / "salt.cif")
    columns = {"formula": ["CsCl"], "y": [1.0], "none": [None], "lists": [[1, 2]]}
    (graph,) = graphs_of([salt()])
    for item in (salt(), path, tmp_path / "salt.cif", salt().as_dict(), graph):
        table = pd.DataFrame({**columns, "crystal": [item]}, index=[0.5])
        found = crystals_of_table(table)
        assert len(found) == 1
        assert found[0] is item or found[0] == item
    table["another"] = [salt()]
    with pytest.raises(InvalidInputError, match=r"in several of its columns \['crystal', 'an"):
        crystals_of_table(table)
    # Neither the first row nor the names need to tell.
    table = pd.DataFrame([[None, 1.0], [salt(), 2.0]], columns=["a", "a"])
    assert crystals_of_table(table)[1] == salt()
    table = pd.DataFrame([[salt(), 1.0, salt()]], columns=["s", "y", "s"])
    with pytest.raises(InvalidInputError, match=r"in several of its columns \['s', 's'\]"):
        crystals_of_table(table)
    with pytest.raises(InvalidInputError, match=r"in none of its columns \['formula'"):
        crystals_of_table(pd.DataFrame(columns))
