import pickle
from collections.abc import Sequence

import numpy as np
import pytest
from pymatgen.core import Composition

from dssl_sklearn.crystals.graph import Crystal
from dssl_sklearn.datasets import Corpus, load_corpus
from dssl_sklearn.exceptions import DatasetError, InvalidInputError

# Al, NaCl, Al4O6, O2, HDO, Na2Cl2: sites per crystal and their elements.
ELEMENTS = [[13], [11, 17], [13] * 4 + [8] * 6, [8, 8], [1, 8, 1], [11, 17, 11, 17]]
FILE_ARRAYS = ("material_id", "atomic_number", "frac_coords", "lattice", "ptr")


def _arrays():
    rng = np.random.default_rng(0)
    sizes = [len(numbers) for numbers in ELEMENTS]
    return {
        "ids": np.array([f"mp-{i}" for i in range(len(sizes))]),
        "numbers": np.concatenate(ELEMENTS),
        "frac_coords": rng.random((sum(sizes), 3)),
        "lattices": rng.normal(size=(len(sizes), 3, 3)),
        "ptr": np.concatenate([[0], np.cumsum(sizes)]),
    }


@pytest.fixture
def corpus():
    return Corpus(**_arrays())


def _assert_same(found, expected):
    for name in ("ids", "numbers", "frac_coords", "lattices", "ptr"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_is_a_sequence_of_crystals(corpus):
    assert isinstance(corpus, Sequence)
    assert len(corpus) == 6
    crystals = list(corpus)
    assert all(isinstance(crystal, Crystal) for crystal in crystals)
    assert [crystal.numbers.tolist() for crystal in crystals] == ELEMENTS
    for index, crystal in enumerate(crystals):
        sites = slice(corpus.ptr[index], corpus.ptr[index + 1])
        np.testing.assert_array_equal(crystal.frac_coords, corpus.frac_coords[sites])
        np.testing.assert_array_equal(crystal.lattice, corpus.lattices[index])
        assert crystal.numbers.dtype == np.int64
        assert crystal.frac_coords.dtype == crystal.lattice.dtype == np.float64
    assert repr(corpus) == "Corpus(n_crystals=6, n_sites=22)"


def test_integer_index(corpus):
    assert corpus[-1].numbers.tolist() == corpus[np.int64(5)].numbers.tolist() == ELEMENTS[5]
    for index in (6, -7):
        with pytest.raises(IndexError, match="out of range"):
            corpus[index]


@pytest.mark.parametrize(
    "index, expected",
    [
        (slice(1, 4), [1, 2, 3]),
        (slice(None, None, -2), [5, 3, 1]),
        (np.array([4, 0, 0]), [4, 0, 0]),
        ([2, -1], [2, 5]),
        (np.array([True, False, False, True, False, True]), [0, 3, 5]),
        ([], []),
        (slice(3, 3), []),
    ],
)
def test_index_of_many(corpus, index, expected):
    chosen = corpus[index]
    assert isinstance(chosen, Corpus)
    assert chosen.ids.tolist() == [f"mp-{i}" for i in expected]
    assert chosen.n_sites.tolist() == [len(ELEMENTS[i]) for i in expected]
    for found, i in zip(chosen, expected, strict=True):
        np.testing.assert_array_equal(found.numbers, corpus[i].numbers)
        np.testing.assert_array_equal(found.frac_coords, corpus[i].frac_coords)
        np.testing.assert_array_equal(found.lattice, corpus[i].lattice)


def test_index_of_the_wrong_length_or_form(corpus):
    with pytest.raises(IndexError):
        corpus[np.array([True, False])]
    with pytest.raises(IndexError):
        corpus[[0, 6]]
    with pytest.raises(InvalidInputError, match="2 dimensions"):
        corpus[np.zeros((2, 2), dtype=int)]


def test_arrays_are_read_only(corpus):
    with pytest.raises(ValueError, match="read-only"):
        corpus.numbers[0] = 1
    corpus[0].frac_coords[:] = 0
    assert (corpus[0].frac_coords != 0).all()


def test_reduced_formulas(corpus):
    assert corpus.reduced_formulas().tolist() == ["Al", "NaCl", "O3Al2", "O", "H2O", "NaCl"]
    assert corpus[:0].reduced_formulas().tolist() == []


@pytest.mark.parametrize(
    "formulas, left",
    [
        (["ClNa"], [0, 2, 3, 4]),
        (["Al2O3", "Al12 O18"], [0, 1, 3, 4, 5]),
        ([Composition("H2O"), "O3"], [0, 1, 2, 5]),
        (["D2O"], [0, 1, 2, 3, 5]),
        (["Al0.4O0.6"], [0, 1, 3, 4, 5]),
        (["Fe2O3", "He"], [0, 1, 2, 3, 4, 5]),
        ([], [0, 1, 2, 3, 4, 5]),
    ],
)
def test_without_formulas(corpus, formulas, left):
    assert corpus.without_formulas(formulas).ids.tolist() == [f"mp-{i}" for i in left]


@pytest.mark.parametrize("formula", ["", "nonsense", "Xx2", "Al0.0001", 7])
def test_without_what_is_no_formula(corpus, formula):
    with pytest.raises(InvalidInputError, match="not a chemical formula"):
        corpus.without_formulas([formula])


def test_save_and_load(corpus, tmp_path):
    path = tmp_path / "made" / "corpus.npz"
    corpus.save(path)
    _assert_same(load_corpus(path), corpus)
    _assert_same(load_corpus(str(path))[::2], corpus[::2])
    corpus[:1].save(path)
    assert len(load_corpus(path)) == 1
    assert [p.name for p in path.parent.iterdir()] == ["corpus.npz"]


def test_pickle(corpus):
    _assert_same(pickle.loads(pickle.dumps(corpus)), corpus)


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("ptr", [0, 1, 3, 13, 15, 18, 23], "numbers has the shape"),
        ("ptr", [1, 2, 3, 13, 15, 18, 22], "begin with 0"),
        ("ptr", [0, 3, 1, 13, 15, 18, 22], "grow"),
        ("ptr", [0, 1, 1, 13, 15, 18, 22], "at least one site"),
        ("ptr", [0, 1, 22], "ptr has the shape"),
        ("ptr", np.arange(7.0), "ptr has entries of type float64"),
        ("numbers", np.zeros(22, int), "from 0 to 0, expected"),
        ("numbers", np.full(22, 104), "from 104 to 104"),
        ("numbers", np.full(22, 13 + 256), "from 269"),
        ("numbers", np.full(22, "Al"), "numbers has entries of type <U2"),
        ("frac_coords", np.zeros((21, 3)), r"shape \(21, 3\), expected \(22, 3\)"),
        ("frac_coords", np.full((22, 3), np.nan), "NaN"),
        ("lattices", np.zeros((6, 9)), "lattices has the shape"),
        ("lattices", np.full((6, 3, 3), np.inf), "infinite"),
        ("ids", [["a"]], "ids has the shape"),
    ],
)
def test_arrays_that_do_not_fit(name, value, message):
    with pytest.raises(InvalidInputError, match=message):
        Corpus(**{**_arrays(), name: value})


def test_file_that_does_not_fit(corpus, tmp_path):
    path = tmp_path / "corpus.npz"
    corpus.save(path)
    with np.load(path) as archive:
        arrays = dict(archive)
    np.savez(path, **{**arrays, "ptr": arrays["ptr"][:-1]})
    with pytest.raises(DatasetError, match=r"corpus\.npz.*ptr has the shape.*Give the path"):
        load_corpus(path)
    np.savez(path, **{name: arrays[name] for name in FILE_ARRAYS if name != "lattice"})
    with pytest.raises(DatasetError, match=r"corpus\.npz lacks the arrays \['lattice'\]"):
        load_corpus(path)


def test_missing_file(tmp_path):
    with pytest.raises(DatasetError, match=r"nowhere\.npz does not exist.*Give the path"):
        load_corpus(tmp_path / "nowhere.npz")
    with pytest.raises(DatasetError, match="cannot be read"):
        load_corpus(tmp_path)


def test_single_array_file(tmp_path):
    path = tmp_path / "corpus.npz"
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(DatasetError, match="not an npz file"):
        load_corpus(path)


def test_damaged_file(corpus, tmp_path, damaged_copies):
    path = tmp_path / "corpus.npz"
    corpus.save(path)
    refusals = []
    for copy in damaged_copies(path.read_bytes()):
        path.write_bytes(copy)
        try:
            _assert_same(load_corpus(path), corpus)  # some bits, such as time stamps, do no harm
        except DatasetError as error:
            refusals.append(str(error))
    assert len(refusals) > 35
    assert all(str(path) in refusal and "Give the path" in refusal for refusal in refusals)


def test_the_real_corpus(shared_file):
    corpus = load_corpus(shared_file("mp_unlabeled.npz"))
    assert len(corpus) == 119_337
    assert len(corpus.numbers) == 3_256_938
    assert corpus.n_sites.max() <= 100
    assert corpus.ids[0] == "mp-4"
    assert len(np.unique(corpus.numbers)) == 89
    sample = corpus[::5000]
    for formula, crystal in zip(sample.reduced_formulas(), sample, strict=True):
        expected = crystal.to_structure().composition.reduced_composition
        # pymatgen writes elements that form molecules with two atoms.
        assert Composition(formula).reduced_composition == expected
