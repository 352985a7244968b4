"""The contract of a backbone: crystal graphs to site embeddings."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from dssl_sklearn.crystals.batch import CrystalBatch


class Backbone(nn.Module, ABC):
    """Turns a batch of crystal graphs into one embedding per site.

    A module need not derive from this class to serve as a backbone: an integer attribute ``width``
    and this ``forward`` are enough. Crystals of a batch must not see each other (statistics of a
    batch normalization in training excepted), and the order of the edges of a site must not
    matter.

    Attributes
    ----------
    width : int
        Length of a site embedding.
    """

    width: int

    @abstractmethod
    def forward(self, batch: CrystalBatch) -> Tensor:
        """Embed the sites.

        Parameters
        ----------
        batch : CrystalBatch
            Crystal graphs; atomic number 0 is a masked site.

        Returns
        -------
        Tensor of shape (n_sites, width)
            Site embeddings.
        """
