"""Where files go: what is no file is neither replaced nor read, and what is no path is refused."""

import os
import stat

import numpy as np
import pytest

from dssl_sklearn import DSSLPretrainer, DSSLRegressor
from dssl_sklearn.crystals.store import GraphStore
from dssl_sklearn.datasets import load_corpus
from dssl_sklearn.datasets.corpus import Corpus
from dssl_sklearn.exceptions import DatasetError, InvalidInputError, WeightsError


@pytest.fixture
def corpus():
    lattice = 3 * np.eye(3)[None]
    return Corpus(["mp-0"], np.array([6]), np.zeros((1, 3)), lattice, np.array([0, 1]))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_what_is_no_file_is_not_replaced(fitted_pretrainer, corpus, tmp_path):
    """As root, saving to a device would otherwise put a file in its place."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "link").symlink_to(pipe)
    for path in (pipe, tmp_path / "link", tmp_path):
        with pytest.raises(WeightsError, match=r"cannot write '.*a device or a pipe"):
            fitted_pretrainer.save(path)
        with pytest.raises(DatasetError, match=r"cannot write '.*a device or a pipe"):
            corpus.save(path)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link", "pipe"]


def test_a_link_leads_to_the_file_behind_it(fitted_pretrainer, tmp_path):
    (tmp_path / "models").mkdir()
    link = tmp_path / "latest.safetensors"
    link.symlink_to(tmp_path / "models" / "first.safetensors")
    fitted_pretrainer.save(link)
    assert link.is_symlink()
    DSSLPretrainer.load(tmp_path / "models" / "first.safetensors")


@pytest.mark.parametrize(
    "path, message",
    [
        (3, "must be a str or a path, got 3"),
        (None, "must be a str or a path, got None"),
        (b"weights", "must be a str or a path, got b'weights'"),
        ("a\0b", "must be without null bytes"),
    ],
)
def test_what_is_no_path(path, message, fitted_pretrainer, corpus):
    for use in (
        fitted_pretrainer.save,
        DSSLPretrainer.load,
        DSSLRegressor.load,
        GraphStore,
        lambda path: GraphStore.build(path, corpus),
        corpus.save,
        load_corpus,
    ):
        with pytest.raises(InvalidInputError, match=f"path {message}"):
            use(path)


def test_a_folder_of_checkpoints_that_no_file_system_can_have(tiny, elastic):
    model = DSSLPretrainer(**tiny, checkpoint_dir="a\0b")
    with pytest.raises(InvalidInputError, match="checkpoint_dir must be without null bytes"):
        model.fit(elastic[0][:8])
