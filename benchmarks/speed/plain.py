"""Plain reference forms: the same maths, written down edge by edge, with nothing made fast.

They bear the parameter names of the package's modules, so that they load the same weights, and the
scripts check outputs and gradients against the package's (`agreement`) before they time anything.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dssl_sklearn.crystals.batch import CrystalBatch
from dssl_sklearn.models import CrystalEncoder

# ---- networks ----------------------------------------------------------------------------------
# Rows are gathered with index_select, as torch-geometric does it: the gradient of plain indexing is
# several times slower, which would flatter us.


def _sum(rows: Tensor, index: Tensor, n_segments: int) -> Tensor:
    return rows.new_zeros(n_segments, *rows.shape[1:]).index_add(0, index, rows)


def _mean(rows: Tensor, index: Tensor, n_segments: int) -> Tensor:
    ones = rows.new_ones(len(rows), 1)
    return _sum(rows, index, n_segments) / _sum(ones, index, n_segments).clamp_min(1)


def _softmax(logits: Tensor, index: Tensor, n_segments: int) -> Tensor:
    rows = index.unsqueeze(1).expand_as(logits)
    start = logits.new_zeros(n_segments, logits.shape[1])
    largest = start.scatter_reduce(0, rows, logits.detach(), "amax", include_self=False)
    weights = (logits - largest.index_select(0, index)).exp()
    return weights / _sum(weights, index, n_segments).index_select(0, index)


class PlainSites(nn.Module):
    """Linear map of the element's features, site by site."""

    table: Tensor

    def __init__(self, n_features: int, width: int) -> None:
        super().__init__()
        self.register_buffer("table", torch.zeros(104, n_features))
        self.linear = nn.Linear(n_features, width)
        self.masked = nn.Parameter(torch.zeros(width))

    def forward(self, numbers: Tensor) -> Tensor:
        """Embed the sites, shape (n_sites, width)."""
        embedded: Tensor = self.linear(self.table.index_select(0, numbers))
        return torch.where((numbers == 0).unsqueeze(1), self.masked, embedded)


class PlainDistances(nn.Module):
    """Gaussians of a distance."""

    centers: Tensor

    def __init__(self, n_basis: int, cutoff: float) -> None:
        super().__init__()
        self.sigma = cutoff / (n_basis - 1)
        self.register_buffer("centers", torch.linspace(0, cutoff, n_basis), persistent=False)

    def forward(self, distance: Tensor) -> Tensor:
        """Expand the distances, shape (n_edges, n_basis)."""
        offset = distance.unsqueeze(1) - self.centers
        return torch.exp(-(offset**2) / (2 * self.sigma**2))


class PlainAttention(nn.Module):
    """Augmented graph attention with a product of [x || e] and W for both ends of each edge."""

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2 * width, n_heads * width))
        self.attention = nn.Parameter(torch.zeros(2, n_heads, width))
        self.norm = nn.BatchNorm1d(n_heads)
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, sites: Tensor, edges: Tensor, edge_index: Tensor) -> Tensor:
        """Attend to the neighbors, shape (n_sites, width)."""
        shape = (-1, *self.attention.shape[1:])
        x_j, x_i = (sites.index_select(0, end) for end in edge_index)
        target, n_sites = edge_index[1], len(sites)
        # Above its usual threshold of 20, torch's softplus is off by up to 2e-9.
        u = F.softplus(torch.cat([x_i, edges], dim=1) @ self.weight, threshold=40).view(shape)
        v = F.softplus(torch.cat([x_j, edges], dim=1) @ self.weight, threshold=40).view(shape)
        logits = F.softplus((torch.cat([u, v], -1) * torch.cat([*self.attention], -1)).sum(-1))
        attention = _softmax(F.softplus(self.norm(logits)), target, n_sites)
        message = _sum(v * attention.unsqueeze(-1), target, n_sites)
        return message.mean(dim=1) + self.bias


class PlainGroupNorm(nn.Module):
    """Batch normalization of every group of softly assigned sites."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, width: int, n_groups: int) -> None:
        super().__init__()
        self.assign = nn.Linear(width, n_groups, bias=False)
        self.weight = nn.Parameter(torch.ones(n_groups, width))
        self.bias = nn.Parameter(torch.zeros(n_groups, width))
        self.register_buffer("running_mean", torch.zeros(n_groups, width))
        self.register_buffer("running_var", torch.ones(n_groups, width))

    def forward(self, sites: Tensor) -> Tensor:
        """Normalize, shape (n_sites, width)."""
        groups = self.assign(sites).softmax(dim=1)
        product = (groups.unsqueeze(2) * sites.unsqueeze(1)).flatten(1)
        normalized = F.batch_norm(
            product,
            self.running_mean.view(-1),
            self.running_var.view(-1),
            self.weight.view(-1),
            self.bias.view(-1),
            self.training,
        )
        return sites + 0.01 * normalized.view(*groups.shape, -1).sum(1)


class PlainDeeperGATGNN(nn.Module):
    """DeeperGATGNN, see `dssl_sklearn.models.DeeperGATGNN` for the parameters."""

    def __init__(self, ours: Any) -> None:  # noqa: ANN401 - reads the sizes of the package's module
        super().__init__()
        self.width = ours.width
        self.sites = PlainSites(ours.sites.table.shape[1], ours.width)
        self.distances = PlainDistances(ours.distances.n_basis, 8.0)
        self.edges = nn.Linear(ours.distances.n_basis, ours.width)
        n_heads, n_groups = ours.layers[0].n_heads, ours.norms[0].assign.out_features
        self.layers = nn.ModuleList(PlainAttention(ours.width, n_heads) for _ in ours.layers)
        self.norms = nn.ModuleList(PlainGroupNorm(ours.width, n_groups) for _ in ours.norms)

    def forward(self, batch: CrystalBatch) -> Tensor:
        """Embed the sites, shape (n_sites, width)."""
        sites: Tensor = F.leaky_relu(self.sites(batch.numbers), 0.2)
        edges = F.leaky_relu(self.edges(self.distances(batch.edge_distance)), 0.2)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            sites = norm(layer(sites, edges, batch.edge_index)) + sites
        return sites


class PlainConvolution(nn.Module):
    """Edge-gated convolution with one linear map of [x_i || x_j || g] for each edge."""

    def __init__(self, width: int, n_basis: int) -> None:
        super().__init__()
        self.from_target = nn.Linear(width, 2 * width)
        self.from_source = nn.Linear(width, 2 * width, bias=False)
        self.from_edge = nn.Linear(n_basis, 2 * width, bias=False)
        self.norm = nn.LayerNorm(width)
        self.update = nn.Linear(width, width)

    def forward(self, sites: Tensor, expanded: Tensor, edge_index: Tensor) -> Tensor:
        """Update the site embeddings, shape (n_sites, width)."""
        x_j, x_i = (sites.index_select(0, end) for end in edge_index)
        parts = (self.from_target.weight, self.from_source.weight, self.from_edge.weight)
        joined = torch.cat([x_i, x_j, expanded], dim=1)
        mixed = F.linear(joined, torch.cat(parts, dim=1), self.from_target.bias)
        core, gate = mixed.chunk(2, dim=1)
        message = _mean(core * gate.sigmoid(), edge_index[1], len(sites))
        update: Tensor = self.update(F.silu(self.norm(message)))
        return sites + update


class PlainGated(nn.Module):
    """Edge-gated convolutions, see `dssl_sklearn.models.GatedBackbone` for the parameters."""

    def __init__(self, ours: Any) -> None:  # noqa: ANN401 - reads the sizes of the package's module
        super().__init__()
        self.width = ours.width
        self.sites = PlainSites(ours.sites.table.shape[1], ours.width)
        self.distances = PlainDistances(ours.distances.n_basis, 8.0)
        self.layers = nn.ModuleList(
            PlainConvolution(ours.width, ours.distances.n_basis) for _ in ours.layers
        )

    def forward(self, batch: CrystalBatch) -> Tensor:
        """Embed the sites, shape (n_sites, width)."""
        sites: Tensor = self.sites(batch.numbers)
        expanded = self.distances(batch.edge_distance)
        for layer in self.layers:
            sites = layer(sites, expanded, batch.edge_index)
        return sites


class PlainMean(nn.Module):
    """Mean over the sites of a crystal."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, sites: Tensor, batch: CrystalBatch) -> Tensor:
        """Embed the crystals, shape (n_crystals, width)."""
        return _mean(sites, batch.batch, batch.n_crystals)


class PlainMeanMax(nn.Module):
    """Mean and maximum over the sites of a crystal."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.plain_width = width // 2

    def forward(self, sites: Tensor, batch: CrystalBatch) -> Tensor:
        """Embed the crystals, shape (n_crystals, width)."""
        lowest = sites.new_full((batch.n_crystals, sites.shape[1]), -torch.inf)
        rows = batch.batch.unsqueeze(1).expand_as(sites)
        largest = lowest.scatter_reduce(0, rows, sites, "amax")
        return torch.cat([_mean(sites, batch.batch, batch.n_crystals), largest], dim=1)


class PlainAttentionReadout(nn.Module):
    """Global attention, with a linear map of [x_i || composition] for each site."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.from_site = nn.Linear(width, width)
        self.from_composition = nn.Linear(103, width, bias=False)
        self.hidden = nn.Linear(width, width)
        self.logit = nn.Linear(width, 1)

    def forward(self, sites: Tensor, batch: CrystalBatch) -> Tensor:
        """Embed the crystals, shape (n_crystals, width)."""
        onehot = F.one_hot(batch.numbers, 104)[:, 1:].to(sites.dtype)
        counts = _sum(onehot, batch.batch, batch.n_crystals)
        composition = counts / counts.sum(1, keepdim=True).clamp_min(1)
        joined = torch.cat([sites, composition.index_select(0, batch.batch)], dim=1)
        weight = torch.cat([self.from_site.weight, self.from_composition.weight], dim=1)
        inner = F.softplus(F.linear(joined, weight, self.from_site.bias))
        logits = self.logit(F.softplus(self.hidden(inner)))
        weights = _softmax(logits, batch.batch, batch.n_crystals)
        return _sum(sites * weights, batch.batch, batch.n_crystals)


class PlainHeads(nn.Module):
    """Heads with one hidden layer, every second of which reads the first entries alone."""

    visible: Tensor

    def __init__(self, ours: Any) -> None:  # noqa: ANN401 - reads the sizes of the package's module
        super().__init__()
        self.weights = nn.ParameterList(torch.zeros_like(weight) for weight in ours.weights)
        self.biases = nn.ParameterList(torch.zeros_like(bias) for bias in ours.biases)
        self.register_buffer("visible", ours.visible.clone(), persistent=False)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Predict with every head, shape (n_crystals, n_members, n_outputs)."""
        # Products of stacked matrices, faster than a loop over the heads.
        hidden = torch.baddbmm(self.biases[0], embeddings * self.visible, self.weights[0])
        return torch.baddbmm(self.biases[1], F.silu(hidden), self.weights[1]).transpose(0, 1)


class PlainDenoising(nn.Module):
    """Length of an edge from the embeddings of its sites, with a map of [x_j || x_i]."""

    mean: Tensor
    scale: Tensor

    def __init__(self, ours: Any) -> None:  # noqa: ANN401 - reads the sizes of the package's module
        super().__init__()
        n_in, width = ours.from_source.in_features, ours.from_source.out_features
        self.from_source = nn.Linear(n_in, width, bias=False)
        self.from_target = nn.Linear(n_in, width)
        self.out = nn.Linear(width, 1)
        for name in ("mean", "scale", "cutoff"):
            self.register_buffer(name, torch.tensor(0.0))

    def forward(self, sites: Tensor, clean: CrystalBatch) -> Tensor:
        """Loss, smooth L1 in units of the spread of the distances."""
        joined = torch.cat([sites.index_select(0, end) for end in clean.edge_index], dim=1)
        weight = torch.cat([self.from_source.weight, self.from_target.weight], dim=1)
        predicted = self.out(F.silu(F.linear(joined, weight, self.from_target.bias))).squeeze(1)
        wanted = (clean.edge_distance - self.mean) / self.scale
        return F.smooth_l1_loss(predicted, wanted)


_PLAIN: dict[str, Callable[[Any], nn.Module]] = {
    "GatedBackbone": PlainGated,
    "DeeperGATGNN": PlainDeeperGATGNN,
    "MeanReadout": lambda ours: PlainMean(ours.width),
    "MeanMaxReadout": lambda ours: PlainMeanMax(ours.width),
    "AttentionReadout": lambda ours: PlainAttentionReadout(ours.width),
    "EnsembleHead": PlainHeads,
    "DenoisingHead": PlainDenoising,
}


def plain_module(ours: nn.Module) -> nn.Module:
    """Plain form of a backbone, readout or head of the package, with its weights."""
    made = _PLAIN[type(ours).__name__](ours)
    made.load_state_dict(ours.state_dict())
    return made.train(ours.training)


def plain_encoder(ours: CrystalEncoder) -> CrystalEncoder:
    """Plain form of an encoder, with its weights."""
    return CrystalEncoder(plain_module(ours.backbone), plain_module(ours.readout))
