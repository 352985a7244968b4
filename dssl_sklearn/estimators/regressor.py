"""Regression on crystals."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal, Self, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import RegressorMixin
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_is_fitted
from torch import nn

from dssl_sklearn.crystals.dataset import GraphDataset
from dssl_sklearn.crystals.inputs import as_sequence
from dssl_sklearn.estimators.kernel_part import (
    MIN_LABELS,
    ComparedCrystals,
    KernelPart,
    check_alone,
)
from dssl_sklearn.estimators.kernel_share import ShareChoice, TargetShareChoice
from dssl_sklearn.estimators.memory import explains_memory
from dssl_sklearn.estimators.pretrainer import DSSLPretrainer
from dssl_sklearn.estimators.property import PropertyEstimator
from dssl_sklearn.estimators.recipes import FINE_TUNE_RECIPES, FineTuneRecipe
from dssl_sklearn.estimators.record import numbered, target_names
from dssl_sklearn.estimators.skipping import UsableGraphs
from dssl_sklearn.estimators.streaming import stream
from dssl_sklearn.estimators.target_scale import (
    Scale,
    TargetScale,
    check_positive,
    takes_logarithm,
)
from dssl_sklearn.estimators.targets import (
    check_length,
    check_sample_weight,
    mean_and_scale,
    regression_targets,
    warn_of_order,
)
from dssl_sklearn.exceptions import InvalidInputError
from dssl_sklearn.training.losses import RegressionLoss, TargetLoss

#: Fitted attributes -> fields of the `TargetScale` that they make up.
_OF_SCALE = {
    "y_mean_": "mean",
    "y_scale_": "scale",
    "y_is_log_": "log",
    "y_min_": "smallest",
    "y_max_": "largest",
    "y_has_floor_": "floor",
    "y_has_ceiling_": "ceiling",
    "y_floor_margin_": "floor_margin",
    "y_ceiling_margin_": "ceiling_margin",
}


class DSSLRegressor(RegressorMixin, PropertyEstimator):
    """Predict properties of crystals with a network that may have been pretrained.

    The backbone starts from pretrained weights or from scratch, a head is put on the crystal
    embedding, and both are trained on the labeled structures [1]_, the backbone at a lower learning
    rate. By default it is from scratch; ``pretrained="mp-distilled"`` or ``"mp"`` starts from
    weights that ship. Targets are standardized inside, some on a logarithmic scale, and predicted
    in their own unit. Arguments that are None take the value of the `recipe`.

    Parameters
    ----------
    recipe : {"default", "paper"}, default="default"
        Network and schedule where nothing else is said: ours, or those published.
    pretrained : str, path, DSSLPretrainer or None, default=None
        Where the backbone starts: the name of shipped weights, a file that
        `DSSLPretrainer.save` wrote, a fitted pretrainer (kept fitted through ``clone`` and
        cross-validation), or an unfitted one, which `fit` then pretrains on its own structures and
        those in `unlabeled`. None starts from scratch. In a grid over `pretrained` itself, wrap a
        fitted one in scikit-learn's ``FrozenEstimator``: the values of a grid are cloned.
    unlabeled : sequence of crystals, default=None
        Further structures for an unfitted `pretrained`; with any other they have no effect, and
        `fit` warns. Copies of the estimator share them.
    backbone : str or nn.Module, default=None
        "gated" or "deeper_gatgnn" (the paper's), or a module that follows the contract of
        `dssl_sklearn.models.Backbone`. With pretrained weights: theirs.
    backbone_params : dict, default=None
        Arguments of the backbone, such as ``{"width": 64, "n_layers": 3}``.
    readout : str or nn.Module, default=None
        "mean", "mean_std", "mean_max" or "attention" (the paper's). None for "mean_max", where
        every second head reads the mean alone. With pretrained weights: theirs, if they learned
        one; another readout than theirs starts fresh.
    n_members : int, default=None
        Heads that share the backbone and start from different random weights: their mean predicts.
        None for 8, or 1 for the paper's.
    kernel_share : float, default=None
        Share of the prediction, from 0 to 1, that comes from a Gaussian process beside the network:
        it compares a crystal with the labeled ones by densities, bonds, composition, arrangement
        and the embedding of the pretrained network before fine-tuning. None for 0.6, or 0 for the
        paper's; from 500 labeled structures on, None lets a tenth of the labels (at most 120),
        which join the training after seven tenths of the epochs, choose it for each target, unless
        training stops early. 0 predicts with the network alone, and 1 with the process alone, for
        which ``max_epochs=0`` saves the training. Targets of fewer than 20 labels do without it,
        with a warning if it was asked for; beyond 3,000, which are compared with, a share below 1
        that is given, or that the choice begins from, shrinks with their number.
    target_scale : {"auto", "linear", "log"}, default=None
        Whether the targets are learned as they are, or their logarithms, which suits those that
        span orders of magnitude. None for "auto", or "linear" for the paper's: "auto" decides for
        each target by the leave-one-out errors of the Gaussian process on at most 512 labels;
        fewer than 20 of them, or entries at or below 0, mean "linear".
    head_params : dict, default=None
        Arguments of every head: ``hidden`` (256), ``n_hidden_layers`` (1), ``dropout`` (0).
    cutoff : float, default=None
        Largest edge length in angstrom; None for 8, or that of the pretrained weights.
    max_neighbors : int, default=None
        Neighbors per site before completion of the last shell; None for 12, or that of the
        pretrained weights.
    loss : {"mae", "mse", "huber"}, default=None
        Loss on the standardized targets. None for "mae".
    max_epochs : int, default=None
        Passes over the labeled structures. None for 50 (paper: 500).
    batch_size : int, default=None
        Mean number of crystals in a batch; batches have about equally many edges. None for 32
        (paper: 100).
    lr : float, default=None
        Learning rate of AdamW, for the head. None for 2e-3 (paper: 5e-3).
    backbone_lr_factor : float, default=None
        Learning rate of a pretrained encoder in units of `lr`; from scratch both are equal. None
        for 0.1 up to 100 labels, growing with the square root of their number to 0.3 from 900 on.
    freeze_epochs : int, default=0
        Epochs at the start in which only the head is trained.
    weight_decay : float, default=None
        Weight decay of AdamW. None for 0.01.
    schedule : {"cosine", "plateau", "constant"}, default=None
        Course of the learning rate. None for "cosine" (paper: "plateau").
    early_stopping : bool, default=False
        Hold out `validation_fraction` of the labels, stop when their loss has not fallen for
        `n_iter_no_change` epochs, and go back to the best weights.
    validation_fraction : float, default=0.1
        Share of the labeled structures that early stopping holds out.
    n_iter_no_change : int, default=10
        Patience of early stopping in epochs.
    on_error : {"raise", "skip"}, default="raise"
        What to do about structures that cannot be used: an error that names all of them, or leave
        them out with a `SkippedStructuresWarning`. `predict` gives NaN in their rows.
    checkpoint_dir : path, default=None
        Folder for checkpoints after every epoch. A rerun of the same call after an interruption
        goes on from the last one and ends with the same weights (on CPU); it needs an int as
        `random_state`. Different crystals, targets or settings use different files, and an unfitted
        `pretrained` keeps its own there. What callbacks of your own remember is not kept.
    device : str, default="auto"
        torch device; "auto" takes a GPU if there is one.
    n_jobs : int or None, default=None
        Processes for building graphs.
    random_state : int, RandomState instance or None, default=None
        Seed of weights and order. An int makes runs repeat exactly on CPU.
    verbose : int, default=0
        1 shows a progress bar, 2 skorch's table of epochs as well.
    callbacks : list, default=None
        skorch callbacks, plain or as ``(name, callback)``; copies are used.
    net_params : dict, default=None
        Further arguments of the skorch net. `set_params` puts skorch's double-underscore names
        here, such as ``optimizer__betas`` or ``module__dropout``.

    Attributes
    ----------
    net_ : skorch.NeuralNet
        The trained net; its module holds encoder and head.
    encoder_ : nn.Module
        Its backbone and readout: crystals to site and crystal embeddings.
    architecture_ : Architecture
        What the encoder and its graphs are made of.
    history_ : skorch.History
        Losses and times per epoch, and the share of the Gaussian process where labels choose it.
    fit_record_ : dict or None
        What it was fitted on: numbers of structures and labels, fingerprint, structures left out.
    kernel_ : KernelPart or None
        The fitted Gaussian process, with its share; None where the network predicts alone.
    pretrainer_ : DSSLPretrainer
        Only where `pretrained` was an unfitted pretrainer: the one fitted here.
    y_is_log_ : ndarray of shape (n_targets,), bool
        Whether the natural logarithm of a target was learned.
    y_mean_, y_scale_ : ndarray of shape (n_targets,)
        Weighted mean and standard deviation of the known training targets, or of their logarithms,
        where those further from the median than ten robust deviations are cut.
        Smaller deviation, and a mean closer to the median, where leave-one-out errors of the
        Gaussian process say that the crystals hardly tell the labels apart: with ``loss="mae"``,
        predictions then stay closer to the median, down to a tenth of their difference to it.
    y_min_, y_max_ : ndarray of shape (n_targets,)
        Range of the known training targets. Where logarithms were learned, predictions stay within
        it, widened by a factor of ``exp(y_scale_)`` at both ends.
    y_has_floor_, y_has_ceiling_ : ndarray of shape (n_targets,), bool
        Whether at least one in twenty of the known training targets, and at least three, equal
        ``y_min_``, or ``y_max_``, as the band gaps of metals are 0: a limit of the property, beyond
        which nothing is predicted. Copies of a crystal count once.
    y_floor_margin_, y_ceiling_margin_ : ndarray of shape (n_targets,)
        With ``loss="mae"``, predictions closer to such a limit than this are set to it; chosen
        by the leave-one-out errors of the Gaussian process, 0 without it.

    References
    ----------
    .. [1] N. Fu, L. Wei and J. Hu, "Physics-Guided Dual Self-Supervised Learning for
       Structure-Based Material Property Prediction", J. Phys. Chem. Lett. 15, 2841 (2024).

    Examples
    --------
    >>> from dssl_sklearn import DSSLRegressor
    >>> from dssl_sklearn.datasets import load_elasticity
    >>> structures, y = load_elasticity(target="log10_K_VRH", return_X_y=True)
    >>> model = DSSLRegressor(max_epochs=2, random_state=0).fit(structures[:64], y[:64])
    >>> model.predict(structures[64:66]).shape
    (2,)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **PropertyEstimator._parameter_constraints,  # noqa: SLF001 - the base's own
        "loss": [StrOptions({"mae", "mse", "huber"}), None],
        "target_scale": [StrOptions({"auto", "linear", "log"}), None],
    }
    _recipes = FINE_TUNE_RECIPES
    # In the order that the files have.
    _target_state: ClassVar[tuple[str, ...]] = tuple(
        dict.fromkeys(["y_mean_", "y_scale_", "y_ndim_", *_OF_SCALE])
    )

    def __init__(
        self,
        *,
        recipe: Literal["default", "paper"] = "default",
        pretrained: str | os.PathLike[str] | DSSLPretrainer | None = None,
        unlabeled: Sequence[Any] | None = None,
        backbone: str | nn.Module | None = None,
        backbone_params: dict[str, Any] | None = None,
        readout: str | nn.Module | None = None,
        n_members: int | None = None,
        kernel_share: float | None = None,
        target_scale: Scale | None = None,
        head_params: dict[str, Any] | None = None,
        cutoff: float | None = None,
        max_neighbors: int | None = None,
        loss: RegressionLoss | None = None,
        max_epochs: int | None = None,
        batch_size: int | None = None,
        lr: float | None = None,
        backbone_lr_factor: float | None = None,
        freeze_epochs: int = 0,
        weight_decay: float | None = None,
        schedule: Literal["cosine", "plateau", "constant"] | None = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        on_error: Literal["raise", "skip"] = "raise",
        checkpoint_dir: str | os.PathLike[str] | None = None,
        device: str = "auto",
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
        callbacks: Sequence[Any] | None = None,
        net_params: dict[str, Any] | None = None,
    ) -> None:
        self.recipe = recipe
        self.pretrained = pretrained
        self.unlabeled = unlabeled
        self.backbone = backbone
        self.backbone_params = backbone_params
        self.readout = readout
        self.n_members = n_members
        self.kernel_share = kernel_share
        self.target_scale = target_scale
        self.head_params = head_params
        self.cutoff = cutoff
        self.max_neighbors = max_neighbors
        self.loss = loss
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.lr = lr
        self.backbone_lr_factor = backbone_lr_factor
        self.freeze_epochs = freeze_epochs
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.on_error = on_error
        self.checkpoint_dir = checkpoint_dir
        self.device = device
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose
        self.callbacks = callbacks
        self.net_params = net_params

    @explains_memory
    def fit(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:  # noqa: ANN401
        """Fine-tune on labeled crystals.

        Parameters
        ----------
        X : sequence of crystals of shape (n_structures,)
            Structures, ASE Atoms, structure dicts, paths of CIF or POSCAR files, or graphs.
        y : array-like of shape (n_structures,) or (n_structures, n_targets)
            Targets. Missing entries (NaN) are ignored one by one; structures without any known
            target count as unlabeled and join the pretraining of an unfitted `pretrained`.
        sample_weight : array-like of shape (n_structures,), default=None
            Weights in the loss; a structure with weight 0 takes no part.

        Returns
        -------
        self
            The fitted regressor.

        Raises
        ------
        InvalidInputError
            If `X`, `y` or an argument has an unusable value.
        InvalidStructureError
            If any crystal cannot be used; the message lists all of them with the reasons.
        TrainingError
            If a loss, a gradient or the weights are no longer finite. Its `estimator` is a copy
            that holds the weights of the last good epoch, and so does the checkpoint.
        WeightsError
            If `checkpoint_dir` cannot be written to, or its checkpoint is damaged.
        """
        self._validate_params()
        items = as_sequence(X)
        check_length(y, len(items))
        warn_of_order(X, y)
        items, y, sample_weight, skipped = self._usable(items, y, sample_weight)
        targets = regression_targets(y)
        weight = check_sample_weight(sample_weight, len(items))
        columns = targets.reshape(len(items), -1)
        # Complaints come before anything is computed.
        mean_and_scale(columns, weight)
        learned = np.where(weight[:, None] > 0, columns, np.nan)
        check_positive(learned, self._resolved_recipe().target_scale)
        labeled = np.isfinite(columns).sum(axis=1) > 0
        return self._fit_labeled(
            items,
            columns,
            labeled,
            weight,
            columns.shape[1],
            of_targets={"y_ndim_": targets.ndim},
            given=targets,
            names=target_names(y),
            skipped=skipped,
        )

    def _make_criterion(self, recipe: FineTuneRecipe) -> nn.Module:
        return TargetLoss(recipe.loss)

    @overload
    def predict(self, X: Any, return_std: Literal[False] = ...) -> NDArray[np.float64]: ...  # noqa: ANN401

    @overload
    def predict(
        self,
        X: Any,  # noqa: ANN401
        return_std: Literal[True],
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]: ...

    def predict(
        self,
        X: Any,
        return_std: bool = False,  # noqa: FBT001, FBT002 - scikit-learn's signature
    ) -> NDArray[np.float64] | tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Predict in the unit of the targets.

        Parameters
        ----------
        X : sequence of crystals of shape (n_structures,)
            As for `fit`.
        return_std : bool, default=False
            Also return standard deviations.

        Returns
        -------
        ndarray of shape (n_structures,) or (n_structures, n_targets), float64
            Predictions, in the shape that `y` had: the mean over the heads, with the share of the
            Gaussian process; NaN for skipped structures.
        ndarray of the same shape, float64
            Only with `return_std`: standard deviation of the mixture of the heads and, with its
            share, the Gaussian process, whose own is scaled to 68 % of its leave-one-out errors.
            Without the process it is the spread of the heads, which share backbone and labels: far
            smaller than the error. For intervals of a stated coverage see
            `dssl_sklearn.uncertainty`.

        Raises
        ------
        NotFittedError
            If the regressor is not fitted.
        InvalidInputError, InvalidStructureError
            As `fit`; and InvalidInputError if `return_std` is asked of a single head without the
            Gaussian process.
        """
        check_is_fitted(self, "net_")
        self._check_std(return_std)
        result: NDArray[np.float64] | tuple[NDArray[np.float64], NDArray[np.float64]]
        result = self._predictions(self._graphs_to_use(X), return_std)
        return result

    def predict_iter(
        self,
        X: Iterable[Any],
        *,
        chunk_size: int = 1024,
        return_std: bool = False,
    ) -> Iterator[Any]:
        """Predict for any number of structures in constant memory.

        Parameters
        ----------
        X : sequence or iterable of crystals
            As for `fit`, or an iterable without a length, such as a generator.
        chunk_size : int, default=1024
            Structures that are held at a time; with `n_jobs` above 1, give several thousand.
        return_std : bool, default=False
            Also yield standard deviations, as `predict` returns them.

        Returns
        -------
        iterator of ndarray, or of tuples of two
            What `predict` returns for each chunk, in order.

        Raises
        ------
        NotFittedError, InvalidInputError, InvalidStructureError
            As `predict`; positions count from the beginning of `X`.

        Examples
        --------
        >>> for rows in model.predict_iter(structures_of_a_database()):  # doctest: +SKIP
        ...     file.write(rows)
        """
        check_is_fitted(self, "net_")
        self._check_std(return_std)

        def compute(usable: UsableGraphs) -> Any:  # noqa: ANN401 - as predict
            return self._predictions(usable, return_std)

        return stream(self, X, chunk_size, compute)

    def _check_std(self, return_std: bool) -> None:  # noqa: FBT001 - as of predict
        if not return_std or self.head_params_.get("n_members", 1) > 1:
            return
        alone = [True] if self.kernel_ is None else self.kernel_.share == 0
        if np.any(alone):
            of_column = f" for column {int(np.argmax(alone))} of y" if self.y_ndim_ == 2 else ""
            raise InvalidInputError(
                "return_std needs several heads or a share of the Gaussian process, and this "
                f"regressor has n_members=1 and no share{of_column}; fit it with n_members=8, say"
            )

    def _predictions(self, usable: UsableGraphs, return_std: bool) -> Any:  # noqa: ANN401, FBT001
        """Predictions in the unit of the targets, as `predict` returns them."""
        members = self._outputs(usable)
        network = members.mean(axis=1)
        share, kernel, deviation = np.zeros(1), network, np.zeros(1)
        if self.kernel_ is not None and usable.graphs is not None:
            share, size = self.kernel_.share, self.net_.batch_size
            if return_std:
                both = self.kernel_.predict_with_deviation(usable.graphs, size)
                kernel, deviation = map(usable.spread, both)
            else:
                kernel = usable.spread(self.kernel_.predict(usable.graphs, size))
        scale = self._target_scale()
        predictions = scale.restore((1 - share) * network + share * kernel)
        prediction = predictions[:, 0] if self.y_ndim_ == 1 else predictions
        if not return_std:
            return prediction
        # Of the heads and the process as one mixture.
        of_heads = members.var(axis=1, ddof=1) if members.shape[1] > 1 else 0.0
        between = share * (1 - share) * (network - kernel) ** 2
        variance = (1 - share) * of_heads + between + share * deviation**2
        std = np.sqrt(variance) * scale.slope(predictions)
        return prediction, std[:, 0] if self.y_ndim_ == 1 else std

    def _target_scale(self) -> TargetScale:
        values = {field: getattr(self, name) for name, field in _OF_SCALE.items()}
        # Files may hold numbers.
        values |= {name: values[name].astype(bool) for name in ("log", "floor", "ceiling")}
        return TargetScale(**values)

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
        """Choose the scale of the targets, and fit the Gaussian process to them."""
        share = recipe.kernel_share
        compared, enough = None, np.zeros(y.shape[1], dtype=bool)
        # Without an epoch nothing was learned that the process could stand beside.
        wanted = share == 1 or ((share or recipe.target_scale == "auto") and recipe.max_epochs)
        if wanted and np.isfinite(y).sum(axis=0).max() >= MIN_LABELS:
            compared = compare()
            enough = compared.suffice_for(y)
            if not enough.any():
                compared = None  # chance took crystals without these labels
        check_alone(share, recipe.max_epochs, enough=bool(enough.all()))
        log = _logarithms(recipe.target_scale, y, weight, compared)
        scale = TargetScale.fit(y, weight, log, numbered(graphs))
        standardized = scale.standardize(y).astype(np.float32)
        kernel, choice = None, None
        if compared is not None and share:
            kernel, left_out = KernelPart.fit(
                share, compared, standardized, weight.astype(np.float32)
            )
            if recipe.loss == "mae":
                judged = (left_out.predictions, y[compared.rows], weight[compared.rows])
                scale = scale.shrunk(*judged).with_margins(*judged)
            rows = compared.rows
            calibration = scale.calibration(left_out, y[rows], weight[rows])
            kernel = replace(kernel, calibration=calibration)
            choice = _share_choice(
                self._late_labels(recipe, compared, graphs),
                compared,
                kernel,
                left_out=left_out.predictions,
                y=y,
                weight=weight,
                scale=scale,
                power=1 if recipe.loss == "mae" else 2,
            )
        of_scale = {name: getattr(scale, field) for name, field in _OF_SCALE.items()}
        return standardized, {"kernel_": kernel, **of_scale}, choice

    def __sklearn_tags__(self) -> Any:  # noqa: ANN401 - sklearn.utils.Tags moved between versions
        """Say that several targets are fine."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


def _share_choice(
    late: NDArray[np.int64],
    compared: ComparedCrystals,
    kernel: KernelPart,
    *,
    left_out: NDArray[np.float64],
    y: NDArray[np.float64],
    weight: NDArray[np.float64],
    scale: TargetScale,
    power: int,
) -> TargetShareChoice | None:
    """What chooses the shares by these of the compared crystals; None if no target has enough."""
    rows = compared.rows[late]
    choice = TargetShareChoice(
        rows, left_out[late], y[rows], weight[rows], kernel.share, scale, power
    )
    return choice if choice.is_possible else None


def _logarithms(
    target_scale: Scale,
    y: NDArray[np.float64],
    weight: NDArray[np.float64],
    compared: ComparedCrystals | None,
) -> NDArray[np.bool_]:
    """Which targets are learned as logarithms, by what some crystals say if that is to be found."""
    log = np.full(y.shape[1], target_scale == "log")
    if compared is not None and target_scale == "auto":
        rows, enough = compared.rows, compared.suffice_for(y)
        log[enough] = takes_logarithm(y[np.ix_(rows, enough)], weight[rows], compared.groups)
        log &= np.nanmin(y, axis=0) > 0
    return log
