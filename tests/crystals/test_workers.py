import os
import pickle
import signal

import numpy as np
import pytest

from dssl_sklearn import StructureToGraph
from dssl_sklearn.crystals.graph import Crystal
from dssl_sklearn.crystals.store import GraphStore
from dssl_sklearn.crystals.workers import count_workers
from dssl_sklearn.exceptions import DSSLError, InvalidInputError, WorkerError

CRYSTAL = Crystal(np.array([6]), np.zeros((1, 3)), 3 * np.eye(3))


class Fatal:
    """Kills the process that is handed it, unless that is the one that made it."""

    def __init__(self):
        self.home = os.getpid()

    def __setstate__(self, state):
        self.home = state["home"]
        if os.getpid() != self.home:
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def crystals():
    """More than one chunk, the second with the killer."""
    return [CRYSTAL] * 1500 + [Fatal()]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs signals")
def test_a_killed_process_is_named(crystals):
    with pytest.raises(WorkerError, match=r"was killed.*smaller n_jobs") as caught:
        StructureToGraph(n_jobs=2).fit_transform(crystals)
    assert isinstance(caught.value, DSSLError)
    assert isinstance(pickle.loads(pickle.dumps(caught.value)), RuntimeError)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs signals")
def test_a_store_goes_on_after_a_process_was_killed(crystals, tmp_path):
    with pytest.raises(WorkerError, match="finished shards are kept"):
        GraphStore.build(tmp_path / "store", crystals, n_jobs=2)
    store = GraphStore.build(tmp_path / "store", [CRYSTAL] * 1501, n_jobs=2)
    assert len(store) == 1501


@pytest.mark.parametrize("n_jobs", [0, "all", 2.5])
def test_numbers_of_processes_that_mean_nothing(n_jobs, tmp_path):
    with pytest.raises(InvalidInputError, match="n_jobs must be an integer other than 0"):
        GraphStore.build(tmp_path / "store", [CRYSTAL], n_jobs=n_jobs)
    assert not list(tmp_path.iterdir())


def test_numbers_of_processes():
    assert [count_workers(n) for n in (None, 1, 2, np.int64(3))] == [1, 1, 2, 3]
    assert count_workers(-1) >= 1
