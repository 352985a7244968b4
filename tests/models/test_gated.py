import copy

import pytest
import torch

from dssl_sklearn.models import gated_sum
from dssl_sklearn.models.gated import GatedConvolution


def plain_convolution(layer, sites, expanded, edge_index):
    """The published form: one linear map of [x_i, x_j, g], edge by edge."""
    weight = torch.cat(
        [layer.from_target.weight, layer.from_source.weight, layer.from_edge.weight], dim=1
    )
    total = [torch.zeros(sites.shape[1], dtype=sites.dtype) for _ in sites]
    count = [0] * len(sites)
    for edge, (source, target) in enumerate(edge_index.t().tolist()):
        joined = torch.cat([sites[target], sites[source], expanded[edge]])
        core, gate = (weight @ joined + layer.from_target.bias).chunk(2)
        total[target] = total[target] + core / (1 + (-gate).exp())
        count[target] += 1
    mean = torch.stack([t / max(n, 1) for t, n in zip(total, count, strict=True)])
    normalized = (mean - mean.mean(1, keepdim=True)) / (
        mean.var(1, correction=0, keepdim=True) + layer.norm.eps
    ).sqrt()
    normalized = normalized * layer.norm.weight + layer.norm.bias
    hidden = normalized / (1 + (-normalized).exp())
    return sites + hidden @ layer.update.weight.t() + layer.update.bias


@pytest.mark.parametrize("block", [17, 4096])
def test_equals_plain_form(block, make_batch, monkeypatch):
    monkeypatch.setattr(gated_sum, "_BLOCK", block)
    batch = make_batch()
    assert len(batch.edge_distance) > 2 * 17
    layer = GatedConvolution(7, 5).double()
    torch.nn.init.normal_(layer.norm.weight)
    twin = copy.deepcopy(layer)
    sites = torch.randn(batch.n_sites, 7, dtype=torch.float64)
    expanded = torch.rand(len(batch.edge_distance), 5, dtype=torch.float64)
    count = torch.bincount(batch.edge_index[1], minlength=batch.n_sites).clamp_min(1)[:, None]
    inputs = [sites.clone().requires_grad_(), expanded.clone().requires_grad_()]
    inputs_twin = [x.detach().clone().requires_grad_() for x in inputs]
    fast = layer(*inputs, batch.edge_index, count)
    plain = plain_convolution(twin, *inputs_twin, batch.edge_index)
    torch.testing.assert_close(fast, plain, rtol=0, atol=1e-10)
    with torch.no_grad():
        assert torch.equal(layer(*inputs, batch.edge_index, count), fast)
    weights = torch.randn_like(fast)
    (fast * weights).sum().backward()
    (plain * weights).sum().backward()
    for ours, theirs in zip(inputs, inputs_twin, strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=1e-10)
    for (name, ours), theirs in zip(layer.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=1e-10, msg=name)
