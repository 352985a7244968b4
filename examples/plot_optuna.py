"""
Search settings with Optuna
===========================

Optuna proposes settings from what it has seen so far. An objective is a cross-validation; the
estimators need nothing special. Install it with ``pip install "dssl_sklearn[search]"``.
"""

# %%
# An objective
# ------------
# The settings are those of a support vector regression on pretrained embeddings, which are computed
# once: no label takes part in them.
from __future__ import annotations

import optuna
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR

from dssl_sklearn import DSSLPretrainer, DSSLRegressor
from dssl_sklearn.datasets import load_elasticity

optuna.logging.set_verbosity(optuna.logging.WARNING)
structures, y = load_elasticity(target="log10_K_VRH", return_X_y=True)
structures, y = structures[:200], y[:200]
embeddings = DSSLPretrainer.from_pretrained("mp").transform(structures)


def of_embeddings(trial: optuna.Trial) -> float:
    """Mean absolute error of a support vector regression."""
    model = make_pipeline(
        StandardScaler(),
        SVR(
            C=trial.suggest_float("C", 0.1, 100, log=True),
            epsilon=trial.suggest_float("epsilon", 0.005, 0.2, log=True),
        ),
    )
    scores = cross_val_score(model, embeddings, y, scoring="neg_mean_absolute_error")
    return float(-scores.mean())


study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))
study.optimize(of_embeddings, n_trials=20)
print(f"MAE {study.best_value:.4f} with {study.best_params}")

# %%
# The course of the study
# -----------------------
frame = study.trials_dataframe()
ax = frame["value"].plot(style=".", label="trial", figsize=(5, 3))
frame["value"].cummin().plot(ax=ax, label="best so far")
ax.set(xlabel="trial", ylabel="MAE of log10(K / GPa)")
ax.legend()


# %%
# A network
# ---------
# Fine-tuning is searched in the same way; two trials of two epochs show how.
def of_network(trial: optuna.Trial) -> float:
    """Mean absolute error of a fine-tuned network."""
    model = DSSLRegressor(
        pretrained="mp",
        lr=trial.suggest_float("lr", 5e-4, 5e-3, log=True),
        freeze_epochs=trial.suggest_int("freeze_epochs", 0, 1),
        max_epochs=2,
        random_state=0,
    )
    scores = cross_val_score(
        model, structures[:60], y[:60], cv=2, scoring="neg_mean_absolute_error"
    )
    return float(-scores.mean())


study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))
study.optimize(of_network, n_trials=2)
print(f"MAE {study.best_value:.4f} with {study.best_params}")
