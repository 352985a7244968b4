import json
import sys

import pytest

import dssl_sklearn


def test_json_comes_back_from_a_folder_that_was_not_there(tmp_path):
    from common import write_json

    path = tmp_path / "a" / "b.json"
    write_json(path, {"mae": [0.5, None]})
    assert json.loads(path.read_text()) == {"mae": [0.5, None]}


def test_environment_says_what_ran_where():
    from common import environment

    found = environment()
    assert list(found) == ["versions", "python", "commit", "machine"]
    assert found["versions"]["dssl_sklearn"] == dssl_sklearn.__version__
    assert json.loads(json.dumps(found)) == found


def test_a_library_that_is_missing_has_no_version():
    from common import versions

    assert versions("no-such-library-here")["no-such-library-here"] is None


def test_a_page_is_filled_between_its_comments(tmp_path):
    from common import fill_page

    page = tmp_path / "page.md"
    page.write_text("a\n<!-- t -->\nold\n<!-- /t -->\nb\n")
    filled = "a\n<!-- t -->\n\nnew \\1\n\n<!-- /t -->\nb\n"
    for _ in range(2):
        fill_page(page, {"t": "new \\1"})
        assert page.read_text() == filled
    with pytest.raises(ValueError, match="one pair of comments 'u'"):
        fill_page(page, {"t": "newer", "u": "new"})
    assert page.read_text() == filled


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read on Linux only")
def test_memory_is_that_of_the_process():
    from common import memory_mb

    assert 1 < memory_mb("VmRSS") <= memory_mb("VmHWM")
    with pytest.raises(RuntimeError, match="has no VmNothing"):
        memory_mb("VmNothing")
