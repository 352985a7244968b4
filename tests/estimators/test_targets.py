import numpy as np
import pandas as pd
import pytest
import torch

from dssl_sklearn.estimators.targets import (
    check_length,
    check_sample_weight,
    class_targets,
    known_targets,
    mean_and_scale,
    regression_targets,
    warn_of_order,
    weighted_quantile,
)
from dssl_sklearn.exceptions import InvalidInputError

NAN = float("nan")

# ---- length ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "y, message",
    [
        (None, "y is None"),
        (3.0, "type float without a length"),
        (np.array(3.0), "type ndarray without a length"),
        (iter([1, 2]), "without a length"),
        ([1, 2, 3], "inconsistent lengths: 2 structures, 3 entries"),
        ([], "inconsistent lengths: 2 structures, 0 entries"),
        ("ab", "y is a str, expected"),
        ({1.0, 2.0}, "y is a set"),
        ({0: 1.0, 1: 2.0}, "y is a dict"),
    ],
)
def test_wrong_lengths(y, message):
    with pytest.raises(InvalidInputError, match=message):
        check_length(y, 2)


@pytest.mark.parametrize("y", [[1, 2], (1, NAN), np.zeros((2, 3)), pd.Series([1, 2])])
def test_right_lengths(y):
    check_length(y, 2)


# ---- regression -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "y",
    [
        [1, 2.5, None],
        (1, 2.5, NAN),
        np.array([1, 2.5, NAN], dtype=np.float32),
        np.array([1, 2.5, None], dtype=object),
        pd.Series([1, 2.5, None], index=[5, 5, 1]),
        pd.Series([1, 2.5, pd.NA], dtype="Float64"),
        pd.array([1, 2.5, pd.NA], dtype="Float64"),
        pd.Series([1, 2.5, pd.NA], dtype=object),
        torch.tensor([1, 2.5, NAN]),
    ],
    ids=lambda y: type(y).__name__,
)
def test_one_target_of_any_kind(y):
    values = regression_targets(y)
    assert values.dtype == np.float64
    np.testing.assert_array_equal(values, [1, 2.5, NAN])


@pytest.mark.parametrize(
    "y",
    [
        [[1, None], [2, 3]],
        [(1, NAN), (2, 3)],
        np.array([[1, NAN], [2, 3]]),
        pd.DataFrame({"a": [1, 2], "b": [None, 3]}),
        pd.DataFrame({"a": pd.array([1, 2], dtype="Int64"), "b": [NAN, 3.0]}),
    ],
    ids=lambda y: type(y).__name__,
)
def test_several_targets(y):
    values = regression_targets(y)
    assert values.dtype == np.float64
    np.testing.assert_array_equal(values, [[1, NAN], [2, 3]])


def test_the_shape_of_y_is_kept():
    assert regression_targets(np.zeros(3)).shape == (3,)
    assert regression_targets(np.zeros((3, 1))).shape == (3, 1)
    assert regression_targets(pd.DataFrame({"y": [1, 2, 3]})).shape == (3, 1)
    assert regression_targets([True, False]).tolist() == [1.0, 0.0]


def test_targets_are_a_copy():
    y = np.array([1.0, 2.0])
    values = regression_targets(y)
    values[0] = 7
    assert y[0] == 1


@pytest.mark.parametrize(
    "y, message",
    [
        (["hard", "soft"], "y must hold numbers.*DSSLClassifier"),
        ([1, "soft", 2], r"y must hold numbers.*, but has 'soft' at position 1 .could not"),
        ([[1, 2], [3, "x"]], r", but has 'x' at position 1 "),
        ([1, None, "n/a", object()], "'n/a' at position 2"),
        ([1 + 2j, 3], "y must hold numbers.*complex"),
        (np.array(["2020-01-01"], dtype="datetime64[ns]"), "y must hold numbers.*datetime"),
        ([[1, 2], [3]], "y must hold numbers"),
        (np.zeros((2, 2, 2)), "y must hold numbers.*2-d"),
        (np.zeros((8, 0)), r"y has shape \(8, 0\), expected at least one target"),
        ([1, np.inf, -np.inf], "y is infinite at position 1"),
        ([[1, 2], [3, np.inf]], "y is infinite at position 1"),
        ([1, 10**400], "y must hold numbers.*too large"),
        ([1, -1e300, 2], "y is 1e[+]300 in size at position 1, of more than 1e[+]38"),
        ([NAN, None], "y has no known entry; at least one labeled"),
        ([[1, NAN], [2, NAN]], "y has no known entry in column 1"),
    ],
)
def test_bad_targets(y, message):
    with pytest.raises(InvalidInputError, match=message):
        regression_targets(y)


@pytest.mark.parametrize("y", [[1, 2], [[1], [2]], pd.DataFrame({"y": [1, 2]})])
def test_known_targets_are_one_column(y):
    assert known_targets(y, "a test").tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    "y, message",
    [
        (np.zeros((2, 2)), r"y has shape \(2, 2\), expected one target per structure"),
        ([1, NAN, None], "missing .* for 2 of 3 .* position 1; a test needs the true values"),
        (["hard", "soft"], "for classes use another one"),
    ],
)
def test_targets_that_are_not_all_known(y, message):
    with pytest.raises(InvalidInputError, match=message):
        known_targets(y, "a test", "another one")


# ---- classes --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "y, classes",
    [
        (["b", "a", None, "b"], ["a", "b"]),
        (np.array(["b", "a", None, "b"], dtype=object), ["a", "b"]),
        (pd.Series(["b", "a", None, "b"]), ["a", "b"]),
        (pd.Series(["b", "a", None, "b"], dtype="category"), ["a", "b"]),
        ([1, 0, None, 1], [0, 1]),
        ([1.0, 0.0, NAN, 1.0], [0, 1]),
        (pd.array([7, 3, pd.NA, 7], dtype="Int64"), [3, 7]),
        ([True, False, None, True], [False, True]),
        ([["b"], ["a"], [None], ["b"]], ["a", "b"]),
        (np.ma.masked_array(["b", "a", "c", "b"], mask=[0, 0, 1, 0]), ["a", "b"]),
        (np.ma.masked_array([[2], [1], [3], [2]], mask=[[0], [0], [1], [0]]), [1, 2]),
        (pd.DataFrame({"y": ["b", "a", None, "b"]}), ["a", "b"]),
    ],
)
def test_classes_of_any_kind(y, classes):
    found, index = class_targets(y)
    assert found.tolist() == classes
    assert index.tolist() == [1, 0, -1, 1]
    assert index.dtype == np.int64


def test_the_classes_keep_their_type():
    assert class_targets([3, 1, 2])[0].dtype == np.int64
    assert class_targets([True, False])[0].dtype == bool
    assert class_targets(["a", "b"])[0].dtype.kind == "U"
    assert class_targets(["z", "x", "y"])[1].tolist() == [2, 0, 1]


@pytest.mark.parametrize(
    "y, message",
    [
        (["a", "a"], r"1 class\(es\) \['a'\]; a classifier needs at least two"),
        ([NAN, NAN, 1], r"1 class\(es\) \[1\]"),
        ([None, NAN], r"0 class\(es\)"),
        ([[0, 1], [1, 0]], r"shape \(2, 2\), expected one class"),
        (np.zeros((2, 1, 1)), r"shape \(2, 1, 1\), expected one class"),
        ([1, None, "a", "b"], "strings and numbers, such as 'a' at position 2 and 1 at position 0"),
        ([b"a", b"b"], r"y holds bytes; .*decode"),
    ],
)
def test_bad_classes(y, message):
    with pytest.raises(InvalidInputError, match=message):
        class_targets(y)


def test_continuous_numbers_are_no_classes():
    with pytest.raises(InvalidInputError, match=r"y does not hold classes: .*continuous"):
        class_targets([0.1, 0.2, 0.3])


# ---- weights --------------------------------------------------------------------------------


def test_no_weights_are_equal_weights():
    assert check_sample_weight(None, 3).tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("weight", [[1, 0, 2], np.array([1, 0, 2]), pd.Series([1, 0, 2])])
def test_weights_of_any_kind(weight):
    found = check_sample_weight(weight, 3)
    assert found.dtype == np.float64
    assert found.tolist() == [0.5, 0.0, 1.0]
    found[0] = 9
    assert weight[0] == 1


def test_weights_that_single_precision_does_not_have():
    boltzmann = np.exp([0.0, -1.0, -200.0])
    assert check_sample_weight(boltzmann, 3).tolist() == [1.0, boltzmann[1], 0.0]
    assert check_sample_weight([1e300, 1e300, 5e299], 3).tolist() == [1.0, 1.0, 0.5]


def test_mean_and_deviation_survive_what_is_far_out():
    y = np.random.default_rng(0).normal(size=(100, 1))
    wrong = y.copy()
    wrong[7] = -999
    (mean,), (scale,) = mean_and_scale(wrong, np.ones(100))
    assert abs(mean - y.mean()) < 0.2
    assert scale < 1.5 * y.std()


@pytest.mark.parametrize("level", [0.0, 0.3, 0.5, 0.9, 1.0])
def test_weighted_quantiles(level):
    values = np.random.default_rng(0).normal(size=12)
    found = weighted_quantile(values, np.full(12, 0.3), level)
    assert found == pytest.approx(np.quantile(values, level))
    assert weighted_quantile(values[:1], np.ones(1), level) == values[0]
    # What weighs nothing is as if it were not there.
    weight = np.append(np.ones(12), 1e-12)
    assert weighted_quantile(np.append(values, 99), weight, 0.9 * level) == pytest.approx(
        np.quantile(values, 0.9 * level), abs=1e-6
    )


def test_light_labels_make_no_outliers_of_heavy_ones():
    y = np.concatenate([102 + np.linspace(-1, 1, 5), np.linspace(1, 3, 55)])[:, None]
    (mean,), (scale,) = mean_and_scale(y, np.where(np.arange(60) < 5, 1.0, 1e-6))
    assert mean == pytest.approx(102, abs=0.1)
    assert scale < 1.5


@pytest.mark.parametrize("rounding", [0.0, 1e-16, 1e-4])
@pytest.mark.parametrize("wrong", [0, 1])
def test_mean_and_deviation_where_most_are_equal_or_nearly(rounding, wrong):
    gaps = rounding * np.random.default_rng(0).normal(size=(100, 1))
    gaps[60:, 0] = np.linspace(0.1, 9, 40)
    given = gaps.copy()
    given[:wrong] = -999
    (mean,), (scale,) = mean_and_scale(given, np.ones(100))
    np.testing.assert_allclose([mean, scale], [gaps.mean(), gaps.std()], rtol=0.15)


@pytest.mark.parametrize(
    "weight, message",
    [
        ([1, 2], "X and sample_weight have inconsistent lengths: 3 structures, 2 entries"),
        (2.0, "sample_weight is of type float"),
        ([1, -1, 1], "one finite number >= 0"),
        ([1, NAN, 1], "one finite number >= 0"),
        ([1, np.inf, 1], "one finite number >= 0"),
        (np.ones((3, 2)), "one finite number >= 0"),
        (["a", "b", "c"], "sample_weight must hold numbers, got 'a' at position 0"),
        ([[1, 2], ["x", 3], [4, 5]], r"got an array of shape \(3, 2\)"),
        ([1, "b", 2], "got 'b' at position 1"),
        ([1, 2, -3], "got -3.0 at position 2"),
        ([1, NAN, 3], "got nan at position 1"),
        ([1, 10**400, 1], "sample_weight must hold numbers"),
        ([0, 0, 0], "sample_weight is zero everywhere"),
    ],
)
def test_bad_weights(weight, message):
    with pytest.raises(InvalidInputError, match=message):
        check_sample_weight(weight, 3)


# ---- tensors and tables ---------------------------------------------------------------------


def test_tensors_of_a_computation():
    y = torch.tensor([1.0, 2.0], requires_grad=True)
    assert regression_targets(y).tolist() == [1.0, 2.0]
    assert check_sample_weight(y, 2).tolist() == [0.5, 1.0]
    assert class_targets(y)[1].tolist() == [0, 1]


def test_only_classes_lead_to_the_classifier():
    with pytest.raises(InvalidInputError) as caught:
        regression_targets([1.0, 2.0, "n/a"])
    assert "DSSLClassifier" not in str(caught.value)


def test_labels_in_another_order():
    X, y = pd.Series(["a", "b"], index=[4, 7]), pd.Series([1.0, 2.0], index=[4, 7])
    with pytest.warns(UserWarning, match=r"taken by position; y.reindex\(X.index\)"):
        warn_of_order(X, y[::-1])
    for other in (y, y.reset_index(drop=True), y.to_numpy(), [1.0, 2.0]):
        warn_of_order(X, other)
        warn_of_order(["a", "b"], other)


def test_repeated_labels_in_another_order_cannot_be_aligned():
    X, y = pd.Series([1, 2, 3], index=[0, 0, 1]), pd.Series([1, 2, 3], index=[0, 1, 0])
    with pytest.warns(UserWarning, match="reset both indexes"):
        warn_of_order(X, y)
