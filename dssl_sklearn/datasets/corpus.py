"""Large unlabeled collections of crystals, held as flat arrays."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dssl_sklearn._atomic import atomic_path
from dssl_sklearn._checks import check_path
from dssl_sklearn.crystals.elements import MAX_ATOMIC_NUMBER
from dssl_sklearn.crystals.graph import Crystal
from dssl_sklearn.crystals.identity import formula_amounts, written_formula
from dssl_sklearn.crystals.ragged import pointer, ranges
from dssl_sklearn.crystals.table import CrystalTable
from dssl_sklearn.datasets._files import explain_failure, read_npz
from dssl_sklearn.exceptions import DatasetError, InvalidInputError

if TYPE_CHECKING:
    from pymatgen.core import Composition

#: Attribute -> array of the file.
_FILE_NAMES = {
    "ids": "material_id",
    "numbers": "atomic_number",
    "frac_coords": "frac_coords",
    "lattices": "lattice",
    "ptr": "ptr",
}
_CURE = (
    "Give the path of a whole npz file with the arrays "
    f"{', '.join(_FILE_NAMES.values())}, as Corpus.save writes it."
)


class Corpus(Sequence[Crystal]):
    """Crystals without labels, as one set of flat arrays.

    An integer index gives one `Crystal`; a slice, an array of integers or a boolean mask gives a
    smaller `Corpus`. The arrays are read-only.

    Parameters
    ----------
    ids : array-like of shape (n_crystals,), str
        One identifier a crystal.
    numbers : array-like of shape (n_sites,), int
        Atomic numbers (1 to 103) of all crystals, one after the other.
    frac_coords : array-like of shape (n_sites, 3), float
        Fractional coordinates.
    lattices : array-like of shape (n_crystals, 3, 3), float
        Lattice vectors as rows, in angstrom.
    ptr : array-like of shape (n_crystals + 1,), int
        Crystal i owns the sites ``ptr[i]:ptr[i + 1]``; no crystal is empty.

    Raises
    ------
    InvalidInputError
        If the arrays do not fit each other.

    Examples
    --------
    >>> from dssl_sklearn.datasets import Corpus
    >>> corpus = Corpus(
    ...     ids=["fcc aluminum", "rock salt"],
    ...     numbers=[13, 11, 17],
    ...     frac_coords=[[0, 0, 0], [0, 0, 0], [0.5, 0.5, 0.5]],
    ...     lattices=[
    ...         [[0, 2.02, 2.02], [2.02, 0, 2.02], [2.02, 2.02, 0]],
    ...         [[0, 2.82, 2.82], [2.82, 0, 2.82], [2.82, 2.82, 0]],
    ...     ],
    ...     ptr=[0, 1, 3],
    ... )
    >>> corpus
    Corpus(n_crystals=2, n_sites=3)
    >>> corpus[corpus.n_sites > 1].ids
    array(['rock salt'], dtype='<U12')
    >>> corpus.without_formulas(["ClNa"]).reduced_formulas()
    array(['Al'], dtype='<U2')
    """

    def __init__(
        self,
        ids: ArrayLike,
        numbers: ArrayLike,
        frac_coords: ArrayLike,
        lattices: ArrayLike,
        ptr: ArrayLike,
    ) -> None:
        self.ids: NDArray[np.str_] = _read_only("ids", ids, "US", np.str_, (None,))
        n_crystals = len(self.ids)
        self.ptr: NDArray[np.int64] = _read_only("ptr", ptr, "iu", np.int64, (n_crystals + 1,))
        if self.ptr[0] != 0 or (np.diff(self.ptr) < 1).any():
            raise InvalidInputError(
                "ptr must begin with 0 and grow by at least one site for each crystal."
            )
        n_sites = int(self.ptr[-1])
        wide = _read_only("numbers", numbers, "iu", np.int64, (n_sites,))
        if n_sites and (wide.min() < 1 or wide.max() > MAX_ATOMIC_NUMBER):
            raise InvalidInputError(
                f"numbers has entries from {wide.min()} to {wide.max()}, expected atomic numbers "
                f"from 1 to {MAX_ATOMIC_NUMBER}."
            )
        self.numbers: NDArray[np.uint8] = _read_only("numbers", wide, "i", np.uint8, (n_sites,))
        self.frac_coords: NDArray[np.float32] = _read_only(
            "frac_coords", frac_coords, "fiu", np.float32, (n_sites, 3)
        )
        self.lattices: NDArray[np.float32] = _read_only(
            "lattices", lattices, "fiu", np.float32, (n_crystals, 3, 3)
        )

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(n_crystals={len(self)}, n_sites={len(self.numbers)})"

    @overload
    def __getitem__(self, index: int) -> Crystal: ...

    @overload
    def __getitem__(self, index: slice | Sequence[int] | NDArray[Any]) -> Corpus: ...

    def __getitem__(self, index: int | slice | Sequence[int] | NDArray[Any]) -> Crystal | Corpus:
        if isinstance(index, int | np.integer):
            return self._crystal(int(index))
        return self._take(np.arange(len(self))[index])

    @property
    def n_sites(self) -> NDArray[np.int64]:
        """Number of sites of each crystal, of shape (n_crystals,)."""
        return np.diff(self.ptr)

    def crystal_table(self, start: int, stop: int) -> CrystalTable:
        """Copy a run of crystals in full precision, without making an object of each.

        Parameters
        ----------
        start, stop : int
            First crystal, and the one after the last, within the collection.

        Returns
        -------
        CrystalTable
            The crystals.
        """
        sites = slice(self.ptr[start], self.ptr[stop])
        return CrystalTable(
            self.numbers[sites].astype(np.int64),
            self.frac_coords[sites].astype(np.float64),
            self.lattices[start:stop].astype(np.float64),
            self.ptr[start : stop + 1] - self.ptr[start],
        )

    def reduced_formulas(self) -> NDArray[np.str_]:
        """Write the reduced formula of each crystal, elements in the order of atomic numbers.

        Returns
        -------
        ndarray of shape (n_crystals,), str
            Such as ``"O3Al2"``: equal for equal compositions. pymatgen and `structure_groups`
            write ``"Al2O3"`` for the same; `without_formulas` takes any spelling.
        """
        base = MAX_ATOMIC_NUMBER + 1
        owner = np.repeat(np.arange(len(self)), self.n_sites)
        pairs, amounts = np.unique(owner * base + self.numbers, return_counts=True)
        owner, elements = np.divmod(pairs, base)
        bounds = np.searchsorted(owner, np.arange(len(self) + 1)).tolist()
        divisors = np.gcd.reduceat(amounts, bounds[:-1]) if len(self) else amounts
        amounts = amounts // divisors[owner]
        parts = list(zip(elements.tolist(), amounts.tolist(), strict=True))
        formulas = [written_formula(parts[start:stop]) for start, stop in pairwise(bounds)]
        return np.array(formulas, dtype=np.str_)

    def without_formulas(self, formulas: Iterable[str | Composition]) -> Corpus:
        """Leave out every crystal with one of these compositions, in any polymorph.

        Parameters
        ----------
        formulas : iterable of str or Composition
            In any spelling and multiple: ``"Al2O3"``, ``"O6 Al4"``.

        Returns
        -------
        Corpus
            The other crystals in their order.

        Raises
        ------
        InvalidInputError
            If a formula cannot be understood.
        """
        unwanted = {written_formula(formula_amounts(formula).items()) for formula in formulas}
        return self._take(np.flatnonzero(~np.isin(self.reduced_formulas(), list(unwanted))))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all arrays to a compressed npz file that `load_corpus` reads.

        Parameters
        ----------
        path : str or path-like
            The file, conventionally ending in ``.npz``; an existing one is replaced.

        Raises
        ------
        InvalidInputError
            If `path` is no path.
        DatasetError
            If the file cannot be written.
        """
        file = check_path("path", path)
        arrays: dict[str, Any] = {name: getattr(self, own) for own, name in _FILE_NAMES.items()}
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(file) as part, part.open("wb") as stream:
                np.savez_compressed(stream, **arrays)
        except OSError as error:
            raise DatasetError(f"cannot write {os.fspath(path)!r}: {error}") from error

    def _crystal(self, index: int) -> Crystal:
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} is out of range for {len(self)} crystals")
        index %= len(self)
        return self.crystal_table(index, index + 1)[0]

    def _take(self, chosen: NDArray[np.int64]) -> Corpus:
        if chosen.ndim != 1:
            raise InvalidInputError(
                f"the index has {chosen.ndim} dimensions; give a slice, or an array of integers or "
                "booleans with one."
            )
        n_sites = self.n_sites[chosen]
        sites = ranges(self.ptr[:-1][chosen], n_sites)
        return Corpus(
            self.ids[chosen],
            self.numbers[sites],
            self.frac_coords[sites],
            self.lattices[chosen],
            pointer(n_sites),
        )


def load_corpus(path: str | os.PathLike[str]) -> Corpus:
    """Read an unlabeled collection of crystals, without making an object of each.

    Parameters
    ----------
    path : str or path-like
        npz file with the arrays ``material_id`` (n_crystals), ``atomic_number`` (n_sites),
        ``frac_coords`` (n_sites, 3), ``lattice`` (n_crystals, 3, 3; rows in angstrom) and ``ptr``
        (n_crystals + 1), as `Corpus.save` writes it.

    Returns
    -------
    Corpus
        Its crystals.

    Raises
    ------
    DatasetError
        If the file is missing, cut short or damaged, lacks an array, or has arrays that do not fit
        each other.
    InvalidInputError
        If `path` is no path.
    """
    file = check_path("path", path).expanduser()
    arrays = read_npz(file, _FILE_NAMES.values(), _CURE)
    with explain_failure(file, _CURE):
        return Corpus(**{own: arrays[name] for own, name in _FILE_NAMES.items()})


def _read_only(
    name: str, values: ArrayLike, kinds: str, dtype: type, shape: tuple[int | None, ...]
) -> NDArray[Any]:
    """Check kind and shape of an array (None: any length), and convert to what is stored."""
    array = np.asarray(values)
    if array.size and array.dtype.kind not in kinds:
        raise InvalidInputError(f"{name} has entries of type {array.dtype}, which is not its kind.")
    fits = array.ndim == len(shape) and all(
        expected in (None, found) for expected, found in zip(shape, array.shape, strict=True)
    )
    if not fits:
        wanted = tuple("any" if length is None else length for length in shape)
        raise InvalidInputError(f"{name} has the shape {array.shape}, expected {wanted}.")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InvalidInputError(f"{name} has NaN or infinite entries.")
    stored: NDArray[Any] = array.astype(dtype, copy=False).view()
    stored.flags.writeable = False
    return stored
