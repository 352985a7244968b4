import ast
import subprocess
import sys
from pathlib import Path

import pytest

import dssl_sklearn

PACKAGE = Path(dssl_sklearn.__file__).parent

#: What all parts stand on.
FOUNDATION = {"exceptions", "_atomic", "_checks", "_optional", "_warnings"}
#: Part of the package -> parts it may import from, beside itself and the foundation.
MAY_IMPORT = {
    "_atomic": set(),
    "_checks": set(),
    "_optional": set(),
    "_warnings": set(),
    "exceptions": set(),
    "crystals": set(),
    "views": {"crystals"},
    "models": {"crystals"},
    "objectives": {"models", "views", "crystals"},
    "training": {"objectives", "models", "views", "crystals"},
    # The top holds the version, which goes into the files of weights.
    "estimators": {"__init__", "training", "objectives", "models", "views", "crystals"},
    "uncertainty": {"model_selection", "estimators", "training", "models", "crystals"},
    "datasets": {"crystals"},
    "model_selection": {"estimators", "datasets", "crystals"},
    "explain": {"estimators", "training", "models", "crystals"},
    "plotting": {"explain", "estimators", "training", "models", "crystals"},
    "evaluation": {"plotting", "model_selection", "estimators", "models", "crystals"},
    "doctor": {"crystals"},
    "cli": {"__init__", "doctor", "estimators", "training", "models", "crystals"},
    "__main__": {"cli"},
    "__init__": {"estimators"},
}
#: Library -> parts that may import it.
ONLY_IN = {
    "pymatgen": {"crystals", "datasets"},
    "captum": {"explain"},
    # The comparison only names its types.
    "matplotlib": {"plotting", "evaluation"},
    "pymatviz": {"plotting"},
    "umap": {"plotting"},
    # Estimators hand skorch's callbacks and history through; the loop is training's.
    "skorch": {"training", "estimators"},
    "sklearn": {
        *("crystals", "datasets", "training", "estimators", "model_selection", "uncertainty"),
        *("explain", "plotting"),
        "evaluation",
    },
    "mapie": {"uncertainty"},
    "accelerate": {"training"},
    # Accepted by what they can do, never imported; or replaced by torch's own operations.
    "ase": set(),
    "torch_scatter": set(),
    "torch_sparse": set(),
    "torch_cluster": set(),
    "dgl": set(),
}


def imported_modules(source):
    """Full names of all that a source file imports, wherever in the file."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from (f"{module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "import_optional":
            yield ast.literal_eval(node.args[0])


def objections(part, source):
    """What is wrong with the imports of a file in this part of the package."""
    for name in imported_modules(source):
        library, *rest = name.split(".")
        if not library:
            yield f"{name}: relative import"
        elif library == "dssl_sklearn":
            other = rest[0] if rest else "__init__"
            if other not in MAY_IMPORT[part] | FOUNDATION | {part, "__version__"}:
                yield f"{name}: {part} may import from {sorted(MAY_IMPORT[part])} only"
            private = [module for module in rest[1:] if module.startswith("_")]
            if private and other != part and other not in FOUNDATION:
                yield f"{name}: {private[0]} is for {other} alone"
        elif part not in ONLY_IN.get(library, {part}):
            yield f"{name}: {library} belongs to {sorted(ONLY_IN[library])}"


def part_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path):
    part = part_of(path)
    assert part in MAY_IMPORT, f"say in MAY_IMPORT where {part} stands"
    assert not list(objections(part, path.read_text(encoding="utf-8")))


def test_every_part_is_looked_at():
    assert {part_of(path) for path in FILES} | FOUNDATION == set(MAY_IMPORT)


@pytest.mark.parametrize(
    "part, source",
    [
        ("crystals", "from dssl_sklearn.models import EnsembleHead"),
        ("views", "import dssl_sklearn.models.heads"),
        ("models", "from dssl_sklearn.views.view import draw_views"),
        ("objectives", "def f():\n    from dssl_sklearn.training import nets"),
        ("training", "from dssl_sklearn import DSSLPretrainer"),
        ("training", "import dssl_sklearn"),
        ("datasets", "from dssl_sklearn.estimators.base import jsonable"),
        ("training", "from ..crystals import graph"),
        ("views", "if TYPE_CHECKING:\n    from pymatgen.core import Structure"),
        ("objectives", "from skorch import NeuralNet"),
        ("models", "import sklearn.base"),
        ("models", "from sklearn import base"),
        ("crystals", "import torch, ase.io"),
        ("estimators", "from dssl_sklearn.uncertainty import ConformalRegressor"),
        ("explain", "import matplotlib.pyplot"),
        ("explain", "import_optional('matplotlib.pyplot', 'a picture', 'plot')"),
        ("evaluation", "from dssl_sklearn.plotting._checks import in_unit"),
        ("estimators", "def f():\n    from dssl_sklearn.plotting import ParityDisplay"),
    ],
)
def test_a_forbidden_import_is_found(part, source):
    assert list(objections(part, source))


@pytest.mark.parametrize(
    "part, source",
    [
        ("estimators", "from dssl_sklearn.training.data import HoldOut"),
        ("estimators", "from dssl_sklearn import __version__"),
        ("models", "from dssl_sklearn.models.heads import EnsembleHead\nimport torch"),
        ("views", "from dssl_sklearn.exceptions import InvalidInputError"),
    ],
)
def test_other_imports_are_fine(part, source):
    assert not list(objections(part, source))


def run(code):
    done = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-c", code],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_the_package_is_light_to_import():
    heavy = {"torch", "pymatgen", "torch_geometric", "skorch", "sklearn", "pandas", "scipy"}
    code = f"import sys, dssl_sklearn; dir(dssl_sklearn); print(*({heavy!r} & set(sys.modules)))"
    assert run(code) == []


def test_public_names_come_when_asked_for():
    assert run("from dssl_sklearn import *; print(DSSLRegressor.__name__)") == ["DSSLRegressor"]
    assert dssl_sklearn.__all__ == sorted(dssl_sklearn.__all__)
    for name in dssl_sklearn.__all__:
        assert getattr(dssl_sklearn, name).__name__ == name
        assert name in dir(dssl_sklearn)
    with pytest.raises(AttributeError, match="has no attribute 'DSSLRegresor'"):
        dssl_sklearn.DSSLRegresor  # noqa: B018 - the access is what fails
