from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dssl_sklearn.exceptions import InvalidInputError
from dssl_sklearn.models import AttentionReadout, MeanReadout, make_readout
from dssl_sklearn.models.readout import element_fractions

NAMES = ("mean", "mean_std", "mean_max", "attention")


@pytest.fixture(params=NAMES)
def readout(request):
    return make_readout(request.param, 6).double()


@pytest.fixture
def sites(make_batch):
    return torch.randn(make_batch().n_sites, 6, dtype=torch.float64)


def of_crystal(batch, sites, crystal):
    return sites[batch.batch == crystal]


def test_width(readout, make_batch, sites):
    assert readout(sites, make_batch()).shape == (4, readout.width)


def test_mean(make_batch, sites):
    batch = make_batch()
    out = make_readout("mean", 6)(sites, batch)
    for crystal in range(4):
        torch.testing.assert_close(out[crystal], of_crystal(batch, sites, crystal).mean(0))


def test_mean_std(make_batch, sites):
    batch = make_batch()
    out = make_readout("mean_std", 6)(sites, batch)
    for crystal in range(4):
        rows = of_crystal(batch, sites, crystal)
        torch.testing.assert_close(out[crystal, :6], rows.mean(0))
        expected = rows.std(0, correction=0)
        torch.testing.assert_close(out[crystal, 6:], expected, rtol=0, atol=1e-3)
        assert (len(rows) > 1) == bool((out[crystal, 6:] > 0).any())


def test_mean_max(make_batch, sites):
    batch = make_batch()
    readout = make_readout("mean_max", 6)
    out = readout(sites, batch)
    assert readout.plain_width == 6
    for crystal in range(4):
        rows = of_crystal(batch, sites, crystal)
        expected = torch.cat([rows.mean(0), rows.max(0).values])
        torch.testing.assert_close(out[crystal], expected)


def test_attention_equals_plain_form(make_batch, sites):
    batch = make_batch()
    readout = make_readout("attention", 6).double()
    out = readout(sites, batch)
    fractions = element_fractions(batch, torch.float64)
    first = torch.cat([readout.from_site.weight, readout.from_composition.weight], dim=1)
    for crystal in range(4):
        rows = of_crystal(batch, sites, crystal)
        joined = torch.cat([rows, fractions[crystal].expand(len(rows), -1)], dim=1)
        inner = F.softplus(joined @ first.t() + readout.from_site.bias)
        weights = readout.logit(F.softplus(readout.hidden(inner))).softmax(0)
        torch.testing.assert_close(out[crystal], (weights * rows).sum(0), rtol=0, atol=1e-10)


def test_batch_gives_what_its_crystals_give_alone(readout, make_batch, make_singles, sites):
    batch = make_batch()
    alone = [
        readout(of_crystal(batch, sites, crystal), single)
        for crystal, single in enumerate(make_singles())
    ]
    torch.testing.assert_close(readout(sites, batch), torch.cat(alone), rtol=0, atol=1e-12)


def test_ignores_order_of_sites(readout, make_batch, permute, sites):
    batch = make_batch()
    permuted, order = permute(batch)
    torch.testing.assert_close(readout(sites[order], permuted), readout(sites, batch))


def test_repeated_cell_gives_the_same(readout, make_batch):
    batch = make_batch((4,))
    sites = torch.randn(4, 6, dtype=torch.float64)
    doubled = replace(
        batch, numbers=batch.numbers.repeat(2), batch=torch.zeros(8, dtype=torch.long)
    )
    torch.testing.assert_close(readout(sites.repeat(2, 1), doubled), readout(sites, batch))


def test_gradient_is_finite_for_single_and_equal_sites(readout, make_batch):
    batch = make_batch((1, 3))
    sites = torch.ones(4, 6, dtype=torch.float64, requires_grad=True)
    out = readout(sites, batch)
    (out * torch.randn_like(out)).sum().backward()
    assert sites.grad.isfinite().all()


def test_gradient_reaches_every_weight(readout, make_batch, sites):
    out = readout(sites, make_batch())
    (out * torch.randn_like(out)).sum().backward() if list(readout.parameters()) else None
    for name, parameter in readout.named_parameters():
        # Adding the same to all logits changes nothing.
        if name != "logit.bias":
            assert parameter.grad.abs().max() > 0, name


def test_autocast_is_close(readout, make_batch, sites):
    readout, sites = readout.float(), sites.float()
    batch = make_batch(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = readout(sites.bfloat16(), batch)
    torch.testing.assert_close(out.float(), readout(sites, batch), rtol=0.05, atol=0.05)


def test_composition_counts_elements(make_batch):
    batch = make_batch((4, 2))
    batch = replace(batch, numbers=torch.tensor([8, 8, 26, 8, 103, 1]))
    fractions = element_fractions(batch)
    assert fractions.shape == (2, 103)
    assert fractions[0, 7].item() == pytest.approx(0.75)
    assert fractions[0, 25].item() == pytest.approx(0.25)
    assert fractions[1, 102].item() == pytest.approx(0.5)
    torch.testing.assert_close(fractions.sum(1), torch.ones(2))


def test_composition_leaves_masked_sites_out(make_batch):
    batch = make_batch((4, 2))
    batch = replace(batch, numbers=torch.tensor([8, 0, 26, 0, 0, 0]))
    fractions = element_fractions(batch)
    assert fractions[0, 7].item() == fractions[0, 25].item() == pytest.approx(0.5)
    assert (fractions[1] == 0).all()


def test_masked_element_cannot_leak(readout, make_batch, sites):
    batch = make_batch()
    other = replace(batch, numbers=batch.numbers.index_fill(0, torch.tensor([2]), 92))
    masked, masked_other = (
        replace(b, numbers=b.numbers.index_fill(0, torch.tensor([2]), 0)) for b in (batch, other)
    )
    assert torch.equal(readout(sites, masked), readout(sites, masked_other))


def test_attention_sees_the_composition(make_batch, sites):
    batch, readout = make_batch(), make_readout("attention", 6).double()
    other = replace(batch, numbers=batch.numbers.roll(1))
    assert (readout(sites, batch) - readout(sites, other)).abs().max() > 1e-6


class _OwnReadout(nn.Module):
    width = 3


class TestMakeReadout:
    def test_copies_a_module(self):
        given = _OwnReadout()
        made = make_readout(given, 6)
        assert isinstance(made, _OwnReadout)
        assert made is not given

    def test_takes_a_class_and_parameters(self):
        assert make_readout(MeanReadout, 7).width == 7
        assert make_readout("attention", 7, hidden=3).hidden.weight.shape == (3, 3)
        assert isinstance(make_readout("attention", 7), AttentionReadout)

    def test_unknown_name(self):
        with pytest.raises(InvalidInputError, match=r"'mean', 'mean_std'.*did you mean 'mean'"):
            make_readout("maen", 6)

    def test_unknown_parameter(self):
        with pytest.raises(InvalidInputError, match=r"no parameter 'hiden'; did you mean 'hidden'"):
            make_readout("attention", 6, hiden=3)

    def test_site_width_cannot_be_given_twice(self):
        with pytest.raises(TypeError):
            make_readout("mean", 6, site_width=3)

    def test_out_of_range(self):
        with pytest.raises(InvalidInputError, match="hidden must be"):
            make_readout("attention", 6, hidden=0)
