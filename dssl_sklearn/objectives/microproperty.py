"""Predict a physical property of each hidden atom, such as its stiffness or its valence."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias, get_args

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from dssl_sklearn._checks import check_choice, check_integer
from dssl_sklearn.crystals.batch import CrystalBatch
from dssl_sklearn.crystals.elements import ELEMENT_PROPERTY_NAMES, per_element_array
from dssl_sklearn.exceptions import InvalidInputError
from dssl_sklearn.objectives._layers import mean_where, metric_where, scale_of, site_mlp
from dssl_sklearn.objectives._site_target import PropertyValues, SiteTarget
from dssl_sklearn.objectives.base import EncodedView, Objective, ObjectiveHead, Outcome

if TYPE_CHECKING:
    from dssl_sklearn.crystals.dataset import GraphDataset

Task: TypeAlias = Literal["auto", "regression", "classification"]


@dataclass(frozen=True)
class Microproperty(Objective):
    """Physics-guided task: a property of each hidden atom from its surroundings.

    Parameters
    ----------
    weight : float, default=1.0
        Weight in the sum of the objectives.
    values : str, mapping or array-like of shape (103,) or (104,), default="stiffness"
        A property of the elements that ``element_property`` knows, or values of your own by
        element or atomic number. Any other name, or any name after ``"site:"``, is that of a
        per-site property of the structures. Unknown (NaN) entries are skipped.
    task : {"auto", "regression", "classification"}, default="auto"
        Whether to predict the value or its class; "auto" classifies ``"valence"`` only.
    mask_ratio : float, default=0.15
        Share of sites whose element is hidden; 0 hides none and asks for every site, which makes
        sense for per-site properties.
    move : float, default=0.0
        Standard deviation of random moves of the sites in the same view, in angstrom.
    n_classes : int, default=None
        Number of different values, needed to classify a per-site property.

    Raises
    ------
    InvalidInputError
        If a setting is unknown, unusable or out of range.

    References
    ----------
    .. [1] N. Fu, L. Wei and J. Hu, "Physics-guided dual self-supervised learning for
       structure-based material property prediction", J. Phys. Chem. Lett. 15, 2841 (2024).
    """

    name: ClassVar[str] = "microproperty"

    values: PropertyValues = "stiffness"
    task: Task = "auto"
    mask_ratio: float = 0.15
    move: float = 0.0
    n_classes: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("task", self.task, get_args(Task))
        if not isinstance(self.values, str):
            # Plain values, with None for NaN: comparable, hashable, and strict JSON.
            known = per_element_array(self.values)
            plain = tuple(None if np.isnan(value) else float(value) for value in known)
            object.__setattr__(self, "values", plain)
        if self.n_classes is not None:
            check_integer("n_classes", self.n_classes)
        elif self.classifies and self.site_properties:
            raise InvalidInputError(
                f"n_classes is needed to classify the per-site property {self.values!r}; give the "
                "number of its different values"
            )

    @property
    def classifies(self) -> bool:
        """Whether the target is a class."""
        return self.task == "classification" or (self.task == "auto" and self.values == "valence")

    @property
    def site_properties(self) -> tuple[str, ...]:
        """Name of the per-site property, where the target is one."""
        if not isinstance(self.values, str) or self.values in ELEMENT_PROPERTY_NAMES:
            return ()
        return (self.values.removeprefix("site:"),)

    def make_head(self, site_width: int, crystal_width: int) -> ObjectiveHead:
        """Build the predictor of the masked sites."""
        site_property = next(iter(self.site_properties), None)
        target = SiteTarget(self.values if site_property is None else None, site_property)
        if not self.classifies:
            return RegressionHead(target, site_width)
        return ClassificationHead(target, site_width, self.n_classes)


class _MicropropertyHead(ObjectiveHead):
    """Finds embeddings and targets of the sites that are asked for."""

    def __init__(self, target: SiteTarget, site_width: int, n_outputs: int) -> None:
        super().__init__()
        self.target = target
        self.predictor = site_mlp(site_width, n_outputs)

    def forward(self, encoded: Sequence[EncodedView], clean: CrystalBatch) -> Outcome:
        """Compute the loss on the masked sites, or on all where none is masked."""
        (view,) = encoded
        sites = view.view.masked
        if not len(sites):
            sites = torch.arange(clean.n_sites, device=clean.numbers.device)
        output = self.predictor(view.sites.index_select(0, sites))
        return self._compare(output, self.target.of_sites(clean, sites))

    @abstractmethod
    def _compare(self, output: Tensor, values: Tensor) -> Outcome: ...


class RegressionHead(_MicropropertyHead):
    """Two layers from a site embedding to the standardized value.

    Parameters
    ----------
    target : SiteTarget
        Source of the true values.
    site_width : int
        Width of the site embeddings.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, target: SiteTarget, site_width: int) -> None:
        super().__init__(target, site_width, 1)
        self.register_buffer("mean", torch.tensor(0.0))
        self.register_buffer("scale", torch.tensor(1.0))

    def fit_statistics(self, dataset: GraphDataset) -> None:
        """Learn mean and standard deviation over the training sites."""
        values = self.target.of_dataset(dataset).astype(np.float64)
        self.mean.fill_(values.mean())
        self.scale.fill_(float(scale_of(values.std(), np.abs(values).max())))

    def _compare(self, output: Tensor, values: Tensor) -> Outcome:
        counted = values.isfinite()
        target = ((values - self.mean) / self.scale).where(counted, 0.0)
        predicted = output.squeeze(-1)
        # Outliers of a property do not dominate this loss.
        loss = F.smooth_l1_loss(predicted, target, reduction="none")
        error = (predicted.detach() - target).abs() * self.scale
        return Outcome(mean_where(loss, counted), {"mae": metric_where(error, counted)})


class ClassificationHead(_MicropropertyHead):
    """Two layers from a site embedding to the class of the value.

    Parameters
    ----------
    target : SiteTarget
        Source of the true values.
    site_width : int
        Width of the site embeddings.
    n_classes : int or None
        Number of classes; None for that of the different values in the table of the elements.
    """

    classes: Tensor

    def __init__(self, target: SiteTarget, site_width: int, n_classes: int | None) -> None:
        known = np.unique(target.table[target.table.isfinite()].numpy())
        n_classes = n_classes or len(known)
        super().__init__(target, site_width, n_classes)
        self.register_buffer("classes", torch.full((n_classes,), torch.inf))
        self._set_classes(known)

    def fit_statistics(self, dataset: GraphDataset) -> None:
        """Learn the classes of a per-site property; those of the elements are known."""
        if self.target.site_property is not None:
            self._set_classes(np.unique(self.target.of_dataset(dataset)))

    def _set_classes(self, known: NDArray[np.float32]) -> None:
        if len(known) > len(self.classes):
            raise InvalidInputError(
                f"microproperty: n_classes is {len(self.classes)}, but {len(known)} different "
                "values are to be classified; raise n_classes or use task='regression'"
            )
        # Unused classes match no value.
        self.classes.fill_(torch.inf)
        self.classes[: len(known)] = torch.from_numpy(known).to(self.classes)

    def _compare(self, output: Tensor, values: Tensor) -> Outcome:
        # Both as float32, in which the classes were learned: the values must match exactly.
        classes, values = self.classes.float(), values.float()
        target = torch.searchsorted(classes, values.contiguous()).clamp_max(len(classes) - 1)
        counted = classes[target] == values
        loss = F.cross_entropy(output, target, reduction="none")
        correct = (output.detach().argmax(-1) == target).float()
        return Outcome(mean_where(loss, counted), {"accuracy": metric_where(correct, counted)})
