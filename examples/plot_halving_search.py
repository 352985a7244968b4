"""
Search settings by successive halving
=====================================

Scikit-learn's ``HalvingRandomSearchCV`` tries many settings of a fine-tuning with few epochs, and
goes on with the better half of them and more epochs. Folds keep polymorphs together.
"""

# %%
# Data and search
# ---------------
# Sixty bulk moduli, on which the shipped weights are fine-tuned, keep this example short. The
# resource is the number of epochs; ``min_resources`` and ``max_resources`` say how few and how
# many.
from __future__ import annotations

import pandas as pd
from sklearn.experimental import enable_halving_search_cv  # noqa: F401 - makes the import below work
from sklearn.model_selection import HalvingRandomSearchCV

from dssl_sklearn import DSSLRegressor
from dssl_sklearn.datasets import load_elasticity
from dssl_sklearn.model_selection import FormulaKFold, fine_tuning_grid

structures, y = load_elasticity(target="log10_K_VRH", return_X_y=True)
search = HalvingRandomSearchCV(
    DSSLRegressor(pretrained="mp", random_state=0),
    fine_tuning_grid(),
    n_candidates=4,
    resource="max_epochs",
    min_resources=2,
    max_resources=8,
    factor=2,
    cv=FormulaKFold(2),
    scoring="neg_mean_absolute_error",
    random_state=0,
)
search.fit(structures[:60], y[:60])

# %%
# What survived
# -------------
# Each iteration halves the candidates and doubles the epochs.
results = pd.DataFrame(search.cv_results_)
settings = [name for name in search.cv_results_ if name.startswith("param_")]
columns = ["iter", "n_resources", *settings, "mean_test_score"]
print(results[columns].round(4).to_string(index=False))
print("best:", search.best_params_)

# %%
# The best setting over the iterations
# ------------------------------------
best = -results.groupby("n_resources")["mean_test_score"].max()
ax = best.plot(marker="o", figsize=(5, 3))
ax.set(xlabel="epochs", ylabel="MAE of log10(K / GPa), best candidate")
