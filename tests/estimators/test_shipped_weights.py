import json

import numpy as np
import pytest
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR

from dssl_sklearn import DSSLPretrainer, DSSLRegressor
from dssl_sklearn.estimators.pretrained import shipped_weights
from dssl_sklearn.exceptions import WeightsError


def test_there_are_weights_and_they_stay_small():
    files = shipped_weights()
    assert "mp" in files
    assert sum(path.stat().st_size for path in files.values()) < 10_000_000


@pytest.mark.parametrize("name", sorted(shipped_weights()))
def test_weights_embed_and_come_with_a_card(name, elastic):
    structures, _ = elastic
    pretrainer = DSSLPretrainer.from_pretrained(name)
    embeddings = pretrainer.transform(structures)
    assert embeddings.shape == (len(structures), pretrainer.n_features_out_)
    assert np.isfinite(embeddings).all()
    card = json.loads(shipped_weights()[name].with_suffix(".json").read_text())
    assert {"kind", "command", "data", "license", "versions", "limits"} <= card.keys()
    assert card["epochs"] == len(pretrainer.history_)


def test_weights_know_more_than_random_ones(elastic):
    structures, _ = elastic
    trained = DSSLPretrainer.from_pretrained("mp")
    random = DSSLPretrainer(objectives=trained.objectives_, max_epochs=0, random_state=0).fit(
        structures
    )
    assert trained.score(structures) > random.score(structures)


def test_the_interface_with_shipped_weights(elastic):
    structures, y = elastic
    model = DSSLRegressor(pretrained="mp", max_epochs=1, random_state=0)
    scores = cross_val_score(model, structures, y, cv=2, scoring="neg_mean_absolute_error")
    assert np.isfinite(scores).all()
    frozen = make_pipeline(DSSLPretrainer(pretrained="mp", max_epochs=0), StandardScaler(), SVR())
    assert np.isfinite(frozen.fit(structures, y).predict(structures)).all()


def test_unknown_weights_are_named():
    with pytest.raises(WeightsError, match=r"'pm' is neither .* \('mp-distilled', 'mp'\)"):
        DSSLPretrainer.from_pretrained("pm")
