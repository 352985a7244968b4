"""Configuration of Sphinx; ``make docs`` builds the pages."""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import dssl_sklearn  # noqa: E402 - of this tree, wherever the build is started from

# The gallery looks up what the examples import, and scikit-learn hides its experiments before this.
importlib.import_module("sklearn.experimental.enable_halving_search_cv")

project = "dssl_sklearn"
author = "dssl_sklearn developers"
copyright = author  # noqa: A001 - Sphinx's name
version = release = dssl_sklearn.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx_gallery.gen_gallery",
    "numpydoc",
]
exclude_patterns = ["_build", "_templates"]
templates_path = ["_templates"]
default_role = "py:obj"
myst_enable_extensions = ["dollarmath", "amsmath", "deflist"]
myst_heading_anchors = 3
suppress_warnings = ["config.cache"]  # the gallery's settings hold functions

html_theme = "pydata_sphinx_theme"
html_title = "dssl_sklearn"
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "header_links_before_dropdown": 6,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "show_toc_level": 2,
}

# ---- gallery ---------------------------------------------------------------------------------

#: ``GALLERY=0`` shows the examples without running them.
RUN_GALLERY = os.environ.get("GALLERY", "1") != "0"
#: Examples and the packages that they need; without these they are shown but not run.
NEEDS = {
    "dask": "distributed",
    "mlflow": "mlflow",
    "optuna": "optuna",
    "tensorboard": "tensorboard",
    "wandb": "wandb",
}
SHOWN_ONLY = [name for name, package in NEEDS.items() if find_spec(package) is None]
sphinx_gallery_conf = {
    "examples_dirs": str(HERE.parent / "examples"),
    "gallery_dirs": "gallery",
    "plot_gallery": RUN_GALLERY,
    "filename_pattern": rf"[\\/]plot_(?!({'|'.join(SHOWN_ONLY) or '-'})\.py)",
    "ignore_pattern": r"quickstart\.py",
    "abort_on_example_error": False,
    "download_all_examples": False,
    "min_reported_time": 10,
    "capture_repr": ("_repr_html_",),
    "show_memory": False,
    "write_computation_times": False,
    "remove_config_comments": True,
}
if RUN_GALLERY and SHOWN_ONLY:
    print(f"examples that are shown but not run: {', '.join(SHOWN_ONLY)}")
# The agg backend has no window to show, which plt.show() says each time.
warnings.filterwarnings("ignore", message="FigureCanvasAgg is non-interactive", append=True)

# ---- reference -------------------------------------------------------------------------------

autosummary_generate = True
autodoc_typehints = "none"  # the docstrings say it, with shapes and units
numpydoc_show_class_members = False

#: Public names in modules of subpackages that export nothing themselves.
FURTHER = {
    "dssl_sklearn.crystals.batch": ["CrystalBatch"],
    "dssl_sklearn.crystals.dataset": ["GraphDataset"],
    "dssl_sklearn.crystals.elements": ["element_features", "element_property"],
    "dssl_sklearn.crystals.graph": ["Crystal", "CrystalGraph"],
    "dssl_sklearn.crystals.stiffness": ["fit_atomic_stiffness", "prior_stiffness"],
    "dssl_sklearn.crystals.store": ["GraphStore"],
    "dssl_sklearn.views.view": ["View", "ViewSpec"],
}


def public_names() -> dict[str, list[str]]:
    """Collect what the package and its subpackages export, by module."""
    found = {}
    for info in pkgutil.iter_modules(dssl_sklearn.__path__):
        if info.ispkg and not info.name.startswith("_"):
            name = f"dssl_sklearn.{info.name}"
            module = importlib.import_module(name)
            exported = getattr(module, "__all__", [])
            found[name] = [entry for entry in exported if callable(getattr(module, entry))]
    errors = importlib.import_module("dssl_sklearn.exceptions")
    of_errors = [
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, Exception)
    ]
    found |= FURTHER | {"dssl_sklearn.exceptions": of_errors}
    names = {module: exported for module, exported in sorted(found.items()) if exported}
    return {"dssl_sklearn": dssl_sklearn.__all__, **names}


def write_reference(folder: Path) -> None:
    """Write the pages of the reference: an index, and a page for each module."""
    folder.mkdir(exist_ok=True)
    modules = public_names()
    pages = {}
    for name, exported in modules.items():
        summary = (importlib.import_module(name).__doc__ or "").strip().split("\n\n")[0]
        lines = [name, "=" * len(name), "", summary, "", f".. currentmodule:: {name}", ""]
        lines += [".. autosummary::", "   :toctree: generated", "   :nosignatures:", ""]
        pages[name] = "\n".join([*lines, *(f"   {entry}" for entry in exported), ""])
    title = "API reference"
    intro = "Everything public, by module; the :doc:`guide </guide/index>` shows it at work."
    toc = ["", ".. toctree::", "   :maxdepth: 1", "", *(f"   {name}" for name in modules), ""]
    pages["index"] = "\n".join([title, "=" * len(title), "", intro, *toc])
    expected = set(pages).union(f"{module}.{n}" for module, names in modules.items() for n in names)
    for old in folder.rglob("*.rst"):
        if old.stem not in expected:
            old.unlink()
    for name, text in pages.items():
        path = folder / f"{name}.rst"
        # What does not change is not read again by the next build.
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def skip_foreign(*event: Any) -> bool | None:  # noqa: ANN401 - autodoc-skip-member
    """Leave out what classes inherit from torch, scikit-learn and pandas."""
    name, obj = event[2:4]
    if name.startswith("set_") and name.endswith("_request"):
        return True
    target = getattr(obj, "fget", None) or getattr(obj, "__func__", obj)
    module = getattr(target, "__module__", None)
    if isinstance(obj, ModuleType) or module is None:
        return None
    return None if str(module).startswith("dssl_sklearn") else True


def setup(app: Any) -> None:  # noqa: ANN401
    """Write the reference before Sphinx looks for pages."""
    write_reference(HERE / "api")
    app.connect("autodoc-skip-member", skip_foreign)
