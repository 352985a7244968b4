"""Two processes over gloo take the steps of one."""

import importlib.util
import itertools
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("accelerate")

SCRIPT = Path(__file__).with_name("two_processes.py")


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("two_processes", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Results of both processes."""
    folder = tmp_path_factory.mktemp("two")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = os.pathsep.join([str(SCRIPT.parents[2]), os.environ.get("PYTHONPATH", "")])
    # What `accelerate launch --cpu --num_processes 2` sets.
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    shared |= {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    shared |= {"ACCELERATE_USE_CPU": "true"}
    running = [
        subprocess.Popen(  # noqa: S603 - our own script
            [sys.executable, str(SCRIPT), str(folder)],
            env={**os.environ, **shared, "RANK": rank, "LOCAL_RANK": rank},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    ]
    try:
        for process in running:
            _, complaints = process.communicate(timeout=300)
            assert process.returncode == 0, complaints
    finally:
        for process in running:
            process.kill()
    return [dict(np.load(folder / f"{rank}.npz")) for rank in "01"]


@pytest.fixture(scope="module")
def one(script, tmp_path_factory):
    """Results of one process that knows nothing of accelerate."""
    from_disk = script.trained_from_disk(None, tmp_path_factory.mktemp("one") / "store")
    return script.trained(None) | from_disk | script.contrastive(0, 1)


def test_two_processes_take_the_steps_of_one(one, two):
    """Losses, every weight of network and heads, predictions and scores."""
    assert 0.6 not in one["c_kernel_share"]
    for found in two:
        assert one.keys() <= found.keys()
        for name, expected in one.items():
            np.testing.assert_allclose(found[name], expected, rtol=2e-4, atol=2e-6, err_msg=name)


def test_both_processes_end_with_the_same_weights(two):
    names = [name for name in two[0] if "_weight_" in name]
    assert len(names) > 20
    for name in [*names, "a_valid_loss", "drawn"]:
        np.testing.assert_array_equal(two[0][name], two[1][name], err_msg=name)


@pytest.mark.parametrize("loss", ["barlow_loss", "cosine_loss", "ntxent_loss", "vicreg_loss"])
def test_contrastive_losses_see_the_crystals_of_all_processes(loss, one, two):
    for found in two:
        np.testing.assert_allclose(found[loss], one[loss], rtol=1e-12)
        gradient = f"{loss}_gradient"
        np.testing.assert_allclose(found[gradient], one[gradient], rtol=1e-10, atol=1e-14)


def test_crystals_spread_over_the_processes_are_refused(two):
    for found in two:
        assert "process 1 was given other crystals" in str(found["refused"])
        assert "give all processes the same" in str(found["refused"])


@pytest.mark.parametrize("n_ranks", [1, 2, 5, 24, 40])
def test_shares_cover_the_batch_in_order(script, n_ranks):
    bounds = script.shares(n_ranks)
    assert bounds[0][0] == 0
    assert bounds[-1][1] == 24
    assert all(last == first for (_, last), (first, _) in itertools.pairwise(bounds))
