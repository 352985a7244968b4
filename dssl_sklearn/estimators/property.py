"""Fine-tuning as scikit-learn predictors."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted
from skorch.callbacks import Freezer, Unfreezer
from torch import nn

from dssl_sklearn.crystals.dataset import GraphDataset
from dssl_sklearn.crystals.inputs import as_sequence
from dssl_sklearn.estimators.base import CrystalEstimator, is_fitted_pretrainer, seeded
from dssl_sklearn.estimators.persistence import load_predictor, save_predictor
from dssl_sklearn.estimators.pretrained import resolve_pretrained
from dssl_sklearn.estimators.pretrainer import DSSLPretrainer
from dssl_sklearn.estimators.recipes import FINE_TUNE_RECIPES, FineTuneRecipe
from dssl_sklearn.models.architecture import Architecture
from dssl_sklearn.models.encoder import CrystalEncoder, PropertyModel
from dssl_sklearn.training.data import CrystalDataset
from dssl_sklearn.training.nets import PropertyNet


class PropertyEstimator(CrystalEstimator):
    """Base of regressor and classifier: an encoder, pretrained or not, and a head."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **CrystalEstimator._parameter_constraints,  # noqa: SLF001 - the base's own
        "unlabeled": [object],
        "head_params": [dict, None],
        "backbone_lr_factor": [Interval(Real, 0, None, closed="left"), None],
        "freeze_epochs": [Interval(Integral, 0, None, closed="left")],
    }
    _shared_params: ClassVar[tuple[str, ...]] = ("unlabeled",)
    recipe: Literal["default", "paper"]
    unlabeled: Any
    readout: Any
    head_params: dict[str, Any] | None
    freeze_epochs: int

    #: Fitted attributes that describe the targets, written by `save`.
    _target_state: ClassVar[tuple[str, ...]] = ()

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
    ) -> Self:
        """Train on the labeled structures; the others go to an unfitted pretrainer."""
        recipe = self._with_recipe(FINE_TUNE_RECIPES[self.recipe])
        seed = self._draw_seed()
        pretrainer = self._pretrainer(X, seed)
        architecture = self._architecture(recipe)
        if pretrainer is not None:
            architecture = self._inherit_architecture(pretrainer.architecture_)
            if self.readout is not None:
                # What was learned is the backbone; a readout of another kind starts fresh.
                architecture = replace(architecture, readout=self.readout, readout_params={})
        rows = np.flatnonzero(labeled)
        builder = self._builder(architecture)
        # All structures are checked, so that a bad one is named by its position in X.
        graphs = builder.graphs(X)
        dataset = CrystalDataset(
            GraphDataset.from_graphs([graphs[row] for row in rows]),
            y=y[rows],
            weight=sample_weight[rows].astype(np.float32),
        )
        head = {**(self.head_params or {}), "n_outputs": n_outputs}
        with seeded(seed, self._resolve_device()):
            encoder = self._encoder(architecture, pretrainer)
            net = self._make_net(encoder, head, len(dataset), seed)
            net.initialize()
            if recipe.max_epochs:
                net.partial_fit(dataset)
        return self._set_fitted(net, architecture, head)

    def _pretrainer(self, X: Sequence[Any], seed: int) -> DSSLPretrainer | None:
        """Resolve `pretrained`; an unfitted pretrainer learns from these structures."""
        given = self.pretrained
        if not isinstance(given, DSSLPretrainer) or is_fitted_pretrainer(given):
            return resolve_pretrained(given)
        pretrainer: DSSLPretrainer = clone(given)
        if pretrainer.random_state is None:
            pretrainer.set_params(random_state=seed)
        pool = list(X)
        if self.unlabeled is not None:
            pool += list(as_sequence(self.unlabeled, "unlabeled"))
        self.pretrainer_ = pretrainer.fit(pool)
        return pretrainer

    def _encoder(
        self, architecture: Architecture, pretrainer: DSSLPretrainer | None
    ) -> CrystalEncoder:
        encoder = architecture.build()
        if pretrainer is not None:
            learned = pretrainer.encoder_
            encoder.backbone.load_state_dict(learned.backbone.state_dict())
            if architecture.readout == pretrainer.architecture_.readout:
                encoder.readout.load_state_dict(learned.readout.state_dict())
        return encoder

    def _make_net(
        self, encoder: CrystalEncoder, head: dict[str, Any], n_crystals: int, seed: int
    ) -> PropertyNet:
        recipe = self._with_recipe(FINE_TUNE_RECIPES[self.recipe])
        kwargs = self._net_kwargs(recipe, n_crystals, seed)
        if self.pretrained is not None:
            lr = recipe.lr * recipe.backbone_lr_factor
            kwargs["optimizer__param_groups"] = [("encoder.*", {"lr": lr})]
        if self.freeze_epochs:
            kwargs["callbacks"] += [
                ("freeze", Freezer("encoder.*", at=1)),
                ("unfreeze", Unfreezer("encoder.*", at=int(self.freeze_epochs) + 1)),
            ]
        kwargs |= {f"module__{name}": value for name, value in head.items()}
        return PropertyNet(
            PropertyModel,
            module__encoder=encoder,
            criterion=self._make_criterion(recipe),
            **{**kwargs, **(self.net_params or {})},
        )

    def _held_out_fraction(self) -> float:
        # As in scikit-learn's networks: labels are held out only to stop early.
        return float(self.validation_fraction) if self.early_stopping else 0.0

    def _set_fitted(
        self, net: PropertyNet, architecture: Architecture, head: dict[str, Any]
    ) -> Self:
        self.net_ = net
        self.architecture_ = architecture
        self.head_params_ = head
        self.history_ = net.history
        return self

    def _predict_raw(self, X: Any) -> NDArray[np.float64]:  # noqa: ANN401
        """Outputs of the network, shape (n_structures, n_outputs)."""
        check_is_fitted(self, "net_")
        dataset = CrystalDataset(self._builder(self.architecture_).dataset(X))
        output: torch.Tensor = self.net_.forward(dataset)
        return output.double().numpy()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write weights, settings and history into one safetensors file, without pickle.

        Parameters
        ----------
        path : path-like
            File to write.

        Raises
        ------
        NotFittedError
            If the predictor is not fitted.
        WeightsError
            If the file cannot be written or a part cannot be described in it.
        """
        check_is_fitted(self, "net_")
        save_predictor(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a fitted predictor that `save` wrote.

        Parameters
        ----------
        path : path-like
            File to read.

        Returns
        -------
        estimator
            Fitted; predicts as the one that was saved.

        Raises
        ------
        WeightsError
            If the file is missing, damaged, or not of this kind.
        """
        return load_predictor(cls, path)
