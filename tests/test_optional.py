import pytest

from dssl_sklearn._optional import import_optional
from dssl_sklearn.exceptions import MissingDependencyError


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Name of an installed package that imports what is not there."""
    (tmp_path / "broken_extra.py").write_text("import not_there_either")
    monkeypatch.syspath_prepend(tmp_path)
    return "broken_extra"


def test_what_is_there_is_imported():
    assert import_optional("json.decoder", "a test", "none").JSONDecoder


@pytest.mark.parametrize("module", ["not_there", "not_there.inside", "json.not_there"])
def test_what_is_missing_is_named_with_a_cure(module):
    message = rf'^a test needs {module.split(".")[0]}: pip install "dssl_sklearn\[plot\]", or not$'
    with pytest.raises(MissingDependencyError, match=message):
        import_optional(module, "a test", "plot", ", or not")


def test_what_is_broken_speaks_for_itself(package):
    with pytest.raises(ModuleNotFoundError, match="not_there_either"):
        import_optional(package, "a test", "plot")
