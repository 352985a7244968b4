"""Pretraining on unlabeled crystals as a scikit-learn transformer."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from numbers import Real
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.frozen import FrozenEstimator
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted
from skorch.history import History
from torch import Tensor, nn

from dssl_sklearn._checks import did_you_mean
from dssl_sklearn._warnings import warn
from dssl_sklearn.crystals.dataset import GraphDataset
from dssl_sklearn.estimators.base import CrystalEstimator
from dssl_sklearn.estimators.memory import explains_memory
from dssl_sklearn.estimators.persistence import Persistent
from dssl_sklearn.estimators.pretrained import (
    is_fitted_pretrainer,
    shipped_record,
    shipped_weights,
)
from dssl_sklearn.estimators.recipes import PRETRAIN_RECIPES, PretrainRecipe
from dssl_sklearn.estimators.record import fit_record
from dssl_sklearn.estimators.resuming import last_good, train
from dssl_sklearn.estimators.skipping import training_graphs
from dssl_sklearn.estimators.streaming import stream
from dssl_sklearn.estimators.untrusted import check_shapes
from dssl_sklearn.exceptions import InvalidInputError, WeightsError
from dssl_sklearn.models.architecture import Architecture
from dssl_sklearn.models.encoder import CrystalEncoder
from dssl_sklearn.objectives import (
    Contrastive,
    Descriptors,
    Microproperty,
    Objective,
    WeightedObjectives,
    make_objectives,
    objective_from_config,
    objective_to_config,
)
from dssl_sklearn.training.callbacks import EmbeddingRank
from dssl_sklearn.training.data import CrystalDataset
from dssl_sklearn.training.distributed import net_class
from dssl_sklearn.training.inference import encode
from dssl_sklearn.training.nets import PretextNet
from dssl_sklearn.training.seeding import seeded
from dssl_sklearn.training.weights import load_state, prefixed

#: Arguments that the objectives are made from.
_OF_OBJECTIVES = ("objectives", "mask_ratio", "move", "microproperty", "contrastive_loss")


class DSSLPretrainer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, Persistent):
    """Learn crystal embeddings from unlabeled structures.

    A crystal graph network is trained on pretext tasks, which need no labels. The three tasks of
    dual self-supervised learning [1]_ are to predict masked atoms (local chemistry), to agree on
    two perturbed copies of a crystal (global structure), and to predict a microproperty of the
    masked atoms that underlies the property of interest; ``recipe="paper"`` trains on them. By
    default the tasks are those that helped most here: to predict descriptors of the crystal, the
    random displacements of its sites, and masked atoms. Arguments that are None take the value of
    the `recipe`.

    Parameters
    ----------
    recipe : {"default", "paper"}, default="default"
        Network, objectives and schedule where nothing else is said: ours, or those published.
    pretrained : str, path, DSSLPretrainer or None, default=None
        Weights to go on from: the name of shipped weights, a file that `save` wrote, or a fitted
        pretrainer. With ``max_epochs=0`` they only embed.
    objectives : str, Objective, list or dict, default=None
        Pretext tasks: names among "mask", "microproperty", "contrastive", "denoise",
        "displacement" and "descriptors", configured instances, ``(name, weight)`` pairs, or a dict
        of names and weights. None for those of the recipe; ours are descriptors of the crystal, and
        displacements and masked atoms of one perturbed view.
        `dssl_sklearn.objectives.Teacher` learns what another model computed on the crystals. With
        pretrained weights None goes on with theirs, unless one of the next four arguments is
        given.
    mask_ratio : float, default=None
        Share of sites whose element is hidden.
    move : float, default=None
        Size of the random moves of the sites in angstrom.
    microproperty : str, dict or array, default=None
        Target of the microproperty task: "stiffness" (atomic stiffness in eV per atom), "valence"
        (number of valence electrons), the name of another tabulated element property or of a
        per-site property of the structures, or values per element. Of use only where that task is
        among the objectives, as in the paper's recipe; a warning says so where it is not.
    contrastive_loss : {"cosine", "ntxent", "barlow", "vicreg"}, default=None
        Loss of the contrastive task, of use only where that is among the objectives, as above;
        "cosine" is the paper's, without negatives.
    backbone : str or nn.Module, default=None
        "gated" or "deeper_gatgnn" (the paper's), or a module that follows the contract of
        `dssl_sklearn.models.Backbone`.
    backbone_params : dict, default=None
        Arguments of the backbone, such as ``{"width": 64, "n_layers": 3}``.
    readout : str or nn.Module, default=None
        "mean", "mean_std", "mean_max" or "attention" (the paper's). With pretrained weights:
        theirs.
    cutoff : float, default=None
        Largest edge length in angstrom; None for 8, or that of the pretrained weights.
    max_neighbors : int, default=None
        Neighbors per site before completion of the last shell; None for 12, or that of the
        pretrained weights.
    max_epochs : int, default=None
        Passes over the crystals; 0 trains nothing. None for 20 (paper: 500).
    batch_size : int, default=None
        Mean number of crystals in a batch; batches have about equally many edges. None for 64
        (paper: 256).
    lr : float, default=None
        Learning rate of AdamW. None for 1e-3 (paper: 5e-3).
    weight_decay : float, default=None
        Weight decay of AdamW. None for 0.01.
    schedule : {"cosine", "plateau", "constant"}, default=None
        Course of the learning rate. None for "cosine" (paper: "plateau").
    validation_fraction : float, default=0.1
        Share of the crystals that is held out to watch the losses; 0 for none.
    early_stopping : bool, default=False
        Stop when the validation loss has not fallen for `n_iter_no_change` epochs, and go back to
        the best weights.
    n_iter_no_change : int, default=10
        Patience of early stopping in epochs.
    checkpoint_dir : path, default=None
        Folder for checkpoints after every epoch. A rerun of the same call after an interruption
        goes on from the last one and ends with the same weights (on CPU); it needs an int as
        `random_state`. Different crystals or settings use different files. What callbacks of your
        own remember is not kept.
    warm_start : bool, default=False
        Whether `fit` goes on from the last call instead of starting anew. Network, cutoff,
        neighbors, objectives and seed stay as they are; all other arguments count as they are now,
        and the schedule begins anew.
    on_error : {"raise", "skip"}, default="raise"
        What to do about structures that cannot be used: an error that names all of them, or leave
        them out with a `SkippedStructuresWarning`. `transform` gives NaN in their rows and
        `transform_sites` arrays of no sites.
    device : str, default="auto"
        torch device; "auto" takes a GPU if there is one.
    n_jobs : int or None, default=None
        Processes for building graphs.
    random_state : int, RandomState instance or None, default=None
        Seed of weights, views, order and validation part. An int makes runs repeat exactly on CPU.
    verbose : int, default=0
        1 shows a progress bar, 2 skorch's table of epochs as well.
    callbacks : list, default=None
        skorch callbacks, plain or as ``(name, callback)``; copies are used.
    net_params : dict, default=None
        Further arguments of the skorch net, such as ``{"optimizer__betas": (0.9, 0.98)}``.
        `set_params` puts skorch's double-underscore names here.

    Attributes
    ----------
    net_ : skorch.NeuralNet
        The trained net; its module is the encoder, its criterion holds the heads.
    encoder_ : nn.Module
        Backbone and readout.
    architecture_ : Architecture
        What the encoder and its graphs are made of.
    objectives_ : list of Objective
        Pretext tasks as configured.
    history_ : skorch.History
        Per epoch: every loss term and metric (``train_mask_loss``, ``valid_mask_accuracy``, ...)
        and the ``effective_rank`` of the embeddings, which near 1 means collapse.
    n_features_out_ : int
        Length of an embedding.
    fit_record_ : dict or None
        What it was fitted on: number of structures, fingerprint, structures left out.

    References
    ----------
    .. [1] N. Fu, L. Wei and J. Hu, "Physics-Guided Dual Self-Supervised Learning for
       Structure-Based Material Property Prediction", J. Phys. Chem. Lett. 15, 2841 (2024).

    Examples
    --------
    >>> from dssl_sklearn import DSSLPretrainer
    >>> from dssl_sklearn.datasets import load_elasticity
    >>> structures = load_elasticity().data[:32]
    >>> pretrainer = DSSLPretrainer(max_epochs=1, random_state=0).fit(structures)
    >>> pretrainer.transform(structures).shape
    (32, 64)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **CrystalEstimator._parameter_constraints,  # noqa: SLF001 - the base's own
        "objectives": [object],
        "mask_ratio": [Interval(Real, 0, 1, closed="neither"), None],
        "move": [Interval(Real, 0, None, closed="neither"), None],
        "microproperty": [object],
        "contrastive_loss": [StrOptions({"cosine", "ntxent", "barlow", "vicreg"}), None],
        "warm_start": ["boolean"],
    }
    _inherited_params: ClassVar[tuple[str, ...]] = (
        *CrystalEstimator._inherited_params,  # noqa: SLF001 - the base's own
        "readout",
    )

    def __init__(
        self,
        *,
        recipe: Literal["default", "paper"] = "default",
        pretrained: str | os.PathLike[str] | DSSLPretrainer | None = None,
        objectives: Any = None,  # noqa: ANN401 - see ObjectivesLike
        mask_ratio: float | None = None,
        move: float | None = None,
        microproperty: Any = None,  # noqa: ANN401 - see PropertyValues
        contrastive_loss: Literal["cosine", "ntxent", "barlow", "vicreg"] | None = None,
        backbone: str | nn.Module | None = None,
        backbone_params: dict[str, Any] | None = None,
        readout: str | nn.Module | None = None,
        cutoff: float | None = None,
        max_neighbors: int | None = None,
        max_epochs: int | None = None,
        batch_size: int | None = None,
        lr: float | None = None,
        weight_decay: float | None = None,
        schedule: Literal["cosine", "plateau", "constant"] | None = None,
        validation_fraction: float = 0.1,
        early_stopping: bool = False,
        n_iter_no_change: int = 10,
        checkpoint_dir: str | os.PathLike[str] | None = None,
        warm_start: bool = False,
        on_error: Literal["raise", "skip"] = "raise",
        device: str = "auto",
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
        callbacks: Sequence[Any] | None = None,
        net_params: dict[str, Any] | None = None,
    ) -> None:
        self.recipe = recipe
        self.pretrained = pretrained
        self.objectives = objectives
        self.mask_ratio = mask_ratio
        self.move = move
        self.microproperty = microproperty
        self.contrastive_loss = contrastive_loss
        self.backbone = backbone
        self.backbone_params = backbone_params
        self.readout = readout
        self.cutoff = cutoff
        self.max_neighbors = max_neighbors
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.lr = lr
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.validation_fraction = validation_fraction
        self.early_stopping = early_stopping
        self.n_iter_no_change = n_iter_no_change
        self.checkpoint_dir = checkpoint_dir
        self.warm_start = warm_start
        self.on_error = on_error
        self.device = device
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose
        self.callbacks = callbacks
        self.net_params = net_params

    # ---- fitting ---------------------------------------------------------------------------

    @explains_memory
    def fit(self, X: Any, y: object = None) -> Self:  # noqa: ANN401
        """Pretrain on crystals; their labels are not needed.

        Parameters
        ----------
        X : sequence of crystals of shape (n_structures,)
            Structures, ASE Atoms, structure dicts, paths of CIF or POSCAR files, graphs, or a
            corpus of `dssl_sklearn.datasets.load_corpus`. A
            `dssl_sklearn.crystals.dataset.GraphDataset` is used as it is, without a copy, and so is
            a `dssl_sklearn.crystals.store.GraphStore`, which stays on disk.
        y : None
            Ignored.

        Returns
        -------
        self
            The fitted pretrainer.

        Raises
        ------
        InvalidInputError
            If `X` is not a sequence of crystals or an argument has an unusable value.
        InvalidStructureError
            If any crystal cannot be used; the message lists all of them with the reasons.
        TrainingError
            If a loss, a gradient or the weights are no longer finite. Its `estimator` is a copy
            that holds the weights of the last good epoch, and so does the checkpoint.
        WeightsError
            If `checkpoint_dir` cannot be written to, or its checkpoint is damaged.
        """
        self._validate_params()
        recipe = self._with_recipe(PRETRAIN_RECIPES[self.recipe])
        if self.warm_start and hasattr(self, "net_"):
            return self._continue(X, recipe)
        start = resolve_pretrained(self.pretrained)
        architecture = self._architecture(recipe)
        if start is not None:
            architecture = self._inherit_architecture(start.architecture_)
        objectives = self._make_objectives(recipe, start)
        # Embedding alone needs no targets.
        graphs, skipped = self._graphs(X, architecture, objectives if recipe.max_epochs else ())
        if recipe.max_epochs:
            self._check_held_out(len(graphs))
        seed = self._draw_seed()
        record = None if start is None else start.fit_record_
        with seeded(seed, self._resolve_device()):
            encoder = architecture.build() if start is None else copy.deepcopy(start.encoder_)
            criterion = WeightedObjectives(objectives, encoder.site_width, encoder.crystal_width)
            same_tasks = start is not None and start.objectives_ == objectives
            if start is not None and same_tasks and start.net_.criterion_.has_statistics:
                criterion.load_state_dict(start.net_.criterion_.state_dict())
                criterion.has_statistics = True
            elif recipe.max_epochs:
                criterion.fit_statistics(graphs)
            net = self._make_net(encoder, criterion, recipe, len(graphs), seed)
            net.initialize()
            if recipe.max_epochs:
                record = self._train(
                    net, graphs, recipe, architecture, objectives, skipped=skipped, start=record
                )
        return self._set_fitted(net, architecture, objectives, record)

    def _continue(self, X: Any, recipe: PretrainRecipe) -> Self:  # noqa: ANN401
        """Train a copy of the net of the last call for `max_epochs` more.

        A copy, since estimators that start from this one may share its net.
        """
        last = self.net_
        self._inherit_architecture(self.architecture_)
        graphs, skipped = self._graphs(X, self.architecture_, self.objectives_)
        if recipe.max_epochs:
            self._check_held_out(len(graphs))
        record = self.fit_record_
        architecture, objectives = self.architecture_, self.objectives_
        with seeded(last.seed, self._resolve_device()):
            encoder, criterion = copy.deepcopy((last.module_, last.criterion_))
            if recipe.max_epochs and not criterion.has_statistics:
                criterion.fit_statistics(graphs)
            net = self._make_net(encoder, criterion, recipe, len(graphs), last.seed)
            net.initialize()
            if isinstance(net.optimizer_, type(last.optimizer_)):
                moments = copy.deepcopy(last.optimizer_.state_dict()["state"])
                net.optimizer_.load_state_dict({**net.optimizer_.state_dict(), "state": moments})
            net.history = History(last.history)
            if recipe.max_epochs:
                record = self._train(
                    net, graphs, recipe, architecture, objectives, skipped=skipped, start=record
                )
        return self._set_fitted(net, architecture, objectives, record)

    def _train(
        self,
        net: PretextNet,
        graphs: GraphDataset,
        recipe: PretrainRecipe,
        architecture: Architecture,
        objectives: Sequence[Objective],
        *,
        skipped: dict[int, str],
        start: dict[str, Any] | None,
    ) -> dict[str, Any]:
        """Run all epochs, or those that an interrupted run left, and return the record."""
        n_structures = len(graphs) + len(skipped)
        record = fit_record(graphs, n_structures=n_structures, skipped=skipped, starts_from=start)
        described = [repr(objective) for objective in net.criterion_.objectives.values()]
        with last_good(self, net, architecture, objectives, record):
            train(self, net, CrystalDataset(graphs), recipe, objectives=described)
        return record

    def _graphs(
        self,
        X: Any,  # noqa: ANN401
        architecture: Architecture,
        objectives: Sequence[Objective],
    ) -> tuple[GraphDataset, dict[int, str]]:
        """Graphs with the site properties that the objectives read, a data set as it is; skipped.

        What is skipped is told by positions in `X` and reasons.
        """
        wanted = tuple(dict.fromkeys(name for o in objectives for name in o.site_properties))
        builder = self._builder(architecture, site_properties=wanted)
        return training_graphs(X, builder, skip=self.on_error == "skip")

    def _make_objectives(
        self, recipe: PretrainRecipe, start: DSSLPretrainer | None
    ) -> list[Objective]:
        """Objectives of the arguments, of the weights to go on from, or of the recipe."""
        if start is not None and all(getattr(self, name) is None for name in _OF_OBJECTIVES):
            return list(start.objectives_)
        objectives = make_objectives(
            recipe.objectives,
            mask_ratio=recipe.mask_ratio,
            move=recipe.move,
            microproperty=recipe.microproperty,
            contrastive_loss=recipe.contrastive_loss,
        )
        self._warn_of_unused(objectives)
        if self.objectives is not None:
            return objectives
        # The recipe's own instances, unlike a user's, follow the arguments.
        return [self._follow_arguments(objective) for objective in objectives]

    def _warn_of_unused(self, objectives: Sequence[Objective]) -> None:
        """Warn of an argument whose task is not among the objectives, as it is not by default."""
        for argument, task in (("microproperty", Microproperty), ("contrastive_loss", Contrastive)):
            given = getattr(self, argument)
            if given is None or any(isinstance(objective, task) for objective in objectives):
                continue
            names = ", ".join(objective.name for objective in objectives)
            warn(
                f"{argument} has no effect: its task, {task.name!r}, is not among the objectives "
                f"({names}); name it in objectives, or take recipe='paper'",
            )

    def _follow_arguments(self, objective: Objective) -> Objective:
        if isinstance(objective, Descriptors):
            # Of the crystal as it is, which is what `transform` will see.
            return objective
        arguments: dict[str, Any] = {
            "mask_ratio": self.mask_ratio,
            "move": self.move,
            "loss": self.contrastive_loss,
        }
        # A view that is not masked, or not moved, stays so.
        used = {name for name in arguments if getattr(objective, name, None)}
        given = {name: arguments[name] for name in used if arguments[name] is not None}
        return replace(objective, **given)

    def _make_net(
        self,
        encoder: CrystalEncoder,
        criterion: WeightedObjectives,
        recipe: PretrainRecipe,
        n_crystals: int,
        seed: int,
    ) -> PretextNet:
        kwargs = self._net_kwargs(recipe, n_crystals, seed)
        kwargs["callbacks"].insert(0, ("effective_rank", EmbeddingRank()))
        return net_class(PretextNet, self.net_params)(
            encoder, criterion=criterion, **{**kwargs, **(self.net_params or {})}
        )

    def _set_fitted(
        self,
        net: PretextNet,
        architecture: Any,  # noqa: ANN401
        objectives: list[Any],
        record: dict[str, Any] | None,
    ) -> Self:
        self.net_ = net
        self.architecture_ = architecture
        self.objectives_ = objectives
        self.history_ = net.history
        self.fit_record_ = record
        self.n_features_out_: int = net.module_.crystal_width
        return self

    # ---- using -----------------------------------------------------------------------------

    @property
    def _n_features_out(self) -> int:
        # Name that scikit-learn's ClassNamePrefixFeaturesOutMixin reads.
        return self.n_features_out_

    def transform(self, X: Any) -> NDArray[np.float32]:  # noqa: ANN401
        """Embed crystals.

        Parameters
        ----------
        X : sequence of crystals of shape (n_structures,)
            As for `fit`.

        Returns
        -------
        ndarray of shape (n_structures, n_features), float32
            Embeddings; NaN for skipped structures.

        Raises
        ------
        NotFittedError
            If the pretrainer is not fitted.
        InvalidInputError, InvalidStructureError
            As `fit`.
        """
        return self._embeddings(self._graphs_to_use(X))

    def transform_iter(
        self, X: Iterable[Any], *, chunk_size: int = 1024
    ) -> Iterator[NDArray[np.float32]]:
        """Embed any number of crystals in constant memory.

        Parameters
        ----------
        X : sequence or iterable of crystals
            As for `fit`, or an iterable without a length, such as a generator.
        chunk_size : int, default=1024
            Crystals that are held at a time; with `n_jobs` above 1, give several thousand.

        Returns
        -------
        iterator of ndarray of shape (n_chunk, n_features), float32
            What `transform` returns for each chunk, in order.

        Raises
        ------
        NotFittedError, InvalidInputError, InvalidStructureError
            As `transform`; positions count from the beginning of `X`.
        """
        return stream(self, X, chunk_size, self._embeddings)

    @explains_memory
    def transform_sites(self, X: Any) -> list[NDArray[np.float32]]:  # noqa: ANN401
        """Embed the sites of crystals.

        Parameters
        ----------
        X : sequence of crystals of shape (n_structures,)
            As for `fit`.

        Returns
        -------
        list of ndarray of shape (n_sites, site_width), float32
            One array per crystal, sites in the order of the structure; of no sites for skipped
            structures.

        Raises
        ------
        NotFittedError
            If the pretrainer is not fitted.
        InvalidInputError, InvalidStructureError
            As `fit`.
        """
        usable, net = self._graphs_to_use(X), self.net_
        batches = encode(self.encoder_, usable.graphs, net.batch_size, net.device)
        parts = [
            part
            for sites, _, n_sites in batches
            for part in np.split(sites, np.cumsum(n_sites)[:-1])
        ]
        return usable.spread_sites(parts, np.empty((0, self.encoder_.site_width), np.float32))

    @explains_memory
    def score(self, X: Any, y: object = None) -> float:  # noqa: ANN401
        """Negative pretext loss on crystals (greater is better), with views that never change.

        Parameters
        ----------
        X : sequence of crystals of shape (n_structures,)
            As for `fit`, ideally not those of `fit`.
        y : None
            Ignored.

        Returns
        -------
        float
            Minus the weighted sum of the losses, a mean over the crystals.

        Raises
        ------
        NotFittedError
            If the pretrainer is not fitted.
        InvalidInputError, InvalidStructureError
            As `fit`.
        """
        check_is_fitted(self, "net_")
        graphs, _ = self._graphs(X, self.architecture_, self.objectives_)
        for name, values in {**graphs.site_properties, **graphs.crystal_properties}.items():
            if not np.isfinite(values).any():
                raise InvalidInputError(f"X has no known {name!r}, which an objective predicts")
        return -float(self.net_.pretext_loss(CrystalDataset(graphs)))

    # ---- keeping ---------------------------------------------------------------------------

    def _contents(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        criterion = self.net_.criterion_
        tensors = prefixed("encoder.", self.encoder_.state_dict())
        tensors |= prefixed("objectives.", criterion.state_dict())
        return tensors, {
            "objectives": [objective_to_config(o) for o in self.objectives_],
            "has_statistics": criterion.has_statistics,
        }

    @classmethod
    def _from_file(cls, tensors: dict[str, Tensor], config: dict[str, Any], path: str) -> Self:
        objectives = [objective_from_config(c) for c in config["objectives"]]
        architecture = Architecture(**config["architecture"])
        params = config["params"]
        if not params.keys() >= set(_OF_OBJECTIVES) or isinstance(params["objectives"], list):
            # What was given does not fit into JSON; the objectives made from it stand for it.
            params = {k: v for k, v in params.items() if k not in _OF_OBJECTIVES}
            params["objectives"] = objectives
        pretrainer = cls(**params)
        pretrainer._validate_params()
        recipe = pretrainer._with_recipe(PRETRAIN_RECIPES[pretrainer.recipe])

        def heads(encoder: CrystalEncoder) -> WeightedObjectives:
            return WeightedObjectives(objectives, encoder.site_width, encoder.crystal_width)

        check_shapes(architecture.build, tensors, "encoder.")
        check_shapes(lambda: heads(architecture.build()), tensors, "objectives.")
        with seeded(0, "cpu"):
            encoder = architecture.build()
            criterion = heads(encoder)
        load_state(encoder, tensors, "encoder.", path)
        load_state(criterion, tensors, "objectives.", path, buffers_finite=False)
        criterion.has_statistics = bool(config.get("has_statistics", True))
        net = pretrainer._make_net(encoder, criterion, recipe, 1, config["seed"])
        net.initialize()
        net.history = History(config["history"])
        record = shipped_record(path) or config.get("data")
        return pretrainer._set_fitted(net, architecture, objectives, record)

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike[str]) -> Self:
        """Get a fitted pretrainer from shipped weights or from a file.

        Parameters
        ----------
        name : str or path-like
            Name of shipped weights, or a file that `save` wrote.

        Returns
        -------
        DSSLPretrainer
            Fitted.

        Raises
        ------
        WeightsError
            If there are no such weights.
        """
        found = resolve_pretrained(name)
        if not isinstance(found, cls):
            raise TypeError(f"{name!r} holds a {type(found).__name__}, not a {cls.__name__}")
        return found


def resolve_pretrained(pretrained: Any) -> DSSLPretrainer | None:  # noqa: ANN401
    """Turn a value of `pretrained` into a fitted pretrainer.

    Parameters
    ----------
    pretrained : str, path-like, fitted DSSLPretrainer or None
        Name of shipped weights, file, or pretrainer, also a frozen one.

    Returns
    -------
    DSSLPretrainer or None
        Fitted, not to be changed by the caller; None for None.

    Raises
    ------
    WeightsError
        If a name or file is unknown or damaged.
    InvalidInputError
        If it is another object, or a pretrainer that is not fitted.
    """
    if pretrained is None:
        return None
    if isinstance(pretrained, FrozenEstimator):
        pretrained = pretrained.estimator
    if isinstance(pretrained, str | os.PathLike):
        known = shipped_weights()
        if str(pretrained) in known:
            return DSSLPretrainer.load(known[str(pretrained)])
        if not Path(pretrained).is_file():
            names = ", ".join(map(repr, known)) or "none in this version"
            raise WeightsError(
                f"pretrained={os.fspath(pretrained)!r} is neither the name of shipped weights "
                f"({names}) nor a file{did_you_mean(pretrained, known)}"
            )
        return DSSLPretrainer.load(pretrained)
    if isinstance(pretrained, DSSLPretrainer):
        if is_fitted_pretrainer(pretrained):
            return pretrained
        raise InvalidInputError(
            "pretrained is a DSSLPretrainer that is not fitted; fit it first, or use a predictor, "
            "which fits it on its training structures."
        )
    raise InvalidInputError(
        f"pretrained is of type {type(pretrained).__name__}, expected the name of shipped weights, "
        "a path, a DSSLPretrainer or None."
    )
