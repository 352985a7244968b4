import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from dssl_sklearn.exceptions import MissingDependencyError
from dssl_sklearn.plotting import (
    ElementErrorDisplay,
    EmbeddingMapDisplay,
    LearningCurveDisplay,
    ParityDisplay,
    SiteContributionsDisplay,
    TrainingCurvesDisplay,
)
from dssl_sklearn.plotting.style import ink_on

HISTORY = [{"epoch": 1, "train_loss": 1.0}, {"epoch": 2, "train_loss": 0.5}]
FOLDS = pd.DataFrame({"method": ["a", "a"], "n_labels": [10, 20], "mae": [0.2, 0.1]})


@pytest.fixture(params=["parity", "training", "map", "elements", "sites", "curve"])
def draw(request, elastic):
    """Make one display of each kind, with the arguments handed on."""
    structures, y = elastic[0][:12], elastic[1][:12]
    embeddings = np.random.default_rng(0).normal(size=(12, 4))
    makers = {
        "parity": lambda **k: ParityDisplay.from_predictions(y, y[::-1], **k),
        "training": lambda **k: TrainingCurvesDisplay.from_history(HISTORY, **k),
        "map": lambda **k: EmbeddingMapDisplay.from_embeddings(embeddings, color=y, **k),
        "elements": lambda **k: ElementErrorDisplay.from_predictions(structures, y, y[::-1], **k),
        "sites": lambda **k: SiteContributionsDisplay.from_contributions(
            structures[0], np.arange(len(structures[0])), **k
        ),
        "curve": lambda **k: LearningCurveDisplay.from_frame(FOLDS, **k),
    }
    return makers[request.param]


def test_a_figure_is_made_and_returned(draw, texts):
    display = draw()
    assert display.figure_ is display.ax_.get_figure(root=True)
    assert len(plt.get_fignums()) == 1
    assert texts(display.figure_)


def test_the_axes_of_the_user_are_taken(draw, texts):
    figure, axes = plt.subplots(1, 2)
    display = draw(ax=axes[1])
    assert display.ax_ is axes[1]
    assert display.figure_ is figure
    assert plt.get_fignums() == [figure.number]
    assert not axes[0].has_data()
    assert texts(figure)


def test_plot_draws_again(draw):
    display = draw()
    first = display.ax_
    assert display.plot() is display
    assert display.ax_ is not first


def test_nothing_leaves_a_new_figure(draw):
    figure = draw().figure_
    figure.canvas.draw()
    tight = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    assert tight.x0 > -0.02
    assert tight.y0 > -0.02
    assert tight.x1 < width + 0.02
    assert tight.y1 < height + 0.02


def test_matplotlib_is_asked_for_by_name(draw, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "dssl_sklearn\[plot\]"'):
        draw()


def test_importing_the_displays_needs_no_matplotlib():
    code = "import sys, dssl_sklearn.plotting; print('matplotlib.pyplot' in sys.modules)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - ours
    assert done.stdout.split() == ["False"]


@pytest.mark.parametrize(
    "face, ink", [((0, 0, 0.3), "white"), ((1, 1, 0.6), "black"), ((0.5, 0.5, 0.5), "black")]
)
def test_ink_can_be_read(face, ink):
    assert ink_on(face) == ink
