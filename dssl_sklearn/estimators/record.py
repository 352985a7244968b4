"""What an estimator was fitted on, in numbers and a fingerprint; kept with its weights."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dssl_sklearn.crystals.dataset import GraphDataset


def fit_record(
    graphs: GraphDataset,
    y: NDArray[Any] | None = None,
    *,
    n_structures: int,
    skipped: Mapping[int, str],
    starts_from: Mapping[str, Any] | None = None,
    targets: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Describe the data of a fit, as JSON can hold it.

    Parameters
    ----------
    graphs : GraphDataset
        Crystals that were learned from.
    y : ndarray of shape (n_crystals, ...), default=None
        Their targets.
    n_structures : int
        Length of what was handed in.
    skipped : mapping of int to str
        Positions left out of it, with the reasons.
    starts_from : mapping, default=None
        The same record of the pretrained weights.
    targets : sequence of str, default=None
        Names of the targets.

    Returns
    -------
    dict
        With the entries ``n_structures``, ``n_learned_from``, ``n_labels``, ``skipped``,
        ``fingerprint``, ``targets`` and ``starts_from``.
    """
    return {
        "n_structures": n_structures,
        "n_learned_from": len(graphs),
        "n_labels": None if y is None else len(graphs),
        "skipped": [{"index": int(i), "reason": reason} for i, reason in sorted(skipped.items())],
        "fingerprint": data_fingerprint(graphs, y),
        "targets": None if targets is None else list(targets),
        "starts_from": None if starts_from is None else dict(starts_from),
    }


def data_fingerprint(graphs: GraphDataset, y: NDArray[Any] | None = None) -> str:
    """Fingerprint of crystals and targets that does not depend on their order.

    Cells count as they were given, coordinates wrapped into them and in single precision: another
    choice of cell, or another order of the sites, is another fingerprint.

    Parameters
    ----------
    graphs : GraphDataset
        Crystals.
    y : ndarray of shape (n_crystals, ...), default=None
        Targets: numbers or labels.

    Returns
    -------
    str
        Hexadecimal digits.
    """
    digests = _digests(graphs, y)
    return hashlib.blake2b(b"".join(sorted(digests)), digest_size=16).hexdigest()


def numbered(graphs: GraphDataset) -> NDArray[np.int64]:
    """Number crystals so that copies, written in the same way, have the same number.

    Parameters
    ----------
    graphs : GraphDataset
        Crystals.

    Returns
    -------
    ndarray of shape (n_crystals,), int64
        From 0 on.
    """
    numbers, _ = pd.factorize(np.array(_digests(graphs), dtype=object))
    return numbers


def _digests(graphs: GraphDataset, y: NDArray[Any] | None = None) -> list[bytes]:
    """Digest of every crystal, with its targets."""
    # Views: a copy of all coordinates may not fit into memory.
    arrays = (graphs.numbers, graphs.frac_coords, graphs.lattice)
    numbers, coords, lattices = (
        np.ascontiguousarray(array).reshape(-1).view(np.uint8).data for array in arrays
    )
    width = graphs.frac_coords.itemsize * 3
    size = graphs.lattice.itemsize * 9
    digests = []
    for row, (first, last) in enumerate(pairwise(graphs.site_ptr.tolist())):
        digest = hashlib.blake2b(numbers[first:last], digest_size=16)
        digest.update(coords[first * width : last * width])
        digest.update(lattices[row * size : (row + 1) * size])
        if y is not None:
            digest.update(repr(y[row].tolist()).encode())
        digests.append(digest.digest())
    return digests


def target_names(y: Any) -> list[str] | None:  # noqa: ANN401 - whatever fit takes
    """Names of the targets, where `y` is a Series or DataFrame that has some."""
    if hasattr(y, "columns"):
        return [str(name) for name in y.columns]
    name = getattr(y, "name", None)
    return None if name is None else [str(name)]
