import math

import numpy as np
import pytest
from scipy.stats import ttest_rel

from dssl_sklearn.evaluation.paired import PairedDifference


def test_it_is_the_paired_t_interval():
    rng = np.random.default_rng(0)
    first, second = rng.normal(1.0, 0.1, 7), rng.normal(1.1, 0.1, 7)
    found = PairedDifference.of(first, second)
    expected = ttest_rel(first, second).confidence_interval(0.95)
    assert found.low == pytest.approx(expected.low)
    assert found.high == pytest.approx(expected.high)
    assert found.percent(found.mean) == pytest.approx(100 * (first.mean() / second.mean() - 1))


@pytest.mark.parametrize("sign", [1, -1])
def test_clear_differences_have_a_sign(sign):
    reference = np.array([1.0, 2.0, 3.0])
    found = PairedDifference.of(reference + sign * np.array([0.10, 0.11, 0.12]), reference)
    assert found.is_worse == (sign > 0)
    assert found.is_better == (sign < 0)


def test_noise_a_single_fold_and_equality_are_neither():
    for first in ([1.3, 0.7, 1.1], [1.0, 1.0, 1.0]):
        found = PairedDifference.of(first, [1.0, 1.0, 1.0])
        assert not found.is_worse
        assert not found.is_better
    single = PairedDifference.of([2.0], [1.0])
    assert single.half_width == math.inf
    assert not single.is_worse


def test_a_perfect_reference_has_no_percentage():
    assert math.isnan(PairedDifference.of([1.0, 2.0], [0.0, 0.0]).percent(1.0))
