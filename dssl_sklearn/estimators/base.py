"""What pretrainer and predictors share: parameters, cloning, seeds, the skorch net."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from dataclasses import fields, replace
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted
from skorch.utils import noop
from torch import nn

from dssl_sklearn.crystals.builder import GraphBuilder
from dssl_sklearn.crystals.graph import DEFAULT_CUTOFF, DEFAULT_MAX_NEIGHBORS
from dssl_sklearn.estimators.memory import explains_memory
from dssl_sklearn.estimators.pretrained import is_fitted_pretrainer
from dssl_sklearn.estimators.skipping import UsableGraphs
from dssl_sklearn.exceptions import InvalidInputError
from dssl_sklearn.models.architecture import Architecture
from dssl_sklearn.models.encoder import CrystalEncoder, PropertyModel
from dssl_sklearn.training.callbacks import (
    Progress,
    StopEarly,
    TermLog,
    copy_callbacks,
    renew_callbacks,
)
from dssl_sklearn.training.data import HoldOut
from dssl_sklearn.training.distributed import accelerator_of, agreed_seed, device_of
from dssl_sklearn.training.finite import FiniteLoss
from dssl_sklearn.training.inference import embed
from dssl_sklearn.training.schedules import make_schedule

_Recipe = TypeVar("_Recipe")

#: Prefixes of skorch's nested parameters, which `set_params` passes on to the net.
_NET_PREFIXES = (
    "module__",
    "criterion__",
    "optimizer__",
    "iterator_train__",
    "iterator_valid__",
    "callbacks__",
)
#: Parameters of skorch's net that an argument of the estimators sets, and which one.
_OF_ARGUMENTS = {
    "max_epochs": "max_epochs",
    "batch_size": "batch_size",
    "lr": "lr",
    "optimizer__lr": "lr",
    "callbacks": "callbacks",
    "device": "device",
    "train_split": "validation_fraction",
}


class CrystalEstimator(BaseEstimator):
    """Base of the estimators that train a network on crystals."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "recipe": [StrOptions({"default", "paper"})],
        "pretrained": [str, os.PathLike, BaseEstimator, None],
        "backbone": [str, nn.Module, None],
        "backbone_params": [dict, None],
        "readout": [str, nn.Module, None],
        "cutoff": [Interval(Real, 0, None, closed="neither"), None],
        "max_neighbors": [Interval(Integral, 1, None, closed="left"), None],
        "max_epochs": [Interval(Integral, 0, None, closed="left"), None],
        "batch_size": [Interval(Integral, 1, None, closed="left"), None],
        "lr": [Interval(Real, 0, None, closed="neither"), None],
        "weight_decay": [Interval(Real, 0, None, closed="left"), None],
        "schedule": [StrOptions({"cosine", "plateau", "constant"}), None],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "on_error": [StrOptions({"raise", "skip"})],
        "checkpoint_dir": [str, os.PathLike, None],
        "device": [str],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
        "callbacks": [list, tuple, None],
        "net_params": [dict, None],
    }

    # What the subclasses' constructors store and this base reads.
    pretrained: Any
    backbone: Any
    backbone_params: dict[str, Any] | None
    cutoff: float | None
    max_neighbors: int | None
    validation_fraction: float
    early_stopping: bool
    n_iter_no_change: int
    on_error: Literal["raise", "skip"]
    checkpoint_dir: str | os.PathLike[str] | None
    device: str
    n_jobs: int | None
    random_state: Any
    verbose: int
    callbacks: Any
    net_params: dict[str, Any] | None
    # What fitting adds.
    net_: Any
    architecture_: Architecture
    history_: Any
    fit_record_: dict[str, Any] | None

    #: Parameters that copies share instead of copying them (large, and never changed).
    _shared_params: ClassVar[tuple[str, ...]] = ()
    #: Parameters that pretrained weights settle.
    _inherited_params: ClassVar[tuple[str, ...]] = (
        "backbone",
        "backbone_params",
        "cutoff",
        "max_neighbors",
    )

    # ---- scikit-learn's protocol -----------------------------------------------------------

    def get_params(self, deep: bool = True) -> dict[str, Any]:  # noqa: FBT001, FBT002
        """Get the parameters, with those of a nested estimator and of the net.

        Parameters
        ----------
        deep : bool, default=True
            Also give the skorch parameters in `net_params`, and ``pretrained__...`` unless
            `pretrained` is fitted: what cannot be set is not listed.

        Returns
        -------
        dict
            Names and values.
        """
        params: dict[str, Any] = super().get_params(deep=deep)
        if deep:
            # What is no mapping is for `fit` to refuse; it must be shown and copied before.
            given = self.net_params if isinstance(self.net_params, Mapping) else {}
            params |= {k: v for k, v in given.items() if k.startswith(_NET_PREFIXES)}
        if deep and is_fitted_pretrainer(self.pretrained):
            params = {k: v for k, v in params.items() if not k.startswith("pretrained__")}
        return params

    def set_params(self, **params: Any) -> Self:  # noqa: ANN401
        """Set parameters by name.

        Beside scikit-learn's syntax, skorch's works: names that begin with ``module__``,
        ``criterion__``, ``optimizer__``, ``iterator_train__``, ``iterator_valid__`` or
        ``callbacks__`` go to the net (they are kept in `net_params`).

        Parameters
        ----------
        **params : dict
            Names and values.

        Returns
        -------
        self
            This estimator.

        Raises
        ------
        InvalidInputError
            If a nested parameter is set of a fitted `pretrained`, which would change nothing, or of
            one that is no estimator.
        """
        of_net = {k: params.pop(k) for k in list(params) if k.startswith(_NET_PREFIXES)}
        pretrained = params.get("pretrained", self.pretrained)
        nested = [name for name in params if name.startswith("pretrained__")]
        if nested and is_fitted_pretrainer(pretrained):
            raise InvalidInputError(
                f"{nested[0]!r} cannot be set: `pretrained` is fitted, its parameters would change "
                "nothing; give an unfitted one (sklearn.base.clone) to have it trained anew."
            )
        if nested and not isinstance(pretrained, BaseEstimator):
            raise InvalidInputError(
                f"{nested[0]!r} cannot be set: `pretrained` is {pretrained!r}; give an unfitted "
                "DSSLPretrainer to set its parameters."
            )
        super().set_params(**params)
        if of_net:
            self.net_params = {**(self.net_params or {}), **of_net}
        return self

    def __sklearn_clone__(self) -> Self:
        """Copy unfitted; a fitted `pretrained` stays fitted and shares its tensors."""
        shared = set(self._shared_params)
        params = self.get_params(deep=False)
        copies = {
            name: value if name in shared else clone(value, safe=False)
            for name, value in params.items()
            if name not in {"callbacks", "net_params", "pretrained"}
        }
        copies["net_params"] = _copy_net_params(self.net_params)
        pretrained = self.pretrained
        copies["callbacks"] = renew_callbacks(self.callbacks)
        copies["pretrained"] = (
            copy.copy(pretrained)
            if is_fitted_pretrainer(pretrained)
            else clone(pretrained, safe=False)
        )
        new = type(self)(**copies)
        for name in ("_metadata_request", "_sklearn_output_config"):
            if name in self.__dict__:
                setattr(new, name, copy.deepcopy(self.__dict__[name]))
        return new

    def __sklearn_tags__(self) -> Any:  # noqa: ANN401 - sklearn.utils.Tags moved between versions
        """Say that the input is no table: crystals, not rows of numbers."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        return tags

    @property
    def encoder_(self) -> CrystalEncoder:
        """Trained backbone and readout."""
        check_is_fitted(self, "net_")
        module = self.net_.module_
        return module.encoder if isinstance(module, PropertyModel) else module

    # ---- for the subclasses ----------------------------------------------------------------

    def _with_recipe(self, recipe: _Recipe) -> _Recipe:
        """Take the recipe's value for every argument that is None."""
        names = {f.name for f in fields(recipe)}  # type: ignore[arg-type]
        given = {k: v for k, v in self.get_params(deep=False).items() if v is not None}
        return replace(recipe, **{k: given[k] for k in names & set(given)})  # type: ignore[type-var]

    def _architecture(self, recipe: Any) -> Architecture:  # noqa: ANN401
        """Architecture of a network from scratch."""
        # Arguments of the recipe's backbone are meaningless for another one.
        params = recipe.backbone_params
        if self.backbone is not None and self.backbone_params is None:
            params = {}
        return Architecture(
            backbone=recipe.backbone,
            backbone_params=params,
            readout=recipe.readout,
            cutoff=DEFAULT_CUTOFF if self.cutoff is None else float(self.cutoff),
            max_neighbors=DEFAULT_MAX_NEIGHBORS
            if self.max_neighbors is None
            else int(self.max_neighbors),
        )

    def _inherit_architecture(self, pretrained: Architecture) -> Architecture:
        """Architecture of pretrained weights, after a check that no argument contradicts it."""
        for name in self._inherited_params:
            wanted, found = getattr(self, name), getattr(pretrained, name)
            if name == "backbone_params" and wanted:
                found = {key: found.get(key) for key in wanted}
            if wanted not in (None, {}, found):
                raise InvalidInputError(
                    f"{name}={wanted!r} contradicts the pretrained weights, which were trained "
                    f"with {found!r}; leave it at None, or set it on the pretrainer."
                )
        return pretrained

    def _builder(self, architecture: Architecture, **kwargs: Any) -> GraphBuilder:  # noqa: ANN401
        return GraphBuilder(
            architecture.cutoff, architecture.max_neighbors, n_jobs=self.n_jobs, **kwargs
        )

    @explains_memory
    def _graphs_to_use(self, X: Any, /, name: str = "X", **kwargs: Any) -> UsableGraphs:  # noqa: ANN401
        """Graphs for the fitted network, with a warning for crystals that are skipped.

        Other arguments are those of the `GraphBuilder`.
        """
        check_is_fitted(self, "net_")
        builder = self._builder(self.architecture_, **kwargs)
        return UsableGraphs.of(X, builder, name, skip=self.on_error == "skip")

    @explains_memory
    def _embeddings(self, usable: UsableGraphs) -> NDArray[np.float32]:
        """Embeddings by the fitted network, NaN for crystals that are skipped."""
        net = self.net_
        return usable.spread(embed(self.encoder_, usable.graphs, net.batch_size, net.device))

    def _draw_seed(self) -> int:
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        return agreed_seed(seed, accelerator_of(self.net_params))

    def _resolve_device(self) -> str:
        accelerator = accelerator_of(self.net_params)
        if accelerator is not None:
            return device_of(accelerator)
        if self.device == "auto":
            return "cuda" if torch.cuda.is_available() else "cpu"
        try:
            torch.empty(0, device=self.device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise InvalidInputError(
                f"device={self.device!r} cannot be used here ({reason}); "
                "take 'auto', 'cpu', or a device of this machine"
            ) from error
        return str(self.device)

    def _net_kwargs(self, recipe: Any, n_crystals: int, seed: int) -> dict[str, Any]:  # noqa: ANN401
        """Arguments of the skorch net that both kinds of training share."""
        self._check_net_params()
        fraction = self._held_out_fraction()
        hold_out = HoldOut(fraction, seed)
        size = (self.net_params or {}).get("iterator_train__batch_size", recipe.batch_size)
        n_batches = -(-(n_crystals - hold_out.n_valid(n_crystals)) // size)
        callbacks: list[Any] = [("terms", TermLog()), ("finite_loss", FiniteLoss())]
        schedule = make_schedule(recipe.schedule, n_batches * recipe.max_epochs)
        if schedule is not None:
            callbacks.append(("schedule", schedule))
        callbacks += copy_callbacks(self.callbacks or [])
        if self.verbose:
            callbacks.append(("progress", Progress(type(self).__name__)))
        if self.early_stopping:
            # Last, since what it raises to stop keeps later callbacks from the end of the epoch.
            stop = StopEarly(patience=self.n_iter_no_change, load_best=True, sink=noop)
            callbacks.append(("early_stopping", stop))
        # All weights in one go, in a sixth of the time; not every other optimizer can do that.
        own_way = {"optimizer", "optimizer__foreach"} & set(self.net_params or {})
        fused = {} if own_way else {"optimizer__fused": True}
        return {
            **fused,
            "optimizer": torch.optim.AdamW,
            "optimizer__weight_decay": recipe.weight_decay,
            "lr": recipe.lr,
            "max_epochs": recipe.max_epochs,
            "batch_size": recipe.batch_size,
            "train_split": hold_out if fraction else None,
            "callbacks": callbacks,
            "device": self._resolve_device(),
            "seed": seed,
            "verbose": max(0, int(self.verbose) - 1),
        }

    def _check_net_params(self) -> None:
        """Refuse what an argument of the estimator sets."""
        for name in self.net_params or {}:
            if argument := _OF_ARGUMENTS.get(name):
                raise InvalidInputError(
                    f"net_params[{name!r}] would get round the argument {argument}, which the "
                    f"schedule and the checkpoints follow; set {argument} instead"
                )

    def _held_out_fraction(self) -> float:
        """Share of the crystals for validation, 0 for none."""
        return float(self.validation_fraction)

    def _check_held_out(self, n_crystals: int) -> None:
        """Make sure that early stopping has something to watch."""
        if self.early_stopping and HoldOut(self._held_out_fraction(), 0).n_valid(n_crystals) < 1:
            raise InvalidInputError(
                f"early_stopping needs a validation part, but validation_fraction="
                f"{self.validation_fraction} of {n_crystals} structure(s) holds out none; raise "
                "validation_fraction or give more structures"
            )


def _copy_net_params(net_params: dict[str, Any] | None) -> dict[str, Any] | None:
    """Copy, but for the accelerator: it stands for the processes, of which there is one set."""
    if not isinstance(net_params, Mapping) or accelerator_of(net_params) is None:
        return clone(net_params, safe=False)  # type: ignore[no-any-return]
    others = {k: v for k, v in net_params.items() if k != "accelerator"}
    return {**clone(others, safe=False), "accelerator": net_params["accelerator"]}
