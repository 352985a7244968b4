"""Checkpoints: what they hold, what they refuse, and disks that fail."""

import errno
import json
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from interruption import PowerCut

from dssl_sklearn import DSSLClassifier, DSSLPretrainer, DSSLRegressor
from dssl_sklearn.exceptions import DSSLError, InvalidInputError, WeightsError
from dssl_sklearn.training.weights import read_weights, write_weights


@pytest.fixture
def data(elastic):
    return elastic[0][:20], np.array(elastic[1][:20])


def learned(estimator):
    return [
        value.numpy().tobytes()  # NaN marks what is unknown, and is unequal to itself
        for part in (estimator.net_.module_, estimator.net_.criterion_)
        for value in part.state_dict().values()
    ]


def same(first, second):
    equal = learned(first) == learned(second)
    return equal and first.history_[:, "train_loss"] == second.history_[:, "train_loss"]


def interrupted(estimator, X, y, epochs):
    for epoch in epochs:
        estimator.set_params(callbacks=[PowerCut(epoch)])
        with pytest.raises(OSError, match="power cut"):
            estimator.fit(X, y)
    return estimator.set_params(callbacks=None).fit(X, y)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"freeze_epochs": 3},
        {"early_stopping": True, "validation_fraction": 0.3, "n_iter_no_change": 2, "lr": 0.1},
        {"schedule": "plateau", "lr": 1.0},
        {"net_params": {"optimizer": torch.optim.SGD, "optimizer__momentum": 0.9}},
        {"net_params": {"optimizer": torch.optim.SGD}},
        {"head_params": {"dropout": 0.5}},
    ],
    ids=lambda change: ",".join(change) or "plain",
)
def test_a_regressor_goes_on_exactly(change, tiny, data, tmp_path):
    params = {**tiny, "max_epochs": 7, **change}
    whole = DSSLRegressor(**params).fit(*data)
    model = DSSLRegressor(**params, checkpoint_dir=tmp_path)
    assert same(interrupted(model, *data, (2, 3)), whole)
    assert model.predict(data[0]).tolist() == whole.predict(data[0]).tolist()
    # A rerun of a complete one trains nothing.
    again = DSSLRegressor(**params, checkpoint_dir=tmp_path, callbacks=[PowerCut(1)])
    assert same(again.fit(*data), whole)


def test_a_classifier_goes_on_exactly(tiny, data, tmp_path):
    X, y = data[0], np.where(data[1] > 2, "stiff", "soft")
    whole = DSSLClassifier(**{**tiny, "max_epochs": 4}).fit(X, y)
    model = DSSLClassifier(**{**tiny, "max_epochs": 4}, checkpoint_dir=str(tmp_path))
    assert same(interrupted(model, X, y, (3,)), whole)


@pytest.mark.parametrize("recipe", ["default", "paper"])
def test_a_pretrainer_that_stops_early_goes_on_exactly(recipe, tiny, tiny_paper, data, tmp_path):
    params = {**(tiny if recipe == "default" else tiny_paper), "max_epochs": 9, "lr": 0.3}
    params |= {"early_stopping": True, "validation_fraction": 0.3, "n_iter_no_change": 2}
    whole = DSSLPretrainer(**params).fit(data[0])
    model = DSSLPretrainer(**params, checkpoint_dir=tmp_path)
    assert same(interrupted(model, *data, (2, 3)), whole)


def test_a_pretrainer_within_keeps_checkpoints_in_the_same_folder(tiny, data, tmp_path):
    def model(**params):
        return DSSLRegressor(
            pretrained=DSSLPretrainer(**tiny), batch_size=8, max_epochs=2, random_state=0, **params
        )

    whole = model().fit(*data)
    first = model(checkpoint_dir=tmp_path).fit(*data)
    assert same(first, whole)
    assert len(list(tmp_path.iterdir())) == 2
    # Of the estimator as it was given, nothing has changed.
    assert first.pretrained.checkpoint_dir is None


@pytest.mark.parametrize(
    "change",
    [
        {"lr": 0.1},
        {"loss": "mse"},
        {"freeze_epochs": 1},
        {"random_state": 1},
        {"max_epochs": 3},
        {"backbone_params": {"width": 9, "n_layers": 1, "n_basis": 6}},
        {"head_params": {"dropout": 0.1}},
        {"cutoff": 7.9},
        {"net_params": {"optimizer__betas": (0.8, 0.9)}},
        {"y": 1},
        {"X": 1},
    ],
    ids=str,
)
def test_other_settings_or_data_begin_anew(change, tiny, data, tmp_path):
    X, y = list(data[0]), data[1].copy()
    DSSLRegressor(**tiny, checkpoint_dir=tmp_path).fit(X, y)
    (before,) = tmp_path.iterdir()
    content = before.read_bytes()
    if "X" in change:
        X[0], X[1] = X[1], X[0]
    elif "y" in change:
        y[3] += 0.1
    params = {**tiny, **{k: v for k, v in change.items() if k not in ("X", "y")}}
    model = DSSLRegressor(**params, checkpoint_dir=tmp_path).fit(X, y)
    assert same(model, DSSLRegressor(**params).fit(X, y))
    assert len(list(tmp_path.iterdir())) == 2
    assert before.read_bytes() == content


def test_a_seed_is_needed(tiny, data, tmp_path):
    for random_state in (None, np.random.RandomState(0)):
        params = {**tiny, "random_state": random_state}
        with pytest.raises(InvalidInputError, match="checkpoint_dir needs an int as random_state"):
            DSSLRegressor(**params, checkpoint_dir=tmp_path).fit(*data)


def test_settings_that_no_rerun_could_recognize_are_refused(tiny, data, tmp_path):
    params = {**tiny, "net_params": {"optimizer__foo": lambda: 3, "optimizer": torch.optim.AdamW}}
    params["net_params"] = {"iterator_train__worker_init_fn": lambda _: None}
    with pytest.raises(InvalidInputError, match=r"checkpoint_dir.*lambda.* at 0x"):
        DSSLRegressor(**params, checkpoint_dir=tmp_path).fit(*data)


# ---- files that cannot be used --------------------------------------------------------------


@pytest.fixture
def checkpoint(tiny, data, tmp_path):
    """A checkpoint of an interrupted training, and a way to rerun it."""
    params = {**tiny, "max_epochs": 4, "checkpoint_dir": tmp_path}
    with pytest.raises(OSError, match="power cut"):
        DSSLRegressor(**params, callbacks=[PowerCut(3)]).fit(*data)
    (path,) = tmp_path.iterdir()
    return path, lambda: DSSLRegressor(**params).fit(*data)


def refused(rerun, path, message):
    content = path.read_bytes()
    with pytest.raises(WeightsError, match=message) as caught:
        rerun()
    assert "remove it to begin this training anew" in str(caught.value)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == content
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "other"])
def test_a_damaged_checkpoint_is_named_and_left_alone(checkpoint, damage):
    path, rerun = checkpoint
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[-100] ^= 4
    kept = {"truncated": content[: len(content) // 2], "empty": b"", "other": b"hello " * 50}
    path.write_bytes(kept.get(damage, content))
    refused(rerun, path, "damaged")
    path.unlink()
    assert len(rerun().history_) == 4


def test_a_checkpoint_under_the_name_of_another_training(checkpoint, tiny, data):
    path, rerun = checkpoint
    other = path.with_name("other")
    DSSLRegressor(**{**tiny, "max_epochs": 3}, checkpoint_dir=other).fit(*data)
    (found,) = other.iterdir()
    found.replace(path)
    other.rmdir()
    refused(rerun, path, "another training")


def _drop(config):
    del config["history"]


def _epochs(config):
    config["history"] = [3]


def _shape(tensors):
    name = next(n for n in tensors if n.endswith("exp_avg") and tensors[n].ndim == 2)
    tensors[name] = tensors[name][:1].clone()


def _place(tensors):
    tensors["optimizer.999.exp_avg"] = torch.zeros(3)


def _word(tensors):
    tensors["optimizer.first.exp_avg"] = torch.zeros(3)


def _nan(tensors):
    name = next(n for n in tensors if n.startswith("module.") and n.endswith("weight"))
    tensors[name] = torch.full_like(tensors[name], torch.nan)


def _fewer(tensors):
    del tensors[next(n for n in tensors if n.startswith("module."))]


@pytest.mark.parametrize("change", [_drop, _epochs, _shape, _place, _word, _nan, _fewer])
def test_a_checkpoint_with_a_right_checksum_and_wrong_content(checkpoint, change):
    path, rerun = checkpoint
    tensors, config = read_weights(path)
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    change(config if change in (_drop, _epochs) else tensors)
    write_weights(path, tensors, config)
    refused(rerun, path, "cannot be used")


# ---- disks that fail ------------------------------------------------------------------------


def test_a_disk_that_fills_up_keeps_the_last_checkpoint(tiny, data, tmp_path, monkeypatch):
    params = {**tiny, "max_epochs": 4}
    whole = DSSLRegressor(**params).fit(*data)
    folder = tmp_path / "first"
    DSSLRegressor(**params, checkpoint_dir=folder).fit(*data)
    room, real = 2 * next(folder.iterdir()).stat().st_size, Path.write_bytes
    folder = tmp_path / "second"

    def write(path, data):
        nonlocal room
        real(path, data[:room])
        room -= len(data)
        if room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", write)
        with pytest.raises(WeightsError, match=r"cannot write .*No space left on device"):
            DSSLRegressor(**params, checkpoint_dir=folder).fit(*data)
    (path,) = folder.iterdir()
    assert len(read_weights(path)[1]["history"]) == 2
    assert same(DSSLRegressor(**params, checkpoint_dir=folder).fit(*data), whole)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOSPC])
def test_a_folder_that_takes_no_file_is_an_error_before_training(
    number, tiny, data, tmp_path, monkeypatch
):
    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("tempfile.mkstemp", fail)
    model = DSSLRegressor(**tiny, checkpoint_dir=tmp_path, callbacks=[PowerCut(1)])
    with pytest.raises(WeightsError, match=f"checkpoint_dir.*{os.strerror(number)}.*choose"):
        model.fit(*data)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_the_right_to_write(tiny, data, tmp_path):
    tmp_path.chmod(0o500)
    try:
        if os.access(tmp_path, os.W_OK):
            pytest.skip("this user may write anywhere")
        with pytest.raises(WeightsError, match=r"checkpoint_dir.*Permission denied"):
            DSSLRegressor(**tiny, checkpoint_dir=tmp_path / "new").fit(*data)
    finally:
        tmp_path.chmod(0o700)


def test_a_folder_in_place_of_the_checkpoint(checkpoint):
    path, rerun = checkpoint
    path.unlink()
    path.mkdir()
    with pytest.raises(DSSLError, match="cannot be used"):
        rerun()


def test_what_a_killed_process_left_is_removed(checkpoint):
    path, rerun = checkpoint
    leftover = path.with_name(f".{path.name}.x7_kq")
    leftover.write_bytes(path.read_bytes()[:100])
    unrelated = path.with_name("notes.txt")
    unrelated.write_text("mine")
    rerun()
    assert not leftover.exists()
    assert unrelated.read_text() == "mine"


def test_no_pickle_in_a_checkpoint(checkpoint):
    content = Path(checkpoint[0]).read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    assert json.loads(header["__metadata__"]["dssl_sklearn"])["class"] == "checkpoint"
