"""What `import dssl_sklearn` costs beside `import sklearn`."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from measuring import Settings, spread

_STATEMENTS = {
    "sklearn": "import sklearn",
    "dssl_sklearn": "import dssl_sklearn",
    "sklearn, then dssl_sklearn": "import sklearn, dssl_sklearn",
    "DSSLRegressor": "from dssl_sklearn import DSSLRegressor",
}


def measure(settings: Settings) -> dict[str, Any]:
    """Measure imports, each in a new process, in turns.

    Returns
    -------
    dict
        CPU-seconds of each statement, and "over_sklearn": how much more both cost than sklearn
        alone (smallest of each, since nothing makes an import faster than it is).
    """
    seconds: dict[str, list[float]] = {name: [] for name in _STATEMENTS}
    for _ in range(2 if settings.quick else 7):
        for name, statement in _STATEMENTS.items():
            seconds[name].append(_time_import(statement))
    rows: dict[str, Any] = {name: spread(values) for name, values in seconds.items()}
    rows["over_sklearn"] = rows["sklearn, then dssl_sklearn"]["min"] - rows["sklearn"]["min"]
    return rows


def _time_import(statement: str) -> float:
    """CPU-seconds of an import statement in a bare interpreter."""
    code = f"import time; start = time.process_time(); {statement}; end = time.process_time()"
    run = subprocess.run(  # noqa: S603 - our own statement
        [sys.executable, "-c", f"{code}; print(end - start)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return float(run.stdout)
