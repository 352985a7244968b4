import math

import pytest
import torch

from dssl_sklearn.objectives import effective_rank


def test_equals_the_formula_for_known_singular_values():
    torch.manual_seed(0)
    # Orthonormal columns that are orthogonal to the constant vector survive the centering.
    basis = torch.linalg.qr(torch.cat([torch.ones(20, 1), torch.randn(20, 3)], 1).double())[0]
    singular = torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64))[0][:3]
    embeddings = (basis[:, 1:] * singular) @ rotation + 7.0
    share = [0.5, 1 / 3, 1 / 6]
    expected = math.exp(-sum(p * math.log(p) for p in share))
    assert effective_rank(embeddings) == pytest.approx(expected)
    assert effective_rank(embeddings.float()) == pytest.approx(expected, rel=1e-4)


def test_extremes():
    torch.manual_seed(0)
    assert effective_rank(torch.randn(5000, 8)) == pytest.approx(8, rel=0.01)
    line = torch.randn(50, 1) * torch.randn(1, 8) + torch.randn(8)
    assert effective_rank(line) == pytest.approx(1, abs=1e-3)


def test_collapse_is_not_hidden_by_rounding():
    torch.manual_seed(0)
    point = 10 * torch.randn(1, 16)
    collapsed = point * (1 + 1e-7 * torch.randn(200, 16))
    assert effective_rank(collapsed) == 0
    assert effective_rank(point) == 0


def test_scale_offset_and_rotation_do_not_matter():
    torch.manual_seed(0)
    embeddings = torch.randn(30, 6, dtype=torch.float64) * torch.arange(1, 7)
    rotation = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64))[0]
    changed = 3 * embeddings @ rotation - 2
    assert effective_rank(changed) == pytest.approx(effective_rank(embeddings))


def test_undefined_embeddings_are_undefined():
    assert math.isnan(effective_rank(torch.tensor([[1.0, math.nan], [0.0, 1.0]])))
