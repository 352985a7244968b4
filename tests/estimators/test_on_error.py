"""`on_error="skip"`: unusable structures lose their results, and nothing else changes."""

import warnings

import numpy as np
import pandas as pd
import pytest

from dssl_sklearn import DSSLClassifier, DSSLPretrainer, DSSLRegressor, StructureToGraph
from dssl_sklearn.exceptions import (
    InvalidInputError,
    InvalidStructureError,
    SkippedStructuresWarning,
)

BAD = {1: "nowhere.cif", 4: None, 9: 3.5}


@pytest.fixture
def corpus(elastic):
    return elastic[0][:20], elastic[1][:20]


def with_bad(items):
    """The items with unusable ones between, and the rows of the good ones."""
    mixed = list(items)
    for row, item in BAD.items():
        mixed.insert(row, item)
    return mixed, np.setdiff1d(np.arange(len(mixed)), list(BAD))


def with_gaps(values, filler=np.nan):
    mixed = list(values)
    for row in BAD:
        mixed.insert(row, filler)
    return mixed


def skips():
    return pytest.warns(SkippedStructuresWarning, match=r"3 unusable structure\(s\) of")


class TestUsing:
    """A fitted estimator keeps the order of the rows."""

    def test_a_regressor_predicts_nan(self, tiny, corpus):
        model = DSSLRegressor(**tiny).fit(*corpus)
        expected = model.predict(corpus[0])
        mixed, good = with_bad(corpus[0])
        with pytest.raises(InvalidStructureError):
            model.predict(mixed)
        model.set_params(on_error="skip")
        with skips() as caught:
            found = model.predict(mixed)
        assert len(caught) == 1
        message = str(caught[0].message)
        assert all(f"structure {row}:" in message for row in BAD)
        np.testing.assert_array_equal(np.isnan(found), ~np.isin(np.arange(len(mixed)), good))
        np.testing.assert_array_equal(found[good], expected)

    def test_several_targets(self, tiny, corpus):
        y = np.column_stack([corpus[1], -corpus[1]])
        model = DSSLRegressor(**tiny, on_error="skip").fit(corpus[0], y)
        mixed, good = with_bad(corpus[0])
        with skips():
            found = model.predict(mixed)
        assert found.shape == (23, 2)
        assert np.isnan(found[list(BAD)]).all()
        np.testing.assert_array_equal(found[good], model.predict(corpus[0]))

    @pytest.mark.parametrize("labels", [["soft", "stiff"], [0, 1], [False, True]])
    def test_a_classifier_predicts_none(self, tiny, corpus, labels):
        y = np.array(labels)[(corpus[1] > np.median(corpus[1])).astype(int)]
        model = DSSLClassifier(**tiny, on_error="skip").fit(corpus[0], y)
        mixed, good = with_bad(corpus[0])
        with skips():
            probabilities = model.predict_proba(mixed)
        assert np.isnan(probabilities[list(BAD)]).all()
        np.testing.assert_allclose(probabilities[good].sum(axis=1), 1)
        with skips():
            found = model.predict(mixed)
        assert [found[row] for row in BAD] == [None] * 3
        np.testing.assert_array_equal(found[good], model.predict(corpus[0]))
        assert model.predict(corpus[0]).dtype == model.classes_.dtype

    def test_embeddings(self, fitted_pretrainer, corpus):
        pretrainer = DSSLPretrainer(
            pretrained=fitted_pretrainer, max_epochs=0, on_error="skip"
        ).fit(corpus[0])
        mixed, good = with_bad(corpus[0])
        with skips():
            found = pretrainer.transform(mixed)
        assert found.dtype == np.float32
        assert np.isnan(found[list(BAD)]).all()
        np.testing.assert_array_equal(found[good], pretrainer.transform(corpus[0]))
        with skips():
            sites = pretrainer.transform_sites(mixed)
        width = sites[0].shape[1]
        assert [len(rows) for rows in sites] == with_gaps(map(len, corpus[0]), 0)
        assert sites[1].shape == (0, width)
        expected = pretrainer.transform_sites(corpus[0])
        np.testing.assert_array_equal(sites[good[-1]], expected[-1])

    def test_pandas_in_and_out(self, fitted_pretrainer, corpus):
        pretrainer = DSSLPretrainer(pretrained=fitted_pretrainer, max_epochs=0, on_error="skip")
        pretrainer.fit(corpus[0]).set_output(transform="pandas")
        mixed, good = with_bad(corpus[0])
        column = pd.Series(mixed, index=[f"id{k}" for k in range(23)], name="structure")
        with skips():
            frame = pretrainer.transform(column.to_frame())
        assert list(frame.index) == list(column.index)
        assert list(np.flatnonzero(frame.notna().all(axis=1))) == list(good)

    def test_graphs(self, tiny, corpus):
        model = DSSLRegressor(**tiny, on_error="skip").fit(*corpus)
        mixed, good = with_bad(corpus[0])
        with skips():
            graphs = StructureToGraph(on_error="skip").transform(mixed)
        assert [graphs[row] for row in BAD] == [None] * 3
        with skips():
            found = model.predict(graphs)
        np.testing.assert_array_equal(found[good], model.predict(corpus[0]))

    def test_graphs_of_other_settings_are_no_bad_structures(self, tiny, corpus):
        model = DSSLRegressor(**tiny, on_error="skip").fit(*corpus)
        graphs = StructureToGraph(cutoff=5.0).transform(corpus[0])
        with pytest.raises(InvalidInputError, match=r"cutoff=5\.0"):
            model.predict(graphs)

    @pytest.mark.filterwarnings("ignore")
    def test_a_score_of_classes_names_what_is_missing(self, tiny, corpus):
        y = np.where(corpus[1] > np.median(corpus[1]), "stiff", "soft")
        model = DSSLClassifier(**tiny, on_error="skip").fit(corpus[0], y)
        with pytest.raises(InvalidInputError, match=r"no prediction for 1 of 3 .* at position 1;"):
            model.score([corpus[0][0], "lost.cif", corpus[0][1]], y[:3])
        with pytest.raises(InvalidInputError, match=r"y is missing for 1 of 2 .* at position 1;"):
            model.score(corpus[0][:2], [y[0], None])
        assert model.score(corpus[0], list(y)) == np.mean(model.predict(corpus[0]) == y)

    def test_nothing_but_bad_ones(self, tiny, corpus, fitted_pretrainer):
        bad = list(BAD.values())
        y = (corpus[1] > np.median(corpus[1])).astype(int)
        model = DSSLRegressor(**tiny, on_error="skip").fit(*corpus)
        classifier = DSSLClassifier(**tiny, on_error="skip").fit(corpus[0], y)
        embedder = DSSLPretrainer(pretrained=fitted_pretrainer, max_epochs=0, on_error="skip")
        embedder.fit(corpus[0])
        with skips():
            assert np.isnan(model.predict(bad)).tolist() == [True] * 3
        with skips():
            assert classifier.predict(bad).tolist() == [None] * 3
        with skips():
            embeddings = embedder.transform(bad)
        assert embeddings.shape == (3, embedder.n_features_out_)
        assert np.isnan(embeddings).all()
        with skips():
            assert [len(sites) for sites in embedder.transform_sites(bad)] == [0] * 3
        with skips():
            assert StructureToGraph(on_error="skip").transform(bad).tolist() == [None] * 3

    def test_good_structures_warn_of_nothing(self, tiny, corpus):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            DSSLRegressor(**tiny, on_error="skip").fit(*corpus).predict(corpus[0])


class TestFitting:
    """What is left out leaves no trace in what is learned."""

    @pytest.mark.parametrize("container", [list, np.array, pd.Series])
    def test_a_regressor(self, tiny, corpus, container):
        expected = DSSLRegressor(**tiny).fit(*corpus)
        mixed, _ = with_bad(corpus[0])
        # The targets of bad structures must not enter mean and scale.
        y = container(with_gaps(corpus[1], 1e6))
        weight = container(with_gaps(np.ones(20), 7.0))
        with skips() as caught:
            model = DSSLRegressor(**tiny, on_error="skip").fit(mixed, y, weight)
        assert len(caught) == 1
        np.testing.assert_array_equal(model.predict(corpus[0]), expected.predict(corpus[0]))
        assert [entry["index"] for entry in model.fit_record_["skipped"]] == list(BAD)

    def test_a_class_of_bad_structures_only_is_none(self, tiny, corpus):
        mixed, _ = with_bad(corpus[0])
        y = with_gaps(np.where(corpus[1] > np.median(corpus[1]), "stiff", "soft"), "liquid")
        with skips():
            model = DSSLClassifier(**tiny, on_error="skip").fit(mixed, y)
        assert model.classes_.tolist() == ["soft", "stiff"]

    def test_a_pretrainer(self, tiny, corpus):
        expected = DSSLPretrainer(**tiny).fit(corpus[0])
        mixed, _ = with_bad(corpus[0])
        with skips():
            pretrainer = DSSLPretrainer(**tiny, on_error="skip").fit(mixed)
        np.testing.assert_array_equal(
            pretrainer.transform(corpus[0]), expected.transform(corpus[0])
        )
        with skips():
            assert pretrainer.score(mixed) == expected.score(corpus[0])

    def test_an_unfitted_pretrained_and_its_unlabeled(self, tiny, corpus, elastic):
        more = elastic[0][30:34]
        plain = DSSLRegressor(pretrained=DSSLPretrainer(**tiny), unlabeled=more, **tiny)
        expected = plain.fit(*corpus).predict(corpus[0])
        mixed, _ = with_bad(corpus[0])
        model = DSSLRegressor(
            pretrained=DSSLPretrainer(**tiny),
            unlabeled=[more[0], 17, *more[1:]],
            on_error="skip",
            **tiny,
        )
        with pytest.warns(SkippedStructuresWarning) as caught:
            model.fit(mixed, with_gaps(corpus[1]))
        assert [str(w.message).split(":")[0] for w in caught] == [
            "3 unusable structure(s) of 23 in X are left out",
            "1 unusable structure(s) of 5 in unlabeled are left out",
        ]
        np.testing.assert_array_equal(model.predict(corpus[0]), expected)

    def test_graphs_of_the_cutoff_of_the_weights(self, tiny, corpus):
        pretrainer = DSSLPretrainer(**tiny, cutoff=5.0).fit(corpus[0])
        graphs = StructureToGraph(cutoff=5.0).transform(corpus[0])
        mixed, _ = with_bad(graphs)
        with skips():
            model = DSSLRegressor(pretrained=pretrainer, max_epochs=1, on_error="skip").fit(
                mixed, with_gaps(corpus[1])
            )
        assert model.fit_record_["n_labels"] == 20

    @pytest.mark.parametrize("cls", [DSSLRegressor, DSSLClassifier, DSSLPretrainer])
    def test_nothing_left_is_an_error(self, cls, tiny):
        with pytest.raises(InvalidStructureError, match=r"3 unusable structure\(s\) of 3"):
            cls(**tiny, on_error="skip").fit(list(BAD.values()), [0, 1, 0])

    def test_labels_of_bad_structures_only(self, tiny, corpus):
        mixed, _ = with_bad(corpus[0])
        y = with_gaps(np.full(20, np.nan), 1.0)
        with skips(), pytest.raises(InvalidInputError, match="y has no known entry"):
            DSSLRegressor(**tiny, on_error="skip").fit(mixed, y)

    def test_many_are_named_in_few_words(self, tiny, corpus):
        bad = [*corpus[0], *range(200)]
        with pytest.warns(SkippedStructuresWarning, match=r"(?s)200 unusable.*219") as caught:
            DSSLRegressor(**tiny, on_error="skip").fit(bad, np.arange(220.0))
        assert len(str(caught[0].message).splitlines()) < 30
