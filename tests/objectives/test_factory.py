import numpy as np
import pytest

from dssl_sklearn.exceptions import InvalidInputError
from dssl_sklearn.objectives import (
    Contrastive,
    Denoising,
    MaskedAtoms,
    Microproperty,
    make_objectives,
)

NAMES = ["mask", "microproperty", "contrastive", "denoise"]


def test_names_take_the_settings_of_the_estimator():
    made = make_objectives(
        NAMES, mask_ratio=0.3, move=0.1, microproperty="valence", contrastive_loss="ntxent"
    )
    assert made == [
        MaskedAtoms(mask_ratio=0.3),
        Microproperty(values="valence", mask_ratio=0.3),
        Contrastive(loss="ntxent", move=0.1),
        Denoising(move=0.1),
    ]


def test_instances_keep_their_own_settings():
    own = MaskedAtoms(weight=3.0, mask_ratio=0.5)
    assert make_objectives(own, mask_ratio=0.1) == [own]
    assert make_objectives(["mask", own], mask_ratio=0.1) == [MaskedAtoms(mask_ratio=0.1), own]


@pytest.mark.parametrize(
    "objectives",
    [
        [("mask", 0.1), ("denoise", 2)],
        (("mask", 0.1), (Denoising(), 2)),
        {"mask": 0.1, "denoise": np.int64(2)},
        [MaskedAtoms(weight=0.1), ("denoise", np.float32(2))],
    ],
)
def test_weights_by_pair_mapping_or_instance(objectives):
    assert make_objectives(objectives) == [MaskedAtoms(weight=0.1), Denoising(weight=2)]


def test_one_name_is_one_objective():
    assert make_objectives("denoise") == [Denoising()]


@pytest.mark.parametrize(
    "objectives, message",
    [
        ("masks", "unknown name 'masks'; did you mean 'mask'"),
        (["mask", "quantum"], "unknown name 'quantum' .known: 'mask', 'microproperty'"),
        (("mask", 0.5), "got 0.5; a single pair of name and weight goes in a list"),
        ([MaskedAtoms], r"write MaskedAtoms\(\) for an instance"),
        ([None], "expected a name, an Objective, or a .name, weight. pair, got None"),
        (None, "got None"),
        ([], "none has a weight above 0"),
        ({}, "none has a weight above 0"),
        ({"mask": 0, "denoise": 0.0}, "none has a weight above 0"),
        ({"mask": -1}, "weight of 'mask' must be a finite number >= 0, got -1"),
        ({"mask": float("nan")}, "weight of 'mask' must be a finite number >= 0, got nan"),
        ({"mask": True}, "weight of 'mask' must be a finite number >= 0, got True"),
        ({"mask": MaskedAtoms()}, "weight of 'mask' must be a finite number >= 0"),
    ],
)
def test_mistakes_are_explained(objectives, message):
    with pytest.raises(InvalidInputError, match=message):
        make_objectives(objectives)


def test_settings_are_checked_where_they_are_used():
    with pytest.raises(InvalidInputError, match="loss must be one of"):
        make_objectives("contrastive", contrastive_loss="hinge")
    with pytest.raises(InvalidInputError, match="mask_ratio"):
        make_objectives("mask", mask_ratio=1.5)
