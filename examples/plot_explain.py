"""
Where a prediction comes from
=============================

Split predictions over the sites of a crystal: exactly with a linear head, by integrated gradients
with any other, and look at the weights of an attention readout.
"""

from __future__ import annotations

import pandas as pd

from dssl_sklearn import DSSLRegressor
from dssl_sklearn.datasets import load_elasticity
from dssl_sklearn.explain import attention_weights, integrated_gradients, site_contributions
from dssl_sklearn.plotting import SiteContributionsDisplay

structures, y = load_elasticity(target="log10_K_VRH", return_X_y=True)
train, y_train, test = structures[:300], y[:300], structures[300:]
NAME, UNIT = r"$\log_{10} K$", "log10 GPa"

# %%
# Exact contributions
# -------------------
# With linear heads on the mean of the site embeddings, and no Gaussian process beside the network,
# the prediction is a sum over the sites.
linear = DSSLRegressor(
    pretrained="mp",
    readout="mean",
    head_params={"n_hidden_layers": 0},
    kernel_share=0,
    max_epochs=10,
    random_state=0,
).fit(train, y_train)
split = site_contributions(linear, test)
print(f"largest difference to the prediction: {abs(split.residuals).max():.1e}")

crystal = next(s for s in test if len(s.composition) == 3 and len(s) < 8)
SiteContributionsDisplay.from_estimator(linear, crystal, target_name=NAME, unit=UNIT)

# %%
# Contributions of many crystals go into a table as any other numbers: here, the elements that the
# network takes to be softest and stiffest. A contribution times the number of sites is where the
# prediction would go if all sites of the crystal were like this one.
sites = pd.DataFrame(
    [
        {"element": str(site.specie), "contribution": value * len(structure)}
        for structure, values in zip(test, split, strict=True)
        for site, value in zip(structure, values, strict=True)
    ]
)
by_element = sites.groupby("element")["contribution"].agg(["mean", "count"])
print(
    by_element[by_element["count"] >= 20].sort_values("mean").round(3).iloc[[0, 1, 2, -3, -2, -1]]
)

# %%
# Integrated gradients
# --------------------
# The default head has a hidden layer. Integrated gradients start from crystals of the same geometry
# without elements, and add up to the difference.
model = DSSLRegressor(pretrained="mp", max_epochs=10, random_state=0).fit(train, y_train)
gradients = integrated_gradients(model, [crystal])
print(f"baseline {gradients.baselines[0]:.3f}, prediction {gradients.predictions[0]:.3f}")
print(f"not converged: {gradients.residuals[0]:.1e}")
SiteContributionsDisplay.from_estimator(model, crystal, target_name=NAME, unit=UNIT)

# %%
# Attention
# ---------
# The paper's readout weighs the sites; here it starts fresh on the pretrained backbone. The
# weights say what the network looks at, not whether it makes the crystal stiffer.
attentive = DSSLRegressor(pretrained="mp", readout="attention", max_epochs=10, random_state=0)
attentive.fit(train, y_train)
(weights,) = attention_weights(attentive, [crystal])
print(pd.DataFrame({"element": [str(site.specie) for site in crystal], "weight": weights.round(3)}))
