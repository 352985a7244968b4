"""
Trust in predictions
====================

How far off may a predicted bulk modulus be, and for which crystals should it not be used at all?
Intervals of stated coverage come from conformal prediction (MAPIE); an applicability domain tells
crystals like the training crystals from those out of reach.
"""

# %%
# Data
# ----
# 200 labeled crystals without fluorine, and others to predict, fluorides among them.
import matplotlib.pyplot as plt
import numpy as np
from pymatgen.core import Lattice, Structure
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR

from dssl_sklearn import DSSLPretrainer, DSSLRegressor
from dssl_sklearn.datasets import load_elasticity
from dssl_sklearn.uncertainty import ApplicabilityDomain, ConformalRegressor

structures, y = load_elasticity(target="log10_K_VRH", return_X_y=True)
order = np.random.default_rng(0).permutation(len(y))
without_fluorine = [row for row in order if "F" not in structures[row].symbol_set]
train, test = without_fluorine[:200], without_fluorine[200:400]
train_structures = [structures[row] for row in train]
test_structures = [structures[row] for row in test]

# %%
# Intervals around a fine-tuned network
# -------------------------------------
# 150 crystals fine-tune the network, 50 tell how wide an interval must be for nine of ten new
# crystals to lie inside. The interval is as wide for each crystal.
network = ConformalRegressor(
    DSSLRegressor(pretrained="mp", max_epochs=10, random_state=0),
    confidence_level=0.9,
    cv=4,
    random_state=0,
)
y_pred, intervals = network.fit(train_structures, y[train]).predict_interval(test_structures)
inside = (intervals[:, 0] <= y[test]) & (y[test] <= intervals[:, 1])
print(f"{inside.mean():.0%} inside, width {np.diff(intervals).mean():.2f} log10 GPa")

# %%
figure, axis = plt.subplots(figsize=(5, 4.5), layout="constrained")
axis.errorbar(
    y[test],
    y_pred,
    yerr=np.abs(intervals - y_pred[:, None]).T,
    fmt="none",
    elinewidth=0.6,
    ecolor="0.7",
)
axis.scatter(y[test][inside], y_pred[inside], s=10, label="inside", zorder=2)
axis.scatter(y[test][~inside], y_pred[~inside], s=14, color="C3", label="outside", zorder=3)
axis.axline((2, 2), slope=1, color="0.4", linewidth=1)
axis.set(xlabel="DFT log10(K / GPa)", ylabel="predicted log10(K / GPa)")
axis.legend(frameon=False)

# %%
# All crystals for both jobs
# --------------------------
# ``method="cv+"`` trains on every crystal and calibrates on every crystal, at the cost of one fit
# for each fold. Here it is wrapped around an SVR on embeddings, which takes seconds.
embedding_svr = make_pipeline(
    DSSLPretrainer(pretrained="mp", max_epochs=0), StandardScaler(), SVR(C=10, epsilon=0.02)
)
levels = [0.5, 0.8, 0.9, 0.95]
plus = ConformalRegressor(embedding_svr, confidence_level=levels, method="cv+", random_state=0)
_, nested = plus.fit(train_structures, y[train]).predict_interval(test_structures)
covered = (nested[:, 0] <= y[test, None]) & (y[test, None] <= nested[:, 1])
for level, share in zip(levels, covered.mean(axis=0), strict=True):
    print(f"stated {level:.0%}, found {share:.0%}")

# %%
# Out of reach
# ------------
# Fluorides have an element that was not in the training; a crystal of oxygen atoms 3.7 angstrom
# apart has only known elements, but no such surroundings were seen.
domain = ApplicabilityDomain().fit(train_structures)
fluorides = [structures[row] for row in order if "F" in structures[row].symbol_set]
oxygen = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.3), ["O"], [[0, 0, 0]])
print(domain.report([test_structures[0], *fluorides[:2], oxygen]).to_string())

# %%
# Among the test crystals, which are from the same source as the training crystals, a few are
# flagged, too. The error grows with the distance.
report = domain.report(test_structures)
error = np.abs(y_pred - y[test])
flagged = ~report["in_domain"].to_numpy()
print(
    f"{flagged.sum()} of {len(test)} flagged; mean error {error[flagged].mean():.3f}, "
    f"of the others {error[~flagged].mean():.3f} log10 GPa"
)

figure, axis = plt.subplots(figsize=(5, 3.5), layout="constrained")
axis.scatter(report["relative_distance"], error, s=10, c=np.where(flagged, "C3", "C0"))
axis.axvline(1, color="0.4", linewidth=1)
axis.set(xlabel="distance / threshold", ylabel="absolute error of log10(K / GPa)")
plt.show()
