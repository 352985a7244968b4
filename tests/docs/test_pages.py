"""The pages: none is lost, and what they link to, import and call exists."""

import ast
import importlib
import importlib.util
import inspect
import re
import runpy
import tomllib
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
GENERATED = ("_build", "_templates", "api", "gallery")
PAGES = sorted(p for p in DOCS.rglob("*.md") if p.relative_to(DOCS).parts[0] not in GENERATED)
NAMES = [str(page.relative_to(DOCS)) for page in PAGES]
EXAMPLES = sorted((ROOT / "examples").glob("plot_*.py"))

_FENCE = re.compile(r"^( *)```(\S*) *\n(.*?)^ *```", re.MULTILINE | re.DOTALL)


def blocks(text, language):
    """Contents of the fenced blocks of a language, without their indentation."""
    return [
        re.sub(rf"^{indent}", "", body, flags=re.MULTILINE)
        for indent, kind, body in _FENCE.findall(text)
        if kind == language
    ]


def prose(text):
    return re.sub(r"`[^`\n]*`", "", _FENCE.sub("", text))


def anchors(path):
    """Anchors of the headings of a page, as MyST makes them."""
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", path.read_text()), re.MULTILINE)
    kept = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.strip().replace(" ", "-") for heading in kept}


def exists(target):
    """Whether a page is there, or will be once the gallery and the reference are made."""
    parts = target.relative_to(DOCS).parts if target.is_relative_to(DOCS) else ()
    if parts[:1] == ("api",):
        return parts[1:] == ("index.rst",)
    if parts[:1] == ("gallery",):
        made = {"index", *(path.stem for path in EXAMPLES)}
        return target.suffix == ".rst" and target.stem in made
    return target.exists()


@pytest.fixture(scope="module")
def conf():
    return runpy.run_path(str(DOCS / "conf.py"))


def test_every_page_is_in_a_toctree():
    listed = {"index"}
    known = [str(PurePosixPath(name).with_suffix("")) for name in NAMES]
    for page, text in ((p, p.read_text()) for p in PAGES):
        folder = page.parent.relative_to(DOCS)
        for body in blocks(text, "{toctree}"):
            lines = [line.strip() for line in body.splitlines()]
            for entry in (line for line in lines if line and not line.startswith(":")):
                pattern = str(folder / entry)
                found = [name for name in known if fnmatch(name, pattern)]
                assert found or exists(DOCS / f"{pattern}.rst"), f"{page}: {entry}"
                listed.update(found)
    assert set(known) == listed


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=[*NAMES, "README.md"])
class TestPage:
    def test_relative_links_lead_somewhere(self, page):
        for link in re.findall(r"\]\(([^)\s]+)\)", prose(page.read_text())):
            if re.match(r"[a-z]+:", link):
                continue
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            assert exists(target), link
            if anchor:
                assert anchor in anchors(target), link

    def test_dotted_names_exist(self, page):
        for name in re.findall(r"`(dssl_sklearn(?:\.\w+)+)", page.read_text()):
            assert resolve(name) is not None, name

    def test_all_that_is_named_is_in_the_reference(self, page, conf):
        public = conf["public_names"]()
        for name in named(page.read_text()):
            module, _, entry = name.rpartition(".")
            assert entry in public.get(module, ()) or inspect.ismodule(resolve(name)), name

    def test_extras_exist(self, page):
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
            "optional-dependencies"
        ]
        for named in re.findall(r"(?:dssl_sklearn|install \"\.)\[([\w,]+)\]", page.read_text()):
            assert set(named.split(",")) <= set(extras)

    def test_code_imports_and_calls_what_exists(self, page):
        known = {}
        for code in blocks(page.read_text(), "python"):
            tree = ast.parse(code)
            for node in ast.walk(tree):
                if isinstance(node, ast.ImportFrom):
                    known |= imported(node)
            for node in ast.walk(tree):
                if isinstance(node, ast.Call):
                    check_call(node, known)


def named(text):
    """Dotted names of this package in the text and in its imports, the version apart."""
    names = set(re.findall(r"\bdssl_sklearn(?:\.\w+)+", text)) - {"dssl_sklearn.__version__"}
    for code in blocks(text, "python"):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("dssl_sklearn"):
                names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def resolve(name):
    """Object of a dotted name, None if there is none."""
    parts = name.split(".")
    for n_parts in range(len(parts), 0, -1):
        module = ".".join(parts[:n_parts])
        try:
            found = importlib.import_module(module)
        except ModuleNotFoundError:
            continue
        for attribute in parts[n_parts:]:
            found = getattr(found, attribute, None)
        return found
    return None


def imported(node):
    """Objects that an import statement names; those of packages that are missing are left out."""
    if importlib.util.find_spec(node.module.split(".")[0]) is None:
        assert not node.module.startswith("dssl_sklearn")
        return {}
    module = importlib.import_module(node.module)
    return {alias.asname or alias.name: getattr(module, alias.name) for alias in node.names}


def check_call(node, known):
    """Make sure that the keywords of a call are arguments of our own function or class."""
    called = node.func
    if isinstance(called, ast.Name):
        target = known.get(called.id)
    elif isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name):
        owner = known.get(called.value.id)
        target = getattr(owner, called.attr) if inspect.isclass(owner) else None
    else:
        return
    if not str(getattr(target, "__module__", "")).startswith("dssl_sklearn"):
        return
    parameters = inspect.signature(target).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    given = {keyword.arg for keyword in node.keywords if keyword.arg}
    assert given <= set(parameters), ast.unparse(node)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_have_a_title_for_the_gallery(path):
    title, line, *_ = ast.get_docstring(ast.parse(path.read_text())).splitlines()
    assert line == "=" * len(title)


def test_the_reference_has_all_public_names_with_docstrings(conf, tmp_path):
    conf["write_reference"](tmp_path)
    index = (tmp_path / "index.rst").read_text()
    for module, names in conf["public_names"]().items():
        page = (tmp_path / f"{module}.rst").read_text()
        assert f"   {module}\n" in index
        for name in names:
            assert f"   {name}\n" in page
            documented = getattr(importlib.import_module(module), name)
            assert documented.__doc__ or not callable(documented), f"{module}.{name}"


def test_the_reference_forgets_modules_that_are_gone(conf, tmp_path):
    (tmp_path / "dssl_sklearn.gone.rst").write_text("gone")
    conf["write_reference"](tmp_path)
    assert not (tmp_path / "dssl_sklearn.gone.rst").exists()


def test_shapes_name_no_fitted_attribute():
    # reStructuredText takes a trailing underscore for a link, which the build then does not find.
    for path in (ROOT / "dssl_sklearn").rglob("*.py"):
        assert not re.search(r"shape \([^)]*\w_[,)]", path.read_text()), path
