"""
Tracking with MLflow
====================

Log parameters, every loss term and the saved model to MLflow, through skorch's callback, into a
SQLite file. Needs ``pip install "dssl_sklearn[mlflow]"``; no server, no network.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from skorch.callbacks import MlflowLogger

from dssl_sklearn import DSSLRegressor
from dssl_sklearn.datasets import load_elasticity

try:
    import mlflow
except ImportError as error:
    raise SystemExit('This example needs MLflow: pip install "dssl_sklearn[mlflow]"') from error

structures, y = load_elasticity(target="log10_K_VRH", return_X_y=True)
train, y_train, test, y_test = structures[:150], y[:150], structures[150:300], y[150:300]

folder = Path(tempfile.mkdtemp())
store = f"sqlite:///{folder / 'mlflow.db'}"
mlflow.set_tracking_uri(store)
mlflow.create_experiment("bulk modulus", artifact_location=(folder / "artifacts").as_uri())
mlflow.set_experiment("bulk modulus")

# %%
# A run for each model
# --------------------
# The logger finds the active run. ``create_artifact=False`` leaves out skorch's pickles:
# `DSSLRegressor.save` writes weights without pickle, with the run card beside them.
logger = MlflowLogger(create_artifact=False, terminate_after_train=False)
for weights in (None, "mp"):
    with mlflow.start_run(run_name=weights or "scratch"):
        model = DSSLRegressor(
            pretrained=weights, max_epochs=10, callbacks=[logger], random_state=0
        ).fit(train, y_train)
        mlflow.log_params({"pretrained": weights, "max_epochs": 10, "n_labels": len(train)})
        mlflow.log_metric("test_r2", model.score(test, y_test))
        model.save(folder / "model.safetensors")
        mlflow.log_artifact(str(folder / "model.safetensors"))
        mlflow.log_artifact(str(folder / "model.json"))

print(f"look at it with: mlflow ui --backend-store-uri {store}")

# %%
# What was logged
# ---------------
runs = mlflow.search_runs(experiment_names=["bulk modulus"], output_format="list")
for run in runs:
    logged = ", ".join(f"{name} {value:.3g}" for name, value in sorted(run.data.metrics.items()))
    print(f"{run.info.run_name}: {logged}")
    history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "train_loss")
    print("  train_loss by epoch:", [round(point.value, 3) for point in history])
