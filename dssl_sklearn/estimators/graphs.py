"""Transformer from structures to crystal graphs."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils._param_validation import Interval, StrOptions

from dssl_sklearn.crystals.builder import GraphBuilder
from dssl_sklearn.crystals.graph import DEFAULT_CUTOFF, DEFAULT_MAX_NEIGHBORS
from dssl_sklearn.estimators.skipping import kept_rows, warn_skipped


class StructureToGraph(TransformerMixin, BaseEstimator):
    """Turn structures into periodic neighbor graphs.

    Every site is linked to its `max_neighbors` nearest neighbors within `cutoff`, periodic images
    included, its own among them. The last shell of neighbors is never cut: those whose distances
    follow each other by less than 1e-3 angstrom are in or out together, so that the graph does not
    depend on the choice of cell. Sites without a neighbor within the cutoff are linked to their
    nearest ones, with an `IsolatedSiteWarning`.

    The estimators of this package do this themselves; use the transformer to look at the graphs, or
    to build them once, in parallel, ahead of a long study.

    Parameters
    ----------
    cutoff : float, default=8.0
        Largest edge length in angstrom.
    max_neighbors : int, default=12
        Neighbors per site before completion of the last shell.
    site_properties : sequence of str, default=()
        Per-site quantities of the structures (``Structure.site_properties``) to carry along.
    on_error : {"raise", "skip"}, default="raise"
        What to do about structures that cannot be used: an error that names all of them, or None in
        their places and a `SkippedStructuresWarning`.
    n_jobs : int or None, default=None
        Processes, as in joblib; worth it from some ten thousand crystals on.
    cache : bool, default=True
        Look graphs up by the content of the structure, and keep new ones in memory (up to 256 MB).
        All estimators of a process share this cache.

    Examples
    --------
    >>> from pymatgen.core import Lattice, Structure
    >>> from dssl_sklearn import StructureToGraph
    >>> salt = Structure.from_spacegroup(
    ...     "Fm-3m", Lattice.cubic(5.69), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    ... )
    >>> (graph,) = StructureToGraph().fit_transform([salt])
    >>> graph.n_sites, graph.n_edges  # 6 nearest and 12 next-nearest neighbors: two whole shells
    (8, 144)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "cutoff": [Interval(Real, 0, None, closed="neither")],
        "max_neighbors": [Interval(Integral, 1, None, closed="left")],
        "site_properties": [list, tuple],
        "on_error": [StrOptions({"raise", "skip"})],
        "n_jobs": [Integral, None],
        "cache": ["boolean"],
    }

    def __init__(
        self,
        *,
        cutoff: float = DEFAULT_CUTOFF,
        max_neighbors: int = DEFAULT_MAX_NEIGHBORS,
        site_properties: Sequence[str] = (),
        on_error: Literal["raise", "skip"] = "raise",
        n_jobs: int | None = None,
        cache: bool = True,
    ) -> None:
        self.cutoff = cutoff
        self.max_neighbors = max_neighbors
        self.site_properties = site_properties
        self.on_error = on_error
        self.n_jobs = n_jobs
        self.cache = cache

    def fit(self, X: Any, y: object = None) -> Self:  # noqa: ANN401
        """Check the parameters; there is nothing to learn.

        Parameters
        ----------
        X : sequence of crystals
            Not looked at.
        y : None
            Ignored.

        Returns
        -------
        self
            This transformer.
        """
        self._validate_params()
        return self

    def transform(self, X: Any) -> NDArray[np.object_]:  # noqa: ANN401
        """Build the graphs.

        Parameters
        ----------
        X : sequence of crystals
            Structures, ASE Atoms, structure dicts, paths of CIF or POSCAR files, or graphs.

        Returns
        -------
        ndarray of CrystalGraph of shape (n_structures,), dtype object
            One graph per crystal, None for a skipped one.

        Raises
        ------
        InvalidInputError
            If `X` is not a sequence of crystals.
        InvalidStructureError
            If any crystal cannot be used; the message lists all of them with the reasons.
        """
        self._validate_params()
        builder = GraphBuilder(
            float(self.cutoff),
            int(self.max_neighbors),
            n_jobs=self.n_jobs,
            site_properties=tuple(self.site_properties),
            use_cache=self.cache,
        )
        graphs, reasons = builder.usable_graphs(X, skip=self.on_error == "skip")
        rows = kept_rows(len(graphs), reasons)
        result = np.full(len(graphs) + len(reasons), None, dtype=object)
        for row, graph in zip(rows, graphs, strict=True):
            result[row] = graph
        if reasons:
            warn_skipped(reasons, len(result), "have None in their places")
        return result

    def get_feature_names_out(self, input_features: object = None) -> NDArray[np.object_]:
        """Name of the one output column.

        Parameters
        ----------
        input_features : object, default=None
            Ignored.

        Returns
        -------
        ndarray of str of shape (1,)
            ``["graph"]``.
        """
        return np.array(["graph"], dtype=object)

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Any:  # noqa: ANN401 - sklearn.utils.Tags moved between versions
        """Say that the input is no table and that there is nothing to fit."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.requires_fit = False
        return tags
