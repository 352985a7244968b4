"""
Tracking with Weights & Biases
==============================

Log every loss term to Weights & Biases through skorch's callback, offline: the run lies in a
folder until ``wandb sync`` uploads it. Needs ``pip install "dssl_sklearn[wandb]"``; no account,
no network.
"""

from __future__ import annotations

import tempfile

from skorch.callbacks import WandbLogger

from dssl_sklearn import DSSLPretrainer
from dssl_sklearn.datasets import load_elasticity

try:
    import wandb
except ImportError as error:
    raise SystemExit(
        'This example needs Weights & Biases: pip install "dssl_sklearn[wandb]"'
    ) from error

structures = load_elasticity().data[:200]

# %%
# One run
# -------
# ``save_model=False`` leaves out skorch's pickle of the weights: `DSSLPretrainer.save` writes them
# without pickle, with the run card beside them.
run = wandb.init(
    project="dssl_sklearn",
    mode="offline",
    dir=tempfile.mkdtemp(),
    config={"n_structures": len(structures)},
    settings=wandb.Settings(silent=True),
)
pretrainer = DSSLPretrainer(
    max_epochs=5, callbacks=[WandbLogger(run, save_model=False)], random_state=0
).fit(structures)
run.config.update(
    {name: value for name, value in pretrainer.get_params().items() if name != "callbacks"}
)

# %%
# What was logged
# ---------------
for name in ("train_loss", "valid_loss", "valid_mask_accuracy", "effective_rank"):
    print(f"{name}: {run.summary[name]:.3f}")
print(f"upload it with: wandb sync {run.dir.removesuffix('/files')}")
run.finish()
