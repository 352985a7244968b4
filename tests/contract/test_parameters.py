"""Constructors, parameters, clones: what scikit-learn may do with an estimator before `fit`."""

import inspect

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.utils import get_tags
from skorch.callbacks import EarlyStopping

from dssl_sklearn import DSSLClassifier, DSSLPretrainer, DSSLRegressor, StructureToGraph
from dssl_sklearn.exceptions import InvalidInputError
from dssl_sklearn.training.schedules import CosineSchedule


def parameters(cls):
    return inspect.signature(cls).parameters


class TestConstructor:
    def test_takes_keywords_only_and_has_a_default_for_everything(self, public_class):
        for parameter in parameters(public_class).values():
            assert parameter.kind is parameter.KEYWORD_ONLY
            assert parameter.default is not parameter.empty
        with pytest.raises(TypeError):
            public_class(1)

    def test_stores_its_arguments_and_does_nothing_else(self, public_class):
        given = {name: object() for name in parameters(public_class)}
        estimator = public_class(**given)
        stored = vars(estimator)
        assert stored.keys() == given.keys()
        assert all(stored[name] is value for name, value in given.items())

    def test_defaults_are_what_scikit_learn_can_show(self, public_class):
        assert repr(public_class()) == f"{public_class.__name__}()"

    def test_every_parameter_has_a_constraint_and_the_reverse(self, public_class):
        assert public_class._parameter_constraints.keys() == parameters(public_class).keys()

    def test_defaults_satisfy_the_constraints(self, public_class):
        public_class()._validate_params()


class TestParameters:
    def test_get_and_set_go_round(self, case):
        estimator = case.estimator
        before = estimator.get_params(deep=True)
        assert estimator.set_params(**before) is estimator
        after = estimator.get_params(deep=True)
        assert after.keys() == before.keys()
        assert all(after[name] is before[name] for name in before)

    def test_shallow_parameters_are_those_of_the_constructor(self, case):
        assert (
            case.estimator.get_params(deep=False).keys() == parameters(type(case.estimator)).keys()
        )

    def test_set_reaches_every_parameter(self, public_class):
        estimator = public_class()
        for name in parameters(public_class):
            value = object()
            estimator.set_params(**{name: value})
            assert getattr(estimator, name) is value

    def test_unknown_names_are_refused(self, case):
        with pytest.raises(ValueError, match="no_such_thing"):
            case.estimator.set_params(no_such_thing=1)

    def test_set_checks_nothing(self, trained):
        assert trained.estimator.set_params(lr=-1).lr == -1


class TestClone:
    def test_copies_the_parameters(self, case):
        estimator = case.estimator
        copied = clone(estimator)
        assert type(copied) is type(estimator)
        assert copied.get_params().keys() == estimator.get_params().keys()
        for name in ("max_epochs", "lr", "random_state", "max_neighbors", "backbone_params"):
            assert getattr(copied, name, None) == getattr(estimator, name, None)
        if getattr(estimator, "backbone_params", None):
            assert copied.backbone_params is not estimator.backbone_params

    def test_forgets_what_was_fitted(self, trained, train, new):
        copied = clone(trained.fit(trained.estimator, *train))
        assert not [name for name in vars(copied) if name.endswith("_")]
        with pytest.raises(NotFittedError):
            trained.output(copied, new)

    def test_a_random_state_is_copied(self, trained):
        estimator = trained.estimator.set_params(random_state=np.random.RandomState(3))
        assert clone(estimator).random_state is not estimator.random_state

    def test_callbacks_are_copied(self, trained):
        early = EarlyStopping(monitor="train_loss", patience=7)
        copied = clone(trained.estimator.set_params(callbacks=[("early", early)]))
        ((name, callback),) = copied.callbacks
        assert (name, callback.patience) == ("early", 7)
        assert callback is not early

    def test_output_and_metadata_settings_survive(self, tiny):
        assert clone(
            DSSLPretrainer(**tiny).set_output(transform="pandas")
        )._sklearn_output_config == {"transform": "pandas"}


BAD = {
    "recipe": ["fancy", 3],
    "pretrained": [3.5, ["mp"]],
    "backbone": ["transformer", 3],
    "backbone_params": [{"n_layer": 2}, [1], {"width": 0}],
    "readout": ["sum", 2],
    "cutoff": [0, -1.0, "8", np.nan],
    "max_neighbors": [0, 2.5],
    "max_epochs": [-1, 2.5, "all"],
    "batch_size": [0, 1.5],
    "lr": [0, -1e-3, np.nan, "fast"],
    "weight_decay": [-1, "no"],
    "schedule": ["linear", 1],
    "validation_fraction": [-0.1, 1.0, 2],
    "early_stopping": ["yes", 2],
    "n_iter_no_change": [0, 1.5],
    "device": ["gpu", 0, "cuda:77"],
    "on_error": ["ignore", 3],
    "n_jobs": [0.5, "all"],
    "random_state": ["seed", -1],
    "verbose": [-1, "very"],
    "callbacks": [3, "early", [3], [("early", None)]],
    "net_params": [3, [("lr", 1)]],
    "objectives": ["denoize", 3, [], {"mask": 0}, {"mask": -1}],
    "mask_ratio": [0, 1, "some"],
    "move": [0, -0.1, "far"],
    "microproperty": [{"Xx": 1.0}, 3.5, {}],
    "contrastive_loss": ["simclr", 1],
    "checkpoint_dir": [3],
    "warm_start": ["yes", 3],
    "n_members": [0, 2.5],
    "kernel_share": [-0.1, 1.5, "half"],
    "target_scale": ["sqrt", 2],
    "head_params": [{"depth": 3}, {"hidden": 0}, 7],
    "backbone_lr_factor": [-0.1, "low"],
    "freeze_epochs": [-1, 1.5],
    "loss": ["l3", 2],
    "site_properties": ["magmom", 3],
    "cache": ["yes", 3],
    "unlabeled": [3, "path"],
}
#: Known from the error of what they configure, under another word.
ALSO_NAMED = {
    "backbone_params": "backbone|width",
    "head_params": "head_params|hidden",
    "microproperty": "microproperty|element|values|property",
}


@pytest.mark.parametrize(
    "cls, name, value",
    [
        pytest.param(cls, name, value, id=f"{cls.__name__}-{name}-{value}")
        for cls in (StructureToGraph, DSSLPretrainer, DSSLRegressor, DSSLClassifier)
        for name, values in BAD.items()
        if name in parameters(cls)
        for value in values
    ],
)
def test_a_bad_value_is_an_error_that_names_the_parameter(cls, name, value, tiny, train):
    X, y = train
    kwargs = {k: v for k, v in tiny.items() if k in parameters(cls)} | {name: value}
    if name == "microproperty":
        kwargs["objectives"] = "microproperty"
    if name == "unlabeled":
        kwargs["pretrained"] = DSSLPretrainer(**tiny)
    estimator = cls(**kwargs)
    with pytest.raises((ValueError, TypeError), match=ALSO_NAMED.get(name, name)):
        estimator.fit(X[:8], None if cls is DSSLPretrainer else (y[:8] > 2).astype(int))
    if cls is StructureToGraph:  # whose fit may be left out
        with pytest.raises(ValueError, match=name):
            estimator.transform(X[:8])


def test_every_parameter_is_tried_with_bad_values(public_class):
    assert parameters(public_class).keys() <= BAD.keys()


class TestParametersOfTheNet:
    """skorch's double-underscore names work as on a skorch net."""

    def test_are_set_kept_shown_and_cloned(self, trained):
        settings = {"optimizer__weight_decay": 0.25, "iterator_train__batch_size": 3}
        estimator = clone(trained.estimator.set_params(**settings, lr=0.5))
        assert estimator.net_params == settings
        assert estimator.get_params().items() >= settings.items()
        assert estimator.lr == 0.5
        assert not estimator.get_params(deep=False).keys() & settings.keys()

    def test_of_a_wrong_kind_are_shown_and_copied(self, trained):
        for wrong in ([("lr", 1)], "lr", 3):
            estimator = clone(trained.estimator.set_params(net_params=wrong))
            assert f"net_params={wrong!r}" in repr(estimator)
            assert estimator.get_params()["net_params"] == wrong

    def test_do_not_leak_into_the_estimator_cloned_from(self, trained):
        estimator = trained.estimator.set_params(optimizer__weight_decay=0.25)
        clone(estimator).set_params(optimizer__weight_decay=0.5)
        assert estimator.net_params == {"optimizer__weight_decay": 0.25}

    def test_reach_the_optimizer_and_the_iterators(self, trained, train):
        estimator = trained.estimator.set_params(
            optimizer__weight_decay=0.25, iterator_train__batch_size=4
        )
        net = trained.fit(estimator, *train).net_
        assert {group["weight_decay"] for group in net.optimizer_.param_groups} == {0.25}
        assert net.history[-1, "train_batch_count"] in (5, 6)
        schedule = dict(net.callbacks_)["schedule"]
        if isinstance(schedule, CosineSchedule):
            assert schedule.step_ == schedule.n_steps

    def test_reach_a_callback(self, trained, train):
        early = EarlyStopping(monitor="train_loss", patience=7, sink=lambda _: None)
        estimator = trained.estimator.set_params(callbacks=[("early", early)])
        estimator.set_params(callbacks__early__patience=1, callbacks__early__threshold=1e9)
        trained.fit(estimator.set_params(max_epochs=5), *train)
        # Nothing improves by that threshold after the first epoch, so one more runs.
        assert len(estimator.history_) == 2
        assert early.patience == 7

    def test_reach_the_head(self, predictor, train):
        estimator = predictor.estimator.set_params(module__hidden=5, module__dropout=0.5)
        head = predictor.fit(estimator, *train).net_.module_.head
        assert head.weights[0].shape[2] == 5
        assert head.dropout == 0.5

    def test_swap_the_optimizer(self, trained, train):
        estimator = trained.estimator.set_params(net_params={"optimizer": torch.optim.SGD})
        assert "optimizer" not in estimator.get_params()
        assert type(trained.fit(estimator, *train).net_.optimizer_) is torch.optim.SGD

    def test_unknown_ones_are_an_error(self, trained, train):
        with pytest.raises((TypeError, ValueError), match="frobnicate"):
            trained.fit(trained.estimator.set_params(module__frobnicate=1), *train)
        with pytest.raises((TypeError, ValueError), match="frobnicate"):
            trained.fit(trained.estimator.set_params(net_params={"frobnicate": 1}), *train)

    @pytest.mark.parametrize("name", ["max_epochs", "batch_size", "optimizer__lr"])
    def test_those_of_an_argument_are_an_error(self, trained, train, name):
        """The schedule would not know of them: later epochs had a rate of 0."""
        argument = name.split("__")[-1]
        with pytest.raises(InvalidInputError, match=f"net_params.*set {argument} instead"):
            trained.fit(trained.estimator.set_params(net_params={name: 8}), *train)


class TestNestedPretrained:
    def test_unfitted_is_cloned(self, tiny):
        estimator = DSSLRegressor(pretrained=DSSLPretrainer(**tiny))
        copied = clone(estimator)
        assert copied.pretrained is not estimator.pretrained
        assert copied.get_params()["pretrained__batch_size"] == 8
        copied.set_params(pretrained__lr=0.1)
        assert (copied.pretrained.lr, estimator.pretrained.lr) == (0.1, None)

    def test_fitted_stays_fitted_and_shares_its_tensors(self, predictor_class, fitted_pretrainer):
        copied = clone(clone(predictor_class(pretrained=fitted_pretrainer))).pretrained
        assert copied is not fitted_pretrainer
        pairs = zip(
            copied.encoder_.parameters(), fitted_pretrainer.encoder_.parameters(), strict=True
        )
        assert all(mine.data_ptr() == theirs.data_ptr() for mine, theirs in pairs)

    def test_a_frozen_one_is_as_good_as_a_fitted_one(
        self, trained_class, fitted_pretrainer, train, new
    ):
        frozen = trained_class(pretrained=FrozenEstimator(fitted_pretrainer), random_state=0)
        plain = trained_class(pretrained=fitted_pretrainer, random_state=0)
        first, second = (
            clone(estimator).set_params(max_epochs=1).fit(train[0], train[1] > 2).net_.module_
            for estimator in (frozen, plain)
        )
        assert all(map(torch.equal, first.parameters(), second.parameters()))
        assert frozen.set_params(**frozen.get_params()) is frozen
        with pytest.raises(ValueError, match="cannot"):
            frozen.set_params(pretrained__lr=0.1)

    def test_parameters_of_a_fitted_one_cannot_be_set(self, trained_class, fitted_pretrainer):
        estimator = trained_class(pretrained=fitted_pretrainer)
        with pytest.raises(InvalidInputError, match=r"pretrained__lr.*fitted.*clone") as caught:
            estimator.set_params(pretrained__lr=0.1)
        assert "\n" not in str(caught.value)
        assert not [name for name in estimator.get_params() if name.startswith("pretrained__")]

    def test_nor_those_of_what_is_no_estimator(self, trained_class):
        for value in ("mp", None):
            with pytest.raises(InvalidInputError, match="pretrained__lr"):
                trained_class(pretrained=value).set_params(pretrained__lr=0.1)

    def test_a_new_one_and_its_parameters_are_set_together(self, fitted_pretrainer):
        estimator = DSSLRegressor(pretrained=fitted_pretrainer)
        estimator.set_params(pretrained=DSSLPretrainer(), pretrained__lr=0.1)
        assert estimator.pretrained.lr == 0.1

    def test_a_predictor_is_refused(self, trained_class, all_cases, train):
        case = all_cases["regressor"]
        wrong = case.fit(case.estimator, *train)
        for pretrained in (wrong, clone(wrong)):
            with pytest.raises(InvalidInputError, match="pretrained is of type DSSLRegressor"):
                trained_class(pretrained=pretrained).fit(train[0], train[1] > 2)

    def test_an_unfitted_one_is_refused_by_a_pretrainer(self, train):
        with pytest.raises(InvalidInputError, match="not fitted"):
            DSSLPretrainer(pretrained=DSSLPretrainer()).fit(train[0])


class TestTags:
    def test_input_is_no_table(self, case):
        assert not get_tags(case.estimator).input_tags.two_d_array

    def test_kinds(self):
        assert is_regressor(DSSLRegressor())
        assert is_classifier(DSSLClassifier())
        assert get_tags(DSSLRegressor()).target_tags.multi_output
        assert get_tags(DSSLRegressor()).target_tags.required
        assert not get_tags(DSSLPretrainer()).target_tags.required
        for estimator in (DSSLPretrainer(), StructureToGraph()):
            assert get_tags(estimator).estimator_type is None
            assert get_tags(estimator).transformer_tags is not None

    def test_only_the_graphs_need_no_fit(self, case):
        assert get_tags(case.estimator).requires_fit is case.is_trained


def test_parameters_hash_alike_after_a_round_trip(case):
    """Pipeline's memory finds a step again by the hash of its parameters."""
    assert joblib.hash(case.estimator) == joblib.hash(clone(case.estimator))
