import json

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
