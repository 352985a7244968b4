import json

import numpy as np
import pandas as pd
import pytest

from dssl_sklearn import DSSLClassifier, DSSLPretrainer, DSSLRegressor
from dssl_sklearn.crystals.builder import GraphBuilder
from dssl_sklearn.estimators.card import card_path
from dssl_sklearn.estimators.citations import BIBTEX
from dssl_sklearn.estimators.record import data_fingerprint
from dssl_sklearn.exceptions import InvalidInputError


@pytest.fixture(scope="module")
def model(elastic):
    y = pd.Series(elastic[1][:20], name="log10_K")
    return DSSLRegressor(pretrained="mp", max_epochs=2, random_state=0, early_stopping=True).fit(
        elastic[0][:20], y
    )


def saved_card(estimator, folder):
    estimator.save(folder / "w.safetensors")
    return json.loads((folder / "w.json").read_text(encoding="utf-8"))


class TestCard:
    def test_tells_the_run(self, model, tmp_path):
        card = saved_card(model, tmp_path)
        assert {"torch", "pymatgen", "scikit-learn", "skorch", "python"} <= card["versions"].keys()
        assert card["params"]["max_epochs"] == 2
        assert card["seed"] == model.net_.seed
        assert card["data"]["n_labels"] == 20
        assert card["data"]["targets"] == ["log10_K"]
        assert card["starts_from"]["weights"] == "mp"
        assert card["splits"]["validation_fraction"] == 0.1
        assert card["scores"]["train_loss"]["last"] == model.history_[-1, "train_loss"]
        assert card["scores"]["valid_loss"]["best"] == min(model.history_[:, "valid_loss"])
        assert card["seconds_of_training"] > 0
        assert card["license"].startswith("CC-BY")
        assert list(card["citations"]) == ["dssl", "gated", "materials_project"]

    def test_is_not_needed_and_comes_again(self, model, tmp_path, elastic):
        card = saved_card(model, tmp_path)
        (tmp_path / "w.json").unlink()
        loaded = DSSLRegressor.load(tmp_path / "w.safetensors")
        np.testing.assert_array_equal(loaded.predict(elastic[0][:3]), model.predict(elastic[0][:3]))
        again = saved_card(loaded, tmp_path)
        assert {k: again[k] for k in ("data", "starts_from", "scores", "citations")} == {
            k: card[k] for k in ("data", "starts_from", "scores", "citations")
        }

    def test_of_a_pretrainer_without_source_has_no_license(self, fitted_pretrainer, tmp_path):
        card = saved_card(fitted_pretrainer, tmp_path)
        assert card["license"] is None
        assert card["data"]["n_labels"] is None
        assert card["objectives"]

    def test_leaves_other_files_alone(self, fitted_pretrainer, tmp_path):
        (tmp_path / "w.json").write_text('{"mine": 1}')
        with pytest.warns(UserWarning, match="no run card written"):
            fitted_pretrainer.save(tmp_path / "w.safetensors")
        assert (tmp_path / "w.json").read_text() == '{"mine": 1}'
        assert sorted(path.name for path in tmp_path.iterdir()) == ["w.json", "w.safetensors"]

    def test_never_has_the_name_of_the_weights(self):
        assert card_path("a/w.safetensors").name == "w.json"
        assert card_path("w").name == "w.json"
        assert card_path("w.json").name == "w.json.json"


class TestFingerprint:
    def test_depends_on_content_not_on_order(self, elastic):
        builder = GraphBuilder(8.0, 12)
        X, y = elastic[0][:6], elastic[1][:6]
        one = data_fingerprint(builder.dataset(X), y)
        assert one == data_fingerprint(builder.dataset(X[::-1]), y[::-1])
        others = [
            data_fingerprint(builder.dataset(X), y[::-1]),
            data_fingerprint(builder.dataset(X[:5]), y[:5]),
            data_fingerprint(builder.dataset([*X[:5], elastic[0][7]]), y),
            data_fingerprint(builder.dataset(X)),
        ]
        assert len({one, *others}) == 5


class TestCite:
    @pytest.mark.parametrize(
        "estimator, keys",
        [
            (DSSLRegressor(), ["dssl", "gated"]),
            (DSSLRegressor(recipe="paper"), ["dssl", "deeper_gatgnn"]),
            (DSSLPretrainer(pretrained="mp"), ["dssl", "gated", "materials_project"]),
            (
                DSSLClassifier(pretrained="mp-distilled"),
                ["dssl", "gated", "materials_project", "chgnet"],
            ),
        ],
        ids=repr,
    )
    def test_names_what_would_be_used(self, estimator, keys, capsys):
        text = estimator.cite()
        assert text == "\n\n".join(BIBTEX[key] for key in keys)
        assert capsys.readouterr().out == text + "\n"

    def test_names_what_was_used(self, model, tiny, elastic):
        assert "jain2013materialsproject" in model.cite()
        pretrainer = DSSLPretrainer(**tiny, objectives="microproperty").fit(elastic[0][:12])
        assert "jin2023atomic" in pretrainer.cite()
        assert "jin2023atomic" not in DSSLPretrainer().cite()

    def test_data_sets_are_told(self):
        assert "dunn2020matbench" in DSSLRegressor().cite(data="matbench")
        assert "dejong2015elastic" in DSSLRegressor().cite(data=["elasticity"])
        with pytest.raises(InvalidInputError, match="did you mean 'matbench'"):
            DSSLRegressor().cite(data="matbnch")

    def test_entries_are_balanced(self):
        for entry in BIBTEX.values():
            assert entry.count("{") == entry.count("}")
            assert entry.startswith("@article{")
            assert "doi     = {10." in entry
