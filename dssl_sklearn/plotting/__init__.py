"""Plots of predictions, training, embeddings and errors, in the manner of scikit-learn's displays.

Every class has constructors that compute what is shown and draw it (``from_estimator``,
``from_predictions``, ...), a method ``plot`` that draws it again, and keeps the matplotlib objects
in ``ax_`` and ``figure_``. Nothing is shown or saved unasked.
"""

from dssl_sklearn.plotting.elements import ElementErrorDisplay
from dssl_sklearn.plotting.embedding import EmbeddingMapDisplay
from dssl_sklearn.plotting.learning_curve import LearningCurveDisplay
from dssl_sklearn.plotting.parity import ParityDisplay
from dssl_sklearn.plotting.sites import SiteContributionsDisplay
from dssl_sklearn.plotting.training import TrainingCurvesDisplay

__all__ = [
    "ElementErrorDisplay",
    "EmbeddingMapDisplay",
    "LearningCurveDisplay",
    "ParityDisplay",
    "SiteContributionsDisplay",
    "TrainingCurvesDisplay",
]
