import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from dssl_sklearn import DSSLPretrainer
from dssl_sklearn.exceptions import InvalidInputError
from dssl_sklearn.plotting import TrainingCurvesDisplay


def test_each_term_of_pretraining_has_a_panel(fitted_pretrainer, texts):
    display = TrainingCurvesDisplay.from_estimator(fitted_pretrainer)
    assert display.terms_[0] == "loss"
    assert display.terms_[-1] == "effective_rank"
    assert {"mask_loss", "displacement_loss", "mask_accuracy"} <= set(display.terms_)
    assert len(display.axes_) == len(display.terms_)
    history = fitted_pretrainer.history_
    for panel, term in zip(display.axes_[:-1], display.terms_[:-1], strict=True):
        training, validation = panel.get_lines()
        np.testing.assert_allclose(training.get_ydata(), history[:, f"train_{term}"])
        np.testing.assert_allclose(validation.get_ydata(), history[:, f"valid_{term}"])
        assert training.get_linestyle() != validation.get_linestyle()
    rank = display.axes_[-1].get_lines()[0].get_ydata()
    np.testing.assert_allclose(rank, history[:, "effective_rank"])
    said = texts(display.figure_)
    assert {"total loss", "mask loss", "effective rank", "training", "validation"} <= set(said)


def test_terms_can_be_chosen(fitted_pretrainer):
    chosen = ["mask_loss", "effective_rank"]
    display = TrainingCurvesDisplay.from_estimator(fitted_pretrainer, terms=chosen)
    assert display.terms_ == chosen
    with pytest.raises(InvalidInputError, match="'mask_los', which the history lacks"):
        display.plot(terms=["mask_los"])


def test_one_axes_holds_the_losses(fitted_pretrainer):
    _, ax = plt.subplots()
    display = TrainingCurvesDisplay.from_estimator(fitted_pretrainer, ax=ax)
    assert all(term.endswith("loss") for term in display.terms_)
    assert len(ax.get_lines()) == 2 * len(display.terms_)
    assert len({line.get_label() for line in ax.get_lines()}) == len(ax.get_lines())


def test_fine_tuning_without_validation(linear_regressor):
    display = TrainingCurvesDisplay.from_estimator(linear_regressor)
    assert display.terms_ == ["loss"]
    assert len(display.ax_.get_lines()) == 1
    assert display.ax_.get_xlabel() == "epoch"


def test_a_frame_will_do():
    frame = pd.DataFrame({"epoch": [1, 2], "train_loss": [2.0, 1.0], "valid_loss": [2.5, np.nan]})
    assert len(TrainingCurvesDisplay.from_history(frame).ax_.get_lines()) == 2


def test_a_frozen_estimator_has_its_history(fitted_pretrainer):
    display = TrainingCurvesDisplay.from_estimator(FrozenEstimator(fitted_pretrainer))
    assert display.ax_.get_lines()


def test_nothing_to_draw_is_said(tiny, elastic):
    embedder = DSSLPretrainer(**(tiny | {"max_epochs": 0})).fit(elastic[0][:4])
    with pytest.raises(InvalidInputError, match="history has no epoch"):
        TrainingCurvesDisplay.from_estimator(embedder)
    with pytest.raises(InvalidInputError, match="train_<term>"):
        TrainingCurvesDisplay.from_history([{"epoch": 1, "dur": 0.1}])
    pipeline = make_pipeline(DSSLPretrainer(**tiny), Ridge()).fit(elastic[0][:8], elastic[1][:8])
    with pytest.raises(InvalidInputError, match=r"a Pipeline.*estimator\['dsslpretrainer'\]"):
        TrainingCurvesDisplay.from_estimator(pipeline)
    with pytest.raises(NotFittedError):
        TrainingCurvesDisplay.from_estimator(GridSearchCV(DSSLPretrainer(), {"lr": [1e-3]}))
    with pytest.raises(NotFittedError):
        TrainingCurvesDisplay.from_estimator(DSSLPretrainer())
