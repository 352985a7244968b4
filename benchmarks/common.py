"""What scripts share: files of results, pages, and where they ran; no numerical library in here."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import dssl_sklearn

_LIBRARIES = ("torch", "scikit-learn", "numpy", "pymatgen", "matminer", "chgnet")


def write_json(path: Path, content: object) -> None:
    """Write JSON values into a file; its folder is made if needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def fill_page(page: Path, contents: Mapping[str, str]) -> None:
    """Replace what stands in a page between pairs of comments.

    Parameters
    ----------
    page : Path
        Markdown file.
    contents : mapping of str to str
        What to put between ``<!-- name -->`` and ``<!-- /name -->``, by name.

    Raises
    ------
    ValueError
        If the page does not have a pair exactly once; it is left as it is.
    """
    text = page.read_text(encoding="utf-8")
    for name, content in contents.items():
        before, after = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        head, _, rest = text.partition(before)
        if before in rest or rest.count(after) != 1:
            raise ValueError(f"{page} does not have exactly one pair of comments {name!r}")
        text = f"{head}{before}\n{content}\n\n{after}{rest.partition(after)[2]}"
    page.write_text(text, encoding="utf-8")


def environment() -> dict[str, Any]:
    """Versions, commit and machine of this process, JSON values."""
    return {
        "versions": versions(*_LIBRARIES),
        "python": platform.python_version(),
        "commit": commit(),
        "machine": machine(),
    }


def versions(*libraries: str) -> dict[str, str | None]:
    """Version of this package and of some others, None where one is not installed."""
    return {
        "dssl_sklearn": dssl_sklearn.__version__,
        **{name: _version(name) for name in libraries},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def commit() -> str:
    """Name of the commit that the scripts are of."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty"],  # noqa: S607 - the user's git
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def machine() -> str:
    """Names of the processors and their architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    names = {line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")}
    return ", ".join([*sorted(names), platform.machine()])


def memory_mb(name: str) -> float:
    """Entry of ``/proc/self/status`` in MB (1e6 bytes): "VmRSS", "VmHWM" (its peak), "RssAnon"."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError(f"/proc/self/status has no {name}; memory is measured on Linux only")
