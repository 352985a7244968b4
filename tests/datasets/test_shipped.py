import gzip
import json
import math
import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pymatgen.core import Structure

from dssl_sklearn import datasets
from dssl_sklearn.datasets import (
    _shipped,
    load_dielectric,
    load_elasticity,
    load_formation_energy,
    load_piezoelectricity,
)
from dssl_sklearn.datasets._shipped import DATA_FOLDER
from dssl_sklearn.exceptions import DatasetError, InvalidInputError

SETS = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "pack_datasets.py"))["SETS"]
LOADERS = [load_elasticity, load_dielectric, load_piezoelectricity, load_formation_energy]
each_loader = pytest.mark.parametrize("load", LOADERS)


@pytest.mark.parametrize(
    "load, n, default",
    [
        (load_elasticity, 1181, "log10_K_VRH"),
        (load_dielectric, 1056, "n"),
        (load_piezoelectricity, 941, "eij_max"),
        (load_formation_energy, 3938, "formation_energy"),
    ],
)
def test_default_bunch(load, n, default):
    bunch = load()
    assert len(bunch.data) == n
    assert all(isinstance(structure, Structure) for structure in bunch.data)
    assert bunch.target.shape == (n,)
    assert bunch.target.dtype == np.float64
    assert np.isfinite(bunch.target).all()
    assert bunch.target_names == [default]
    assert len(set(bunch.ids)) == n
    assert [s.composition.reduced_formula for s in bunch.data[:50]] == bunch.formulas[:50]
    assert str(n) in bunch.DESCR
    assert "doi:" in bunch.DESCR
    assert "License" in bunch.DESCR
    for name, unit in bunch.units.items():
        assert f"{name} [{unit}]" in bunch.DESCR


@pytest.mark.parametrize("file_name", SETS)
def test_same_as_the_source(file_name, shared_file):
    packed, keys = SETS[file_name]
    load = getattr(datasets, f"load_{packed}")
    with gzip.open(shared_file(file_name)) as file:
        records = json.load(file)
    arrays = load()
    bunch = load(target=[name for name in keys if name not in arrays])
    columns = dict(zip(bunch.target_names, bunch.target.T, strict=True))
    for name, key in keys.items():
        stored = columns[name] if name in columns else bunch[name]
        np.testing.assert_array_equal(stored, [record[key] for record in records])
    assert bunch.ids == [record["id"] for record in records]
    assert bunch.formulas == [record["formula"] for record in records]
    for structure, record in zip(bunch.data, records, strict=True):
        sites = record["structure"]["sites"]
        assert [site.species_string for site in structure] == [
            site["species"][0]["element"] for site in sites
        ]
        np.testing.assert_array_equal(structure.frac_coords, [site["abc"] for site in sites])
        np.testing.assert_array_equal(
            structure.lattice.matrix, record["structure"]["lattice"]["matrix"]
        )


def test_known_rows():
    elasticity = load_elasticity(target=["K_VRH", "G_VRH", "log10_K_VRH"])
    row = elasticity.ids.index("mp-10003")
    assert elasticity.formulas[row] == "Nb4CoSi"
    assert elasticity.target[row].tolist() == [
        194.268884359,
        97.1416044794,
        np.log10(194.268884359),
    ]
    assert elasticity.data[row].volume == pytest.approx(6.22178**2 * 5.0224)
    assert elasticity.space_group[row] == 124
    dielectric = load_dielectric(target=["n", "band_gap"])
    assert dielectric.target[dielectric.ids.index("mp-441")].tolist() == [1.86, 1.88]
    piezo = load_piezoelectricity()
    assert piezo.target[piezo.ids.index("mp-22925")] == 0.091464
    energies = load_formation_energy(target=None)
    assert energies.target[energies.ids.index("mp-10")].tolist() == [0.1074050600000005] * 2


def test_quantities_are_what_they_are_called():
    elasticity = load_elasticity(target="K_Voigt")
    c = elasticity.elastic_tensor
    trace = c[:, [0, 1, 2], [0, 1, 2]].sum(1) + 2 * (c[:, 0, 1] + c[:, 0, 2] + c[:, 1, 2])
    np.testing.assert_allclose(trace / 9, elasticity.target, rtol=1e-4)
    dielectric = load_dielectric(target=["n", "poly_electronic"])
    n, poly = dielectric.target.T
    np.testing.assert_allclose(n**2, poly, atol=0.2)
    np.testing.assert_allclose(
        np.trace(dielectric.e_electronic, axis1=1, axis2=2) / 3, poly, atol=0.02
    )


def test_log10_of_a_modulus_that_is_not_positive_is_nan(monkeypatch):
    stored = _shipped.read_npz(DATA_FOLDER / "elasticity.npz", [], "")
    stored["K_VRH"][[3, 5]] = [0.0, -1.0]
    monkeypatch.setattr(_shipped, "read_npz", lambda *_: stored)
    target = load_elasticity().target
    assert np.flatnonzero(np.isnan(target)).tolist() == [3, 5]


@each_loader
def test_forms_of_target(load):
    bunch = load()
    (name,) = bunch.target_names
    X, y = load(return_X_y=True)
    assert len(X) == len(y)
    np.testing.assert_array_equal(y, bunch.target)
    assert load(target=[name]).target.shape == (len(y), 1)
    everything = load(target=None)
    assert everything.target.shape == (len(y), len(everything.target_names))
    assert everything.target_names == load(target="all").target_names
    assert name in everything.target_names
    assert set(everything.target_names) <= set(bunch.units)


@each_loader
def test_frames(load):
    bunch = load(as_frame=True)
    (name,) = bunch.target_names
    assert list(bunch.frame.columns) == ["structure", name]
    assert bunch.frame.index.tolist() == bunch.ids
    assert bunch.data.shape == (len(bunch.ids), 1)
    assert isinstance(bunch.data["structure"].iloc[0], Structure)
    assert isinstance(bunch.target, pd.Series)
    X, y = load(target="all", return_X_y=True, as_frame=True)
    assert X.index.equals(y.index)
    assert list(y.columns) == load(target="all").target_names
    assert load().frame is None


def test_frame_of_crystals_with_equally_many_sites(monkeypatch):
    # numpy would make an array of sites of these.
    build = _shipped.build_structures

    def repeat_first(*arrays):
        return [build(*arrays)[0]] * (len(arrays[-1]) - 1)

    monkeypatch.setattr(_shipped, "build_structures", repeat_first)
    frame = load_piezoelectricity(as_frame=True).frame
    assert frame.shape == (941, 2)
    assert isinstance(frame["structure"].iloc[940], Structure)


def test_flag_as_target():
    flag = load_dielectric(target="pot_ferroelectric")
    assert flag.target.dtype == bool
    assert flag.target.sum() == 709
    assert "pot_ferroelectric" not in load_dielectric(target="all").target_names
    assert load_dielectric(target=["n", "pot_ferroelectric"]).target[:, 1].sum() == 709


@pytest.mark.parametrize(
    "target, message",
    [
        ("k_vrh", "'G_Reuss'.*got 'k_vrh'; did you mean 'K_VRH'"),
        (["K_VRH", "nonsense"], "'poisson_ratio'.*got 'nonsense'"),
        ([], "target is empty"),
    ],
)
def test_unknown_target(target, message):
    with pytest.raises(InvalidInputError, match=message):
        load_elasticity(target=target)


def test_each_call_gives_objects_of_its_own():
    first, second = load_piezoelectricity(), load_piezoelectricity()
    first.data[0].perturb(0.1)
    first.target[:] = 0
    assert second.data[0] == load_piezoelectricity().data[0] != first.data[0]
    assert not math.isclose(second.target[0], 0)


def test_size_of_the_shipped_files():
    assert sum(path.stat().st_size for path in DATA_FOLDER.iterdir()) < 2_000_000


def test_damaged_installation(tmp_path, monkeypatch, damaged_copies):
    content = (DATA_FOLDER / "piezoelectricity.npz").read_bytes()
    monkeypatch.setattr(_shipped, "DATA_FOLDER", tmp_path)
    path = tmp_path / "piezoelectricity.npz"
    with pytest.raises(DatasetError, match=r"piezoelectricity.npz does not exist.*install"):
        load_piezoelectricity()
    refusals = []
    for copy in damaged_copies(content):
        path.write_bytes(copy)
        try:
            assert len(load_piezoelectricity().data) == 941
        except DatasetError as error:
            refusals.append(str(error))
    assert len(refusals) > 35
    assert all(str(path) in refusal and "install" in refusal for refusal in refusals)


def test_missing_array(tmp_path, monkeypatch):
    monkeypatch.setattr(_shipped, "DATA_FOLDER", tmp_path)
    np.savez(tmp_path / "piezoelectricity.npz", ids=np.array(["a"]))
    with pytest.raises(DatasetError, match=r"lacks the arrays \['eij_max'.*it holds \['ids'\]"):
        load_piezoelectricity()


def test_never_unpickles(tmp_path, monkeypatch):
    stored = _shipped.read_npz(DATA_FOLDER / "piezoelectricity.npz", [], "")
    stored["eij_max"] = stored["eij_max"].astype(object)
    monkeypatch.setattr(_shipped, "DATA_FOLDER", tmp_path)
    np.savez(tmp_path / "piezoelectricity.npz", **stored)
    with pytest.raises(DatasetError, match="allow_pickle=False"):
        load_piezoelectricity()
