"""No crystal of a test part may have been seen in pretraining."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from shipped import SETS

from dssl_sklearn.crystals.identity import formula_amounts, written_formula
from dssl_sklearn.datasets import Corpus

if TYPE_CHECKING:
    from pymatgen.core import Structure


def without_test_crystals(corpus: Corpus, test: Sequence[Structure]) -> Corpus:
    """Remove all crystals of a formula of the test part from a pretraining corpus."""
    return corpus.without_formulas({structure.composition for structure in test})


def reduced_formulas(structures: Sequence[Structure]) -> list[str]:
    """Reduced formulas in the spelling of `Corpus.reduced_formulas`."""
    return [written_formula(formula_amounts(s.composition).items()) for s in structures]


@cache
def shipped_formulas() -> frozenset[str]:
    """Reduced formulas of the labeled sets inside the package, which its weights leave out."""
    return frozenset(f for load in SETS.values() for f in reduced_formulas(load().data))


def check_weights(card: Path, corpus: Corpus, test_formulas: Iterable[str]) -> dict[str, Any]:
    """Compare the card of shipped weights with the corpus they were made from.

    Parameters
    ----------
    card : Path
        JSON file beside the weights, with ``data.formulas``, or else ``n_crystals`` and
        ``max_sites`` in ``data.drawn_from`` (all that could have been taken) or ``data``.
    corpus : Corpus
        The whole file that the weights were pretrained on.
    test_formulas : iterable of str
        Reduced formulas of the test part, spelled as `reduced_formulas` does.

    Returns
    -------
    dict
        ``test_formulas`` and how many of them are ``in_corpus_file`` and ``in_pretraining``: among
        the formulas on the card or, where it lists none, in what is left of the corpus without
        those of the shipped sets and cells above the size on the card. ``count_agrees`` says
        whether the latter are exactly as many crystals as on the card, None where it is not known.
    """
    data = json.loads(card.read_text(encoding="utf-8")).get("data", {})
    of_corpus = corpus.reduced_formulas()
    test = set(test_formulas)
    count_agrees = None
    if "formulas" in data:
        pretrained = set(data["formulas"])
    else:
        data = data.get("drawn_from", data)
        kept = ~np.isin(of_corpus, list(shipped_formulas()))
        kept &= corpus.n_sites <= data.get("max_sites", np.inf)
        pretrained = set(of_corpus[kept].tolist())
        if "n_crystals" in data:
            count_agrees = bool(kept.sum() == data["n_crystals"])
    return {
        "test_formulas": len(test),
        "in_corpus_file": len(test & set(of_corpus.tolist())),
        "in_pretraining": len(test & pretrained),
        "count_agrees": count_agrees,
    }
