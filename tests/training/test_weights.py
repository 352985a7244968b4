import json
import math
import struct
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from torch import nn

from dssl_sklearn.exceptions import DSSLError, WeightsError
from dssl_sklearn.training.weights import FORMAT_VERSION, load_state, read_weights, write_weights

TENSORS = {
    "encoder.weight": torch.linspace(-1, 1, 12).reshape(3, 4),
    "encoder.count": torch.arange(5),
    "scalar": torch.tensor(2.5, dtype=torch.float64),
    "empty": torch.zeros(0, 3),
    "half": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
    "flags": torch.tensor([True, False]),
}
CONFIG = {"name": "elastic", "lr": 1e-3, "sizes": [1, 2], "nested": {"on": True, "none": None}}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights.safetensors"


@pytest.fixture
def content(path):
    write_weights(path, TENSORS, CONFIG)
    return path.read_bytes()


def assert_equal(found, expected=TENSORS):
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


def read_back(path, tensors=TENSORS, config=CONFIG):
    write_weights(path, tensors, config)
    return read_weights(path)


# ---- round trip -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [str, Path])
def test_round_trip(path, kind):
    tensors, config = read_back(kind(path))
    assert_equal(tensors)
    assert config == {**CONFIG, "format_version": FORMAT_VERSION}


def test_nothing_but_the_file_is_written(path):
    write_weights(path, TENSORS, CONFIG)
    assert list(path.parent.iterdir()) == [path]


def test_the_file_has_the_usual_permissions(path):
    write_weights(path, TENSORS, CONFIG)
    other = path.with_suffix(".txt")
    other.write_text("")
    assert path.stat().st_mode == other.stat().st_mode


def test_numbers_that_json_does_not_know_become_null(path):
    config = {"a": math.nan, "b": [math.inf, 1.0], "c": {"d": (-math.inf, 2)}}
    _, found = read_back(path, config=config)
    assert found == {
        "a": None,
        "b": [None, 1.0],
        "c": {"d": [None, 2]},
        "format_version": FORMAT_VERSION,
    }


def test_tensors_of_any_memory_layout(path):
    shared = torch.arange(12.0).reshape(3, 4)
    tensors = {
        "one": shared,
        "tied": shared,
        "part": shared[1:],
        "transposed": shared.T,
        "learned": nn.Parameter(torch.ones(2)),
    }
    assert_equal(read_back(path, tensors)[0], tensors)


def test_a_file_is_replaced(path):
    read_back(path, {"old": torch.zeros(1000)})
    assert_equal(read_back(path)[0])


@pytest.mark.parametrize("value", [object(), torch.ones(2), {1, 2}])
def test_a_description_that_is_no_json(path, value):
    with pytest.raises(WeightsError, match="cannot describe the weights as JSON"):
        write_weights(path, TENSORS, {"value": value})
    assert not path.exists()


# ---- writing that fails ---------------------------------------------------------------------


@pytest.mark.parametrize("step", ["os.fsync", "pathlib.Path.replace", "pathlib.Path.chmod"])
@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_failing_write_leaves_the_old_file(path, content, monkeypatch, step, error):
    def fail(*_):
        raise error("disk full")

    monkeypatch.setattr(step, fail)
    with pytest.raises(WeightsError if error is OSError else error, match="disk full"):
        write_weights(path, {"new": torch.zeros(3)}, {})
    monkeypatch.undo()
    assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(WeightsError, match=r"cannot write .*nowhere"):
        write_weights(tmp_path / "nowhere" / "w.safetensors", TENSORS, CONFIG)


def test_the_missing_folder_is_named(tmp_path):
    with pytest.raises(WeightsError, match=r"there is no folder '.*nowhere'$"):
        write_weights(tmp_path / "nowhere" / "w.safetensors", TENSORS, CONFIG)


def test_a_folder_in_place_of_the_file(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(WeightsError, match="cannot write"):
        write_weights(tmp_path / "folder", TENSORS, CONFIG)
    assert list(tmp_path.iterdir()) == [tmp_path / "folder"]


# ---- files that cannot be read --------------------------------------------------------------


def test_missing_files(tmp_path):
    for path in (tmp_path / "nowhere.safetensors", tmp_path):
        with pytest.raises(WeightsError, match="no such file of weights") as caught:
            read_weights(path)
        assert isinstance(caught.value, DSSLError)


@pytest.mark.parametrize("share", [0, 0.001, 0.1, 0.5, 0.9, 0.999])
def test_truncated_files(path, content, share):
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(WeightsError, match="damaged or no safetensors"):
        read_weights(path)


@pytest.mark.parametrize(
    "foreign", [b"", b"PK\x03\x04 a pickle of torch", b"\x00" * 500, b"\xff" * 500, b"{}" * 99]
)
def test_foreign_files(path, foreign):
    path.write_bytes(foreign)
    with pytest.raises(WeightsError, match="damaged or no safetensors"):
        read_weights(path)


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        {"format": "pt"},
        {"dssl_sklearn": "{"},
        {"dssl_sklearn": "[" * 100_000},
        {"dssl_sklearn": "null"},
        {"dssl_sklearn": "[1]"},
        {"dssl_sklearn": '"text"'},
        {"dssl_sklearn": "{}"},
    ],
)
def test_safetensors_of_other_programs(path, metadata):
    path.write_bytes(save({"a": torch.ones(2)}, metadata))
    with pytest.raises(WeightsError, match="not written by dssl_sklearn"):
        read_weights(path)


@pytest.mark.parametrize("version", ["null", '"1"', "1e999", "1.5", "-3", "[]", "1" * 4000])
def test_odd_versions(path, version):
    text = f'{{"format_version": {version}}}'
    path.write_bytes(save({"a": torch.ones(2)}, {"dssl_sklearn": text}))
    with pytest.raises(WeightsError):
        read_weights(path)


def test_a_newer_version_asks_for_an_update(path):
    text = json.dumps({"format_version": FORMAT_VERSION + 1})
    path.write_bytes(save({"a": torch.ones(2)}, {"dssl_sklearn": text}))
    with pytest.raises(WeightsError, match=rf"version {FORMAT_VERSION + 1}.*update the package"):
        read_weights(path)


@pytest.mark.parametrize("place", ["weight", "description"])
def test_a_flipped_bit_is_noticed(path, content, place):
    damaged = bytearray(content)
    header = 8 + struct.unpack("<Q", content[:8])[0]
    position = header + 3 if place == "weight" else content.index(b"elastic")
    damaged[position] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(WeightsError, match="does not fit its checksum"):
        read_weights(path)


@given(data=st.data())
@settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_damaged_bytes_never_give_other_weights(path, content, data):
    damaged = bytearray(content)
    changes = st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255))
    for position, value in data.draw(st.lists(changes, min_size=1, max_size=6)):
        damaged[position] = value
    cut = data.draw(st.none() | st.integers(0, len(damaged)))
    path.write_bytes(damaged[:cut])
    try:
        tensors, config = read_weights(path)
    except WeightsError:
        return
    assert_equal(tensors)
    assert config == {**CONFIG, "format_version": FORMAT_VERSION}


# ---- into a module --------------------------------------------------------------------------


def test_load_state_takes_what_is_under_the_prefix(path):
    module = nn.Linear(4, 3)
    tensors = {f"head.{k}": v for k, v in module.state_dict().items()} | {"other": torch.ones(1)}
    copy = nn.Linear(4, 3)
    load_state(copy, read_back(path, tensors)[0], "head.", "the file")
    assert torch.equal(copy.weight, module.weight)
    assert torch.equal(copy.bias, module.bias)


@pytest.mark.parametrize("module", [nn.Linear(4, 2), nn.Linear(4, 3, bias=False), nn.LayerNorm(4)])
def test_load_state_refuses_what_does_not_fit(module):
    tensors = {f"head.{k}": v for k, v in nn.Linear(4, 3).state_dict().items()}
    with pytest.raises(WeightsError, match="'the file' do not fit"):
        load_state(module, tensors, "head.", "the file")
