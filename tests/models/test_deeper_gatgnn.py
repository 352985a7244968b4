import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch_geometric.nn import DiffGroupNorm as ReferenceGroupNorm
from torch_geometric.utils import scatter, softmax

from dssl_sklearn.models import DeeperGATGNN, ends, workspace
from dssl_sklearn.models.normalization import DiffGroupNorm, SmallBatchNorm


def plain_attention(layer, sites, edges, edge_index):
    """The published form, with a product of [x || e] and the whole W for both ends of each edge."""
    source, target = edge_index
    n_heads, width = layer.n_heads, layer.width
    u, v = (
        F.softplus(torch.cat([sites[end], edges], dim=1) @ layer.weight).view(-1, n_heads, width)
        for end in (target, source)
    )
    logits = F.softplus((u * layer.attention[0] + v * layer.attention[1]).sum(-1))
    attention = softmax(F.softplus(layer.norm(logits)), target, num_nodes=len(sites))
    message = v * attention.unsqueeze(-1)
    return scatter(message, target, dim=0, dim_size=len(sites)).mean(1) + layer.bias


def reference_group_norm(norm):
    """torch-geometric's normalization with the parameters and statistics of ours."""
    reference = ReferenceGroupNorm(norm.weight.shape[1], norm.weight.shape[0]).to(norm.weight)
    reference.train(norm.training)
    reference.lin.weight = norm.assign.weight
    for name in ("weight", "bias"):
        setattr(reference.norm, name, torch.nn.Parameter(getattr(norm, name).detach().flatten()))
    reference.norm.running_mean.copy_(norm.running_mean.flatten())
    reference.norm.running_var.copy_(norm.running_var.flatten())
    return reference


def plain_network(network, batch):
    sites = F.leaky_relu(network.sites(batch.numbers), 0.2)
    edges = F.leaky_relu(network.edges(network.distances(batch.edge_distance)), 0.2)
    for layer, norm in zip(network.layers, network.norms, strict=True):
        update = plain_attention(layer, sites, edges, batch.edge_index)
        groups = norm.assign(update).softmax(1)
        product = (groups.unsqueeze(2) * update.unsqueeze(1)).flatten(1)
        normalized = F.batch_norm(
            product,
            norm.running_mean.view(-1),
            norm.running_var.view(-1),
            norm.weight.view(-1),
            norm.bias.view(-1),
            norm.training,
            0.1,
            1e-5,
        )
        sites = update + 0.01 * normalized.view(*groups.shape, -1).sum(1) + sites
    return sites


@pytest.fixture(params=["complete", "cut", "unpaired", "symmetric"])
def batch(request, make_batch, random_batch, symmetric_batch):
    """All, most or none of the edges have an edge back, or many are equally long."""
    if request.param == "symmetric":
        return symmetric_batch()
    if request.param == "unpaired":
        return random_batch()
    return make_batch(drop=0.0 if request.param == "complete" else 0.2)


@pytest.mark.parametrize("training, kept_bytes", [(True, 0), (True, 2**28), (False, 0)])
def test_equals_plain_form(training, kept_bytes, batch, fill_statistics, monkeypatch):
    # Several blocks, some of which cut the ends of a distance, and layers that are not kept.
    monkeypatch.setattr(ends, "BLOCK", 17)
    monkeypatch.setattr(workspace, "KEPT_LAYERS", 1)
    monkeypatch.setattr(workspace, "KEPT_BYTES", kept_bytes)
    fast = DeeperGATGNN(width=9, n_layers=3, n_heads=3, n_basis=8)
    fast = fill_statistics(fast).double().train(training)
    for module in fast.modules():
        if isinstance(module, DiffGroupNorm | SmallBatchNorm):
            torch.nn.init.normal_(module.weight)
            torch.nn.init.normal_(module.bias)
    plain = copy.deepcopy(fast)
    out, expected = fast(batch), plain_network(plain, batch)
    torch.testing.assert_close(out, expected, rtol=1e-10, atol=1e-10)
    weights = torch.randn_like(out)
    (out * weights).sum().backward()
    (expected * weights).sum().backward()
    for (name, ours), theirs in zip(fast.named_parameters(), plain.parameters(), strict=True):
        if theirs.grad is not None:
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-10, atol=1e-10, msg=name)
    for (name, ours), theirs in zip(fast.named_buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10, msg=name)


def test_large_activations_neither_overflow_nor_saturate(make_batch):
    batch = make_batch(drop=0.0)
    network = DeeperGATGNN(width=5, n_layers=1, n_heads=2, n_basis=6).double()
    with torch.no_grad():
        network.layers[0].weight.mul_(300)
    expected = plain_network(copy.deepcopy(network), batch)
    assert expected.abs().max() > 100
    torch.testing.assert_close(network(batch), expected, rtol=1e-10, atol=1e-10)
    single = network.float()(make_batch(drop=0.0, dtype=torch.float32))
    torch.testing.assert_close(single.double(), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("training", [True, False])
def test_sites_without_edges(training, make_batch):
    batch = make_batch((2, 1))
    batch = replace(
        batch,
        edge_index=batch.edge_index[:, :0],
        edge_shift=batch.edge_shift[:0],
        edge_distance=batch.edge_distance[:0],
    )
    network = DeeperGATGNN(width=5, n_layers=2, n_heads=2, n_basis=6).double().train(training)
    out = network(batch)
    torch.testing.assert_close(out, plain_network(copy.deepcopy(network), batch))
    out.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())


def test_frozen_weights_get_no_gradient_and_the_others_the_same(make_batch):
    batch = make_batch()
    network = DeeperGATGNN(width=6, n_layers=2, n_heads=2, n_basis=6).double()
    network(batch).square().sum().backward()
    expected = network.layers[1].weight.grad.clone()
    network.zero_grad()
    network.requires_grad_(False)  # noqa: FBT003 - torch's signature
    network.layers[1].weight.requires_grad_()
    network.eval().train()
    network(batch).square().sum().backward()
    assert network.layers[0].weight.grad is None
    torch.testing.assert_close(network.layers[1].weight.grad, expected, rtol=0, atol=1e-10)


def test_second_backward_pass_repeats_the_first(make_batch):
    network = DeeperGATGNN(width=6, n_layers=2, n_heads=2, n_basis=6).double()
    loss = network(make_batch()).square().sum()
    weights = list(network.layers.parameters())
    first = torch.autograd.grad(loss, weights, retain_graph=True)
    second = torch.autograd.grad(loss, weights)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_published_size():
    n_weights = sum(p.numel() for p in DeeperGATGNN().parameters())
    # The published figure includes the global attention and the predictor.
    assert n_weights == pytest.approx(1.72e6, rel=0.05)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("mean", [0.0, 50.0])
def test_group_norm_equals_torch_geometric(training, mean, fill_statistics, monkeypatch):
    norm = fill_statistics(DiffGroupNorm(6, 4)).double().train(training)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    monkeypatch.setattr("dssl_sklearn.models.normalization._SHARE", 1.0)
    reference = reference_group_norm(norm)
    reference.lamda = 1.0
    sites = (torch.randn(11, 6, dtype=torch.float64) + mean).requires_grad_()
    out, expected = norm(sites), reference(sites)
    torch.testing.assert_close(out, expected, rtol=1e-10, atol=1e-10)
    weights = torch.randn_like(out)
    ours = torch.autograd.grad(
        (out * weights).sum(), [sites, norm.assign.weight, norm.weight, norm.bias]
    )
    of_reference = [sites, reference.lin.weight, reference.norm.weight, reference.norm.bias]
    theirs = torch.autograd.grad((expected * weights).sum(), of_reference)
    for found, wanted in zip(ours, theirs, strict=True):
        torch.testing.assert_close(found, wanted.view_as(found), rtol=1e-8, atol=1e-8)
    for name in ("running_mean", "running_var"):
        theirs = getattr(reference.norm, name).view(4, 6)
        torch.testing.assert_close(getattr(norm, name), theirs, rtol=1e-10, atol=1e-10)


def test_group_norm_keeps_digits_under_a_large_mean(monkeypatch):
    exact, single = DiffGroupNorm(6, 4).double(), DiffGroupNorm(6, 4)
    single.load_state_dict(exact.state_dict())
    monkeypatch.setattr("dssl_sklearn.models.normalization._SHARE", 1.0)
    sites = torch.randn(40, 6, dtype=torch.float64) * 0.01 + 100
    shared = sites.float().double()
    error = (single(sites.float()).double() - exact(shared)).abs().max()
    assert error < 0.05


@pytest.mark.parametrize("n_rows", [1, 2, 9])
def test_small_batch_norm(n_rows):
    ours, theirs = SmallBatchNorm(3), torch.nn.BatchNorm1d(3)
    rows = torch.randn(n_rows, 3)
    if n_rows == 1:
        theirs.eval()
    torch.testing.assert_close(ours(rows), theirs(rows))
    torch.testing.assert_close(ours.running_var, theirs.running_var)
