"""Files of weights from elsewhere: of earlier versions, damaged, hostile."""

import importlib.util
import json
import random
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save

import dssl_sklearn
from dssl_sklearn import DSSLPretrainer, DSSLRegressor
from dssl_sklearn.exceptions import WeightsError
from dssl_sklearn.training.weights import FORMAT_VERSION, MAX_BYTES, read_weights, write_weights

HERE = Path(__file__).parent
STORED = {
    version: json.loads((HERE / "files" / f"version_{version}.json").read_text())
    for version in range(1, FORMAT_VERSION + 1)
}
SCRIPT = HERE.parents[1] / "benchmarks" / "robustness" / "fuzz_files.py"


def stored(name, version=1):
    return HERE / "files" / f"version_{version}_{name}.safetensors"


@pytest.mark.parametrize(
    "version, name", [(version, name) for version, files in STORED.items() for name in files]
)
def test_files_of_every_version_give_what_they_gave(version, name, load_first):
    cls = getattr(dssl_sklearn, name.split("_")[-1])
    estimator = cls.load(stored(name, version))
    use = next(u for u in ("predict_proba", "transform", "predict") if hasattr(estimator, u))
    found = getattr(estimator, use)(load_first)
    np.testing.assert_allclose(found, STORED[version][name], rtol=2e-4, atol=2e-5)


@pytest.fixture(scope="module")
def load_first():
    from dssl_sklearn.datasets import load_elasticity

    return load_elasticity().data[:4]


# ---- a small budget of the fuzzer -----------------------------------------------------------


@pytest.fixture(scope="module")
def fuzzer():
    spec = importlib.util.spec_from_file_location("fuzz_files", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["DSSLRegressor", "DSSLClassifier", "DSSLPretrainer"])
@pytest.mark.parametrize("kind", ["bytes", "header", "content"])
def test_no_changed_file_does_harm(fuzzer, name, kind, tmp_path):
    draw = random.Random(f"{name}{kind}")  # noqa: S311 - inputs of a fuzzer
    original = stored(name).read_bytes()
    path = tmp_path / "input.safetensors"
    outcomes = set()
    for _ in range(25 if kind == "content" else 150):
        if kind == "content":
            path.write_bytes(fuzzer.changed_content(original, draw, tmp_path))
        else:
            path.write_bytes(getattr(fuzzer, f"changed_{kind}")(original, draw))
        outcomes.add(fuzzer.try_one(getattr(dssl_sklearn, name), path))
    assert "refused" in outcomes


# ---- hostile ones by hand -------------------------------------------------------------------


@pytest.fixture
def change(tmp_path):
    """Write a stored file anew with other content and a right checksum."""

    def write(name, edit):
        tensors, config = read_weights(stored(name))
        tensors = {key: tensor.clone() for key, tensor in tensors.items()}
        edit(tensors, config)
        write_weights(tmp_path / "changed", tensors, config)
        return tmp_path / "changed"

    return write


@pytest.mark.parametrize("name", ["callbacks", "pretrained", "net_params", "checkpoint_dir"])
def test_a_file_decides_neither_where_to_write_nor_what_to_run(name, change):
    def edit(_, config):
        config["params"][name] = "/etc/passwd"

    assert getattr(DSSLRegressor.load(change("DSSLRegressor", edit)), name) is None


@pytest.mark.parametrize("key, size", [("width", 10**9), ("n_layers", 10**9), ("width", 3000)])
@pytest.mark.parametrize("cls", [DSSLRegressor, DSSLPretrainer])
def test_a_description_cannot_ask_for_memory(key, size, cls, change, monkeypatch):
    def edit(_, config):
        config["architecture"]["backbone_params"][key] = size

    path = change(cls.__name__, edit)
    # No network may be given memory.
    for module in ("pretrainer", "property"):
        monkeypatch.setattr(f"dssl_sklearn.estimators.{module}.seeded", None)
    with pytest.raises(WeightsError, match="description that does not fit"):
        cls.load(path)


def test_weights_that_are_not_finite(change):
    def edit(tensors, _):
        name = next(n for n in tensors if n.startswith("model.encoder"))
        tensors[name].view(-1)[0] = torch.nan

    with pytest.raises(WeightsError, match="not all finite"):
        DSSLRegressor.load(change("DSSLRegressor", edit))


@pytest.mark.parametrize("value", [[None], [[1.0]], ["x", "y"], [], {"a": 1}])
def test_targets_that_do_not_fit(value, change):
    def edit(_, config):
        config["targets"]["y_mean_"] = value

    with pytest.raises(WeightsError, match="y_mean_"):
        DSSLRegressor.load(change("DSSLRegressor", edit))


def test_an_oversized_file_is_not_read(tmp_path):
    path = tmp_path / "huge.safetensors"
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)  # takes no room on the disk
    with pytest.raises(WeightsError, match="expected at most"):
        read_weights(path)


@pytest.mark.parametrize("size", [2**20, 2**40, 2**63, 2**64 - 1])
def test_a_header_that_claims_to_be_larger_than_the_file(size, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(struct.pack("<Q", size) + b"{}" * 50)
    with pytest.raises(WeightsError, match=f"a header of {size} bytes"):
        read_weights(path)


def test_a_name_that_comes_twice(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(save({"a": torch.ones(2)}, {"dssl_sklearn": '{"seed": 1, "seed": 2}'}))
    with pytest.raises(WeightsError, match="not written by"):
        read_weights(path)
    content = save({"a": torch.ones(2)})
    header = content[8:].split(b"}}")[0] + b"}}"
    twice = header[:-1] + b"," + header[1:]
    path.write_bytes(struct.pack("<Q", len(twice)) + twice + bytes(8))
    with pytest.raises(WeightsError, match="'a' comes twice"):
        read_weights(path)


@pytest.mark.parametrize(
    "name", ["../../../etc/passwd", "/etc/passwd", "..\\x", "\x00", "a" * 10**5]
)
def test_names_are_never_paths(name, tmp_path, change):
    def edit(tensors, _):
        tensors[name] = torch.ones(1)
        tensors["model." + name] = torch.ones(1)

    with pytest.raises(WeightsError, match="does not fit"):
        DSSLRegressor.load(change("DSSLRegressor", edit))
    assert [path.name for path in tmp_path.iterdir()] == ["changed"]


def test_nothing_in_the_package_unpickles_files():
    package = Path(dssl_sklearn.__file__).parent
    for path in package.rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        for call in ("pickle.load", "torch.load", "joblib.load", "allow_pickle=True", "np.load("):
            if call == "np.load(" and "allow_pickle=False" in source:
                continue
            assert call not in source, f"{path} calls {call}"
