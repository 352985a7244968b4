"""Pretext tasks: what the network learns from crystals without labels."""

from dssl_sklearn.objectives.base import EncodedView, Objective, ObjectiveHead, Outcome
from dssl_sklearn.objectives.combine import WeightedObjectives
from dssl_sklearn.objectives.contrastive import CONTRASTIVE_LOSSES, Contrastive
from dssl_sklearn.objectives.denoising import Denoising
from dssl_sklearn.objectives.descriptors import Descriptors
from dssl_sklearn.objectives.diagnostics import effective_rank
from dssl_sklearn.objectives.displacement import Displacement
from dssl_sklearn.objectives.factory import make_objectives
from dssl_sklearn.objectives.masked_atoms import MaskedAtoms
from dssl_sklearn.objectives.microproperty import Microproperty
from dssl_sklearn.objectives.registry import (
    objective_from_config,
    objective_to_config,
    register_objective,
)
from dssl_sklearn.objectives.teacher import Teacher

__all__ = [
    "CONTRASTIVE_LOSSES",
    "Contrastive",
    "Denoising",
    "Descriptors",
    "Displacement",
    "EncodedView",
    "MaskedAtoms",
    "Microproperty",
    "Objective",
    "ObjectiveHead",
    "Outcome",
    "Teacher",
    "WeightedObjectives",
    "effective_rank",
    "make_objectives",
    "objective_from_config",
    "objective_to_config",
    "register_objective",
]
