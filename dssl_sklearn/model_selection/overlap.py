"""Which crystals a network has already seen in pretraining."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dssl_sklearn.crystals.identity import formula_keys, same_crystal
from dssl_sklearn.crystals.inputs import read_crystals
from dssl_sklearn.datasets import load_corpus
from dssl_sklearn.estimators.pretrained import shipped_weights
from dssl_sklearn.estimators.pretrainer import resolve_pretrained
from dssl_sklearn.exceptions import InvalidInputError


def pretraining_overlap(
    structures: Any,  # noqa: ANN401 - any container of crystals
    pretrained: Any = "mp",  # noqa: ANN401 - a name, a path or a pretrainer
    *,
    corpus: Any = None,  # noqa: ANN401 - any container of crystals, or a path
) -> NDArray[np.intp]:
    """Find the structures that stand in a pretraining corpus.

    Crystals are compared by what they are, not by an identifier: two are the same if they have one
    reduced formula and pymatgen's ``StructureMatcher`` [1]_ with its default tolerances maps one on
    the other. The choice of cell, orientation, order of sites, a small relaxation and a change of
    volume do not count; polymorphs are different crystals.

    Parameters
    ----------
    structures : sequence of crystals of shape (n_structures,)
        Those to look for, usually of a test set.
    pretrained : str, path or DSSLPretrainer, default="mp"
        The weights in question. They hold no crystals, so that `corpus` has to be given; without it
        the error says what is known of their corpus.
    corpus : sequence of crystals, Corpus or path, default=None
        What the weights learned from: crystals of any accepted kind, or an npz file that
        `dssl_sklearn.datasets.load_corpus` reads.

    Returns
    -------
    ndarray of int of shape (n_found,)
        Positions in `structures` of those that stand in the corpus, ascending.

    Raises
    ------
    InvalidInputError
        If `corpus` is missing or no collection of crystals.
    InvalidStructureError
        If any crystal cannot be used.
    DatasetError
        If the file of the corpus is missing or damaged.
    WeightsError
        If `pretrained` is unknown.

    References
    ----------
    .. [1] S. P. Ong et al., Comput. Mater. Sci. 68, 314 (2013).

    Examples
    --------
    >>> from dssl_sklearn.datasets import load_elasticity
    >>> from dssl_sklearn.model_selection import pretraining_overlap
    >>> structures = load_elasticity().data[:4]
    >>> corpus = [structures[2] * [2, 1, 1], structures[3]]
    >>> pretraining_overlap(structures, corpus=corpus).tolist()
    [2, 3]
    """
    if corpus is None:
        raise InvalidInputError(_why_corpus(pretrained))
    asked = read_crystals(structures, "structures")
    if isinstance(corpus, str | os.PathLike):
        corpus = load_corpus(corpus)
    known = read_crystals(corpus, "corpus")
    rows_of: defaultdict[bytes, list[int]] = defaultdict(list)
    for row, key in enumerate(formula_keys(known)):
        rows_of[key].append(row)
    found = [
        index
        for index, key in enumerate(formula_keys(asked))
        if any(same_crystal(asked[index], known[row]) for row in rows_of[key])
    ]
    return np.array(found, dtype=np.intp)


def _why_corpus(pretrained: Any) -> str:  # noqa: ANN401
    """Say what `corpus` must be for these weights."""
    if isinstance(pretrained, str) and pretrained in (known := shipped_weights()):
        data = json.loads(Path(known[pretrained]).with_suffix(".json").read_text("utf-8"))["data"]
        facts = "; ".join(f"{name} {value}" for name, value in data.items())
        return (
            f"corpus is missing: the crystals behind pretrained={pretrained!r} are too large to "
            f"ship ({facts}). Give them as corpus=, a list of structures or the path of an npz "
            "file for load_corpus."
        )
    resolve_pretrained(pretrained)
    return (
        "corpus is missing: pretrained weights keep no crystals. Give those they were trained on "
        "as corpus=, a list of structures or the path of an npz file for load_corpus."
    )
