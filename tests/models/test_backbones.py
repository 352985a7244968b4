"""What every backbone promises."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from dssl_sklearn.exceptions import InvalidInputError
from dssl_sklearn.models import Backbone, GatedBackbone, make_backbone

SMALL = {
    "gated": ("gated", {"width": 12, "n_layers": 2, "n_basis": 10}),
    "gated-onehot": (
        "gated",
        {"width": 12, "n_layers": 2, "n_basis": 10, "site_features": "onehot"},
    ),
    "deeper_gatgnn": ("deeper_gatgnn", {"width": 10, "n_layers": 3, "n_heads": 2, "n_basis": 8}),
}
NAMES = ("gated", "deeper_gatgnn")


@pytest.fixture(params=SMALL)
def backbone(request, fill_statistics):
    name, params = SMALL[request.param]
    return fill_statistics(make_backbone(name, **params)).double().eval()


def test_shape_and_width(backbone, make_batch):
    batch = make_batch()
    assert backbone(batch).shape == (batch.n_sites, backbone.width)
    assert backbone(batch).dtype == torch.float64


def test_follows_order_of_sites_and_ignores_order_of_edges(backbone, make_batch, permute):
    batch = make_batch()
    permuted, order = permute(batch)
    torch.testing.assert_close(backbone(permuted), backbone(batch)[order], rtol=0, atol=1e-12)


def test_batch_gives_what_its_crystals_give_alone(backbone, make_batch, make_singles):
    alone = torch.cat([backbone(single) for single in make_singles()])
    torch.testing.assert_close(backbone(make_batch()), alone, rtol=0, atol=1e-12)


def test_training_is_deterministic(backbone, make_batch):
    batch, twin = make_batch(), copy.deepcopy(backbone)
    gradients = []
    for module in (backbone, twin):
        module.train()
        module(batch).square().sum().backward()
        gradients.append([p.grad for p in module.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True) if a is not None)


def test_single_site_trains(backbone, make_singles):
    (batch,) = make_singles((1,))
    backbone.train()
    before = copy.deepcopy(backbone.state_dict())
    out = backbone(batch)
    out.square().sum().backward()
    assert out.isfinite().all()
    for name, parameter in backbone.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), name
    # Statistics of a single row would be of no use to later batches.
    for name, buffer in backbone.named_buffers():
        if name.startswith("norms"):
            assert torch.equal(buffer, before[name]), name


def test_gradient_reaches_every_weight(backbone, make_batch):
    batch = make_batch(drop=0.1)
    batch = replace(batch, numbers=batch.numbers.index_fill(0, torch.tensor([1, 7]), 0))
    backbone.train()
    out = backbone(batch)
    (out * torch.randn_like(out)).sum().backward()
    for name, parameter in backbone.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_gradient_with_respect_to_positions(backbone, make_batch):
    batch = make_batch((3, 2))
    positions = batch.positions.requires_grad_()

    def run(positions):
        moved = replace(batch, positions=positions)
        return backbone(replace(moved, edge_distance=moved.edge_vectors().norm(dim=1)))

    # A bend of the leaky ReLU within the step of the check would be a false alarm.
    assert torch.autograd.gradcheck(run, (positions,), eps=1e-7, atol=1e-5)


def test_depends_on_distance_and_element(backbone, make_batch):
    batch = make_batch()
    out = backbone(batch)
    longer = replace(batch, edge_distance=batch.edge_distance * 1.05)
    assert (backbone(longer) - out).abs().max() > 1e-6
    other = replace(batch, numbers=batch.numbers.index_fill(0, torch.tensor([0]), 26))
    assert (backbone(other) - out).abs().max() > 1e-6


def test_masked_site_hides_its_element(backbone, make_batch):
    batch = make_batch()
    other = replace(batch, numbers=batch.numbers.index_fill(0, torch.tensor([2]), 92))
    masked, masked_other = (
        replace(b, numbers=b.numbers.index_fill(0, torch.tensor([2]), 0)) for b in (batch, other)
    )
    assert torch.equal(backbone(masked), backbone(masked_other))
    assert (backbone(masked) - backbone(batch)).abs().max() > 1e-6


def test_crystal_without_edges_gives_finite_embedding(backbone, make_batch):
    batch = make_batch()
    bare = replace(
        batch,
        edge_index=batch.edge_index[:, :0],
        edge_shift=batch.edge_shift[:0],
        edge_distance=batch.edge_distance[:0],
    )
    backbone.train()
    assert backbone(bare).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_is_close_and_trains(dtype, backbone, make_batch):
    backbone = backbone.float()
    batch = make_batch(dtype=torch.float32)
    exact = backbone(batch)
    with torch.autocast("cpu", dtype=dtype):
        out = backbone(batch)
        out.float().square().sum().backward()
    assert out.isfinite().all()
    error = (out.float() - exact).norm() / (exact - exact.mean(0)).norm()
    assert error < 0.05
    assert all(p.grad is None or p.grad.isfinite().all() for p in backbone.parameters())


def test_single_precision_agrees_with_double(backbone, make_batch):
    exact = backbone(make_batch())
    single = backbone.float()(make_batch(dtype=torch.float32))
    torch.testing.assert_close(single.double(), exact, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("case", SMALL)
def test_state_dict_round_trip(case, make_batch, fill_statistics):
    name, params = SMALL[case]
    first, second = (
        fill_statistics(make_backbone(name, **params), seed=seed).eval() for seed in (1, 2)
    )
    batch = make_batch(dtype=torch.float32)
    assert not torch.equal(first(batch), second(batch))
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(batch), second(batch))


def test_element_table_is_stored_with_the_weights():
    assert "sites.table" in make_backbone("gated", width=8).state_dict()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_agrees_with_cpu(backbone, make_batch):
    batch = make_batch()
    on_gpu = copy.deepcopy(backbone).cuda().train()
    expected = backbone.train()(batch)
    expected.square().sum().backward()
    gradients = [p.grad for p in backbone.parameters()]
    out = on_gpu(batch.to("cuda"))
    torch.testing.assert_close(out.cpu(), expected, rtol=1e-8, atol=1e-8)
    out.square().sum().backward()
    for parameter, gradient in zip(on_gpu.parameters(), gradients, strict=True):
        if gradient is not None:
            torch.testing.assert_close(parameter.grad.cpu(), gradient, rtol=1e-8, atol=1e-8)


class TestMakeBackbone:
    @pytest.mark.parametrize("name", NAMES)
    def test_passes_parameters(self, name):
        backbone = make_backbone(name, width=6, n_layers=1)
        assert isinstance(backbone, Backbone)
        assert backbone.width == 6
        assert len(backbone.layers) == 1

    def test_copies_a_module(self):
        given = GatedBackbone(width=6)
        made = make_backbone(given)
        assert made is not given
        made.layers[0].update.weight.data.zero_()
        assert given.layers[0].update.weight.abs().sum() > 0

    def test_takes_a_class(self):
        assert make_backbone(GatedBackbone, width=5).width == 5

    def test_unknown_name(self):
        with pytest.raises(InvalidInputError, match=r"'gated', 'deeper_gatgnn'.*did you mean 'ga"):
            make_backbone("gatted")

    def test_unknown_parameter(self):
        with pytest.raises(InvalidInputError, match=r"'widht'; did you mean 'width'.*n_layers"):
            make_backbone("gated", widht=3)

    def test_module_without_width(self):
        with pytest.raises(InvalidInputError, match=r"Linear must have an integer .*`width`"):
            make_backbone(nn.Linear(2, 3))

    def test_module_with_parameters(self):
        with pytest.raises(InvalidInputError, match="no further parameters; got width"):
            make_backbone(GatedBackbone(), width=3)

    def test_missing_parameter_of_a_class(self):
        with pytest.raises(InvalidInputError, match="Linear: missing a required argument"):
            make_backbone(nn.Linear)

    @pytest.mark.parametrize("wrong", [3, None, int])
    def test_neither_name_nor_module(self, wrong):
        with pytest.raises(InvalidInputError, match="backbone must be one of"):
            make_backbone(wrong)

    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize(
        "parameter, value",
        [
            ("width", 0),
            ("width", 2.5),
            ("n_layers", 0),
            ("n_layers", True),
            ("n_basis", 1),
            ("cutoff", 0.0),
            ("cutoff", float("nan")),
            ("site_features", "magpie"),
        ],
    )
    def test_out_of_range(self, name, parameter, value):
        with pytest.raises(InvalidInputError, match=f"{parameter} must be"):
            make_backbone(name, **{parameter: value})
