"""What the system refuses (memory, open files) is named as that, and no file is blamed for it."""

import errno
import pickle
import re

import pytest
import torch

from dssl_sklearn import DSSLClassifier, DSSLPretrainer, DSSLRegressor
from dssl_sklearn.crystals.store import GraphStore
from dssl_sklearn.exceptions import DatasetError, DSSLError, OutOfMemoryError, WeightsError


@pytest.fixture
def no_more_files(monkeypatch):
    """From now on no file can be opened."""

    def refuse(*_args, **_kwargs):
        raise OSError(errno.EMFILE, "Too many open files")

    def make():
        for name in ("pathlib.Path.open", "numpy.load", "dssl_sklearn.training.weights.safe_open"):
            monkeypatch.setattr(name, refuse)

    return make


def test_a_store_that_cannot_be_opened_is_not_called_damaged(elastic, tmp_path, no_more_files):
    GraphStore.build(tmp_path / "store", elastic[0][:3])
    no_more_files()
    with pytest.raises(DatasetError, match=r"cannot read the graph store '.*Too many open") as e:
        GraphStore(tmp_path / "store")
    assert "remove" not in str(e.value)


def test_a_checkpoint_that_cannot_be_opened_is_not_called_damaged(
    tiny, elastic, tmp_path, no_more_files
):
    model = DSSLPretrainer(**tiny, checkpoint_dir=tmp_path).fit(elastic[0][:8])
    (path,) = tmp_path.iterdir()
    no_more_files()
    for use in (lambda: model.fit(elastic[0][:8]), lambda: DSSLPretrainer.load(path)):
        with pytest.raises(WeightsError, match=r"cannot read '.*Too many open") as caught:
            use()
        assert not re.search("remove|damaged", str(caught.value))


@pytest.mark.parametrize("cls", [DSSLPretrainer, DSSLRegressor, DSSLClassifier])
def test_a_network_that_does_not_fit_into_memory(cls, tiny, elastic):
    X, y = elastic[0][:8], elastic[1][:8]
    # A petabyte: no limit of the process is needed.
    huge = {**tiny, "backbone_params": {**tiny["backbone_params"], "width": 2**24}}
    with pytest.raises(OutOfMemoryError, match=r"memory is not enough.*lower `batch_size`") as e:
        cls(**huge).fit(X, y > 2 if cls is DSSLClassifier else y)
    assert isinstance(e.value, DSSLError)
    assert isinstance(pickle.loads(pickle.dumps(e.value)), MemoryError)
    # As tblib makes it anew, which distributed installs.
    assert isinstance(OutOfMemoryError.__new__(OutOfMemoryError), DSSLError)


def test_predictions_that_do_not_fit_into_memory(fitted_pretrainer, elastic, monkeypatch):
    def refuse(*_args):
        torch.empty(2**50)

    monkeypatch.setattr(fitted_pretrainer.encoder_, "forward", refuse)
    with pytest.raises(OutOfMemoryError, match=r"this DSSLPretrainer .*crystals, or stream them"):
        fitted_pretrainer.transform(elastic[0][:2])


def test_other_errors_of_torch_stay_as_they_are(fitted_pretrainer, elastic, monkeypatch):
    def fail(*_args):
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(fitted_pretrainer.encoder_, "forward", fail)
    with pytest.raises(RuntimeError, match="shapes") as caught:
        fitted_pretrainer.transform(elastic[0][:2])
    assert not isinstance(caught.value, DSSLError)
