"""Real processes, killed with SIGKILL: the script of the long campaign, run for a few kills."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "robustness" / "kill_training.py"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the script forks its processes")
def test_a_killed_training_ends_with_the_weights_of_an_uninterrupted_one():
    cases = ["regressor, early stopping, frozen first", "pretrainer, early stopping"]
    options = [word for case in cases for word in ("--case", case)]
    run = subprocess.run(  # noqa: S603 - our own script
        [sys.executable, str(SCRIPT), "--kills", "6", "--short", *options],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    figures = [json.loads(line) for line in run.stdout.splitlines()]
    assert [found["case"] for found in figures] == cases
    assert sum(found["kills"] for found in figures) == 6
