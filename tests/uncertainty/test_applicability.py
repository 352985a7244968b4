import pickle

import numpy as np
import pandas as pd
import pytest
from pymatgen.core import Lattice, Structure
from pymatgen.core.operations import SymmOp
from scipy.stats import spearmanr
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR

from dssl_sklearn import DSSLClassifier, DSSLPretrainer, DSSLRegressor, StructureToGraph
from dssl_sklearn.exceptions import (
    InvalidInputError,
    InvalidStructureError,
    SkippedStructuresWarning,
    WeightsError,
)
from dssl_sklearn.uncertainty import ApplicabilityDomain, ConformalRegressor


def has(structure, symbol):
    return any(element.symbol == symbol for element in structure.composition)


def cubic(space_group, a, species, sites=((0, 0, 0), (0.5, 0.5, 0.5))):
    return Structure.from_spacegroup(space_group, Lattice.cubic(a), species, sites[: len(species)])


@pytest.fixture(scope="module")
def known(elastic):
    """Training crystals without fluorine, noble gases and rock salt."""
    absent = ("F", "He", "Ne", "Ar", "Kr", "Xe")
    crystals = [s for s in elastic[0] if not any(has(s, e) for e in absent)]
    return [s for s in crystals if s.reduced_formula != "NaCl"]


@pytest.fixture(scope="module")
def domain(known):
    return ApplicabilityDomain().fit(known)


class TestInside:
    def test_copies(self, domain, known):
        assert (domain.predict(known) == 1).all()
        report = domain.report(known)
        assert report["in_domain"].all()
        assert (report["reason"] == "").all()
        assert (report["distance"] == 0).all()

    def test_other_cells_and_orientations(self, domain, known):
        turn = SymmOp.from_axis_angle_and_translation([1, 2, 3], 40)
        others = []
        for structure in known[:20]:
            turned = structure.copy()
            turned.apply_operation(turn)
            others += [turned, structure * (2, 1, 1), structure.get_primitive_structure()]
            others.append(structure * (3, 3, 2))
        report = domain.report(others)
        assert report["in_domain"].all()
        assert (report["distance"] == 0).all()
        assert report["nearest"].tolist() == np.repeat(np.arange(20), 4).tolist()
        # Far less than between two calculations of one crystal, but no rounding.
        strained = [structure.copy() for structure in known[:20]]
        for structure in strained:
            structure.apply_strain(1e-4)
        assert (domain.report(strained)["distance"] > 0).all()

    def test_rock_salt_which_is_new(self, domain):
        salt = cubic("Fm-3m", 5.69, ["Na", "Cl"])
        assert domain.predict([salt]) == [1]


class TestOutside:
    def test_fluorides_where_none_was_seen(self, domain, elastic):
        fluorides = [s for s in elastic[0] if has(s, "F")]
        assert fluorides
        report = domain.report(fluorides)
        assert not report["in_domain"].any()
        assert (report["unseen_elements"] == "F").all()
        assert report["reason"].str.startswith("F in no training crystal").all()
        assert (domain.predict(fluorides) == -1).all()

    def test_an_unseen_element_counts_where_the_embedding_is_near(self, domain, known):
        host = next(s for s in known if has(s, "O"))
        doped = host * (3, 3, 3)
        doped.replace(0, "Kr")
        (row,) = domain.report([doped]).itertuples()
        assert row.relative_distance < 1
        assert row.unseen_elements == "Kr"
        assert not row.in_domain
        assert domain.decision_function([doped]) < 0

    @pytest.mark.parametrize(
        "exotic",
        [
            cubic("Fm-3m", 5.3, ["O"]),
            cubic("Pm-3m", 3.0, ["H"]),
            cubic("Fm-3m", 5.7, ["H", "C"]),
        ],
        ids=lambda s: s.composition.reduced_formula,
    )
    def test_seen_elements_where_no_chemistry_puts_them(self, domain, exotic):
        (row,) = domain.report([exotic]).itertuples()
        assert not row.in_domain
        assert row.unseen_elements == ""
        assert f"{row.relative_distance:.1f} times the threshold" in row.reason

    def test_argon_has_both_reasons(self, domain):
        (row,) = domain.report([cubic("Fm-3m", 5.3, ["Ar"])]).itertuples()
        assert row.reason.startswith("Ar in no training crystal; ")
        assert row.relative_distance > 1

    @pytest.mark.parametrize("strain", [-0.25, 0.3, 1.0])
    def test_strained_cells(self, domain, known, strain):
        strained = [structure.copy() for structure in known[:20]]
        for structure in strained:
            structure.apply_strain(strain)
        assert (domain.predict(strained) == -1).mean() > 0.9

    def test_error_is_larger_there(self, elastic, elastic_table):
        X, y = elastic_table
        rng = np.random.default_rng(0)
        train = rng.permutation(len(X))[:150]
        test = np.setdiff1d(np.arange(len(X)), train)
        model = make_pipeline(StandardScaler(), SVR(C=10)).fit(X[train], y[train])
        error = np.abs(model.predict(X[test]) - y[test])
        domain = ApplicabilityDomain().fit([elastic[0][row] for row in train])
        held_out = [elastic[0][row] for row in test]
        outside = domain.predict(held_out) == -1
        assert 5 < outside.sum() < 0.4 * len(test)
        assert error[outside].mean() > 1.5 * error[~outside].mean()
        assert spearmanr(domain.score_samples(held_out), error).statistic < -0.2


class TestScores:
    def test_fit_together(self, domain, elastic):
        X = elastic[0][:60]
        scores, report = domain.score_samples(X), domain.report(X)
        np.testing.assert_allclose(domain.decision_function(X), scores + 1)
        np.testing.assert_array_equal(domain.predict(X) == 1, scores >= domain.offset_)
        np.testing.assert_array_equal(domain.predict(X) == 1, report["in_domain"])
        plain = report["unseen_elements"] == ""
        np.testing.assert_allclose(-scores[plain], report["relative_distance"][plain])
        np.testing.assert_allclose(
            report["relative_distance"], report["distance"] / domain.threshold_
        )

    @pytest.mark.parametrize("contamination", [0.05, 0.2])
    def test_share_of_training_crystals_among_each_other(self, known, contamination):
        domain = ApplicabilityDomain(contamination=contamination)
        share = (domain.fit_predict(known) == -1).mean()
        assert share == pytest.approx(contamination, abs=1 / len(known))

    def test_distance_is_what_it_says(self, known, mp):
        domain = ApplicabilityDomain(n_neighbors=3).fit(known[:50])
        raw = mp.transform(known[:51]).astype(float)
        scaled = (raw - raw[:50].mean(axis=0)) / raw[:50].std(axis=0)
        every = np.linalg.norm(scaled[50] - scaled[:50], axis=1)
        (row,) = domain.report(known[50:51]).itertuples()
        assert row.distance == pytest.approx(np.prod(np.sort(every)[:3]) ** (1 / 3), rel=1e-4)
        assert row.nearest == every.argmin()

    def test_training_crystals_that_are_all_alike(self, known):
        domain = ApplicabilityDomain(n_neighbors=2).fit([known[0]] * 5)
        assert domain.predict([known[0], known[1]]).tolist() == [1, -1]

    def test_index_of_pandas_is_kept(self, domain, known):
        series = pd.Series(known[:3], index=["a", "b", "c"])
        assert domain.report(series).index.tolist() == ["a", "b", "c"]
        assert domain.report(known[:3]).index.tolist() == [0, 1, 2]


class TestEncoders:
    def test_of_predictors_and_pretrainers(self, elastic, tiny, fitted_pretrainer, tmp_path):
        structures, y = elastic[0][:30], elastic[1][:30]
        start = {"pretrained": fitted_pretrainer, "max_epochs": 1, "random_state": 0}
        regressor = DSSLRegressor(**start, backbone_lr_factor=3).fit(structures, y)
        classifier = DSSLClassifier(**start).fit(structures, y > 2)
        fitted_pretrainer.save(tmp_path / "mine.safetensors")

        def distances(pretrained):
            domain = ApplicabilityDomain(pretrained, n_neighbors=3).fit(structures)
            return domain.report(elastic[0][30:50])["distance"].to_numpy()

        own = distances(fitted_pretrainer)
        np.testing.assert_allclose(distances(tmp_path / "mine.safetensors"), own, rtol=1e-4)
        np.testing.assert_allclose(distances(FrozenEstimator(fitted_pretrainer)), own)
        # Fine-tuning has moved the encoder: its view is another one.
        assert not np.allclose(distances(regressor), own, rtol=1e-3)
        assert np.isfinite(distances(classifier)).all()
        assert not np.allclose(distances("mp"), own, rtol=1e-2)

    def test_crystals_that_cannot_be_used(self, domain, known):
        skipping = ApplicabilityDomain(on_error="skip")
        with pytest.warns(SkippedStructuresWarning, match="structure 1: no such file"):
            inside = skipping.fit_predict([known[0], "nowhere.cif", *known[1:]])
        assert inside[1] == -1
        assert np.delete(inside, 1).tolist() == ApplicabilityDomain().fit_predict(known).tolist()
        assert skipping.n_train_ == len(known)
        assert skipping.threshold_ == domain.threshold_
        with pytest.warns(SkippedStructuresWarning):
            report = skipping.report([known[3], "nowhere.cif", known[0]])
        assert report["in_domain"].tolist() == [True, False, True]
        assert report["nearest"].tolist() == [4, -1, 0]
        assert report["reason"].tolist() == ["", "cannot be used", ""]
        with pytest.warns(SkippedStructuresWarning):
            assert np.isnan(skipping.decision_function(["nowhere.cif"])).all()
        with pytest.warns(SkippedStructuresWarning), pytest.raises(InvalidInputError):
            skipping.fit(["nowhere.cif"])

    def test_a_fitted_one_stays_fitted_through_clone(self, elastic, fitted_pretrainer):
        domain = clone(ApplicabilityDomain(fitted_pretrainer, n_neighbors=3))
        assert domain.pretrained is not fitted_pretrainer
        assert domain.fit(elastic[0][:10]).predict(elastic[0][:1]) == [1]
        assert clone(ApplicabilityDomain(contamination=0.2)).contamination == 0.2

    def test_pickle(self, domain, elastic):
        again = pickle.loads(pickle.dumps(domain))
        pd.testing.assert_frame_equal(again.report(elastic[0][:5]), domain.report(elastic[0][:5]))


class TestBadInput:
    @pytest.mark.parametrize(
        "params, error, match",
        [
            ({"pretrained": "no_such"}, WeightsError, "no_such"),
            ({"pretrained": None}, ValueError, "pretrained"),
            ({"pretrained": DSSLPretrainer()}, InvalidInputError, "not fitted"),
            ({"pretrained": DSSLRegressor()}, NotFittedError, "DSSLRegressor"),
            ({"pretrained": SVR()}, InvalidInputError, "SVR"),
            (
                {"pretrained": make_pipeline(StructureToGraph(), DSSLRegressor())},
                InvalidInputError,
                r"is a Pipeline; hand in .*: pretrained\['dsslregressor'\]",
            ),
            (
                {"pretrained": ConformalRegressor(DSSLRegressor())},
                InvalidInputError,
                r"pretrained\.estimator\.",
            ),
            ({"n_neighbors": 0}, ValueError, "n_neighbors"),
            ({"n_neighbors": 10}, InvalidInputError, "more than 10 training crystals, got 10"),
            ({"contamination": 0.7}, ValueError, "contamination"),
        ],
    )
    def test_parameters(self, params, error, match, elastic):
        with pytest.raises(error, match=match):
            ApplicabilityDomain(**params).fit(elastic[0][:10])

    def test_crystals(self, domain, elastic):
        with pytest.raises(InvalidInputError, match="single Structure"):
            domain.predict(elastic[0][0])
        with pytest.raises(InvalidStructureError, match="structure 1"):
            domain.report([elastic[0][0], "no_such.cif"])

    def test_before_fit(self, elastic):
        for method in ("predict", "report", "score_samples", "decision_function"):
            with pytest.raises(NotFittedError):
                getattr(ApplicabilityDomain(), method)(elastic[0][:2])
