"""Files of fitted estimators: what comes back is what was saved, and works on."""

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from sklearn.base import clone
from skorch.callbacks import Callback, EpochScoring

from dssl_sklearn import DSSLClassifier, DSSLPretrainer, DSSLRegressor
from dssl_sklearn.exceptions import WeightsError
from dssl_sklearn.objectives import Contrastive, MaskedAtoms, Microproperty
from dssl_sklearn.training.weights import read_weights, write_weights


@pytest.fixture(scope="module")
def corpus(elastic):
    return elastic[0][:24]


@pytest.fixture(scope="module")
def new(elastic):
    return elastic[0][30:36]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights.safetensors"


def there_and_back(estimator, path):
    assert estimator.save(path) is None
    return type(estimator).load(path)


class TestPretrainer:
    @pytest.fixture(
        params=[
            {},
            {"objectives": ["mask", "denoise"], "mask_ratio": 0.3},
            {"objectives": {"mask": 0.5, "contrastive": 1.0}, "contrastive_loss": "vicreg"},
            {"objectives": [("mask", 0.5), Contrastive(projector=(16,))]},
            {"objectives": MaskedAtoms(mask_ratio=0.4)},
            {"objectives": "microproperty", "microproperty": {26: 1.0, "O": 2.0}},
            {"objectives": "microproperty", "microproperty": {"Fe": 1.0, "O": 2.0}},
            {"objectives": "microproperty", "microproperty": np.arange(103.0)},
            {"readout": "attention", "lr": np.float64(2e-3), "max_epochs": np.int64(1)},
            {"early_stopping": True, "validation_fraction": 0.25},
        ],
        ids=str,
    )
    def fitted(self, request, tiny, corpus):
        return DSSLPretrainer(**{**tiny, **request.param}).fit(corpus)

    def test_comes_back_whole(self, fitted, path, new):
        loaded = there_and_back(fitted, path)
        np.testing.assert_array_equal(loaded.transform(new), fitted.transform(new))
        assert loaded.score(new) == fitted.score(new)
        assert loaded.objectives_ == fitted.objectives_
        assert loaded.architecture_ == fitted.architecture_
        assert loaded.n_features_out_ == fitted.n_features_out_
        assert loaded.history_[:, "train_loss"] == fitted.history_[:, "train_loss"]
        assert list(loaded.get_feature_names_out()) == list(fitted.get_feature_names_out())

    def test_learns_anew_like_the_one_that_was_saved(self, fitted, path, corpus, new):
        loaded = there_and_back(fitted, path)
        expected = fitted.transform(new)
        np.testing.assert_array_equal(loaded.fit(corpus).transform(new), expected)

    def test_is_as_good_a_start(self, fitted, path, corpus, new):
        loaded = there_and_back(fitted, path)
        found = [
            DSSLPretrainer(pretrained=start, max_epochs=1, random_state=0).fit(corpus)
            for start in (fitted, loaded, path)
        ]
        for other in found[1:]:
            np.testing.assert_array_equal(other.transform(new), found[0].transform(new))
            assert other.objectives_ == fitted.objectives_

    def test_an_embedder_is_as_good_a_start(self, tiny, corpus, path, new):
        embedder = DSSLPretrainer(**{**tiny, "max_epochs": 0}).fit(corpus)
        embedder.save(path)
        found = [
            DSSLPretrainer(pretrained=start, max_epochs=1, random_state=0).fit(corpus)
            for start in (embedder, path)
        ]
        assert found[0].history_[:, "train_loss"] == found[1].history_[:, "train_loss"]
        np.testing.assert_array_equal(found[0].transform(new), found[1].transform(new))

    def test_comes_back_twice(self, fitted, path, new):
        once = there_and_back(fitted, path)
        np.testing.assert_array_equal(
            there_and_back(once, path).transform(new), fitted.transform(new)
        )

    def test_plain_parameters_are_kept(self, tiny, corpus, path):
        params = {**tiny, "mask_ratio": 0.3, "objectives": ["mask"], "schedule": "constant"}
        loaded = there_and_back(DSSLPretrainer(**params).fit(corpus), path)
        kept = loaded.get_params()
        assert {name: kept[name] for name in params if name != "objectives"} == {
            name: value
            for name, value in params.items()
            if name not in ("objectives", "mask_ratio")
        } | {"mask_ratio": kept["mask_ratio"]}
        assert loaded.objectives_ == [MaskedAtoms(mask_ratio=0.3)]

    def test_a_device_is_not_kept(self, tiny, corpus, path):
        pretrainer = DSSLPretrainer(**tiny, device="cpu", n_jobs=1).fit(corpus)
        loaded = there_and_back(pretrainer, path)
        assert (loaded.device, loaded.n_jobs) == ("auto", None)

    def test_paper_recipe(self, tiny_paper, corpus, path, new):
        pretrainer = DSSLPretrainer(**tiny_paper).fit(corpus)
        loaded = there_and_back(pretrainer, path)
        np.testing.assert_array_equal(loaded.transform(new), pretrainer.transform(new))
        assert loaded.recipe == "paper"

    def test_of_a_site_property(self, tiny, corpus, path, new):
        charged = [structure.copy() for structure in corpus]
        for structure in charged:
            structure.add_site_property("charge", [0.5 * z for z in structure.atomic_numbers])
        params = {**tiny, "objectives": "microproperty", "microproperty": "charge"}
        pretrainer = DSSLPretrainer(**params).fit(charged)
        loaded = there_and_back(pretrainer, path)
        assert loaded.objectives_ == [Microproperty(values="charge")]
        assert loaded.score(charged) == pretrainer.score(charged)


class TestPredictors:
    @pytest.fixture(
        params=[
            {},
            {"readout": "attention"},
            {"head_params": {"hidden": 5, "n_hidden_layers": 2}},
            {"net_params": {"module__hidden": 5, "optimizer__weight_decay": 0.5}},
            {"early_stopping": True, "validation_fraction": 0.25, "freeze_epochs": 1},
            {"recipe": "paper", "backbone_params": {"width": 8, "n_layers": 1, "n_heads": 2}},
        ],
        ids=str,
    )
    def params(self, request, tiny):
        return {**tiny, **request.param}

    @pytest.mark.parametrize("shape", [(24,), (24, 1), (24, 2)])
    def test_regressor_comes_back_whole(self, params, corpus, new, path, shape):
        y = np.random.default_rng(0).normal(50, 20, size=shape)
        model = DSSLRegressor(**params).fit(corpus, y)
        loaded = there_and_back(model, path)
        np.testing.assert_array_equal(loaded.predict(new), model.predict(new))
        assert loaded.history_[:, "train_loss"] == model.history_[:, "train_loss"]

    @pytest.mark.parametrize("n_hidden_layers", [0, 2])
    def test_files_of_a_single_head_from_before_there_were_several(
        self, tiny, corpus, new, path, n_hidden_layers
    ):
        head = {"hidden": 5, "n_hidden_layers": n_hidden_layers}
        y = np.arange(24.0)
        model = DSSLRegressor(**tiny, readout="mean", n_members=1, head_params=head).fit(corpus, y)
        model.save(path)
        tensors, config = read_weights(path)
        del config["head"]["n_members"], config["params"]["n_members"]
        for layer in range(n_hidden_layers + 1):
            old = f"model.head.layers.{2 * layer}"
            tensors[f"{old}.weight"] = tensors.pop(f"model.head.weights.{layer}")[0].T.contiguous()
            tensors[f"{old}.bias"] = tensors.pop(f"model.head.biases.{layer}")[0, 0]
        write_weights(path, tensors, config)
        loaded = DSSLRegressor.load(path)
        np.testing.assert_array_equal(loaded.predict(new), model.predict(new))

    @pytest.mark.parametrize(
        "labels", [["soft", "stiff"], [False, True], [0, 1], [-3, 12], [0.0, 2.0]]
    )
    def test_classifier_comes_back_whole(self, tiny, corpus, new, path, labels):
        y = np.array(labels)[np.arange(24) % 2]
        model = DSSLClassifier(**tiny).fit(corpus, y)
        loaded = there_and_back(model, path)
        np.testing.assert_array_equal(loaded.predict_proba(new), model.predict_proba(new))
        np.testing.assert_array_equal(loaded.predict(new), model.predict(new))
        assert loaded.classes_.dtype == model.classes_.dtype

    def test_learns_anew_like_the_one_that_was_saved(self, tiny, corpus, new, path):
        y = np.arange(24.0)
        model = DSSLRegressor(**tiny).fit(corpus, y)
        loaded = there_and_back(model, path).fit(corpus, y)
        np.testing.assert_array_equal(loaded.predict(new), model.predict(new))

    def test_names_of_shipped_weights_are_kept(self, corpus, new, path):
        model = DSSLRegressor(pretrained="mp", max_epochs=1, random_state=0)
        model.fit(corpus, range(24)).save(path)
        loaded = DSSLRegressor.load(path)
        assert loaded.pretrained == "mp"
        again = clone(loaded).fit(corpus, range(24))
        np.testing.assert_array_equal(again.predict(new), model.predict(new))

    def test_pretrained_ones_stand_on_their_own(self, fitted_pretrainer, corpus, new, path):
        model = DSSLRegressor(pretrained=fitted_pretrainer, max_epochs=1).fit(corpus, range(24))
        loaded = there_and_back(model, path)
        assert loaded.pretrained is None
        np.testing.assert_array_equal(loaded.predict(new), model.predict(new))


class TestHistory:
    def test_keeps_what_json_can_hold(self, tiny, corpus, path):
        class Odd(Callback):
            def on_epoch_end(self, net, **kwargs):
                net.history.record("weights", next(net.module_.parameters()).detach())
                net.history.record("count", np.int64(3))

        model = DSSLRegressor(**tiny, callbacks=[Odd()]).fit(corpus, range(24))
        loaded = there_and_back(model, path)
        assert loaded.history_[:, "count"] == [3, 3]
        assert "weights" not in loaded.history_[-1]

    def test_with_a_score_of_skorch(self, tiny, corpus, path):
        def n_parameters(net, *_):
            return sum(p.numel() for p in net.module_.parameters())

        scoring = EpochScoring(n_parameters, name="size", on_train=True, use_caching=False)
        model = DSSLRegressor(**tiny, callbacks=[scoring]).fit(corpus, range(24))
        assert there_and_back(model, path).history_[:, "size"] == model.history_[:, "size"]


class TestFile:
    def test_describes_itself(self, fitted_pretrainer, path):
        fitted_pretrainer.save(path)
        with safe_open(path, framework="pt") as file:
            config = json.loads(file.metadata()["dssl_sklearn"])
        assert config["class"] == "DSSLPretrainer"
        assert config["architecture"]["backbone"] == "gated"
        assert config["objectives"][0]["name"] == "descriptors"
        assert config["versions"]["torch"] == torch.__version__
        assert "batches" not in config["history"][0]

    def test_of_another_class_is_refused(self, fitted_pretrainer, path):
        fitted_pretrainer.save(path)
        for cls in (DSSLRegressor, DSSLClassifier):
            with pytest.raises(WeightsError, match=f"holds a DSSLPretrainer, not a {cls.__name__}"):
                cls.load(path)

    def test_that_is_missing(self, tmp_path):
        for load in (DSSLPretrainer.load, DSSLPretrainer.from_pretrained, DSSLRegressor.load):
            with pytest.raises(WeightsError, match="nowhere"):
                load(tmp_path / "nowhere.safetensors")

    def test_of_a_predictor_is_no_start(self, tiny, corpus, path):
        DSSLRegressor(**tiny).fit(corpus, range(24)).save(path)
        with pytest.raises(WeightsError, match="holds a DSSLRegressor, not a DSSLPretrainer"):
            DSSLRegressor(pretrained=path).fit(corpus, range(24))

    def test_of_another_program_is_refused(self, path):
        save_file({"weight": torch.zeros(2)}, path)
        with pytest.raises(WeightsError, match="not written by dssl_sklearn"):
            DSSLPretrainer.load(path)

    @pytest.mark.parametrize(
        "change",
        [
            lambda config: config.pop("architecture"),
            lambda config: config.pop("seed"),
            lambda config: config["architecture"].update(backbone="unknown"),
            lambda config: config["architecture"].update(unknown=3),
            lambda config: config["architecture"]["backbone_params"].update(width=9),
            lambda config: config["params"].update(unknown=3),
            lambda config: config["params"].update(recipe="unknown"),
            lambda config: config["objectives"][0].update(name="unknown"),
            lambda config: config.update(objectives=[]),
        ],
    )
    def test_with_a_description_that_does_not_fit(self, fitted_pretrainer, path, change):
        fitted_pretrainer.save(path)
        tensors, config = read_weights(path)
        change(config)
        write_weights(path, tensors, config)
        with pytest.raises(WeightsError, match=r"weights\.safetensors.*not fit"):
            DSSLPretrainer.load(path)

    def test_that_cannot_be_written(self, fitted_pretrainer, tmp_path):
        with pytest.raises(WeightsError, match="cannot write"):
            fitted_pretrainer.save(tmp_path / "missing" / "w.safetensors")
