"""Classification of crystals."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, ClassVar, Literal, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from torch import nn

from dssl_sklearn.crystals.dataset import GraphDataset
from dssl_sklearn.crystals.inputs import as_sequence
from dssl_sklearn.estimators.kernel_part import (
    MIN_LABELS,
    ComparedCrystals,
    KernelPart,
    check_alone,
)
from dssl_sklearn.estimators.kernel_share import ClassShareChoice, ShareChoice
from dssl_sklearn.estimators.memory import explains_memory
from dssl_sklearn.estimators.pretrainer import DSSLPretrainer
from dssl_sklearn.estimators.property import PropertyEstimator
from dssl_sklearn.estimators.recipes import CLASSIFICATION_RECIPES
from dssl_sklearn.estimators.record import target_names
from dssl_sklearn.estimators.skipping import UsableGraphs
from dssl_sklearn.estimators.streaming import stream
from dssl_sklearn.estimators.targets import (
    check_complete,
    check_length,
    check_sample_weight,
    class_targets,
    detached,
    warn_of_order,
)
from dssl_sklearn.training.losses import ClassLoss

#: Least score of a class in the Gaussian process, so that none is impossible.
_SMALLEST_SCORE = 0.01


class DSSLClassifier(ClassifierMixin, PropertyEstimator):
    """Classify crystals with a network that may have been pretrained.

    The twin of `DSSLRegressor`: the backbone starts from pretrained weights or from scratch [1]_,
    and is trained with heads on the labeled structures by cross entropy, with a fifth of every
    label spread over all classes; a Gaussian process has its share in the probabilities. By default
    it is from scratch; ``pretrained="mp-distilled"`` or ``"mp"`` starts from weights that ship.
    Arguments that are None take the value of the `recipe`; the paper's spreads no labels.

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
        Share of the probabilities, from 0 to 1, that comes from a Gaussian process beside the
        network, as in `DSSLRegressor`: it learns 1 for the class of a crystal and 0 for the others.
        None for 0.7, or 0 for the paper's; from 500 labeled structures on, None lets late labels
        choose it, as there, by their log loss. 0 predicts with the network alone, and 1 with the
        process alone, for which ``max_epochs=0`` saves the training. Fewer than 20 labels leave it
        out, with a warning if it was asked for; beyond 3,000 a share below 1 that is given, or that
        the choice begins from, shrinks with their number.
    head_params : dict, default=None
        Arguments of every head: ``hidden`` (256), ``n_hidden_layers`` (1), ``dropout`` (0).
    cutoff : float, default=None
        Largest edge length in angstrom; None for 8, or that of the pretrained weights.
    max_neighbors : int, default=None
        Neighbors per site before completion of the last shell; None for 12, or that of the
        pretrained weights.
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
        them out with a `SkippedStructuresWarning`. `predict_proba` gives NaN in their rows and
        `predict` None, in an array of objects.
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
    classes_ : ndarray of shape (n_classes,)
        Labels, sorted.
    class_prior_ : ndarray of shape (n_classes,)
        Weighted share of each class among the labels.
    kernel_ : KernelPart or None
        The fitted Gaussian process, with its share; None where the network predicts alone.
    net_ : skorch.NeuralNet
        The trained net; its module holds encoder and head.
    encoder_ : nn.Module
        Its backbone and readout: crystals to site and crystal embeddings.
    architecture_ : Architecture
        What the encoder and its graphs are made of.
    history_ : skorch.History
        Losses and times per epoch.
    fit_record_ : dict or None
        What it was fitted on: numbers of structures and labels, fingerprint, structures left out.
    pretrainer_ : DSSLPretrainer
        Only where `pretrained` was an unfitted pretrainer: the one fitted here.

    References
    ----------
    .. [1] N. Fu, L. Wei and J. Hu, "Physics-Guided Dual Self-Supervised Learning for
       Structure-Based Material Property Prediction", J. Phys. Chem. Lett. 15, 2841 (2024).

    Examples
    --------
    >>> from dssl_sklearn import DSSLClassifier
    >>> from dssl_sklearn.datasets import load_elasticity
    >>> structures, y = load_elasticity(target="log10_K_VRH", return_X_y=True)
    >>> model = DSSLClassifier(max_epochs=2, random_state=0).fit(structures[:64], y[:64] > 2)
    >>> model.predict_proba(structures[64:66]).shape
    (2, 2)
    """

    _recipes = CLASSIFICATION_RECIPES
    _target_state: ClassVar[tuple[str, ...]] = ("classes_", "class_prior_")

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
        head_params: dict[str, Any] | None = None,
        cutoff: float | None = None,
        max_neighbors: int | None = None,
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
        self.head_params = head_params
        self.cutoff = cutoff
        self.max_neighbors = max_neighbors
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
        y : array-like of shape (n_structures,)
            Classes. Structures with a missing one (NaN, None) count as unlabeled and join the
            pretraining of an unfitted `pretrained`.
        sample_weight : array-like of shape (n_structures,), default=None
            Weights in the loss; a structure with weight 0 takes no part.

        Returns
        -------
        self
            The fitted classifier.

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
        classes, index = class_targets(y)
        weight = check_sample_weight(sample_weight, len(items))
        return self._fit_labeled(
            items,
            index,
            index >= 0,
            weight,
            len(classes),
            of_targets={"classes_": classes},
            given=classes[index],
            names=target_names(y),
            skipped=skipped,
        )

    def _make_criterion(self, recipe: Any) -> nn.Module:  # noqa: ANN401 - a ClassificationRecipe
        return ClassLoss(recipe.label_smoothing)

    def _fit_beside(
        self,
        recipe: Any,  # noqa: ANN401 - a ClassificationRecipe
        graphs: GraphDataset,
        y: NDArray[Any],
        weight: NDArray[np.float64],
        *,
        n_outputs: int,
        compare: Callable[[], ComparedCrystals],
    ) -> tuple[NDArray[Any], dict[str, Any], ShareChoice | None]:
        """Fit the Gaussian process to ones and zeros."""
        scores = np.eye(n_outputs)[y]
        prior = np.average(scores, axis=0, weights=weight)
        share, kernel, choice = recipe.kernel_share, None, None
        check_alone(share, recipe.max_epochs, enough=len(y) >= MIN_LABELS)
        # Without an epoch nothing was learned that the process could stand beside.
        if share and len(y) >= MIN_LABELS and (recipe.max_epochs or share == 1):
            standardized = (scores - prior) / _deviation(prior)
            compared = compare()
            kernel, left_out = KernelPart.fit(share, compared, standardized, weight, jointly=True)
            late = self._late_labels(recipe, compared, graphs)
            rows = compared.rows[late]
            if len(late):
                choice = ClassShareChoice(
                    rows,
                    left_out.predictions[late],
                    y[rows],
                    weight[rows],
                    kernel.share[:1],
                    partial(_probabilities_of_process, prior=prior),
                )
        return y, {"kernel_": kernel, "class_prior_": prior}, choice

    def score(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:  # noqa: ANN401
        """Share of crystals whose class is predicted.

        Parameters
        ----------
        X : sequence of crystals of shape (n_structures,)
            As for `fit`.
        y : array-like of shape (n_structures,)
            True classes; none may be missing, nor may the structure be one that is skipped.
        sample_weight : array-like of shape (n_structures,), default=None
            Weights of the crystals.

        Returns
        -------
        float
            From 0 to 1.

        Raises
        ------
        InvalidInputError
            If a class is missing, or that of a skipped structure.
        NotFittedError, InvalidStructureError
            As `predict`.
        """
        given = np.asarray(detached(y), dtype=object).ravel()
        predicted = self.predict(X)
        for labels, wrong in ((given, "y is missing"), (predicted, "there is no prediction")):
            check_complete(pd.isna(labels), wrong, "score needs both of all")
        # Truth values in an array of objects, as pandas leaves them where some were missing, are
        # classes for `fit`, but no type of target that scikit-learn knows.
        labels = np.array(given.tolist())
        return float(accuracy_score(labels, predicted, sample_weight=sample_weight))

    def predict_proba(self, X: Any) -> NDArray[np.float64]:  # noqa: ANN401
        """Predict the probability of each class.

        Parameters
        ----------
        X : sequence of crystals of shape (n_structures,)
            As for `fit`.

        Returns
        -------
        ndarray of shape (n_structures, n_classes), float64
            Rows sum to 1, or are NaN for skipped structures; columns in the order of `classes_`.

        Raises
        ------
        NotFittedError
            If the classifier is not fitted.
        InvalidInputError, InvalidStructureError
            As `fit`.
        """
        return self._probabilities(self._graphs_to_use(X))

    def predict_proba_iter(
        self, X: Iterable[Any], *, chunk_size: int = 1024
    ) -> Iterator[NDArray[np.float64]]:
        """Predict probabilities for any number of structures in constant memory.

        Parameters
        ----------
        X : sequence or iterable of crystals
            As for `fit`, or an iterable without a length, such as a generator.
        chunk_size : int, default=1024
            Structures that are held at a time; with `n_jobs` above 1, give several thousand.

        Returns
        -------
        iterator of ndarray of shape (n_chunk, n_classes), float64
            What `predict_proba` returns for each chunk, in order.

        Raises
        ------
        NotFittedError, InvalidInputError, InvalidStructureError
            As `predict_proba`; positions count from the beginning of `X`.
        """
        return stream(self, X, chunk_size, self._probabilities)

    def _probabilities(self, usable: UsableGraphs) -> NDArray[np.float64]:
        network: NDArray[np.float64] = softmax(self._outputs(usable), axis=2).mean(axis=1)
        if self.kernel_ is None or usable.graphs is None:
            return network
        outputs = self.kernel_.predict(usable.graphs, self.net_.batch_size)
        kernel = usable.spread(_probabilities_of_process(outputs, self.class_prior_))
        mixed: NDArray[np.float64] = network + self.kernel_.share * (kernel - network)
        return mixed

    def predict(self, X: Any) -> NDArray[Any]:  # noqa: ANN401
        """Predict the most probable class.

        Parameters
        ----------
        X : sequence of crystals of shape (n_structures,)
            As for `fit`.

        Returns
        -------
        ndarray of shape (n_structures,)
            Labels out of `classes_`; if structures were skipped, an array of objects with None for
            them.

        Raises
        ------
        NotFittedError
            If the classifier is not fitted.
        InvalidInputError, InvalidStructureError
            As `fit`.
        """
        return self._labels(self.predict_proba(X))

    def predict_iter(self, X: Iterable[Any], *, chunk_size: int = 1024) -> Iterator[NDArray[Any]]:
        """Predict classes for any number of structures in constant memory.

        Parameters
        ----------
        X : sequence or iterable of crystals
            As for `fit`, or an iterable without a length, such as a generator.
        chunk_size : int, default=1024
            Structures that are held at a time; with `n_jobs` above 1, give several thousand.

        Returns
        -------
        iterator of ndarray of shape (n_chunk,)
            What `predict` returns for each chunk, in order.

        Raises
        ------
        NotFittedError, InvalidInputError, InvalidStructureError
            As `predict`; positions count from the beginning of `X`.
        """
        return map(self._labels, self.predict_proba_iter(X, chunk_size=chunk_size))

    def _labels(self, probabilities: NDArray[np.float64]) -> NDArray[Any]:
        labels: NDArray[Any] = self.classes_[probabilities.argmax(axis=1)]
        skipped = np.isnan(probabilities).any(axis=1)
        if skipped.any():
            labels = labels.astype(object)
            labels[skipped] = None
        return labels


def _probabilities_of_process(
    outputs: NDArray[np.float64], prior: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Probabilities of classes, from what the process predicts for ones and zeros."""
    scores = np.clip(outputs * _deviation(prior) + prior, _SMALLEST_SCORE, 1.0)
    probabilities: NDArray[np.float64] = scores / scores.sum(axis=1, keepdims=True)
    return probabilities


def _deviation(prior: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard deviation of the ones and zeros of every class, not 0 for one without weight."""
    return np.sqrt(prior * (1 - prior)).clip(1e-6)
