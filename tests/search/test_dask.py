import os
import signal
import sys

import joblib
import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback

pytest.importorskip("distributed")

GRID = {"lr": [1e-3, 3e-3, 1e-2], "freeze_epochs": [0, 1]}


class KillOnce(Callback):
    """Kills its own worker process in the middle of a fit, the first time that it is used."""

    def __init__(self, flag, home):
        self.flag = flag
        self.home = home

    def on_epoch_end(self, net, **kwargs):
        assert os.getpid() != self.home, "the fit did not run on a worker"
        try:
            os.close(os.open(self.flag, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(scope="module")
def client():
    import cloudpickle
    from distributed import Client, LocalCluster

    # Workers cannot import this file.
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def search(regressor, labeled, **params):
    return GridSearchCV(
        regressor.set_params(**params), GRID, cv=2, scoring="neg_mean_absolute_error", refit=False
    ).fit(*labeled)


def test_a_killed_worker_does_not_change_the_result(client, regressor, labeled, tmp_path):
    expected = search(regressor, labeled)
    before = set(client.run(os.getpid).values())
    assert os.getpid() not in before
    flag = tmp_path / "killed"
    with joblib.parallel_config("dask"):
        found = search(regressor, labeled, callbacks=[KillOnce(str(flag), os.getpid())])
    assert flag.exists()
    np.testing.assert_allclose(
        found.cv_results_["mean_test_score"],
        expected.cv_results_["mean_test_score"],
        rtol=1e-5,
    )
    assert found.best_params_ == expected.best_params_
    client.wait_for_workers(2, timeout=60)
    assert set(client.run(os.getpid).values()) != before
