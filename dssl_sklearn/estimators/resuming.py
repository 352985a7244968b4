"""Training that survives interruptions and failures, for pretrainer and predictors."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral
from typing import Any

from dssl_sklearn.estimators.base import CrystalEstimator
from dssl_sklearn.exceptions import InvalidInputError, TrainingError
from dssl_sklearn.training.checkpoint import Checkpoint, fingerprint, train_resumably
from dssl_sklearn.training.data import CrystalDataset
from dssl_sklearn.training.distributed import describable
from dssl_sklearn.training.finite import FiniteLoss
from dssl_sklearn.training.nets import CrystalNet


def train(
    estimator: CrystalEstimator,
    net: CrystalNet,
    dataset: CrystalDataset,
    recipe: Any,  # noqa: ANN401 - of either kind
    **settings: Any,  # noqa: ANN401
) -> None:
    """Run all epochs, or with `checkpoint_dir` those that an interrupted run left.

    Parameters
    ----------
    estimator : CrystalEstimator
        Whose arguments count.
    net : CrystalNet
        Initialized.
    dataset : CrystalDataset
        What it is trained on.
    recipe : PretrainRecipe or FineTuneRecipe
        With the arguments in place of its own values.
    **settings
        Further values that the result depends on.

    Raises
    ------
    InvalidInputError
        If a rerun would not repeat this run.
    WeightsError
        If the folder cannot be used.
    TrainingError
        If the training fails.
    """
    if estimator.checkpoint_dir is None:
        net.partial_fit(dataset)
        return
    if not isinstance(estimator.random_state, Integral):
        raise InvalidInputError(
            "checkpoint_dir needs an int as random_state, since a rerun must repeat the run; got "
            f"random_state={estimator.random_state!r}"
        )
    # The network and its first weights are part of the fingerprint themselves.
    of_network = {"backbone", "backbone_params", "readout", "objectives", "microproperty"}
    names = ("validation_fraction", "early_stopping", "n_iter_no_change")
    settings |= {name: getattr(estimator, name) for name in names}
    settings |= {
        "cutoff": dataset.graphs.cutoff,
        "module": str(net.module_),
        "recipe": {k: v for k, v in vars(recipe).items() if k not in of_network},
        "class": type(estimator).__name__,
        "net_params": describable(estimator.net_params),
        "seed": net.seed,
    }
    name = fingerprint(net, dataset, settings)
    train_resumably(net, dataset, Checkpoint(os.fspath(estimator.checkpoint_dir), name))


@contextmanager
def last_good(
    estimator: CrystalEstimator,
    net: CrystalNet,
    *fitted: Any,  # noqa: ANN401 - what `_set_fitted` takes behind the net
    **attributes: Any,  # noqa: ANN401 - any fitted attributes
) -> Iterator[None]:
    """Hand out what was learned before a training fails, with the error that says why it failed.

    Parameters
    ----------
    estimator : CrystalEstimator
        What is being fitted; stays as it is.
    net : CrystalNet
        What is being trained.
    *fitted, **attributes
        Further arguments of ``_set_fitted``, and further fitted attributes.

    Raises
    ------
    TrainingError
        Of the block, with the attribute `estimator` if an epoch was good.
    """
    try:
        yield
    except TrainingError as error:
        found = (callback for _, callback in net.callbacks_ if isinstance(callback, FiniteLoss))
        if any(callback.restore(net) for callback in found):
            error.estimator = copy.copy(estimator)
            vars(error.estimator).pop("pretrainer_", None)  # of an earlier fit
            vars(error.estimator).update(attributes)
            error.estimator._set_fitted(net, *fitted)  # noqa: SLF001 - the package's own
        raise
