import pytest

from dssl_sklearn import DSSLClassifier, DSSLRegressor


@pytest.fixture(scope="session")
def regressor(tiny, elastic):
    """Fit a tiny regressor on a few crystals; keyword arguments override."""
    structures, y = elastic
    made = {}

    def make(**params):
        key = repr(sorted(params.items()))
        if key not in made:
            made[key] = DSSLRegressor(**(tiny | params)).fit(structures[:24], y[:24])
        return made[key]

    return make


@pytest.fixture(scope="session")
def classifier(tiny, elastic):
    structures, y = elastic
    labels = ["low", "middle", "high"]
    classes = [labels[int(v > 1.9) + int(v > 2.2)] for v in y[:40]]
    # Probabilities of several heads are averaged, and have no logit.
    model = DSSLClassifier(**tiny, n_members=1, head_params={"n_hidden_layers": 0})
    return model.fit(structures[:40], classes)
