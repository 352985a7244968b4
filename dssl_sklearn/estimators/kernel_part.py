"""The part of a prediction that compares a crystal with the labeled ones."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dssl_sklearn._warnings import warn
from dssl_sklearn.crystals.batch import CrystalBatch
from dssl_sklearn.crystals.dataset import GraphDataset
from dssl_sklearn.crystals.elements import element_features
from dssl_sklearn.estimators.pretrainer import DSSLPretrainer
from dssl_sklearn.estimators.untrusted import check_shapes
from dssl_sklearn.exceptions import InvalidInputError, WeightsError
from dssl_sklearn.models.architecture import Architecture
from dssl_sklearn.models.descriptors import element_table, feature_groups
from dssl_sklearn.models.encoder import CrystalEncoder
from dssl_sklearn.models.gaussian_process import N_POINTS, GaussianProcess, LeftOut
from dssl_sklearn.models.layers import linear_layer
from dssl_sklearn.training.inference import prediction_batches
from dssl_sklearn.training.seeding import seeded
from dssl_sklearn.training.weights import load_state, prefixed, under_prefix

#: Fewer labels than this say nothing about how to compare crystals.
MIN_LABELS = 20
#: Position of the arrangement among the groups of features.
_ARRANGEMENT = 4
_ENCODER, _PROCESS, _ANSWERS = "kernel.encoder.", "kernel.process.", "kernel.answers."


def check_alone(share: float, max_epochs: int, *, enough: bool) -> None:
    """Make sure that something predicts: the process, or a network that is trained.

    Raises
    ------
    InvalidInputError
        If the process is to predict alone, and has not `enough` labels of every target.
    """
    if share == 1 and not max_epochs and not enough:
        raise InvalidInputError(
            f"kernel_share=1 with max_epochs=0 leaves all to the Gaussian process, which needs "
            f"{MIN_LABELS} labels of every target among the {N_POINTS} crystals it compares with "
            "at most; train the network, too"
        )


@dataclass(frozen=True, eq=False)
class FrozenEncoder:
    """A pretrained network as it was before fine-tuning.

    Attributes
    ----------
    architecture : Architecture
        What it is made of.
    network : CrystalEncoder
        On the CPU.
    answers : nn.Linear or None
        What linear heads of its pretraining said of a crystal, by its embedding: quantities that a
        teacher computed.
    """

    architecture: Architecture
    network: CrystalEncoder
    answers: nn.Linear | None = None

    @classmethod
    def of(cls, pretrainer: DSSLPretrainer | None) -> Self | None:
        """Copy that of a fitted pretrainer; None for None."""
        if pretrainer is None:
            return None
        network = copy.deepcopy(pretrainer.encoder_).cpu().eval()
        answers = pretrainer.net_.criterion_.answers()
        return cls(pretrainer.architecture_, network, None if answers is None else answers.cpu())

    def describe(self, batch: CrystalBatch, copies: int) -> Tensor:
        """Embed crystals, with some copies of the answers, shape (n_crystals, n_features)."""
        embeddings: Tensor = self.network(batch)[1]
        if self.answers is None:
            return embeddings
        return torch.cat([embeddings, self.answers(embeddings).repeat(1, copies)], dim=1)


@dataclass(frozen=True, eq=False)
class ComparedCrystals:
    """Labeled crystals that new ones are compared with, and what is known of them.

    Attributes
    ----------
    rows : ndarray of shape (n_points,), int64
        Which of the labeled crystals, in random order, as the first ones tune the kernel.
    groups : list of Tensor of shape (n_points, n_features_of_group)
        Their features.
    encoder : FrozenEncoder or None
        Pretrained network that made some of these.
    """

    rows: NDArray[np.int64]
    groups: list[Tensor]
    encoder: FrozenEncoder | None

    @classmethod
    def of(
        cls, encoder: FrozenEncoder | None, graphs: GraphDataset, seed: int, batch_size: int
    ) -> Self:
        """Choose crystals, all if they are not too many, and describe them.

        Parameters
        ----------
        encoder : FrozenEncoder or None
            Pretrained network.
        graphs : GraphDataset
            All labeled crystals.
        seed : int
            Which crystals, and their order.
        batch_size : int
            Crystals described at a time.

        Returns
        -------
        ComparedCrystals
            Described.
        """
        rows = np.random.default_rng(seed).permutation(len(graphs))[:N_POINTS]
        return cls(rows, crystal_features(encoder, graphs.take(rows), batch_size), encoder)

    def suffice_for(self, targets: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Whether enough of them have a label, for each column of the targets of all crystals."""
        enough: NDArray[np.bool_] = np.isfinite(targets[self.rows]).sum(axis=0) >= MIN_LABELS
        return enough


@dataclass(frozen=True, eq=False)
class KernelPart:
    """Gaussian process on bonds, composition and arrangement of a crystal, and its embedding.

    Attributes
    ----------
    share : ndarray of shape (n_outputs,)
        Its share of the prediction of each target, from 0 to 1; 0 where it does not predict.
    columns : ndarray of shape (n_outputs,), bool
        Which targets it predicts; those with fewer than 20 labels among the crystals compared with
        are left to the network.
    process : GaussianProcess
        Fitted to these.
    encoder : FrozenEncoder or None
        None where nothing was pretrained.
    calibration : ndarray of shape (n_outputs,)
        Factors of the process's standard deviations.
    """

    share: NDArray[np.float64]
    columns: NDArray[np.bool_]
    process: GaussianProcess
    encoder: FrozenEncoder | None
    calibration: NDArray[np.float64]

    @classmethod
    def fit(
        cls,
        share: float,
        compared: ComparedCrystals,
        targets: NDArray[np.floating],
        weight: NDArray[np.floating],
        *,
        jointly: bool = False,
    ) -> tuple[Self, LeftOut]:
        """Learn from labeled crystals.

        Parameters
        ----------
        share : float
            Share of the prediction wanted. Where not all labels can be compared with, it shrinks
            with their number, as the network goes on to learn from all; not so a share of 1.
        compared : ComparedCrystals
            Those that predict; at least one target has enough labels among them.
        targets : ndarray of shape (n_crystals, n_outputs)
            Standardized targets of all labeled crystals, NaN where unknown.
        weight : ndarray of shape (n_crystals,)
            Their weights, above 0.
        jointly : bool, default=False
            Compare crystals in the same way for all targets, of which none may be missing.

        Returns
        -------
        part : KernelPart
            Fitted.
        left_out : LeftOut
            What it predicts for each crystal of `compared` from the others; NaN where the target is
            unknown, or left to the network.
        """
        rows, columns = compared.rows, compared.suffice_for(targets)
        process, of_columns = GaussianProcess.fit_and_leave_out(
            compared.groups, targets[np.ix_(rows, columns)], weight[rows], jointly=jointly
        )
        left_out = LeftOut(*(np.full((len(rows), len(columns)), np.nan) for _ in of_columns))
        for every, some in zip(left_out, of_columns, strict=True):
            every[:, columns] = some
        if share < 1:
            share *= len(rows) / len(targets)
        shares = np.where(columns, share, 0.0)
        return cls(shares, columns, process, compared.encoder, np.ones(len(columns))), left_out

    def predict(self, graphs: GraphDataset, batch_size: int) -> NDArray[np.float64]:
        """Predict standardized targets, shape (n_crystals, n_outputs); 0 where it has no share."""
        return self._of_all(self.process.predict(self._groups(graphs, batch_size)))

    def predict_with_deviation(
        self, graphs: GraphDataset, batch_size: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """As `predict`, with calibrated standard deviations; 0 where these are not known."""
        if not self.process.knows_noise:
            outputs = self.predict(graphs, batch_size)
            return outputs, np.zeros_like(outputs)
        both = self.process.predict_with_deviation(self._groups(graphs, batch_size))
        outputs, deviations = map(self._of_all, both)
        return outputs, deviations * self.calibration

    def _groups(self, graphs: GraphDataset, batch_size: int) -> list[Tensor]:
        groups = crystal_features(self.encoder, graphs, batch_size)
        if sum(group.shape[1] for group in groups) > len(self.process.center):
            del groups[_ARRANGEMENT]  # from before there was the arrangement
        return groups

    def _of_all(self, of_columns: NDArray[np.float64]) -> NDArray[np.float64]:
        result = np.zeros((len(of_columns), len(self.columns)))
        result[:, self.columns] = of_columns
        return result

    def to_file(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors, and a description of them, for a file of weights."""
        tensors = prefixed(_PROCESS, self.process.to_tensors())
        description: dict[str, Any] = {"share": self.share.tolist(), "architecture": None}
        description["columns"] = self.columns.tolist()
        description["calibration"] = self.calibration.tolist()
        if self.encoder is not None:
            tensors |= prefixed(_ENCODER, self.encoder.network.state_dict())
            description["architecture"] = self.encoder.architecture.to_config()
            if (answers := self.encoder.answers) is not None:
                tensors |= prefixed(_ANSWERS, answers.state_dict())
                description["n_answers"] = answers.out_features
        return tensors, description

    @classmethod
    def from_file(
        cls,
        tensors: Mapping[str, Tensor],
        description: Mapping[str, Any],
        n_outputs: int,
        source: str,
    ) -> Self:
        """Read what `to_file` gave, from a file that may hold anything.

        Raises
        ------
        WeightsError, InvalidInputError
            If tensors and description do not fit.
        """
        # Not in files from before single targets could be left out.
        columns = np.array(description.get("columns", [True] * n_outputs))
        if columns.dtype != bool or columns.shape != (n_outputs,):
            raise WeightsError(f"its kernel has no truth value for each of {n_outputs} outputs")
        share = np.where(columns, _shares(description["share"], n_outputs), 0.0)
        process = GaussianProcess.from_tensors(under_prefix(tensors, _PROCESS), int(columns.sum()))
        calibration = np.array(description.get("calibration", [1.0] * n_outputs), dtype=float)
        if (
            calibration.shape != (n_outputs,)
            or not (np.isfinite(calibration) & (calibration >= 0)).all()
        ):
            raise WeightsError(f"its kernel has no factor for each of {n_outputs} outputs")
        if description["architecture"] is None:
            return cls(share, columns, process, None, calibration)
        architecture = Architecture(**description["architecture"])
        check_shapes(architecture.build, tensors, _ENCODER)
        with seeded(0, "cpu"):
            network = architecture.build()
        load_state(network, tensors, _ENCODER, source)
        answers = None
        if n_answers := description.get("n_answers", 0):  # not in files from before there were any
            width = network.crystal_width
            check_shapes(partial(nn.Linear, width, n_answers), tensors, _ANSWERS)
            zeros = partial(torch.zeros, dtype=torch.float32)  # whatever torch's default is
            answers = linear_layer(zeros(n_answers, width), zeros(n_answers))
            load_state(answers, tensors, _ANSWERS, source)
        encoder = FrozenEncoder(architecture, network.eval(), answers)
        return cls(share, columns, process, encoder, calibration)


def _shares(found: Any, n_outputs: int) -> NDArray[np.float64]:  # noqa: ANN401 - of any file
    """One share for each output; files from before they could differ hold a single number."""
    shares = found if isinstance(found, list) else [found] * n_outputs
    numbers = all(isinstance(s, int | float) and not isinstance(s, bool) for s in shares)
    if len(shares) != n_outputs or not numbers or not all(0 <= s <= 1 for s in shares):
        raise WeightsError(f"its kernel has a share of {str(found)[:80]}")
    return np.array(shares, dtype=float)


def warn_of_no_process(
    asked: float | None, max_epochs: int, kernel: KernelPart | None, y: NDArray[Any]
) -> None:
    """Warn where a share that was asked for has no effect, or nothing has learned to predict.

    Parameters
    ----------
    asked : float or None
        `kernel_share` as it was given.
    max_epochs : int
        Epochs of the network.
    kernel : KernelPart or None
        What was fitted.
    y : ndarray of shape (n_crystals,) or (n_crystals, n_outputs)
        Targets, NaN where unknown, or codes of classes.
    """
    if not max_epochs and kernel is None:
        warn(
            "max_epochs=0 trains no head, and this one predicts at random; kernel_share=1 leaves "
            "all to the Gaussian process, which needs no epochs"
        )
        return
    if not asked:
        return
    n_labels = np.isfinite(y.reshape(len(y), -1)).sum(axis=0)
    without = np.flatnonzero(~kernel.columns) if kernel is not None else np.arange(len(n_labels))
    if len(without):
        of_target = f" on target {without[0]}" if len(n_labels) > 1 else ""
        warn(
            f"kernel_share={asked} has no effect{of_target}: {n_labels[without[0]]} labels, the "
            f"process needs {MIN_LABELS} among the crystals it compares with"
        )


def crystal_features(
    encoder: FrozenEncoder | None, graphs: GraphDataset, batch_size: int, *, copies: int = 12
) -> list[Tensor]:
    """Describe crystals for a Gaussian process.

    Parameters
    ----------
    encoder : FrozenEncoder or None
        Pretrained network.
    graphs : GraphDataset
        The crystals.
    batch_size : int
        Crystals described at a time.
    copies : int, default=12
        How many entries of an embedding an answer weighs as much as.

    Returns
    -------
    list of Tensor of shape (n_crystals, n_features_of_group)
        The groups of `feature_groups`, and one of the encoder if there is one.
    """
    elements, of_elements = element_table().float(), torch.as_tensor(element_features()).float()
    groups = []
    for batch, _ in prediction_batches(graphs, batch_size, "cpu"):
        with torch.inference_mode():
            learned = () if encoder is None else (encoder.describe(batch, copies),)
            groups.append((*feature_groups(batch, elements, of_elements), *learned))
    return [torch.cat(group) for group in zip(*groups, strict=True)]
