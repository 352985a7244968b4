"""Where in a crystal a prediction comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dssl_sklearn._checks import check_choice
from dssl_sklearn.crystals.elements import ELEMENT_SYMBOLS, element_property
from dssl_sklearn.crystals.graph import Crystal
from dssl_sklearn.crystals.inputs import read_crystals
from dssl_sklearn.exceptions import InvalidInputError
from dssl_sklearn.plotting._checks import numbers
from dssl_sklearn.plotting._projection import atoms_in_cell, draw_atoms, draw_edges, view_axes
from dssl_sklearn.plotting.style import DIVERGING, axes_for, ink_on, pyplot, with_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Method = Literal["auto", "linear", "integrated_gradients"]

#: Drawn radius in atomic radii: small enough to see the atoms behind.
_SHRINK = 0.42


class SiteContributionsDisplay:
    """Contributions of the sites to one prediction, drawn on the crystal.

    The cell is seen in parallel projection; atoms on its faces are drawn on all sides. Spheres are
    sized by the atomic radius of the element and colored by the contribution of their site.

    Use `from_estimator` or `from_contributions` to make one.

    Parameters
    ----------
    crystal : Crystal
        Crystal to draw.
    contributions : ndarray of shape (n_sites,)
        Contributions in the unit of the target.
    baseline, prediction : float, default=None
        What the contributions start from, and what they lead to, for the title.
    target_name : str, default="target"
        Name for the labels.
    unit : str, default=None
        Unit for the labels.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The crystal; both axes are in angstrom.
    colorbar_ : matplotlib Colorbar
        Scale of the contributions, symmetric around zero.
    figure_ : matplotlib Figure
        Figure that holds them.

    Examples
    --------
    >>> from pymatgen.core import Lattice, Structure
    >>> from dssl_sklearn.plotting import SiteContributionsDisplay
    >>> salt = Structure(Lattice.cubic(2.9), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    >>> display = SiteContributionsDisplay.from_contributions(salt, [0.1, -0.2], unit="eV")
    >>> display.colorbar_.ax.get_ylabel()
    'contribution to target (eV)'
    """

    def __init__(
        self,
        *,
        crystal: Crystal,
        contributions: NDArray[np.float64],
        baseline: float | None = None,
        prediction: float | None = None,
        target_name: str = "target",
        unit: str | None = None,
    ) -> None:
        self.crystal = crystal
        self.contributions = contributions
        self.baseline = baseline
        self.prediction = prediction
        self.target_name = target_name
        self.unit = unit

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,  # noqa: ANN401 - checked where it is explained
        structure: Any,  # noqa: ANN401 - one crystal of any kind
        *,
        target: int = 0,
        method: Method = "auto",
        target_name: str = "target",
        unit: str | None = None,
        ax: Axes | None = None,
        **plot_params: Any,  # noqa: ANN401
    ) -> Self:
        """Explain the prediction for one crystal and draw it.

        Parameters
        ----------
        estimator : DSSLRegressor or DSSLClassifier
            Fitted.
        structure : crystal
            One structure, ASE Atoms, structure dict, or path.
        target : int, default=0
            Column of the targets, or index of the class.
        method : {"auto", "linear", "integrated_gradients"}, default="auto"
            `site_contributions`, which a linear head allows, or `integrated_gradients`; "auto"
            takes the first where it can.
        target_name, unit : str
            For the labels.
        ax : Axes, default=None
            Where to draw; None for a new figure.
        **plot_params
            Arguments of `plot`.

        Returns
        -------
        SiteContributionsDisplay
            Drawn.

        Raises
        ------
        InvalidInputError, InvalidStructureError
            If the estimator cannot be explained so, or the crystal cannot be used.
        NotFittedError
            If the estimator is not fitted.
        MissingDependencyError
            If matplotlib, or captum for integrated gradients, is not installed.
        """
        from dssl_sklearn.explain import integrated_gradients, site_contributions
        from dssl_sklearn.explain.contributions import is_additive

        check_choice("method", method, ("auto", "linear", "integrated_gradients"))
        if method == "auto":
            method = "linear" if is_additive(estimator) else "integrated_gradients"
        explain = site_contributions if method == "linear" else integrated_gradients
        split = explain(estimator, [structure], target)
        return cls.from_contributions(
            structure,
            split[0],
            baseline=float(split.baselines[0]),
            prediction=float(split.predictions[0]),
            target_name=target_name,
            unit=unit,
            ax=ax,
            **plot_params,
        )

    @classmethod
    def from_contributions(
        cls,
        structure: Any,  # noqa: ANN401 - one crystal of any kind
        contributions: ArrayLike,
        *,
        baseline: float | None = None,
        prediction: float | None = None,
        target_name: str = "target",
        unit: str | None = None,
        ax: Axes | None = None,
        **plot_params: Any,  # noqa: ANN401
    ) -> Self:
        """Draw given contributions, or any other number per site.

        Parameters
        ----------
        structure : crystal
            One structure, ASE Atoms, structure dict, or path.
        contributions : array-like of shape (n_sites,)
            Numbers in the order of the sites.
        baseline, prediction : float, default=None
            For the title.
        target_name, unit : str
            For the labels.
        ax : Axes, default=None
            Where to draw; None for a new figure.
        **plot_params
            Arguments of `plot`.

        Returns
        -------
        SiteContributionsDisplay
            Drawn.

        Raises
        ------
        InvalidInputError, InvalidStructureError
            If the numbers do not fit the crystal, or it cannot be used.
        MissingDependencyError
            If matplotlib is not installed.
        """
        crystal = read_crystals([structure])[0]
        values = numbers("contributions", contributions, len(crystal))
        if not np.isfinite(values).all():
            site = int(np.argmax(~np.isfinite(values)))
            raise InvalidInputError(f"contributions is {values[site]} at site {site}")
        display = cls(
            crystal=crystal,
            contributions=values,
            baseline=baseline,
            prediction=prediction,
            target_name=target_name,
            unit=unit,
        )
        return display.plot(ax, **plot_params)

    def plot(
        self,
        ax: Axes | None = None,
        *,
        elev: float = 12.0,
        azim: float = 25.0,
        cmap: str = DIVERGING,
    ) -> Self:
        """Draw.

        Parameters
        ----------
        ax : Axes, default=None
            Where to draw; None for a new figure.
        elev, azim : float, default=12 and 25
            Where the viewer stands: degrees above the xy plane, and around z from x.
        cmap : str, default="PuOr_r"
            Diverging colors of the contributions.

        Returns
        -------
        SiteContributionsDisplay
            Itself.

        Raises
        ------
        MissingDependencyError
            If matplotlib is not installed.
        """
        ax = axes_for(ax, type(self).__name__, (5.8, 4.8))
        plt = pyplot(type(self).__name__)
        # All zero has no scale of its own.
        reach = float(np.abs(self.contributions).max()) or 1.0
        mappable = plt.cm.ScalarMappable(plt.Normalize(-reach, reach), cmap)
        view = view_axes(elev, azim)
        sites, places = atoms_in_cell(self.crystal)
        colors = list(mappable.to_rgba(self.contributions[sites]))
        of_atoms = self.crystal.numbers[sites]
        texts = [
            (ELEMENT_SYMBOLS[number], ink_on(color))
            for number, color in zip(of_atoms, colors, strict=True)
        ]
        radii = _SHRINK * element_property("atomic_radius")[of_atoms]
        draw_edges(ax, self.crystal.lattice, view)
        draw_atoms(ax, places @ view.T, radii, colors, texts)
        ax.set_aspect("equal")
        ax.autoscale_view()
        ax.margins(0.03)
        ax.axis("off")
        self.colorbar_ = ax.figure.colorbar(mappable, ax=ax, shrink=0.8)
        self.colorbar_.set_label(with_unit(f"contribution to {self.target_name}", self.unit))
        ax.set_title(self._title(), fontsize="medium")
        self.ax_ = ax
        self.figure_: Figure = ax.get_figure(root=True)  # type: ignore[assignment]
        return self

    def _title(self) -> str:
        symbols = [ELEMENT_SYMBOLS[number] for number in self.crystal.numbers]
        formula = "".join(
            symbol + (f"$_{{{symbols.count(symbol)}}}$" if symbols.count(symbol) > 1 else "")
            for symbol in dict.fromkeys(symbols)
        )
        if self.baseline is None or self.prediction is None:
            return formula
        sites = self.prediction - self.baseline
        sign = "+" if sites >= 0 else "\N{MINUS SIGN}"
        unit = f" {self.unit}" if self.unit else ""
        return (
            f"{formula}: {self.target_name} {self.prediction:.3f} = "
            f"{self.baseline:.3f} (baseline) {sign} {abs(sites):.3f} (sites){unit}"
        )
