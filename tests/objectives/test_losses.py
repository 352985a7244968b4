import math

import pytest
import torch

from dssl_sklearn.objectives.losses import barlow_loss, cosine_loss, ntxent_loss, vicreg_loss

LOSSES = [cosine_loss, ntxent_loss, barlow_loss, vicreg_loss]


@pytest.fixture
def views():
    source = torch.Generator().manual_seed(0)
    first = 2 * torch.randn(6, 4, generator=source, dtype=torch.float64) + 0.5
    return first, first + 0.7 * torch.randn(6, 4, generator=source, dtype=torch.float64)


def cosine(a, b):
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def slow_cosine(first, second):
    return 1 - sum(cosine(a, b) for a, b in zip(first, second, strict=True)) / len(first)


def slow_ntxent(first, second, temperature=0.1):
    both = first + second
    n, total = len(first), 0.0
    for i, anchor in enumerate(both):
        other_view = (i + n) % (2 * n)
        sums = [
            math.exp(cosine(anchor, other) / temperature) for k, other in enumerate(both) if k != i
        ]
        positive = math.exp(cosine(anchor, both[other_view]) / temperature)
        total -= math.log(positive / sum(sums))
    return total / (2 * n)


def slow_barlow(first, second, redundancy=0.005):
    n, width = len(first), len(first[0])

    def standardized(view, k):
        column = [row[k] for row in view]
        mean = sum(column) / n
        variance = sum((x - mean) ** 2 for x in column) / n + 1e-5
        return [(x - mean) / math.sqrt(variance) for x in column]

    total = 0.0
    for i in range(width):
        for j in range(width):
            pairs = zip(standardized(first, i), standardized(second, j), strict=True)
            correlation = sum(x * y for x, y in pairs) / n
            total += (1 - correlation) ** 2 if i == j else redundancy * correlation**2
    return total / width


def slow_vicreg(first, second):
    n, width = len(first), len(first[0])
    pairs = [(x, y) for a, b in zip(first, second, strict=True) for x, y in zip(a, b, strict=True)]
    total = sum((x - y) ** 2 for x, y in pairs) / len(pairs)
    for view in (first, second):
        means = [sum(row[k] for row in view) / n for k in range(width)]
        for i in range(width):
            for j in range(width):
                cov = sum((r[i] - means[i]) * (r[j] - means[j]) for r in view) / (n - 1)
                if i == j:
                    total += max(0.0, 1 - math.sqrt(cov + 1e-4)) / width / 2
                else:
                    total += 0.04 * cov**2 / width
    return total


@pytest.mark.parametrize(
    "loss, slow",
    [
        (cosine_loss, slow_cosine),
        (ntxent_loss, slow_ntxent),
        (barlow_loss, slow_barlow),
        (vicreg_loss, slow_vicreg),
    ],
)
@pytest.mark.parametrize("scale", [0.2, 1.0])
def test_equals_the_formula_written_out(views, loss, slow, scale):
    first, second = (scale * view for view in views)
    expected = slow(first.tolist(), second.tolist())
    assert float(loss(first, second)) == pytest.approx(expected, rel=1e-10)


def test_parameters_are_used(views):
    first, second = (view.tolist() for view in views)
    assert float(ntxent_loss(*views, 0.5)) == pytest.approx(slow_ntxent(first, second, 0.5))
    assert float(barlow_loss(*views, 0.1)) == pytest.approx(slow_barlow(first, second, 0.1))


@pytest.mark.parametrize("loss", LOSSES)
def test_views_and_crystals_can_be_exchanged(views, loss):
    first, second = views
    value = loss(first, second)
    torch.testing.assert_close(loss(second, first), value)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    torch.testing.assert_close(loss(first[order], second[order]), value)
    assert not torch.isclose(loss(first[order], second), value)


@pytest.mark.parametrize("loss", [cosine_loss, ntxent_loss])
def test_length_of_an_embedding_does_not_matter(views, loss):
    first, second = views
    scale = torch.rand(6, 1, dtype=torch.float64) + 0.5
    torch.testing.assert_close(loss(scale * first, second), loss(first, second))


@pytest.mark.parametrize("loss", [cosine_loss, ntxent_loss])
def test_rotation_of_all_embeddings_does_not_matter(views, loss):
    rotation = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64))[0]
    torch.testing.assert_close(loss(*(view @ rotation for view in views)), loss(*views))


def test_barlow_ignores_scale_and_offset_of_each_feature(views):
    first, second = (1000 * view for view in views)
    changed = first * torch.tensor([1.0, 2.0, 3.0, 4.0]) + torch.arange(4)
    torch.testing.assert_close(barlow_loss(changed, second), barlow_loss(first, second))


def test_vicreg_ignores_a_common_offset(views):
    first, second = views
    torch.testing.assert_close(vicreg_loss(first + 3, second + 3), vicreg_loss(first, second))


# Columns of a Hadamard matrix: centered, of unit variance, uncorrelated.
IDEAL = torch.tensor([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], dtype=torch.float64)


def test_best_values():
    assert float(cosine_loss(IDEAL, 2 * IDEAL)) == pytest.approx(0)
    assert float(barlow_loss(IDEAL, IDEAL)) == pytest.approx(0, abs=1e-8)
    assert float(vicreg_loss(IDEAL, IDEAL)) == pytest.approx(0)
    assert float(ntxent_loss(IDEAL, IDEAL)) < 1e-4


@pytest.mark.parametrize("loss", [ntxent_loss, barlow_loss, vicreg_loss])
def test_collapse_is_punished_except_by_the_papers_loss(loss):
    collapsed = torch.ones_like(IDEAL)
    assert loss(collapsed, collapsed) > 0.9
    assert loss(IDEAL, IDEAL) < 0.1
    assert float(cosine_loss(collapsed, collapsed)) == pytest.approx(0)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("n_crystals", [1, 2])
def test_few_crystals_and_collapsed_ones_give_finite_gradients(views, loss, n_crystals):
    for view in (views[0][:n_crystals], torch.zeros(n_crystals, 4, dtype=torch.float64)):
        first, second = view.clone().requires_grad_(), view.clone().requires_grad_()
        value = loss(first, second)
        value.backward()
        assert value.isfinite()
        assert first.grad.isfinite().all()
        assert second.grad.isfinite().all()


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_are_those_of_the_value(views, loss):
    first, second = (view.clone().requires_grad_() for view in views)
    assert torch.autograd.gradcheck(loss, (first, second))
