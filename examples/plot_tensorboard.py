"""
Tracking with TensorBoard
=========================

Write every loss term of pretraining and fine-tuning to TensorBoard, through skorch's callback.
Needs ``pip install "dssl_sklearn[tensorboard]"``; no server, no network.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import pandas as pd
from skorch.callbacks import TensorBoard

from dssl_sklearn import DSSLPretrainer, DSSLRegressor
from dssl_sklearn.datasets import load_elasticity

try:
    from torch.utils.tensorboard import SummaryWriter
except ImportError as error:
    raise SystemExit(
        'This example needs TensorBoard: pip install "dssl_sklearn[tensorboard]"'
    ) from error

structures, y = load_elasticity(target="log10_K_VRH", return_X_y=True)
structures, y = structures[:150], y[:150]
folder = Path(tempfile.mkdtemp())

# %%
# A writer for each run
# ---------------------
# The callback closes its writer when training ends.
pretrainer = DSSLPretrainer(
    max_epochs=5, callbacks=[TensorBoard(SummaryWriter(folder / "pretraining"))], random_state=0
).fit(structures)

for name, weights in (("pretrained", pretrainer), ("scratch", None)):
    DSSLRegressor(
        pretrained=weights,
        max_epochs=10,
        callbacks=[TensorBoard(SummaryWriter(folder / name))],
        random_state=0,
    ).fit(structures, y)

print(f"look at it with: tensorboard --logdir {folder}")

# %%
# What was written
# ----------------
# TensorBoard sorts losses of training and validation into groups.
from tensorboard.backend.event_processing.event_accumulator import (  # noqa: E402
    EventAccumulator,
)

rows = []
for run in sorted(folder.iterdir()):
    events = EventAccumulator(str(run)).Reload()
    for tag in events.Tags()["scalars"]:
        scalars = events.Scalars(tag)
        rows.append(
            {"run": run.name, "tag": tag, "epochs": len(scalars), "last": scalars[-1].value}
        )
print(pd.DataFrame(rows).round(4).to_string(index=False))
