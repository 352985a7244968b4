"""Every public estimator, in every way it can be set up, at the size of a blink."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone, is_classifier, is_regressor

from dssl_sklearn import DSSLClassifier, DSSLPretrainer, DSSLRegressor, StructureToGraph

CLASSES = [StructureToGraph, DSSLPretrainer, DSSLRegressor, DSSLClassifier]


@dataclass(frozen=True, eq=False)
class Case:
    """One estimator and how to look at what it learned."""

    name: str
    make: Callable[[], Any]

    @property
    def estimator(self):
        return self.make()

    @property
    def is_predictor(self):
        return is_regressor(self.estimator) or is_classifier(self.estimator)

    @property
    def is_trained(self):
        """Whether fit learns anything at random."""
        return not isinstance(self.estimator, StructureToGraph)

    def y(self, values):
        """Targets of the kind that the estimator learns."""
        if is_classifier(self.estimator):
            return np.where(values > 2.0, "stiff", "soft")
        return values if is_regressor(self.estimator) else None

    def fit(self, estimator, structures, values, **kwargs):
        return estimator.fit(structures, self.y(values), **kwargs)

    def output(self, estimator, structures):
        """What the estimator has to say on crystals, as numbers."""
        if is_classifier(estimator):
            return estimator.predict_proba(structures)
        if is_regressor(estimator):
            return estimator.predict(structures)
        found = estimator.transform(structures)
        if isinstance(estimator, StructureToGraph):
            fields = ("source", "target", "shift", "distance")
            return np.concatenate([getattr(g, f).ravel() for g in found for f in fields])
        return found


def _cases(tiny, tiny_paper, fitted, unlabeled):
    unfitted = DSSLPretrainer(**{**tiny, "max_epochs": 1})
    start = {"pretrained": fitted, **{k: tiny[k] for k in ("max_epochs", "batch_size")}}
    start["random_state"] = 0
    scratch = {
        "graphs": StructureToGraph(max_neighbors=6),
        "pretrainer": DSSLPretrainer(**tiny),
        "pretrainer_on_fitted": DSSLPretrainer(**start),
        "pretrainer_paper": DSSLPretrainer(**tiny_paper),
        "regressor": DSSLRegressor(**tiny),
        "regressor_paper": DSSLRegressor(**tiny_paper, early_stopping=True),
        "regressor_on_fitted": DSSLRegressor(**start, freeze_epochs=1),
        "regressor_on_unfitted": DSSLRegressor(
            pretrained=unfitted, unlabeled=unlabeled, max_epochs=2, batch_size=8, random_state=0
        ),
        "classifier": DSSLClassifier(**tiny),
        "classifier_on_fitted": DSSLClassifier(**start),
        "classifier_on_unfitted": DSSLClassifier(
            pretrained=unfitted, max_epochs=2, batch_size=8, random_state=0
        ),
    }
    return {name: Case(name, lambda e=e: clone(e)) for name, e in scratch.items()}


NAMES = [
    "graphs",
    "pretrainer",
    "pretrainer_on_fitted",
    "pretrainer_paper",
    "regressor",
    "regressor_paper",
    "regressor_on_fitted",
    "regressor_on_unfitted",
    "classifier",
    "classifier_on_fitted",
    "classifier_on_unfitted",
]


@pytest.fixture(scope="session")
def all_cases(tiny, tiny_paper, fitted_pretrainer, elastic):
    found = _cases(tiny, tiny_paper, fitted_pretrainer, elastic[0][60:66])
    assert list(found) == NAMES
    return found


@pytest.fixture(params=NAMES)
def case(request, all_cases):
    return all_cases[request.param]


@pytest.fixture(params=[name for name in NAMES if name != "graphs"])
def trained(request, all_cases):
    """Cases whose fit trains a network."""
    return all_cases[request.param]


@pytest.fixture(params=[name for name in NAMES if name.startswith(("regressor", "classifier"))])
def predictor(request, all_cases):
    return all_cases[request.param]


@pytest.fixture(params=CLASSES, ids=lambda cls: cls.__name__)
def public_class(request):
    return request.param


@pytest.fixture(params=[DSSLPretrainer, DSSLRegressor, DSSLClassifier], ids=lambda c: c.__name__)
def trained_class(request):
    return request.param


@pytest.fixture(params=[DSSLRegressor, DSSLClassifier], ids=lambda c: c.__name__)
def predictor_class(request):
    return request.param


@pytest.fixture(scope="session")
def train(elastic):
    """24 crystals of several sizes and their targets."""
    return elastic[0][:24], elastic[1][:24]


@pytest.fixture(scope="session")
def new(elastic):
    """Crystals that no fit has seen."""
    return elastic[0][24:30]
