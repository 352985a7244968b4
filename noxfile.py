"""Sessions of nox: tests with the lowest and the newest allowed dependencies, docs, linters.

    nox -s tests-lowest

torch is installed first and by itself, in the build that ``TORCH`` names: a looser request later on
could fetch another build, of some gigabytes.
"""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path

import nox

nox.options.default_venv_backend = "venv"
nox.options.sessions = ["tests-lowest", "tests-newest", "lint"]

#: Build of torch for all sessions; the lowest that is allowed comes as a CPU build only from
#: https://download.pytorch.org/whl/cpu (set PIP_EXTRA_INDEX_URL and TORCH=torch==2.4.0+cpu).
TORCH = os.environ.get("TORCH", "torch==2.13.0")


def declared(extra: str) -> list[str]:
    """Requirements in pyproject.toml, of the package and of an extra with those it names."""
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]

    def of_extra(name: str) -> list[str]:
        found = []
        for requirement in project["optional-dependencies"][name]:
            own = re.fullmatch(r"dssl_sklearn\[(.*)\]", requirement)
            others = own[1].split(",") if own else []
            found += [r for other in others for r in of_extra(other)] if own else [requirement]
        return found

    return [*project["dependencies"], *of_extra(extra)]


def lowest(requirement: str) -> str:
    """Pin a requirement to the lowest version it allows."""
    return re.sub(r">=([^,;]+)[^;]*", r"==\1", requirement)


def run_tests(session: nox.Session) -> None:
    """Run pytest on what is asked for behind ``--``, everything by default."""
    session.run("python", "-m", "pip", "list")
    env = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    session.run("python", "-m", "pytest", *(session.posargs or ["-n", "2"]), env=env)


@nox.session(name="tests-lowest", python="3.11")
def tests_lowest(session: nox.Session) -> None:
    """Tests with the lowest version of every dependency that pyproject.toml allows."""
    pinned = [lowest(r) for r in declared("test") if not re.match(r"torch[^-]", r)]
    session.install(TORCH)
    session.install(TORCH, *pinned)
    session.install("--no-deps", "-e", ".")
    run_tests(session)


@nox.session(name="tests-newest")
def tests_newest(session: nox.Session) -> None:
    """Tests with the newest version of every dependency that pyproject.toml allows."""
    session.install(TORCH)
    session.install("--upgrade", "--upgrade-strategy", "eager", TORCH, "-e", ".[test]")
    run_tests(session)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation."""
    session.install(TORCH)
    session.install(TORCH, "-e", ".[docs]")
    session.run("sphinx-build", "-W", "-b", "html", "docs", "docs/_build/html", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Linters and types."""
    session.install(TORCH)
    session.install(TORCH, "-e", ".[test,dev]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
