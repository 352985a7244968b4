"""Crystals on a map of their embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.decomposition import PCA

from dssl_sklearn._checks import check_choice
from dssl_sklearn._optional import import_optional
from dssl_sklearn.estimators.inner import path_to_network
from dssl_sklearn.estimators.property import PropertyEstimator
from dssl_sklearn.exceptions import InvalidInputError
from dssl_sklearn.plotting.style import COLORS, GRAY, MARKERS, SEQUENTIAL, axes_for

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Method = Literal["pca", "umap"]


class EmbeddingMapDisplay:
    """Two-dimensional map of embeddings, colored by a property.

    Use `from_estimator` or `from_embeddings` to make one.

    Parameters
    ----------
    coordinates : ndarray of shape (n_structures, 2)
        Places on the map, NaN for what has none.
    color : array-like of shape (n_structures,), default=None
        Numbers, or names of classes; missing ones are drawn in gray.
    color_label : str, default=None
        What `color` is, with its unit.
    axis_labels : tuple of str, default=("1", "2")
        Labels of the axes.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The map.
    colorbar_ : matplotlib Colorbar or None
        Scale of the colors, for numbers.
    figure_ : matplotlib Figure
        Figure that holds them.

    Examples
    --------
    >>> import numpy as np
    >>> from dssl_sklearn.plotting import EmbeddingMapDisplay
    >>> embeddings = np.random.default_rng(0).normal(size=(30, 8))
    >>> EmbeddingMapDisplay.from_embeddings(embeddings, color=embeddings[:, 0]).coordinates.shape
    (30, 2)
    """

    def __init__(
        self,
        *,
        coordinates: NDArray[np.floating[Any]],
        color: Any = None,  # noqa: ANN401
        color_label: str | None = None,
        axis_labels: tuple[str, str] = ("1", "2"),
    ) -> None:
        self.coordinates = coordinates
        self.color = color
        self.color_label = color_label
        self.axis_labels = axis_labels

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,  # noqa: ANN401 - any transformer, or a predictor of ours
        X: Any,  # noqa: ANN401
        *,
        color: ArrayLike | None = None,
        color_label: str | None = None,
        method: Method = "pca",
        random_state: int | None = 0,
        ax: Axes | None = None,
        **plot_params: Any,  # noqa: ANN401
    ) -> Self:
        """Embed crystals and draw their map.

        Parameters
        ----------
        estimator : DSSLPretrainer, DSSLRegressor, DSSLClassifier, or a fitted transformer
            A predictor shows the embeddings that its head reads.
        X : sequence of crystals
            As for ``transform`` or ``predict``.
        color : array-like of shape (n_structures,), default=None
            Numbers, or names of classes.
        color_label : str, default=None
            What `color` is, with its unit; None takes the name of a Series.
        method : {"pca", "umap"}, default="pca"
            Principal components, or UMAP (extra ``umap``).
        random_state : int or None, default=0
            Seed of UMAP.
        ax : Axes, default=None
            Where to draw; None for a new figure.
        **plot_params
            Arguments of `plot`.

        Returns
        -------
        EmbeddingMapDisplay
            Drawn.

        Raises
        ------
        InvalidInputError
            If the estimator gives no embeddings, or `color` does not fit.
        InvalidStructureError
            If a crystal cannot be used, unless the estimator has ``on_error="skip"``.
        NotFittedError
            If the estimator is not fitted.
        MissingDependencyError
            If matplotlib, or umap-learn for UMAP, is not installed.
        """
        return cls.from_embeddings(
            _embed(estimator, X),
            color=color,
            color_label=color_label,
            method=method,
            random_state=random_state,
            ax=ax,
            **plot_params,
        )

    @classmethod
    def from_embeddings(
        cls,
        embeddings: ArrayLike,
        *,
        color: ArrayLike | None = None,
        color_label: str | None = None,
        method: Method = "pca",
        random_state: int | None = 0,
        ax: Axes | None = None,
        **plot_params: Any,  # noqa: ANN401
    ) -> Self:
        """Draw the map of given embeddings.

        Parameters
        ----------
        embeddings : array-like of shape (n_structures, n_features)
            What ``transform`` returned; a row of NaN, of a skipped structure, is not drawn.
        color, color_label, method, random_state, ax, **plot_params
            As for `from_estimator`.

        Returns
        -------
        EmbeddingMapDisplay
            Drawn.

        Raises
        ------
        InvalidInputError
            If `embeddings` is no table of at least two finite rows and columns, or `color` does
            not fit.
        MissingDependencyError
            If matplotlib, or umap-learn for UMAP, is not installed.
        """
        check_choice("method", method, ("pca", "umap"))
        table = _table(embeddings)
        if color is not None and len(pd.Series(color)) != len(table):
            raise InvalidInputError(
                f"color has {len(pd.Series(color))} entries, expected {len(table)}, "
                "one per structure"
            )
        if color_label is None and isinstance(color, pd.Series) and color.name is not None:
            color_label = str(color.name)
        placed = np.isfinite(table).all(axis=1)
        coordinates = np.full((len(table), 2), np.nan)
        if method == "pca":
            pca = PCA(n_components=2, random_state=0)
            coordinates[placed] = pca.fit_transform(table[placed])
            shares = [f"{share:.0%}" for share in pca.explained_variance_ratio_]
            labels = (f"PC 1 ({shares[0]} of variance)", f"PC 2 ({shares[1]} of variance)")
        else:
            coordinates[placed] = _umap(table[placed], random_state)
            labels = ("UMAP 1", "UMAP 2")
        display = cls(
            coordinates=coordinates, color=color, color_label=color_label, axis_labels=labels
        )
        return display.plot(ax, **plot_params)

    def plot(
        self,
        ax: Axes | None = None,
        *,
        cmap: str = SEQUENTIAL,
        scatter_kwargs: dict[str, Any] | None = None,
    ) -> Self:
        """Draw.

        Parameters
        ----------
        ax : Axes, default=None
            Where to draw; None for a new figure.
        cmap : str, default="viridis"
            Colors of numbers.
        scatter_kwargs : dict, default=None
            Arguments of matplotlib's ``scatter``.

        Returns
        -------
        EmbeddingMapDisplay
            Itself.

        Raises
        ------
        MissingDependencyError
            If matplotlib is not installed.
        """
        ax = axes_for(ax, type(self).__name__, (5.6, 4.4))
        style = {"s": 12, "linewidth": 0, "rasterized": len(self.coordinates) > 5000}
        style |= scatter_kwargs or {}
        self.colorbar_: Any = None
        if self.color is None:
            self._scatter(ax, np.ones(len(self.coordinates), dtype=bool), color=COLORS[0], **style)
        elif pd.api.types.is_numeric_dtype(pd.Series(self.color)):
            self._draw_numbers(ax, cmap, style)
        else:
            self._draw_classes(ax, style)
        ax.set_xlabel(self.axis_labels[0])
        ax.set_ylabel(self.axis_labels[1])
        ax.spines[["top", "right"]].set_visible(False)
        self.ax_ = ax
        self.figure_: Figure = ax.get_figure(root=True)  # type: ignore[assignment]
        return self

    def _scatter(self, ax: Axes, rows: NDArray[np.bool_], **style: Any) -> Any:  # noqa: ANN401
        return ax.scatter(*self.coordinates[rows].T, **style)

    def _draw_numbers(self, ax: Axes, cmap: str, style: dict[str, Any]) -> None:
        values = pd.Series(self.color).to_numpy(dtype=np.float64, na_value=np.nan)
        known = np.isfinite(values)
        if not known.all():
            self._scatter(ax, ~known, color=GRAY, alpha=0.5, **style)
        # A few extreme values must not take all the colors.
        low, high = np.quantile(values[known], [0.01, 0.99]) if known.any() else (0.0, 1.0)
        drawn = self._scatter(ax, known, c=values[known], cmap=cmap, vmin=low, vmax=high, **style)
        beyond = (values[known].min(initial=low) < low, values[known].max(initial=high) > high)
        extend = {(0, 0): "neither", (1, 0): "min", (0, 1): "max", (1, 1): "both"}[beyond]
        self.colorbar_ = ax.figure.colorbar(drawn, ax=ax, extend=extend)
        self.colorbar_.set_label(self.color_label or "")

    def _draw_classes(self, ax: Axes, style: dict[str, Any]) -> None:
        names = pd.Series(self.color, dtype=object).reset_index(drop=True)
        shown = list(names.value_counts().index[: len(COLORS)])
        other = (~names.isin(shown)).to_numpy()
        if other.any():
            self._scatter(ax, other, color=GRAY, alpha=0.5, label="other", **style)
        for name, color, marker in zip(shown, COLORS, MARKERS, strict=False):
            rows = (names == name).to_numpy()
            self._scatter(ax, rows, color=color, marker=marker, label=str(name), **style)
        ax.legend(
            title=self.color_label, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False
        )


def _table(embeddings: ArrayLike) -> NDArray[np.float64]:
    """Check embeddings; those of skipped crystals are NaN throughout, and stay so."""
    table = np.asarray(embeddings, dtype=np.float64)
    placed = table[~np.isnan(table).all(axis=1)] if table.ndim == 2 else table
    if placed.ndim != 2 or min(placed.shape) < 2:
        raise InvalidInputError(
            f"embeddings has shape {placed.shape}, expected (n_structures, n_features) with at "
            "least two of each for a map"
        )
    wrong = ~np.isfinite(table).all(axis=1) & ~np.isnan(table).all(axis=1)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise InvalidInputError(f"embeddings has a NaN or infinite entry in row {row}")
    return table


def _embed(estimator: Any, X: Any) -> NDArray[Any]:  # noqa: ANN401
    """Embeddings of a transformer, or those that the head of a predictor reads."""
    if isinstance(estimator, PropertyEstimator):
        return estimator._embeddings(estimator._graphs_to_use(X))  # noqa: SLF001 - the package's own
    if not hasattr(estimator, "transform"):
        way = "a DSSLPretrainer, DSSLRegressor or DSSLClassifier, or use from_embeddings"
        if path := path_to_network(estimator):
            way = f"the network inside: estimator{path}"
        raise InvalidInputError(
            f"estimator of class {type(estimator).__name__} has no transform; give {way}"
        )
    return np.asarray(estimator.transform(X))


def _umap(table: NDArray[np.float64], random_state: int | None) -> NDArray[np.float32]:
    umap = import_optional("umap", "method='umap'", "umap", "; method='pca' needs nothing more")
    n_neighbors = min(15, len(table) - 1)
    # With a seed UMAP runs in one thread, and would say so in a warning unless asked for it.
    n_jobs = -1 if random_state is None else 1
    # Its spectral start fails on very few points.
    start = "spectral" if len(table) > 10 else "random"
    reducer = umap.UMAP(
        n_neighbors=n_neighbors, random_state=random_state, n_jobs=n_jobs, init=start
    )
    coordinates: NDArray[np.float32] = reducer.fit_transform(table)
    return coordinates
