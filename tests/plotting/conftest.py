import matplotlib as mpl
import pytest
from matplotlib import pyplot as plt

from dssl_sklearn import DSSLRegressor


@pytest.fixture(autouse=True)
def _no_windows():
    """Draw into memory, find no figure of other tests, and leave none behind."""
    before = mpl.get_backend()
    plt.close("all")
    plt.switch_backend("agg")
    yield
    plt.close("all")
    plt.switch_backend(before)


@pytest.fixture(scope="session")
def linear_regressor(tiny, elastic):
    structures, y = elastic
    model = DSSLRegressor(**tiny, head_params={"n_hidden_layers": 0})
    return model.fit(structures[:24], y[:24])


@pytest.fixture
def texts():
    """All that a figure says, drawn for real."""

    def read(figure):
        figure.canvas.draw()
        found = figure.findobj(lambda artist: hasattr(artist, "get_text"))
        return [artist.get_text() for artist in found if artist.get_text()]

    return read
