import numpy as np
import pytest
import torch

from dssl_sklearn.datasets import load_elasticity


def test_a_tuned_svr_sees_its_training_rows_alone():
    from accuracy.classical import SVR_GRID, make_svr

    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 4))
    y = np.sin(X[:, 0])
    model = make_svr(0).fit(X[:50], y[:50])
    assert np.abs(model.predict(X[50:]) - y[50:]).mean() < 0.3
    assert model.chosen_.pop("log") == 0
    for name, value in model.chosen_.items():
        assert min(abs(value - known) for known in SVR_GRID[name]) < 1e-12
    assert model.search_.best_estimator_.transformer_.mean_[0] == pytest.approx(y[:50].mean())


def test_baselines_take_the_scale_that_suits():
    from accuracy.classical import BestScale, make_svr
    from sklearn.linear_model import LinearRegression

    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 3))
    smooth = X[:, 0] + X[:, 1]
    for model in (make_svr(0), BestScale(LinearRegression())):
        assert model.fit(X, np.exp(2 * smooth)).chosen_["log"] == 1
        assert (model.predict(X) > 0).all()
        assert model.fit(X, smooth + 10).chosen_["log"] == 0
        assert model.fit(X, smooth).chosen_["log"] == 0


def test_clipped_predictions_stay_within_the_training_targets():
    from accuracy.classical import make_ridge

    X = np.linspace(0, 1, 20)[:, None]
    model = make_ridge(0).fit(X, X[:, 0])
    assert model.predict([[5.0], [-5.0]]).tolist() == [1.0, 0.0]


def test_settings_change_the_configuration():
    from dataclasses import replace

    from accuracy.methods import classical_methods

    methods = classical_methods()
    configs = {method.config for method in methods.values()}
    assert len(configs) == len(methods)
    svr = methods["svr"]
    assert replace(svr, settings={**svr.settings, "inner_folds": 3}).config != svr.config
    assert replace(svr, title="other").config == svr.config


def test_cgcnn_embeds_sites_and_reaches_every_weight():
    from accuracy.cgcnn import CGCNNBackbone

    from dssl_sklearn import DSSLRegressor

    structures, y = load_elasticity(target="log10_K_VRH", return_X_y=True)
    torch.manual_seed(0)
    backbone = CGCNNBackbone(width=8, n_layers=2)
    model = DSSLRegressor(backbone=backbone, max_epochs=2, device="cpu", random_state=0)
    model.fit(structures[:16], y[:16])
    trained = model.net_.module_.encoder.backbone
    for (name, before), after in zip(
        backbone.named_parameters(), trained.parameters(), strict=True
    ):
        # Nothing is masked in fine-tuning; a bias before a batch normalization has no effect.
        if name != "sites.masked" and not name.endswith("linear.bias"):
            assert not torch.equal(before, after), name
    assert np.isfinite(model.predict(structures[16:18])).all()


def test_neighborhoods_do_not_depend_on_the_cell_and_know_a_cubic_site():
    pytest.importorskip("matminer")
    from accuracy.neighborhood import neighborhood_features, neighborhood_labels
    from pymatgen.core import Lattice, Structure

    crystal = Structure(Lattice.cubic(3.2), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    found = neighborhood_features(crystal)
    named = dict(zip(neighborhood_labels(), found, strict=True))
    np.testing.assert_allclose(neighborhood_features(crystal * (2, 1, 1)), found, atol=1e-8)
    shortest = 3.2 * 3**0.5 / 2
    assert named["mean shortest distance"] == pytest.approx(shortest)
    assert named["mean bond order q2"] == pytest.approx(0, abs=1e-6)
    # 8 neighbors at the shortest distance, 6 at that of the lattice, and the tail beyond.
    inner = 8 + 6 * (shortest / 3.2) ** 8
    assert inner < named["mean effective coordination number"] < inner + 0.6


def test_a_crystal_that_fails_gives_missing_features():
    from accuracy.features import _featurized

    class Featurizer:
        def featurize(self, item):
            return [1 / item, 2.0]

        def feature_labels(self):
            return ["a", "b"]

    found = _featurized(Featurizer(), [1, 0])
    np.testing.assert_array_equal(found, [[1, 2], [np.nan, np.nan]])
