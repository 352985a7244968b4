"""Real crystals, and networks of both kinds, as they are made and as they are trained."""

import warnings

import numpy as np
import pytest

from dssl_sklearn import DSSLPretrainer, DSSLRegressor
from dssl_sklearn.datasets import (
    load_dielectric,
    load_elasticity,
    load_formation_energy,
    load_piezoelectricity,
)

GATED = {"backbone": "gated", "backbone_params": {"width": 16, "n_layers": 2, "n_basis": 16}}
PAPER = {
    "recipe": "paper",
    "backbone_params": {"width": 12, "n_layers": 3, "n_heads": 2, "n_basis": 16, "n_groups": 3},
}
KINDS = {
    "gated": {**GATED, "readout": "mean"},
    "gated mean_std": {**GATED, "readout": "mean_std"},
    "gated mean_max": {**GATED, "readout": "mean_max"},
    "paper": PAPER,
    "paper mean": {**PAPER, "readout": "mean"},
}


@pytest.fixture(scope="session")
def crystals():
    """A dozen shipped crystals from one to eighteen sites, from all four sets."""
    sizes = {
        load_elasticity: (2, 5, 12),
        load_dielectric: (3, 10, 18),
        load_piezoelectricity: (4, 7, 11),
        load_formation_energy: (1, 8, 14),
    }
    return [
        next(structure for structure in load().data if len(structure) == size)
        for load, wanted in sizes.items()
        for size in wanted
    ]


@pytest.fixture(
    scope="session", params=[f"{kind}, {how}" for kind in KINDS for how in ("new", "trained")]
)
def model(request, crystals):
    """Regressor: two targets; `embed` and `embed_sites` show what its encoder makes of crystals."""
    kind, how = request.param.split(", ")
    volumes = [s.volume / len(s) for s in crystals]
    y = np.column_stack([volumes, [np.mean(s.atomic_numbers) for s in crystals]])
    estimator = DSSLRegressor(
        **KINDS[kind],
        max_epochs=0 if how == "new" else 8,
        batch_size=4,
        lr=5e-3,
        random_state=0,
    )
    with warnings.catch_warnings():
        # A network that has learned nothing has the symmetries, too.
        warnings.filterwarnings("ignore", "max_epochs=0")
        return estimator.fit(crystals, y)


@pytest.fixture(scope="session")
def pretrainer_of(crystals):
    """Pretrainer with the encoder of a regressor, whose embeddings it shows."""
    made = {}

    def make(model):
        if id(model) not in made:
            pretrainer = DSSLPretrainer(
                backbone=model.architecture_.backbone,
                backbone_params=dict(model.architecture_.backbone_params),
                readout=model.architecture_.readout,
                max_epochs=0,
            ).fit(crystals)
            pretrainer.encoder_.load_state_dict(model.net_.module_.encoder.state_dict())
            # With the model, so that its id belongs to it for good.
            made[id(model)] = model, pretrainer
        return made[id(model)][1]

    return make
