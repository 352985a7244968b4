"""True values of a per-site quantity: from a table of the elements, or from the structures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from dssl_sklearn._checks import did_you_mean
from dssl_sklearn.crystals.batch import CrystalBatch
from dssl_sklearn.crystals.elements import ELEMENT_PROPERTY_NAMES, per_element_array
from dssl_sklearn.exceptions import InvalidInputError

if TYPE_CHECKING:
    from dssl_sklearn.crystals.dataset import GraphDataset

#: A name, values by element, or values by atomic number.
PropertyValues: TypeAlias = str | Mapping[Any, float] | ArrayLike

_Values = TypeVar("_Values", NDArray[np.float32], Tensor)


class SiteTarget(nn.Module):
    """Looks up the true value of a quantity at each site; holds no trainable weight.

    Parameters
    ----------
    values : str, mapping, array-like or None
        What ``per_element_array`` takes, for a property of the elements.
    site_property : str or None
        Name of the property of the structures, for a quantity that is none of the elements.
    """

    table: Tensor

    def __init__(self, values: PropertyValues | None, site_property: str | None) -> None:
        super().__init__()
        self.site_property = site_property
        table = np.empty(0) if values is None else per_element_array(values)
        # float32 like the site properties of a data set, so that equal values stay equal.
        self.register_buffer("table", torch.from_numpy(table).float())

    def of_dataset(self, dataset: GraphDataset) -> NDArray[np.float32]:
        """Collect the known values over the sites of a data set.

        Parameters
        ----------
        dataset : GraphDataset
            Training crystals.

        Returns
        -------
        ndarray of shape (n_known,)
            At least one value.

        Raises
        ------
        InvalidInputError
            If the structures do not carry the property, if it is a vector, or if no site has a
            known value.
        """
        if self.site_property is None:
            table: NDArray[np.float32] = self.table.cpu().numpy()
            values = table[dataset.numbers]
        else:
            values = self._carried(dataset.site_properties)
        values = values[np.isfinite(values)]
        if not len(values):
            what = repr(self.site_property) if self.site_property else "the property"
            raise InvalidInputError(
                f"microproperty: {what} is known for no site of the training structures"
                f"{self._hint()}"
            )
        return values

    def of_sites(self, clean: CrystalBatch, sites: Tensor) -> Tensor:
        """Look up the values at some sites.

        Parameters
        ----------
        clean : CrystalBatch
            Crystals with their true atomic numbers.
        sites : Tensor of shape (n,), int64
            Indices of the sites.

        Returns
        -------
        Tensor of shape (n,)
            NaN where unknown.

        Raises
        ------
        InvalidInputError
            If the structures do not carry the property, or it is a vector.
        """
        if self.site_property is None:
            return self.table[clean.numbers[sites]]
        return self._carried(clean.site_properties)[sites]

    def _carried(self, properties: Mapping[str, _Values]) -> _Values:
        name = str(self.site_property)
        if name not in properties:
            raise InvalidInputError(
                f"microproperty: {name!r} is neither a property of the elements nor a site "
                f"property of all structures{self._hint()}"
            )
        values = properties[name]
        if values.ndim > 1:
            raise InvalidInputError(
                f"microproperty: {name!r} is a vector of {values.shape[1]} numbers per site, "
                "expected one; take the objective Teacher for vectors"
            )
        return values

    def _hint(self) -> str:
        return did_you_mean(self.site_property or "", ELEMENT_PROPERTY_NAMES)
