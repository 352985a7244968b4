"""The lines of DESIGN.md, section 1, as a user types them; local weights stand in for "mp"."""

import numpy as np
import pytest
from ase import Atoms
from pymatgen.io.ase import AseAtomsAdaptor
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR

from dssl_sklearn import DSSLPretrainer, DSSLRegressor
from dssl_sklearn.datasets import load_elasticity
from dssl_sklearn.estimators import pretrained, pretrainer
from dssl_sklearn.exceptions import InvalidInputError, WeightsError


@pytest.fixture(scope="module")
def data():
    structures, y = load_elasticity(target="log10_K_VRH", return_X_y=True)
    return structures[:24], y[:24]


@pytest.fixture(scope="module")
def weights(fitted_pretrainer, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "mp.safetensors"
    fitted_pretrainer.save(path)
    return path


@pytest.fixture
def mp(weights, monkeypatch):
    """Make tiny weights known as "mp"."""
    for module in (pretrained, pretrainer):
        monkeypatch.setattr(module, "shipped_weights", lambda: {"mp": weights})
    return "mp"


def quick(estimator):
    return estimator.set_params(max_epochs=1, random_state=0)


def test_cross_validation_of_a_regressor_with_shipped_weights(mp, data):
    structures, y = data
    scores = cross_val_score(
        quick(DSSLRegressor(pretrained=mp)), structures, y, scoring="neg_mean_absolute_error"
    )
    assert scores.shape == (5,)
    assert (scores < 0).all()


def test_pretraining_and_embeddings(data):
    my_unlabeled_structures, structures = data[0][:12], data[0][12:]
    pretrainer = quick(DSSLPretrainer(random_state=0)).fit(my_unlabeled_structures)
    embeddings = pretrainer.transform(structures)
    assert embeddings.shape == (len(structures), pretrainer.n_features_out_)
    assert embeddings.dtype == np.float32
    model = make_pipeline(FrozenEstimator(pretrainer), StandardScaler(), SVR())
    assert model.fit(*data).predict(structures).shape == (12,)


def test_shipped_embeddings_into_a_support_vector_machine(mp, data, fitted_pretrainer):
    model = make_pipeline(DSSLPretrainer(pretrained=mp, max_epochs=0), StandardScaler(), SVR())
    model.fit(*data)
    np.testing.assert_array_equal(model[0].transform(data[0]), fitted_pretrainer.transform(data[0]))


def test_fine_tuning_the_whole_network(data, fitted_pretrainer, elastic):
    structures, y = data
    new = elastic[0][-3:]
    predicted = quick(DSSLRegressor(pretrained=fitted_pretrainer)).fit(structures, y).predict(new)
    assert predicted.shape == (3,)


def test_grid_search_in_two_processes(weights, data):
    # A path, since the stand-in for "mp" is unknown in other processes.
    search = GridSearchCV(
        quick(DSSLRegressor(pretrained=weights)),
        {"lr": [1e-3, 3e-4], "freeze_epochs": [0, 5]},
        n_jobs=2,
        cv=KFold(2),
        error_score="raise",
    ).fit(*data)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_save_and_load(data, fitted_pretrainer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fitted_pretrainer.save("mine.safetensors")
    loaded = DSSLPretrainer.load("mine.safetensors")
    np.testing.assert_array_equal(loaded.transform(data[0]), fitted_pretrainer.transform(data[0]))


class TestPretrained:
    """What `pretrained` takes: a name, a path, a fitted pretrainer, an unfitted one, or None."""

    @pytest.fixture(params=["name", "text", "path", "fitted", "unfitted", "none"])
    def value(self, request, mp, weights, fitted_pretrainer, tiny):
        values = {
            "name": mp,
            "text": str(weights),
            "path": weights,
            "fitted": fitted_pretrainer,
            "unfitted": DSSLPretrainer(**tiny),
            "none": None,
        }
        return request.param, values[request.param]

    def test_of_a_regressor(self, value, data, new):
        kind, pretrained = value
        model = quick(DSSLRegressor(pretrained=pretrained)).fit(*data)
        assert model.predict(new).shape == (len(new),)
        assert hasattr(model, "pretrainer_") == (kind == "unfitted")

    def test_names_paths_and_objects_give_the_same(self, mp, weights, fitted_pretrainer, data, new):
        found = [
            quick(DSSLRegressor(pretrained=pretrained)).fit(*data).predict(new)
            for pretrained in (mp, weights, str(weights), fitted_pretrainer)
        ]
        for other in found[1:]:
            np.testing.assert_array_equal(other, found[0])

    def test_training_goes_on_from_given_weights(self, mp, data, fitted_pretrainer):
        embeddings = fitted_pretrainer.transform(data[0])
        same = DSSLPretrainer(pretrained=mp, max_epochs=0, batch_size=8).fit(data[0])
        np.testing.assert_array_equal(same.transform(data[0]), embeddings)
        assert same.score(data[0]) == fitted_pretrainer.score(data[0])
        further = DSSLPretrainer(pretrained=mp, max_epochs=1, lr=1e-6).fit(data[0])
        moved = further.transform(data[0])
        assert not np.array_equal(moved, embeddings)
        np.testing.assert_allclose(moved, embeddings, atol=1e-3)

    def test_from_pretrained(self, mp, data, fitted_pretrainer):
        found = DSSLPretrainer.from_pretrained(mp)
        np.testing.assert_array_equal(
            found.transform(data[0]), fitted_pretrainer.transform(data[0])
        )

    def test_unknown_names_list_the_known_ones(self, mp, data):
        for use in (
            lambda: DSSLPretrainer.from_pretrained("mp2"),
            lambda: DSSLRegressor(pretrained="mp2").fit(*data),
            lambda: DSSLPretrainer(pretrained="mp2").fit(data[0]),
        ):
            with pytest.raises(WeightsError, match=r"'mp2'.*\('mp'\)"):
                use()

    def test_what_contradicts_the_weights_is_an_error(self, mp, data, trained_class):
        for name, value in {
            "backbone": "deeper_gatgnn",
            "backbone_params": {"width": 16},
            "cutoff": 5.0,
            "max_neighbors": 6,
        }.items():
            estimator = trained_class(pretrained=mp, **{name: value})
            with pytest.raises(InvalidInputError, match=f"{name}=.*contradicts"):
                estimator.fit(data[0], data[1] > 2)
        with pytest.raises(InvalidInputError, match=r"readout=.*contradicts"):
            DSSLPretrainer(pretrained=mp, readout="mean_std").fit(data[0])

    def test_what_agrees_with_the_weights_is_fine(self, mp, data, tiny):
        agreeing = {"backbone": "gated", "cutoff": 8, "max_neighbors": 12, "readout": "mean"}
        agreeing["backbone_params"] = {"width": tiny["backbone_params"]["width"]}
        model = quick(DSSLRegressor(pretrained=mp, **agreeing)).fit(*data)
        plain = quick(DSSLRegressor(pretrained=mp, readout="mean")).fit(*data)
        np.testing.assert_array_equal(model.predict(data[0]), plain.predict(data[0]))


@pytest.mark.filterwarnings("ignore:Issues encountered while parsing CIF")
def test_ase_atoms_and_paths_of_cifs(tmp_path, data, fitted_pretrainer):
    structures = data[0][:4]
    atoms = [AseAtomsAdaptor.get_atoms(structure) for structure in structures]
    assert isinstance(atoms[0], Atoms)
    paths = [tmp_path / f"{k}.cif" for k in range(4)]
    for structure, path in zip(structures, paths, strict=True):
        structure.to(filename=str(path))
    expected = fitted_pretrainer.transform(structures)
    np.testing.assert_allclose(fitted_pretrainer.transform(atoms), expected, atol=1e-5)
    np.testing.assert_allclose(fitted_pretrainer.transform(paths), expected, atol=1e-3)
