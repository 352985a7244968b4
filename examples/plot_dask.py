"""
Search on a Dask cluster
========================

Every search of scikit-learn runs on a Dask cluster through joblib, on this machine or on many.
Here a local one is started. Install it with ``pip install "dssl_sklearn[dask]"``.
"""

# %%
# A cluster and a search
# ----------------------
# Workers are processes of one thread each. Graphs are built once, here, and travel faster than
# structures. The main part is guarded, since workers import this file.
from __future__ import annotations

import joblib
import pandas as pd
from distributed import Client, LocalCluster
from sklearn.model_selection import GridSearchCV

from dssl_sklearn import DSSLRegressor, StructureToGraph
from dssl_sklearn.datasets import load_elasticity


def run() -> pd.DataFrame:
    """Search on two workers."""
    structures, y = load_elasticity(target="log10_K_VRH", return_X_y=True)
    graphs = list(StructureToGraph().fit_transform(structures[:40]))
    search = GridSearchCV(
        DSSLRegressor(pretrained="mp", max_epochs=2, random_state=0),
        {"lr": [1e-3, 2e-3], "freeze_epochs": [0, 1]},
        cv=2,
        scoring="neg_mean_absolute_error",
    )
    cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
    with cluster, Client(cluster), joblib.parallel_config("dask"):
        search.fit(graphs, y[:40])
    print("best:", search.best_params_)
    return pd.DataFrame(search.cv_results_)


# %%
# The scores
# ----------
if __name__ == "__main__":
    results = run()
    columns = ["param_lr", "param_freeze_epochs", "mean_test_score", "rank_test_score"]
    print(results[columns].round(4).to_string(index=False))
    labels = results["param_lr"].astype(str) + ", " + results["param_freeze_epochs"].astype(str)
    ax = (-results["mean_test_score"]).set_axis(labels).plot.barh(figsize=(5, 3))
    ax.set(xlabel="MAE of log10(K / GPa)", ylabel="lr, freeze_epochs")
