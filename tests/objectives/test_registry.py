import json
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from dssl_sklearn.exceptions import InvalidInputError
from dssl_sklearn.objectives import (
    Contrastive,
    Denoising,
    MaskedAtoms,
    Microproperty,
    Teacher,
    make_objectives,
    objective_from_config,
    objective_to_config,
    register_objective,
    registry,
)


@pytest.fixture
def own_class(monkeypatch):
    """A user's class, forgotten again after the test."""
    monkeypatch.setattr(registry, "_CLASSES", dict(registry._CLASSES))

    @dataclass(frozen=True)
    class Stronger(MaskedAtoms):
        name: ClassVar[str] = "stronger"
        depth: int = 3

    return Stronger


@pytest.mark.parametrize(
    "objective",
    [
        MaskedAtoms(weight=0.1, mask_ratio=np.float64(0.3)),
        MaskedAtoms(weight=np.float32(0.5), mask_ratio=1),
        Microproperty(values="valence"),
        Microproperty(values={"Fe": 2.0, "O": 1.0}, task="classification"),
        Microproperty(values=np.linspace(0, 1, 104)),
        Microproperty(values="site:magmom", task="classification", n_classes=np.int64(4)),
        Contrastive(loss="vicreg", projector=(16, 8), move_kind="sphere"),
        Contrastive(projector=()),
        Denoising(strain=0.01),
        Teacher(site=["charge"], crystal=("energy", "moduli"), move=0.1, hidden=np.int64(8)),
    ],
)
def test_round_trip_through_strict_json(objective):
    text = json.dumps(objective_to_config(objective), allow_nan=False)
    again = objective_from_config(json.loads(text))
    assert again == objective
    assert type(again) is type(objective)


def test_missing_settings_have_their_defaults():
    assert objective_from_config({"name": "denoise"}) == Denoising()


@pytest.mark.parametrize(
    "config, message",
    [
        ({"name": "denoising"}, "unknown name 'denoising'; did you mean 'denoise'"),
        ({}, "unknown name 'None'"),
        ({"name": "mask", "mask_ration": 0.1}, "no setting 'mask_ration'; did you mean 'mask_rat"),
        ({"name": "mask", "mask_ratio": 7}, "mask_ratio must be between 0 and 1"),
    ],
)
def test_damaged_configurations_are_refused(config, message):
    with pytest.raises(InvalidInputError, match=message):
        objective_from_config(config)


def test_own_class_is_known_once_registered(own_class):
    with pytest.raises(InvalidInputError, match=r"Stronger cannot be saved.*register"):
        objective_to_config(own_class())
    assert register_objective(own_class) is own_class
    register_objective(own_class)
    assert make_objectives([("stronger", 2.0)]) == [own_class(weight=2.0)]
    assert objective_from_config(objective_to_config(own_class(depth=5))) == own_class(depth=5)


def test_taken_names_are_refused(own_class):
    own_class.name = "mask"
    with pytest.raises(InvalidInputError, match="'mask' belongs to MaskedAtoms"):
        register_objective(own_class)
