"""Fine-tuning as scikit-learn predictors."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils import _safe_indexing
from sklearn.utils._param_validation import Interval
from skorch.history import History
from torch import nn

from dssl_sklearn._warnings import warn
from dssl_sklearn.crystals.builder import GraphBuilder
from dssl_sklearn.crystals.dataset import GraphDataset
from dssl_sklearn.crystals.graph import DEFAULT_CUTOFF, DEFAULT_MAX_NEIGHBORS
from dssl_sklearn.crystals.inputs import as_sequence
from dssl_sklearn.estimators.base import CrystalEstimator
from dssl_sklearn.estimators.kernel_part import (
    ComparedCrystals,
    FrozenEncoder,
    KernelPart,
    warn_of_no_process,
)
from dssl_sklearn.estimators.kernel_share import ShareChoice, late_labels
from dssl_sklearn.estimators.memory import explains_memory
from dssl_sklearn.estimators.older_files import with_members, with_scale
from dssl_sklearn.estimators.persistence import Persistent
from dssl_sklearn.estimators.pretrained import is_fitted_pretrainer
from dssl_sklearn.estimators.pretrainer import DSSLPretrainer, resolve_pretrained
from dssl_sklearn.estimators.recipes import FineTuneRecipe, RecipeName, backbone_lr_factor
from dssl_sklearn.estimators.record import fit_record
from dssl_sklearn.estimators.resuming import last_good, train
from dssl_sklearn.estimators.skipping import UsableGraphs, leave_out
from dssl_sklearn.estimators.targets import check_length
from dssl_sklearn.estimators.untrusted import check_shapes, check_targets
from dssl_sklearn.exceptions import InvalidInputError, InvalidStructureError
from dssl_sklearn.models.architecture import Architecture
from dssl_sklearn.models.encoder import CrystalEncoder, PropertyModel
from dssl_sklearn.training.callbacks import FreezeFirst
from dssl_sklearn.training.data import CrystalDataset
from dssl_sklearn.training.distributed import net_class
from dssl_sklearn.training.inference import embed
from dssl_sklearn.training.late_labels import LateLabels, found_late, joining_late
from dssl_sklearn.training.nets import PropertyNet
from dssl_sklearn.training.seeding import seeded
from dssl_sklearn.training.weights import load_state, prefixed

#: Arguments of `PropertyModel` that are not given in `head_params`.
_OWN_ARGUMENTS = {"encoder", "n_outputs", "n_members"}
#: Name in the history of the shares of the Gaussian process that late labels choose.
_SHARE = "kernel_share"


class PropertyEstimator(Persistent):
    """Base of regressor and classifier: an encoder, pretrained or not, and a head."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **CrystalEstimator._parameter_constraints,  # noqa: SLF001 - the base's own
        "unlabeled": [object],
        "head_params": [dict, None],
        "n_members": [Interval(Integral, 1, None, closed="left"), None],
        "backbone_lr_factor": [Interval(Real, 0, None, closed="left"), None],
        "kernel_share": [Interval(Real, 0, 1, closed="both"), None],
        "freeze_epochs": [Interval(Integral, 0, None, closed="left")],
    }
    _shared_params: ClassVar[tuple[str, ...]] = ("unlabeled",)
    recipe: RecipeName
    unlabeled: Any
    readout: Any
    head_params: dict[str, Any] | None
    n_members: int | None
    kernel_share: float | None
    freeze_epochs: int
    pretrainer_: DSSLPretrainer
    #: Of files from before it existed, and where nothing was trained.
    kernel_: KernelPart | None = None

    _recipes: ClassVar[Mapping[RecipeName, FineTuneRecipe]]
    #: Fitted attributes that describe the targets, written by `save`.
    _target_state: ClassVar[tuple[str, ...]] = ()

    def _resolved_recipe(self) -> FineTuneRecipe:
        """The recipe, with the arguments in place of its own values."""
        return self._with_recipe(self._recipes[self.recipe])

    @abstractmethod
    def _make_criterion(self, recipe: FineTuneRecipe) -> nn.Module:
        """Loss of the predictions."""

    def _fit_labeled(
        self,
        X: Sequence[Any],
        y: NDArray[Any],
        labeled: NDArray[Any],
        sample_weight: NDArray[np.float64],
        n_outputs: int,
        *,
        of_targets: Mapping[str, Any],
        given: NDArray[Any],
        names: Sequence[str] | None,
        skipped: Mapping[int, str],
    ) -> Self:
        """Train on the labeled structures; the others go to an unfitted pretrainer.

        The attributes `of_targets` are set only once all has gone well, so that a fit that fails
        leaves the last one whole. Into the record of the fit go the targets as they were `given`,
        their `names`, and what was `skipped` before.
        """
        recipe = self._resolved_recipe()
        rows = np.flatnonzero(labeled & (sample_weight > 0))
        if not len(rows):
            raise InvalidInputError("sample_weight is zero for every labeled structure.")
        if recipe.max_epochs:
            self._check_held_out(len(rows))
        head = self._head(n_outputs, recipe.n_members)
        seed = self._draw_seed()
        pretrainer, architecture = self._start(recipe, X, seed)
        graphs = _chosen_graphs(self._builder(architecture), X, rows)

        def compare() -> ComparedCrystals:
            frozen = FrozenEncoder.of(pretrainer)
            return ComparedCrystals.of(frozen, graphs, seed, recipe.batch_size)

        learned_y, beside, choice = self._fit_beside(
            recipe, graphs, y[rows], sample_weight[rows], n_outputs=n_outputs, compare=compare
        )
        warn_of_no_process(self.kernel_share, recipe.max_epochs, beside["kernel_"], y[rows])
        of_targets = {**of_targets, **beside}
        if _is_unfitted(self.pretrained):
            of_targets["pretrainer_"] = pretrainer
        weight = sample_weight[rows] / sample_weight[rows].mean()
        dataset = CrystalDataset(graphs, y=learned_y, weight=weight.astype(np.float32))
        record = fit_record(
            dataset.graphs,
            given[rows],
            n_structures=len(X) + len(skipped),
            skipped=skipped,
            starts_from=None if pretrainer is None else pretrainer.fit_record_,
            targets=names,
        )
        with seeded(seed, self._resolve_device()):
            encoder, learned = self._encoder(architecture, pretrainer)
            net = self._make_net(encoder, head, len(dataset), seed, learned)
            net.initialize()
            if recipe.standardize:
                _standardize(net, dataset.graphs)
            if recipe.max_epochs:
                settings = {"freeze_epochs": self.freeze_epochs, "head": self.head_params}
                late = None
                if choice is not None:
                    settings["n_late_labels"] = len(choice.rows)
                    late = LateLabels(_SHARE, choice.rows, choice, choice.usual.tolist())
                with (
                    last_good(self, net, architecture, head, record, **of_targets),
                    joining_late(net, late),
                ):
                    train(self, net, dataset, recipe, learned=learned, **settings)
        self.__dict__.pop("pretrainer_", None)
        self.__dict__.update(of_targets)
        return self._set_fitted(net, architecture, head, record)

    @abstractmethod
    def _fit_beside(
        self,
        recipe: FineTuneRecipe,
        graphs: GraphDataset,
        y: NDArray[Any],
        weight: NDArray[np.float64],
        *,
        n_outputs: int,
        compare: Callable[[], ComparedCrystals],
    ) -> tuple[NDArray[Any], dict[str, Any], ShareChoice | None]:
        """Fit all but the network: targets for it to learn, and fitted attributes by name.

        `compare` describes the labeled crystals, those of `graphs`, for a Gaussian process. If its
        share is to be chosen, what chooses it comes last.
        """

    def _late_labels(
        self, recipe: FineTuneRecipe, compared: ComparedCrystals, graphs: GraphDataset
    ) -> NDArray[np.int64]:
        """Which of the compared crystals choose the share of the process; none if it is given."""
        if self.kernel_share is not None or self.early_stopping or recipe.max_epochs < 2:
            return np.empty(0, dtype=np.int64)
        return late_labels(compared, graphs)

    def _usable(
        self,
        items: Sequence[Any],
        y: Any,  # noqa: ANN401
        sample_weight: Any,  # noqa: ANN401
    ) -> tuple[Sequence[Any], Any, Any, dict[int, str]]:
        """Leave out unusable structures, their targets and weights, if that is asked for."""
        if self.on_error != "skip":
            return items, y, sample_weight, {}
        if sample_weight is not None:
            check_length(sample_weight, len(items), "sample_weight")
        items, rows, reasons = self._leave_out(items, "X")
        if reasons:
            y = _safe_indexing(y, rows)
            sample_weight = None if sample_weight is None else _safe_indexing(sample_weight, rows)
        return items, y, sample_weight, reasons

    def _leave_out(
        self, items: Sequence[Any], name: str
    ) -> tuple[Sequence[Any], NDArray[np.int64], dict[int, str]]:
        """Usable structures and their rows, and the reasons against the others."""
        # Before the weights are looked at, whose settings may differ: they hardly ever decide
        # which crystals can be used, and the fit would name the others.
        builder = GraphBuilder(
            float(self.cutoff or DEFAULT_CUTOFF),
            int(self.max_neighbors or DEFAULT_MAX_NEIGHBORS),
            n_jobs=self.n_jobs,
        )
        return leave_out(items, builder, name)

    def _start(
        self, recipe: FineTuneRecipe, X: Sequence[Any], seed: int
    ) -> tuple[DSSLPretrainer | None, Architecture]:
        """What to start from, if anything, and the architecture to train."""
        pretrainer = self._pretrainer(X, seed)
        architecture = self._architecture(recipe)
        if pretrainer is not None:
            architecture = self._inherit_architecture(pretrainer.architecture_)
            readout = self._readout(recipe, architecture)
            if readout != architecture.readout:
                # What was learned is the backbone; a readout of another kind starts fresh.
                architecture = replace(architecture, readout=readout, readout_params={})
        return pretrainer, architecture

    def _pretrainer(self, X: Sequence[Any], seed: int) -> DSSLPretrainer | None:
        """Resolve `pretrained`; an unfitted pretrainer learns from these structures."""
        if not _is_unfitted(self.pretrained):
            if self.unlabeled is not None:
                warn(
                    "unlabeled has no effect: only an unfitted DSSLPretrainer as pretrained learns "
                    f"from it, and that is {type(self.pretrained).__name__}",
                )
            return resolve_pretrained(self.pretrained)
        pretrainer: DSSLPretrainer = clone(self.pretrained)
        if pretrainer.random_state is None:
            pretrainer.set_params(random_state=seed)
        if pretrainer.checkpoint_dir is None and isinstance(pretrainer.random_state, Integral):
            pretrainer.set_params(checkpoint_dir=self.checkpoint_dir)
        if self.unlabeled is None:
            return pretrainer.fit(X)
        unlabeled = as_sequence(self.unlabeled, "unlabeled")
        if self.on_error == "skip":
            unlabeled, _, _ = self._leave_out(unlabeled, "unlabeled")
        try:
            return pretrainer.fit([*X, *unlabeled])
        except InvalidStructureError as error:
            error.add_note(f"Structures from {len(X)} on are those of `unlabeled`.")
            raise

    def _head(self, n_outputs: int, n_members: int) -> dict[str, Any]:
        """Arguments of the head, those set with skorch's ``module__...`` among them."""
        of_net = (self.net_params or {}).items()
        nested = {k.removeprefix("module__"): v for k, v in of_net if k.startswith("module__")}
        head = {**(self.head_params or {}), **nested}
        known = set(inspect.signature(PropertyModel).parameters) - _OWN_ARGUMENTS
        unknown = sorted(head.keys() - known)
        if unknown:
            raise InvalidInputError(
                f"head_params has no entry {unknown[0]!r}; it takes {', '.join(sorted(known))}"
            )
        return {**head, "n_outputs": n_outputs, "n_members": int(n_members)}

    def _readout(self, recipe: FineTuneRecipe, pretrained: Architecture) -> Any:  # noqa: ANN401
        """Readout on a pretrained backbone: the one asked for, else that of the pretraining."""
        if self.readout is not None:
            return self.readout
        # The mean has nothing that was learned, and the recipe's readout contains it.
        widened = pretrained.readout == "mean" and recipe.readout == "mean_max"
        return recipe.readout if widened else pretrained.readout

    def _encoder(
        self, architecture: Architecture, pretrainer: DSSLPretrainer | None
    ) -> tuple[CrystalEncoder, str | None]:
        """Encoder to start from, and a pattern for the names of its pretrained weights."""
        encoder = architecture.build()
        if pretrainer is None:
            return encoder, None
        learned = pretrainer.encoder_
        encoder.backbone.load_state_dict(learned.backbone.state_dict())
        if architecture.readout != pretrainer.architecture_.readout:
            return encoder, "encoder.backbone.*"
        encoder.readout.load_state_dict(learned.readout.state_dict())
        return encoder, "encoder.*"

    def _make_net(
        self,
        encoder: CrystalEncoder,
        head: dict[str, Any],
        n_crystals: int,
        seed: int,
        learned: str | None = None,
    ) -> PropertyNet:
        recipe = self._resolved_recipe()
        kwargs = self._net_kwargs(recipe, n_crystals, seed)
        if learned is not None:
            factor = recipe.backbone_lr_factor
            if factor is None:
                factor = backbone_lr_factor(n_crystals)
            lr = recipe.lr * factor
            kwargs["optimizer__param_groups"] = [(learned, {"lr": lr})]
        if self.freeze_epochs:
            frozen = learned or "encoder.*"
            # Before early stopping, which has to be the last one.
            kwargs["callbacks"].insert(0, ("freeze", FreezeFirst(frozen, int(self.freeze_epochs))))
        kwargs |= {f"module__{name}": value for name, value in head.items()}
        make = net_class(PropertyNet, self.net_params)
        return make(
            PropertyModel,
            module__encoder=encoder,
            criterion=self._make_criterion(recipe),
            **{**kwargs, **(self.net_params or {})},
        )

    def _held_out_fraction(self) -> float:
        # As in scikit-learn's networks: labels are held out only to stop early.
        return float(self.validation_fraction) if self.early_stopping else 0.0

    def _set_fitted(
        self,
        net: PropertyNet,
        architecture: Architecture,
        head: dict[str, Any],
        record: dict[str, Any] | None,
    ) -> Self:
        self.net_ = net
        self.architecture_ = architecture
        self.head_params_ = head
        self.history_ = net.history
        # Of this fit; that of a file is in its description.
        shares = found_late(net.history, _SHARE)
        if self.kernel_ is not None and shares is not None:
            self.kernel_ = replace(self.kernel_, share=np.zeros_like(self.kernel_.share) + shares)
        self.fit_record_ = record
        return self

    @explains_memory
    def _outputs(self, usable: UsableGraphs) -> NDArray[np.float64]:
        """Outputs of every head, shape (n_structures, n_members, n_outputs); NaN where skipped."""
        if usable.graphs is None:
            shape = (0, self.head_params_.get("n_members", 1), self.head_params_["n_outputs"])
            return usable.spread(np.empty(shape))
        output: torch.Tensor = self.net_.forward(CrystalDataset(usable.graphs))
        return usable.spread(output.double().numpy())

    def _contents(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        targets = {name: np.asarray(getattr(self, name)).tolist() for name in self._target_state}
        entries: dict[str, Any] = {"head": self.head_params_, "targets": targets}
        tensors = prefixed("model.", self.net_.module_.state_dict())
        if self.kernel_ is not None:
            of_kernel, entries["kernel"] = self.kernel_.to_file()
            tensors |= of_kernel
        return tensors, entries

    @classmethod
    def _from_file(
        cls, tensors: dict[str, torch.Tensor], config: dict[str, Any], path: str
    ) -> Self:
        architecture = Architecture(**config["architecture"])
        predictor = cls(**config["params"])
        predictor._validate_params()
        head = config["head"]
        targets = with_scale(config["targets"])
        check_targets(targets, head["n_outputs"])
        if "n_members" not in head:
            tensors = with_members(tensors)
        check_shapes(lambda: PropertyModel(architecture.build(), **head), tensors, "model.")
        for name in cls._target_state:
            value = targets[name]
            setattr(predictor, name, np.array(value) if isinstance(value, list) else value)
        with seeded(0, "cpu"):
            net = predictor._make_net(architecture.build(), head, 1, config["seed"])
            net.initialize()
        load_state(net.module_, tensors, "model.", path)
        net.history = History(config["history"])
        predictor._set_fitted(net, architecture, head, config.get("data"))
        if (kernel := config.get("kernel")) is not None:
            predictor.kernel_ = KernelPart.from_file(tensors, kernel, head["n_outputs"], path)
        return predictor


def _chosen_graphs(builder: GraphBuilder, X: Any, rows: NDArray[np.int64]) -> GraphDataset:  # noqa: ANN401
    """Graphs of some crystals; a whole data set as it is, which may be larger than memory."""
    # All structures are checked, so that a bad one is named by its position in X.
    every = builder.dataset(X)
    return every if len(rows) == len(every) else every.take(rows)


def _is_unfitted(pretrained: object) -> bool:
    return isinstance(pretrained, DSSLPretrainer) and not is_fitted_pretrainer(pretrained)


def _standardize(net: PropertyNet, graphs: GraphDataset) -> None:
    """Let the head see embeddings in units of their spread over the labeled crystals."""
    model = net.module_
    embeddings = embed(model.encoder, graphs, net.batch_size, net.device)
    model.fit_statistics(torch.from_numpy(embeddings).to(model.mean))
