import gzip
import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
from pymatgen.core import Structure

from dssl_sklearn.datasets import fetch_matbench, get_data_home, matbench
from dssl_sklearn.exceptions import DatasetError, InvalidInputError

TASK = "matbench_jdft2d"


def _write(path, n_rows=20, columns=("structure", "exfoliation_en")):
    structure = Structure(np.eye(3) * 4, ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]).as_dict()
    data = [[structure, 1.5 * row] for row in range(n_rows)]
    record = {"index": list(range(n_rows)), "columns": list(columns), "data": data}
    with gzip.open(path, "wt") as file:
        json.dump(record, file)
    return path


@pytest.fixture
def small_task(monkeypatch):
    """Make jdft2d a task of 20 rows."""
    small = replace(matbench.TASKS[TASK], n_rows=20)
    monkeypatch.setitem(matbench.TASKS, TASK, small)
    return small


@pytest.fixture
def server(small_task, tmp_path, monkeypatch):
    """Serve a small file for download from a folder, with its checksum registered."""
    folder = tmp_path / "server"
    folder.mkdir()
    path = _write(folder / f"{TASK}.json.gz")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setitem(matbench.TASKS, TASK, replace(small_task, sha256=digest))
    monkeypatch.setattr(matbench, "BASE_URL", folder.as_uri())
    return path


@pytest.mark.usefixtures("small_task")
def test_reads_a_local_file(tmp_path):
    path = _write(tmp_path / f"{TASK}.json.gz")
    bunch = fetch_matbench("jdft2d", tmp_path)
    assert len(bunch.data) == 20
    assert bunch.data[3].composition.reduced_formula == bunch.formulas[3] == "NaCl"
    np.testing.assert_array_equal(bunch.target, 1.5 * np.arange(20))
    assert bunch.target_names == ["exfoliation_en"]
    assert bunch.unit == bunch.units["exfoliation_en"] == "meV/atom"
    assert bunch.ids[0] == "mb-jdft2d-01"
    assert bunch.filename == str(path)
    assert "Dunn" in bunch.DESCR
    assert "10.1038/s41524-020-00406-3" in bunch.DESCR


@pytest.mark.usefixtures("small_task")
def test_long_and_short_name_and_forms(tmp_path):
    _write(tmp_path / f"{TASK}.json.gz")
    X, y = fetch_matbench(TASK, tmp_path, return_X_y=True)
    assert (len(X), y.shape) == (20, (20,))
    frame = fetch_matbench("jdft2d", tmp_path, as_frame=True).frame
    assert list(frame.columns) == ["structure", "exfoliation_en"]


@pytest.mark.usefixtures("small_task")
def test_folds_part_the_rows(tmp_path):
    _write(tmp_path / f"{TASK}.json.gz")
    folds = fetch_matbench(TASK, tmp_path).folds
    assert len(folds) == 5
    assert sorted(np.concatenate([test for _, test in folds]).tolist()) == list(range(20))
    for train, test in folds:
        assert not set(train) & set(test)
        assert len(train) + len(test) == 20


def test_folds_of_classes_keep_their_shares():
    target = np.arange(100) % 4 == 0
    for _, test in matbench.official_folds(target, stratify=True):
        assert target[test].sum() == 5


@pytest.mark.parametrize(
    "name, first", [(TASK, 63.593833333333016), ("phonons", 98.58577122703691)]
)
def test_official_folds_of_the_public_files(name, first, shared_file):
    bunch = fetch_matbench(name, shared_file("matbench_folds.json").parent)
    short = name.removeprefix("matbench_")
    official = json.loads(shared_file("matbench_folds.json").read_text())[f"matbench_{short}"]
    assert [test.tolist() for _, test in bunch.folds] == official
    assert bunch.target[0] == first
    assert len(bunch.data) == len(bunch.target) == matbench.TASKS[f"matbench_{short}"].n_rows


def test_data_home(monkeypatch, tmp_path):
    monkeypatch.delenv("DSSL_SKLEARN_DATA", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert get_data_home() == tmp_path / "dssl_sklearn_data"
    monkeypatch.setenv("DSSL_SKLEARN_DATA", "~/elsewhere")
    assert get_data_home() == tmp_path / "elsewhere"
    assert get_data_home(tmp_path / "here") == tmp_path / "here"
    assert not (tmp_path / "elsewhere").exists()


def test_downloads_once(server, tmp_path, monkeypatch):
    monkeypatch.setenv("DSSL_SKLEARN_DATA", str(tmp_path / "home"))
    assert len(fetch_matbench("jdft2d").data) == 20
    server.unlink()
    assert len(fetch_matbench("jdft2d").data) == 20
    assert [p.name for p in (tmp_path / "home").iterdir()] == [f"{TASK}.json.gz"]


def test_download_with_another_checksum(server, tmp_path):
    _write(server, n_rows=19)
    with pytest.raises(DatasetError, match="sha256 is"):
        fetch_matbench("jdft2d", tmp_path / "home")
    assert list((tmp_path / "home").iterdir()) == []


def test_failing_download(server, tmp_path):
    server.unlink()
    with pytest.raises(DatasetError, match=r"cannot download .*data_home") as caught:
        fetch_matbench("jdft2d", tmp_path / "home")
    assert str(tmp_path / "home") in str(caught.value)
    assert list((tmp_path / "home").iterdir()) == []


def test_download_not_wanted(tmp_path):
    with pytest.raises(DatasetError, match=r"does not exist.*download_if_missing"):
        fetch_matbench("phonons", tmp_path, download_if_missing=False)


@pytest.mark.parametrize(
    "name, message",
    [
        ("jdft2", "did you mean 'jdft2d'"),
        ("matbench_steels", "without structures"),
        ("matbench_phonon", "did you mean 'phonons'"),
    ],
)
def test_unknown_name(name, message):
    with pytest.raises(InvalidInputError, match=message):
        fetch_matbench(name)


@pytest.mark.usefixtures("small_task")
def test_rows_missing(tmp_path):
    _write(tmp_path / f"{TASK}.json.gz", n_rows=19)
    with pytest.raises(DatasetError, match="has 19 rows, expected 20"):
        fetch_matbench(TASK, tmp_path)


@pytest.mark.usefixtures("small_task")
def test_other_columns(tmp_path):
    _write(tmp_path / f"{TASK}.json.gz", columns=("structure", "e_form"))
    with pytest.raises(DatasetError, match=r"e_form.*expected"):
        fetch_matbench(TASK, tmp_path)


@pytest.mark.usefixtures("small_task")
def test_damaged_file(tmp_path, damaged_copies):
    path = _write(tmp_path / f"{TASK}.json.gz")
    refusals = []
    for copy in damaged_copies(path.read_bytes()):
        path.write_bytes(copy)
        try:
            assert len(fetch_matbench(TASK, tmp_path).data) == 20  # a time stamp does no harm
        except DatasetError as error:
            refusals.append(str(error))
    assert len(refusals) > 35
    assert all(str(path) in refusal and "Delete it" in refusal for refusal in refusals)


@pytest.mark.usefixtures("small_task")
@pytest.mark.parametrize("content", ["[]", '{"columns": 3}', '{"data": [[1]]}', "not json"])
def test_json_of_another_form(tmp_path, content):
    path = tmp_path / f"{TASK}.json.gz"
    path.write_bytes(gzip.compress(content.encode()))
    with pytest.raises(DatasetError, match="Delete it"):
        fetch_matbench(TASK, tmp_path)
