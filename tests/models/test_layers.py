import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dssl_sklearn.crystals.elements import element_features
from dssl_sklearn.exceptions import InvalidInputError
from dssl_sklearn.models import DistanceExpansion, SiteEncoder
from dssl_sklearn.models.segments import (
    segment_count,
    segment_softmax,
    segment_sum,
    softplus_weights,
)

INDEX = torch.tensor([0, 0, 0, 2, 2, 3])


class TestDistanceExpansion:
    def test_formula(self):
        expansion = DistanceExpansion(5, 8.0).double()
        distance = torch.tensor([0.0, 1.7, 8.0, 9.5], dtype=torch.float64)
        out = expansion(distance)
        for row, d in zip(out, distance.tolist(), strict=True):
            expected = [np.exp(-((d - 2 * k) ** 2) / 8) for k in range(5)]
            np.testing.assert_allclose(row.numpy(), expected, atol=1e-7)

    def test_no_gaps_between_the_centers(self):
        total = DistanceExpansion(40, 8.0).double()(torch.linspace(1.5, 6.5, 501)).sum(1)
        # The centers themselves are rounded to single precision.
        assert total.std() / total.mean() < 1e-6

    def test_gradient_is_finite(self):
        distance = torch.linspace(0, 20, 50, requires_grad=True)
        DistanceExpansion(10, 8.0)(distance).sum().backward()
        assert distance.grad.isfinite().all()

    def test_keeps_precision_under_autocast(self):
        expansion, distance = DistanceExpansion(40, 8.0), torch.tensor([7.99, 3.001])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(expansion(distance), expansion(distance).float())
            inside = expansion(distance)
        assert torch.equal(inside, expansion(distance))

    def test_no_denormal_numbers(self):
        out = DistanceExpansion(60, 8.0)(torch.linspace(0, 30, 1000))
        assert out.min() > torch.finfo(torch.float32).tiny

    def test_nothing_to_store(self):
        assert DistanceExpansion(10, 8.0).state_dict() == {}

    @pytest.mark.parametrize("n_basis, cutoff", [(1, 8.0), (2.0, 8.0), (10, -1.0), (10, "8")])
    def test_out_of_range(self, n_basis, cutoff):
        with pytest.raises(InvalidInputError, match="must be"):
            DistanceExpansion(n_basis, cutoff)


class TestSiteEncoder:
    @pytest.mark.parametrize("site_features", ["physical", "onehot"])
    def test_embeds_each_element_by_its_row(self, site_features):
        encoder = SiteEncoder(6, site_features)
        out = encoder(torch.tensor([103, 1, 0, 1]))
        for row, number in zip(out, (103, 1, None, 1), strict=True):
            expected = encoder.masked if number is None else encoder.linear(encoder.table[number])
            torch.testing.assert_close(row, expected)

    def test_physical_table_holds_the_element_features(self):
        table = SiteEncoder(6).state_dict()["table"]
        np.testing.assert_allclose(table.numpy(), element_features(), rtol=1e-6)

    def test_onehot_tells_all_elements_apart(self):
        table = SiteEncoder(6, "onehot").table
        assert torch.equal(table[1:], torch.eye(103))

    def test_stored_table_wins_over_the_present_one(self):
        encoder = SiteEncoder(6)
        stored = {k: v + 1 for k, v in encoder.state_dict().items()}
        encoder.load_state_dict(stored)
        assert torch.equal(encoder.table, stored["table"])

    def test_unknown_features(self):
        with pytest.raises(
            InvalidInputError, match=r"'physical', 'onehot', got 'one-hot'.*'onehot"
        ):
            SiteEncoder(6, "one-hot")


class TestSegments:
    def test_sum_and_count(self):
        values = torch.arange(12.0).view(6, 2)
        total = segment_sum(values, INDEX, 5)
        count = segment_count(INDEX, 5)
        for segment in range(5):
            rows = values[segment == INDEX]
            assert torch.equal(total[segment], rows.sum(0))
            assert count[segment].item() == max(len(rows), 1)

    def test_half_precision_sums_in_single(self):
        values = torch.full((4096, 1), 1.0, dtype=torch.bfloat16)
        total = segment_sum(values, torch.zeros(4096, dtype=torch.long), 1)
        assert total.dtype == torch.float32
        assert total.item() == 4096

    @pytest.mark.parametrize("largest", [1.0, 90.0, 5000.0])
    def test_softplus_weights_share_like_the_softmax_of_the_softplus(self, largest):
        logits = torch.linspace(-1, 1, 2 * len(INDEX), dtype=torch.float64).view(2, -1) * largest
        logits = logits.requires_grad_()
        other = logits.detach().clone().requires_grad_()
        weights = softplus_weights(logits, INDEX, 5).t()
        share = weights / segment_sum(weights, INDEX, 5)[INDEX]
        expected = segment_softmax(F.softplus(other).t(), INDEX, 5)
        torch.testing.assert_close(share, expected, rtol=1e-10, atol=1e-10)
        (share**2).sum().backward()
        (expected**2).sum().backward()
        torch.testing.assert_close(logits.grad, other.grad, rtol=1e-10, atol=1e-10)
        single = softplus_weights(logits.detach().float(), INDEX, 5)
        total = segment_sum(single.t(), INDEX, 5)[INDEX.unique()]
        assert (total > 0).all()
        assert total.isfinite().all()

    def test_softmax_with_gradient(self):
        logits = (50 * torch.randn(6, 3, dtype=torch.float64)).requires_grad_()
        other = logits.detach().clone().requires_grad_()
        out = segment_softmax(logits, INDEX, 5)
        expected = torch.cat([other[segment == INDEX].softmax(0) for segment in (0, 2, 3)])
        torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)
        weights = torch.randn_like(out)
        (out * weights).sum().backward()
        (expected * weights).sum().backward()
        torch.testing.assert_close(logits.grad, other.grad, rtol=0, atol=1e-12)
