"""Embeddings and elements of crystals, from weights, a pretrainer or a predictor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.frozen import FrozenEstimator

from dssl_sklearn.crystals.builder import GraphBuilder
from dssl_sklearn.crystals.dataset import GraphDataset
from dssl_sklearn.crystals.elements import MAX_ATOMIC_NUMBER
from dssl_sklearn.estimators.inner import path_to_network
from dssl_sklearn.estimators.pretrainer import resolve_pretrained
from dssl_sklearn.estimators.property import PropertyEstimator
from dssl_sklearn.exceptions import InvalidInputError
from dssl_sklearn.models.encoder import CrystalEncoder
from dssl_sklearn.training.inference import embed


@dataclass(frozen=True, eq=False)
class Embedder:
    """An encoder with the graphs that it reads.

    Attributes
    ----------
    encoder : CrystalEncoder
        Trained.
    builder : GraphBuilder
        With the settings that the encoder was trained on.
    batch_size : int
        Mean number of crystals in a batch.
    device : str
        Where to compute.
    """

    encoder: CrystalEncoder
    builder: GraphBuilder
    batch_size: int
    device: str

    @classmethod
    def of(cls, pretrained: Any, n_jobs: int | None) -> Self:  # noqa: ANN401
        """Take the encoder of weights, of a fitted pretrainer or of a fitted predictor.

        Parameters
        ----------
        pretrained : str, path or fitted estimator
            As for `ApplicabilityDomain`.
        n_jobs : int or None
            Processes for building graphs.

        Returns
        -------
        Embedder
            Sharing the weights.

        Raises
        ------
        InvalidInputError
            If it is something else, or a pretrainer that is not fitted; of a pipeline or a search
            the message names the network inside.
        NotFittedError
            If it is a predictor that is not fitted.
        WeightsError
            If there are no such weights.
        """
        if isinstance(pretrained, FrozenEstimator):
            pretrained = pretrained.estimator
        if path := path_to_network(pretrained):
            raise InvalidInputError(
                f"pretrained is a {type(pretrained).__name__}; hand in the network inside: "
                f"pretrained{path}."
            )
        estimator = pretrained
        if not isinstance(pretrained, PropertyEstimator):
            estimator = resolve_pretrained(pretrained)
        if estimator is None:
            raise InvalidInputError("pretrained is None; give weights or a fitted estimator.")
        encoder, architecture, net = estimator.encoder_, estimator.architecture_, estimator.net_
        builder = GraphBuilder(architecture.cutoff, architecture.max_neighbors, n_jobs=n_jobs)
        return cls(encoder, builder, net.batch_size, net.device)

    def embed(self, graphs: GraphDataset) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Embed crystals and list their elements.

        Parameters
        ----------
        graphs : GraphDataset
            Crystals.

        Returns
        -------
        ndarray of shape (n_crystals, width), float64
            Embeddings.
        ndarray of bool of shape (n_crystals, MAX_ATOMIC_NUMBER + 1)
            Whether the element of this atomic number is in the crystal.
        """
        embeddings = embed(self.encoder, graphs, self.batch_size, self.device).astype(np.float64)
        elements = np.zeros((len(graphs), MAX_ATOMIC_NUMBER + 1), dtype=bool)
        elements[np.repeat(np.arange(len(graphs)), graphs.n_sites), graphs.numbers] = True
        return embeddings, elements
