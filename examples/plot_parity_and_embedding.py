"""
Parity, training and embeddings
===============================

Fine-tune shipped weights on a few hundred bulk moduli, then look at the predictions, the training,
the map of the embeddings, and the elements that the network gets wrong.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split

from dssl_sklearn import DSSLPretrainer, DSSLRegressor
from dssl_sklearn.datasets import load_elasticity
from dssl_sklearn.plotting import (
    ElementErrorDisplay,
    EmbeddingMapDisplay,
    LearningCurveDisplay,
    ParityDisplay,
    TrainingCurvesDisplay,
)

structures, y = load_elasticity(target="log10_K_VRH", return_X_y=True)
train, test, y_train, y_test = train_test_split(structures, y, train_size=300, random_state=0)
model = DSSLRegressor(pretrained="mp", max_epochs=15, random_state=0).fit(train, y_train)

# %%
# Parity
# ------
# Points are colored by their density; the histogram holds the errors.
NAME, UNIT = r"$\log_{10} K$", "log10 GPa"
ParityDisplay.from_estimator(model, test, y_test, target_name=NAME, unit=UNIT)

# %%
# Training curves
# ---------------
# Pretraining has several losses; each has a panel, and so has the effective rank of the embedding.
pretrainer = DSSLPretrainer(max_epochs=5, random_state=0).fit(train)
TrainingCurvesDisplay.from_estimator(pretrainer)

# %%
# Map of the embeddings
# ---------------------
# The shipped weights "mp" never saw the bulk modulus of a compound (those of the elements are among
# their inputs). Still, crystals that lie close to each other on the map are about equally stiff.
shipped = DSSLPretrainer.from_pretrained("mp")
EmbeddingMapDisplay.from_estimator(
    shipped, structures, color=y, color_label=r"$\log_{10} K$ (log10 GPa)"
)

# %%
# Error per element
# -----------------
# A mean over few crystals says little: leave those elements out.
ElementErrorDisplay.from_estimator(model, test, y_test, target_name=NAME, unit=UNIT, min_count=5)

# %%
# Learning curve
# --------------
# Any table with the columns ``method``, ``n_labels`` and ``mae`` will do, such as the ``folds`` of
# `dssl_sklearn.evaluation.compare_pretraining`.
rows = []
for n_labels in (50, 100, 200):
    for draw in range(2):
        chosen = np.random.default_rng(draw).choice(len(train), n_labels, replace=False)
        for method, weights in (("from scratch", None), ("pretrained", "mp")):
            candidate = DSSLRegressor(pretrained=weights, max_epochs=8, random_state=draw)
            candidate.fit([train[row] for row in chosen], y_train[chosen])
            error = np.abs(candidate.predict(test[:300]) - y_test[:300]).mean()
            rows.append({"method": method, "n_labels": n_labels, "mae": error})
LearningCurveDisplay.from_frame(pd.DataFrame(rows), target_name=NAME, unit=UNIT)
