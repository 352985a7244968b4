"""How losses, metrics and the rank of the embedding went over the epochs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from dssl_sklearn.estimators.inner import path_to_network
from dssl_sklearn.exceptions import InvalidInputError
from dssl_sklearn.plotting.style import COLORS, axes_for, pyplot

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: What skorch counts beside the losses and metrics.
_NOT_CURVES = ("_best", "_batch_count", "_batch_size")
_PARTS = ("train", "valid")
_PART_STYLE: dict[str, dict[str, Any]] = {
    "train": {"color": COLORS[0], "linestyle": "-", "marker": "o"},
    "valid": {"color": COLORS[1], "linestyle": "--", "marker": "s"},
}
_TITLES = {"loss": "total loss", "effective_rank": "effective rank"}


class TrainingCurvesDisplay:
    """Every loss term and metric over the epochs, training and validation, a panel each.

    Use `from_estimator` or `from_history` to make one.

    Parameters
    ----------
    history : DataFrame of shape (n_epochs, n_columns)
        Column ``epoch``, and ``train_<term>`` and ``valid_<term>`` for every term; the effective
        rank of the embedding where pretraining recorded it.

    Attributes
    ----------
    terms_ : list of str
        Terms that are drawn.
    axes_ : ndarray of matplotlib Axes
        One panel per term, or the one Axes handed in.
    ax_ : matplotlib Axes
        The first of them, the total loss.
    figure_ : matplotlib Figure
        Figure that holds them.

    Examples
    --------
    >>> from dssl_sklearn.plotting import TrainingCurvesDisplay
    >>> epochs = [{"epoch": 1, "train_loss": 2.0}, {"epoch": 2, "train_loss": 1.5}]
    >>> TrainingCurvesDisplay.from_history(epochs).terms_
    ['loss']
    """

    def __init__(self, *, history: pd.DataFrame) -> None:
        self.history = history

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,  # noqa: ANN401 - any estimator with a history
        *,
        ax: Axes | None = None,
        **plot_params: Any,  # noqa: ANN401
    ) -> Self:
        """Draw the training of a pretrainer or predictor.

        Parameters
        ----------
        estimator : DSSLPretrainer, DSSLRegressor or DSSLClassifier
            Fitted with at least one epoch.
        ax : Axes, default=None
            Where to draw the losses; None for a new figure with a panel per term.
        **plot_params
            Arguments of `plot`.

        Returns
        -------
        TrainingCurvesDisplay
            Drawn.

        Raises
        ------
        InvalidInputError
            If there was no epoch, or the network is inside of a pipeline or a search.
        NotFittedError
            If the estimator is not fitted.
        MissingDependencyError
            If matplotlib is not installed.
        """
        check_is_fitted(estimator)
        if not hasattr(estimator, "history_") and (path := path_to_network(estimator)):
            raise InvalidInputError(
                f"estimator is a {type(estimator).__name__}, which has no history of its own; hand "
                f"in the network inside: estimator{path}"
            )
        check_is_fitted(estimator, "history_")
        return cls.from_history(estimator.history_, ax=ax, **plot_params)

    @classmethod
    def from_history(
        cls,
        history: Iterable[Mapping[str, Any]] | pd.DataFrame,
        *,
        ax: Axes | None = None,
        **plot_params: Any,  # noqa: ANN401
    ) -> Self:
        """Draw a history.

        Parameters
        ----------
        history : skorch.History, iterable of mappings, or DataFrame
            One row per epoch.
        ax : Axes, default=None
            Where to draw the losses; None for a new figure with a panel per term.
        **plot_params
            Arguments of `plot`.

        Returns
        -------
        TrainingCurvesDisplay
            Drawn.

        Raises
        ------
        InvalidInputError
            If there is no epoch, or nothing to draw.
        MissingDependencyError
            If matplotlib is not installed.
        """
        if not isinstance(history, pd.DataFrame):
            rows = [{k: v for k, v in row.items() if k != "batches"} for row in history]
            history = pd.DataFrame(rows)
        if not len(history):
            raise InvalidInputError(
                "history has no epoch (max_epochs=0 trains nothing); there are no curves to draw"
            )
        return cls(history=history).plot(ax, **plot_params)

    def plot(
        self, ax: Axes | None = None, *, terms: Iterable[str] | None = None, n_columns: int = 3
    ) -> Self:
        """Draw.

        Parameters
        ----------
        ax : Axes, default=None
            Where to draw all terms together; by default a new figure with a panel per term, since
            their scales differ.
        terms : iterable of str, default=None
            Which terms, by their names without ``train_`` or ``valid_``, such as "mask_loss" or
            "effective_rank". None for all; in one Axes, the losses.
        n_columns : int, default=3
            Panels in a row.

        Returns
        -------
        TrainingCurvesDisplay
            Itself.

        Raises
        ------
        InvalidInputError
            If a term is not in the history.
        MissingDependencyError
            If matplotlib is not installed.
        """
        self.terms_ = self._terms(terms, losses_only=ax is not None)
        if ax is None:
            panels = self._panels(n_columns)
            for panel, term in zip(panels, self.terms_, strict=True):
                self._draw(panel, term)
                panel.set_title(_title(term), fontsize="medium")
            _share_legend(panels)
        else:
            panels = [axes_for(ax, type(self).__name__, (0, 0))]
            for number, term in enumerate(self.terms_):
                color = COLORS[number % len(COLORS)]
                self._draw(ax, term, color=color, name=f"{_title(term)}, ")
            ax.set_ylabel("loss")
            ax.legend(frameon=False, fontsize="small")
        self.axes_ = np.array(panels, dtype=object)
        self.ax_: Axes = panels[0]
        self.figure_: Figure = self.ax_.get_figure(root=True)  # type: ignore[assignment]
        return self

    def _terms(self, wanted: Iterable[str] | None, *, losses_only: bool) -> list[str]:
        """Terms in the order of the panels: the total, its terms, metrics, the rank."""
        columns = [str(c) for c in self.history if not str(c).endswith(_NOT_CURVES)]
        split = [c.partition("_") for c in columns]
        found = dict.fromkeys(term for part, _, term in split if part in _PARTS)
        ordered = sorted(found, key=lambda term: (term != "loss", not term.endswith("loss"), term))
        if "effective_rank" in columns:
            ordered.append("effective_rank")
        if wanted is not None:
            chosen = [wanted] if isinstance(wanted, str) else list(wanted)
            unknown = [term for term in chosen if term not in ordered]
            if unknown:
                raise InvalidInputError(
                    f"terms has {unknown[0]!r}, which the history lacks; it has {ordered}"
                )
            return chosen
        if losses_only:
            ordered = [term for term in ordered if term.endswith("loss")]
        if not ordered:
            raise InvalidInputError(
                "history has no column of the form train_<term> or valid_<term>, "
                f"only {columns}; nothing can be drawn"
            )
        return ordered

    def _panels(self, n_columns: int) -> list[Axes]:
        n_terms = len(self.terms_)
        n_columns = max(1, min(n_columns, n_terms))
        n_rows = -(-n_terms // n_columns)
        size = (3.1 * n_columns + 0.4, 2.4 * n_rows + 0.5)
        _, grid = pyplot(type(self).__name__).subplots(
            n_rows, n_columns, figsize=size, layout="constrained", squeeze=False, sharex=True
        )
        flat: list[Axes] = list(grid.flat)
        for row, unused in enumerate(flat[n_terms:], start=n_terms):
            unused.remove()
            # The panel above has nothing below it now, and shows the epochs itself.
            flat[row - n_columns].tick_params(labelbottom=True)
        for panel in flat[max(0, n_terms - n_columns) : n_terms]:
            panel.set_xlabel("epoch")
        return flat[:n_terms]

    def _draw(self, ax: Axes, term: str, *, color: str | None = None, name: str = "") -> None:
        from matplotlib.ticker import MaxNLocator

        epochs = self.history["epoch"] if "epoch" in self.history else self.history.index + 1
        columns = {part: f"{part}_{term}" for part in _PARTS}
        if term in self.history:
            columns = {"valid" if "valid_loss" in self.history else "train": term}
        for part, column in columns.items():
            if column not in self.history:
                continue
            style = _PART_STYLE[part] | ({} if color is None else {"color": color})
            # Markers where lines alone would not show: few epochs.
            style = style if len(epochs) <= 25 else style | {"marker": None}
            label = f"{name}{'training' if part == 'train' else 'validation'}"
            ax.plot(epochs, self.history[column], label=label, markersize=3.5, **style)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        if ax.get_subplotspec() is None or color is not None:
            ax.set_xlabel("epoch")
        ax.grid(visible=True, color="0.9", linewidth=0.6)
        ax.spines[["top", "right"]].set_visible(False)


def _title(term: str) -> str:
    return _TITLES.get(term, term.replace("_", " "))


def _share_legend(panels: list[Axes]) -> None:
    """One legend over all panels, with each entry once."""
    entries = {
        label: handle
        for panel in panels
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure = panels[0].get_figure(root=True)
    figure.legend(  # type: ignore[union-attr]
        entries.values(), entries, loc="outside upper right", ncols=2, frameon=False
    )
