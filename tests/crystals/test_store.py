"""A graph store holds what a data set holds, and nothing but what was written to it."""

import copy
import hashlib
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone

from dssl_sklearn import DSSLPretrainer
from dssl_sklearn.crystals import store_build, store_shards
from dssl_sklearn.crystals.builder import GraphBuilder
from dssl_sklearn.crystals.dataset import GraphDataset
from dssl_sklearn.crystals.store import GraphStore
from dssl_sklearn.datasets import load_elasticity
from dssl_sklearn.exceptions import DatasetError, InvalidInputError, InvalidStructureError

BUILDER = GraphBuilder(8.0, 12)


@pytest.fixture(scope="module")
def dataset(real_structures):
    return BUILDER.dataset(real_structures)


@pytest.fixture(scope="module")
def built(tmp_path_factory, real_structures):
    path = tmp_path_factory.mktemp("store") / "real"
    GraphStore.build(path, real_structures)
    return path


@pytest.fixture
def folder(built, tmp_path):
    """A store to be harmed."""
    return Path(shutil.copytree(built, tmp_path / "copy"))


@pytest.fixture
def small_shards(monkeypatch):
    """Shards of three crystals, so that a dozen makes several."""
    monkeypatch.setattr(store_build, "CHUNK", 3)
    monkeypatch.setattr(store_shards, "CHUNK", 3)


def assert_same(left, right):
    for field in fields(GraphDataset):
        a, b = getattr(left, field.name), getattr(right, field.name)
        if isinstance(a, np.ndarray):
            np.testing.assert_array_equal(a, b, err_msg=field.name)
            assert a.dtype == b.dtype, field.name
        elif isinstance(a, dict):
            assert a.keys() == b.keys()
            for name in a:
                np.testing.assert_array_equal(a[name], b[name], err_msg=name)
        else:
            assert a == b, field.name


# ---- content --------------------------------------------------------------------------------


def test_a_store_holds_what_a_data_set_holds(built, dataset):
    store = GraphStore(built)
    assert_same(store, dataset)
    assert store.n_structures == len(dataset)
    assert store.positions.tolist() == list(range(len(dataset)))
    assert store.skipped == {}
    left, right = store.batch([3, 0]), dataset.batch([3, 0])
    assert (left.positions == right.positions).all()
    assert (left.edge_index == right.edge_index).all()


def test_arrays_are_mapped_not_read(built):
    store = GraphStore(built)
    assert isinstance(store.distance.base, np.memmap)
    assert not store.distance.flags.writeable


@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.usefixtures("small_shards")
def test_shards_are_joined(tmp_path, real_structures, dataset, n_jobs):
    assert_same(GraphStore.build(tmp_path / "s", real_structures, n_jobs=n_jobs), dataset)
    assert not (tmp_path / "s" / "shards").exists()


@pytest.mark.parametrize("kind", ["generator", "corpus", "graphs", "dataset"])
@pytest.mark.usefixtures("small_shards")
def test_kinds_of_input(tmp_path, real_structures, real_corpus, dataset, kind):
    X = {
        "generator": lambda: (structure for structure in real_structures),
        "corpus": lambda: real_corpus,
        "graphs": lambda: BUILDER.usable_graphs(real_structures, skip=False)[0],
        "dataset": lambda: dataset,
    }[kind]()
    store = GraphStore.build(tmp_path / "s", X)
    np.testing.assert_array_equal(store.numbers, dataset.numbers)
    np.testing.assert_array_equal(store.n_edges, dataset.n_edges)
    np.testing.assert_allclose(store.distance, dataset.distance, atol=1e-4)


@pytest.mark.usefixtures("small_shards")
def test_a_generator_is_not_drawn_ahead(tmp_path, real_structures, monkeypatch):
    drawn, ahead = [], []
    write = store_build.write_shard

    def watched(folder, number, *args):
        ahead.append(len(drawn) - 3 * number)
        return write(folder, number, *args)

    monkeypatch.setattr(store_build, "write_shard", watched)
    many = real_structures * 4
    GraphStore.build(tmp_path / "s", (drawn.append(0) or s for s in many))
    assert len(drawn) == len(many)
    assert max(ahead) <= 9


@pytest.mark.usefixtures("small_shards")
def test_properties(tmp_path, real_structures):
    structures = [structure.copy() for structure in real_structures]
    for structure in structures:
        structure.add_site_property("charge", np.arange(len(structure)).tolist())
    store = GraphStore.build(tmp_path / "a", structures, site_properties=["charge"])
    assert_same(store, GraphBuilder(8.0, 12, site_properties=("charge",)).dataset(structures))
    taught = store.with_properties(crystal={"../energy": np.ones((len(store), 2))})
    assert not isinstance(taught, GraphStore)
    again = GraphStore.build(tmp_path / "b", taught, site_properties=["charge"])
    assert_same(again, taught)


def test_take_is_in_memory(built, dataset):
    part = GraphStore(built).take([2, 0])
    assert type(part) is GraphDataset
    assert_same(part, dataset.take([2, 0]))


def test_copies_hold_the_path_only(built, dataset):
    store = GraphStore(built)
    data = pickle.dumps(store)
    assert len(data) < 3000
    for again in (pickle.loads(data), copy.deepcopy(store), clone(store, safe=False)):
        assert isinstance(again, GraphStore)
        assert_same(again, dataset)


def test_a_copy_of_a_store_that_was_replaced(folder, real_structures):
    data = pickle.dumps(GraphStore(folder))
    shutil.rmtree(folder)
    GraphStore.build(folder, real_structures[::-1])
    with pytest.raises(DatasetError, match="another one"):
        pickle.loads(data)


# ---- unusable crystals ----------------------------------------------------------------------


@pytest.mark.usefixtures("small_shards")
def test_skipping(tmp_path, real_structures):
    mixed = list(real_structures)
    for row in (1, 4, 5, 6):
        mixed.insert(row, "nowhere.cif")
    with pytest.raises(InvalidStructureError) as caught:
        GraphStore.build(tmp_path / "s", mixed)
    assert list(caught.value.reasons) == [1]
    with pytest.raises(DatasetError, match="unfinished; call GraphStore"):
        GraphStore(tmp_path / "s")
    store = GraphStore.build(tmp_path / "s", mixed, on_error="skip")
    assert_same(store, BUILDER.dataset(real_structures))
    assert list(store.skipped) == [1, 4, 5, 6]
    assert "nowhere.cif" in store.skipped[4]
    assert (len(store), store.n_structures) == (len(real_structures), len(mixed))
    usable = [row for row in range(len(mixed)) if row not in store.skipped]
    assert store.positions.tolist() == usable


@pytest.mark.usefixtures("small_shards")
def test_a_repaired_structure_is_read_again(tmp_path, real_structures):
    path = tmp_path / "late.cif"
    X = [real_structures[0], str(path), *real_structures[1:]]
    with pytest.raises(InvalidStructureError):
        GraphStore.build(tmp_path / "s", X)
    real_structures[1].to(filename=str(path))
    assert len(GraphStore.build(tmp_path / "s", X)) == len(X)


def test_nothing_usable(tmp_path):
    with pytest.raises(InvalidStructureError, match="2 unusable structure"):
        GraphStore.build(tmp_path / "s", ["a.cif", "b.cif"], on_error="skip")


# ---- going on -------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_shards")
def test_a_rerun_builds_only_what_is_missing(tmp_path, real_structures, dataset, monkeypatch):
    write = store_build.write_shard

    def failing(folder, number, *args):
        if number == 2:
            raise KeyboardInterrupt
        return write(folder, number, *args)

    monkeypatch.setattr(store_build, "write_shard", failing)
    with pytest.raises(KeyboardInterrupt):
        GraphStore.build(tmp_path / "s", real_structures)
    numbers = []

    def counted(folder, number, *args):
        numbers.append(number)
        return write(folder, number, *args)

    monkeypatch.setattr(store_build, "write_shard", counted)
    # What a dying process leaves of a file that was being written.
    (tmp_path / "s" / "shards" / ".00000002.abc.npz").write_bytes(b"half")
    (tmp_path / "s" / "shards" / "00000003.npz").write_bytes(b"PK")
    assert_same(GraphStore.build(tmp_path / "s", iter(real_structures)), dataset)
    assert numbers == list(range(2, -(-len(real_structures) // 3)))
    numbers.clear()
    assert_same(GraphStore.build(tmp_path / "s", real_structures), dataset)
    assert numbers == []


def test_other_crystals_or_settings_do_not_go_on(tmp_path, real_structures, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store_build, "join_shards", interrupted)
        with pytest.raises(KeyboardInterrupt):
            GraphStore.build(tmp_path / "s", real_structures)
    with pytest.raises(InvalidInputError, match="begun from other crystals"):
        GraphStore.build(tmp_path / "s", real_structures[1:])
    with pytest.raises(InvalidInputError, match=r"cutoff=8\.0, asked for was cutoff=7\.0"):
        GraphStore.build(tmp_path / "s", real_structures, cutoff=7.0)
    GraphStore.build(tmp_path / "s", real_structures)
    with pytest.raises(InvalidInputError, match="max_neighbors=12, asked for was max_neighbors=8"):
        GraphStore.build(tmp_path / "s", real_structures, max_neighbors=8)


def test_a_damaged_shard_is_built_anew(tmp_path, real_structures, dataset, monkeypatch):
    join = store_build.join_shards

    def after_damage(folder, shards, builder):
        path = Path(shards[0].path)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        return join(folder, shards, builder)

    with monkeypatch.context() as patch:
        patch.setattr(store_build, "join_shards", after_damage)
        with pytest.raises(DatasetError, match="was removed; call"):
            GraphStore.build(tmp_path / "s", real_structures)
    assert_same(GraphStore.build(tmp_path / "s", real_structures), dataset)


@pytest.mark.usefixtures("small_shards")
def test_a_killed_build_goes_on(tmp_path):
    code = f"""
from dssl_sklearn.crystals import store_build, store_shards
from dssl_sklearn.crystals.store import GraphStore
from dssl_sklearn.datasets import load_elasticity
store_build.CHUNK = store_shards.CHUNK = 3
write = store_build.write_shard
def slow(folder, number, *args):
    if number == 2:
        print("now", flush=True)
        time.sleep(60)
    return write(folder, number, *args)
store_build.write_shard = slow
GraphStore.build({str(tmp_path / "s")!r}, load_elasticity(return_X_y=True)[0][:12])
"""
    process = subprocess.Popen(  # noqa: S603 - our own code
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "now\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    structures = load_elasticity(return_X_y=True)[0][:12]
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "s" / "shards").glob("0*.npz")}
    assert sorted(before) == ["00000000.npz", "00000001.npz"]
    assert_same(GraphStore.build(tmp_path / "s", structures), BUILDER.dataset(structures))


# ---- what is refused ------------------------------------------------------------------------

FILES = [f"{name}.npy" for name in store_shards.LAYOUT]


def reseal(folder, **changes):
    """Change the header as someone would who knows how checksums are made."""
    path = folder / "header.json"
    header = json.loads(path.read_text())
    del header["checksum"]
    header |= changes
    for name in header["checksums"]:
        if (folder / name).is_file():
            header["checksums"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    text = json.dumps(header, sort_keys=True)
    header["checksum"] = hashlib.sha256(text.encode()).hexdigest()
    path.write_text(json.dumps(header))


def test_resealing_alone_is_fine(folder, dataset):
    reseal(folder)
    assert_same(GraphStore(folder), dataset)


@pytest.mark.parametrize("name", [*FILES, "header.json", "skipped.json"])
@pytest.mark.parametrize("harm", ["flip", "cut", "grow", "remove", "empty", "link", "folder"])
def test_harmed_files(folder, name, harm):
    path = folder / name
    data = bytearray(path.read_bytes())
    if harm == "flip":
        data[-1 if name != "header.json" else len(data) // 2] ^= 4
    elif harm == "cut":
        del data[-1:]
    elif harm == "grow":
        data += b"0"
    path.unlink()
    if harm in ("flip", "cut", "grow"):
        path.write_bytes(data)
    elif harm == "empty":
        path.touch()
    elif harm == "link":
        path.symlink_to("/dev/zero")
    elif harm == "folder":
        path.mkdir()
    with pytest.raises(DatasetError, match="copy"):
        GraphStore(folder)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"format_version": 2}, "format version 2"),
        ({"format": "another"}, "calls itself"),
        ({"n_crystals": 2**61}, "expected one of"),
        ({"n_sites": -1}, "out of range"),
        ({"cutoff": "far"}, "damaged"),
        ({"checksums": []}, "damaged"),
        ({"site": [["charge", [10**18, 10**18]]]}, "site_property_0"),
        ({"crystal": 3}, "damaged"),
    ],
)
def test_lying_headers(folder, changes, message):
    if "checksums" in changes:
        path = folder / "header.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    else:
        reseal(folder, **changes)
    with pytest.raises(DatasetError, match=message):
        GraphStore(folder, verify=False)


@pytest.mark.parametrize("text", ["", "[]", "3", "{", "[" * 100_000, "{}" + " " * 2**21])
def test_headers_that_are_none(folder, text):
    (folder / "header.json").write_text(text)
    with pytest.raises(DatasetError, match="no graph store, or damaged"):
        GraphStore(folder)


@pytest.mark.parametrize(
    "name, change",
    [
        ("numbers", lambda a: a.fill(0)),
        ("numbers", lambda a: a.fill(104)),
        ("source", lambda a: a.fill(-1)),
        ("target", lambda a: a.fill(100)),
        ("distance", lambda a: a.fill(np.nan)),
        ("lattice", lambda a: a.fill(np.inf)),
        ("frac_coords", lambda a: a.fill(np.nan)),
        ("site_ptr", lambda a: a.sort() or a.__setitem__(1, 10**9)),
        ("edge_ptr", lambda a: a.__setitem__(0, -5)),
    ],
)
def test_impossible_values(folder, name, change):
    path = folder / f"{name}.npy"
    array = np.load(path)
    change(array)
    np.save(path, array)
    reseal(folder)
    with pytest.raises(DatasetError, match=r"impossible values|does not divide"):
        GraphStore(folder)


def test_objects_are_never_unpickled(folder):
    np.save(folder / "numbers.npy", np.array([print], dtype=object), allow_pickle=True)
    reseal(folder)
    with pytest.raises(DatasetError, match=r"numbers\.npy"):
        GraphStore(folder)


def test_places_that_are_no_store(tmp_path):
    with pytest.raises(DatasetError, match="not a folder"):
        GraphStore(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match="no graph store"):
        GraphStore(tmp_path)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InvalidInputError, match="holds other files"):
        GraphStore.build(tmp_path, ["a.cif"])
    with pytest.raises(DatasetError, match="cannot write"):
        GraphStore.build(tmp_path / "notes.txt" / "s", ["a.cif"])


@pytest.mark.parametrize(
    "arguments", [{"cutoff": -1}, {"max_neighbors": 0}, {"on_error": "ignore"}, {"X": []}]
)
def test_bad_arguments(tmp_path, real_structures, arguments):
    with pytest.raises(InvalidInputError):
        GraphStore.build(tmp_path / "s", **{"X": real_structures, **arguments})


def test_other_settings_are_named(built):
    with pytest.raises(InvalidInputError, match=r"cutoff=8\.0 .* expected cutoff=6\.0"):
        DSSLPretrainer(cutoff=6.0, max_epochs=0).fit(GraphStore(built))
