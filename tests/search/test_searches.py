import numpy as np
import pytest
from sklearn.experimental import enable_halving_search_cv  # noqa: F401 - it makes the import work
from sklearn.model_selection import HalvingRandomSearchCV, cross_val_score

from dssl_sklearn.model_selection import FormulaKFold


def test_halving_over_structures(regressor, labeled):
    search = HalvingRandomSearchCV(
        regressor,
        {"lr": [1e-3, 3e-3, 1e-2], "freeze_epochs": [0, 1]},
        n_candidates=3,
        min_resources=10,
        factor=2,
        cv=2,
        scoring="neg_mean_absolute_error",
        random_state=0,
    ).fit(*labeled)
    assert search.n_iterations_ == 2
    assert search.n_resources_ == [10, 20]
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.predict(labeled[0]).shape == (24,)


def test_halving_over_epochs(regressor, labeled):
    search = HalvingRandomSearchCV(
        regressor,
        {"lr": [1e-3, 1e-2]},
        n_candidates=2,
        resource="max_epochs",
        min_resources=1,
        max_resources=2,
        factor=2,
        cv=FormulaKFold(2),
        scoring="neg_mean_absolute_error",
        random_state=0,
    ).fit(*labeled)
    assert search.best_params_["max_epochs"] == 2
    assert search.best_estimator_.history_[-1]["epoch"] == 2


def test_optuna_study(regressor, labeled):
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)

    def objective(trial):
        params = {"lr": trial.suggest_float("lr", 1e-4, 1e-2, log=True)}
        scores = cross_val_score(
            regressor.set_params(**params), *labeled, cv=2, scoring="neg_mean_absolute_error"
        )
        return -scores.mean()

    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))
    study.optimize(objective, n_trials=3)
    values = [trial.value for trial in study.trials]
    assert np.isfinite(values).all()
    assert study.best_value == min(values)
    # The study repeats what the estimator itself gives.
    assert objective(optuna.trial.FixedTrial(study.best_params)) == pytest.approx(study.best_value)
