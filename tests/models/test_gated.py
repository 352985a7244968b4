import copy
from dataclasses import replace

import pytest
import torch

from dssl_sklearn.models import GatedBackbone, gated_sum
from dssl_sklearn.models.gated import GatedConvolution, gated_edges
from dssl_sklearn.views.view import ViewSpec, draw_view


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
    # Few distances, so that edges share them.
    edges = gated_edges(replace(batch, edge_distance=batch.edge_distance.round(decimals=1)))
    assert len(edges.distance) < len(edges.level) / 2
    expanded = torch.rand(len(edges.distance), 5, dtype=torch.float64)
    inputs = [sites.clone().requires_grad_(), expanded.clone().requires_grad_()]
    inputs_twin = [x.detach().clone().requires_grad_() for x in inputs]
    fast = layer(*inputs, edges)
    of_edges = inputs_twin[1].index_select(0, edges.level)
    plain = plain_convolution(twin, inputs_twin[0], of_edges, batch.edge_index)
    torch.testing.assert_close(fast, plain, rtol=0, atol=1e-10)
    with torch.no_grad():
        assert torch.equal(layer(*inputs, edges), fast)
    weights = torch.randn_like(fast)
    (fast * weights).sum().backward()
    (plain * weights).sum().backward()
    for ours, theirs in zip(inputs, inputs_twin, strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=1e-10)
    for (name, ours), theirs in zip(layer.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=1e-10, msg=name)


def test_both_directions_of_an_edge_share_a_distance(make_batch):
    batch = make_batch(drop=0.0).to(torch.float32)
    moved = draw_view(batch, ViewSpec(move=0.2, strain=0.05), torch.Generator().manual_seed(0))
    edges = gated_edges(moved.batch)
    assert torch.equal(edges.distance[edges.level], moved.batch.edge_distance)
    assert 2 * len(edges.distance) <= len(edges.level)


def test_gradient_of_every_distance(make_batch):
    # A distance may be that of several edges, but each has a gradient of its own.
    batch = make_batch()
    backbone = GatedBackbone(width=7, n_basis=5, n_layers=2).double()
    distance = batch.edge_distance.round(decimals=1)
    shared = backbone(replace(batch, edge_distance=distance))
    leaf = distance.clone().requires_grad_()
    own = backbone(replace(batch, edge_distance=leaf))
    torch.testing.assert_close(own, shared, rtol=0, atol=1e-10)
    weights = torch.randn_like(own)
    (gradient,) = torch.autograd.grad((own * weights).sum(), leaf)
    for edge in (0, 17, len(leaf) - 1):
        step = torch.zeros_like(leaf)
        step[edge] = 1e-5
        up, down = (backbone(replace(batch, edge_distance=distance + h)) for h in (step, -step))
        slope = ((up - down) * weights).sum() / 2e-5
        torch.testing.assert_close(gradient[edge], slope, rtol=1e-6, atol=1e-8)


def test_without_edges(make_batch):
    batch = make_batch()
    none = replace(
        batch,
        edge_index=batch.edge_index[:, :0],
        edge_shift=batch.edge_shift[:0],
        edge_distance=batch.edge_distance[:0],
    )
    sites = GatedBackbone(width=7, n_basis=5).double()(none)
    sites.sum().backward()
    assert sites.isfinite().all()
