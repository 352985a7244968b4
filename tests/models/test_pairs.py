from dataclasses import replace

import torch

from dssl_sklearn.models.pairs import pair_edges


def edges_of(batch):
    source, target = batch.edge_index.tolist()
    shifts = batch.edge_shift.long().tolist()
    return set(zip(source, target, map(tuple, shifts), strict=True))


def test_pairs_hold_every_edge_once(make_batch):
    batch = make_batch()
    pairs = pair_edges(batch)
    forth = list(zip(pairs.second.tolist(), pairs.first.tolist(), strict=True))
    back = [(first, second) for second, first in forth[: pairs.n_mutual]]
    assert sorted(forth + back) == sorted(map(tuple, batch.edge_index.t().tolist()))
    assert pairs.target.tolist() == [target for _, target in forth + back]


def test_edges_with_an_edge_back_are_mutual(make_batch):
    batch = make_batch(drop=0.3)
    known = edges_of(batch)
    n_with_partner = sum((t, s, tuple(-x for x in shift)) in known for s, t, shift in known)
    assert 0 < n_with_partner < len(known)
    assert 2 * pair_edges(batch).n_mutual == n_with_partner


def test_complete_neighbor_lists_halve(make_batch):
    batch = make_batch(drop=0.0)
    assert 2 * len(pair_edges(batch)) == batch.edge_index.shape[1]


def test_distances_belong_to_their_pairs(make_batch):
    batch = make_batch()
    pairs = pair_edges(batch)
    lengths = {}
    for (source, target), distance in zip(
        batch.edge_index.t().tolist(), batch.edge_distance.tolist(), strict=True
    ):
        lengths.setdefault((target, source), []).append(distance)
    for first, second, distance in zip(
        pairs.first.tolist(), pairs.second.tolist(), pairs.distance.tolist(), strict=True
    ):
        assert any(abs(distance - length) < 1e-12 for length in lengths[first, second])


def test_edges_of_different_length_stay_apart(make_batch):
    batch = make_batch(drop=0.0)
    noise = torch.linspace(0, 0.5, len(batch.edge_distance))
    assert pair_edges(replace(batch, edge_distance=batch.edge_distance + noise)).n_mutual == 0


def test_large_image_shifts_do_not_collide(make_batch):
    batch = make_batch((1,), drop=0.0)
    shift = torch.zeros(4, 3, dtype=torch.float64)
    # Packed with a radix of 128, the second and the fourth look like (1, 0, 0) and (-1, 0, 0).
    shift[:, 0], shift[:, 1] = torch.tensor([1.0, 0, -1, 0]), torch.tensor([0.0, 128, 0, -128])
    batch = replace(
        batch,
        edge_index=torch.zeros(2, 4, dtype=torch.long),
        edge_shift=shift,
        edge_distance=torch.full((4,), 3.0, dtype=torch.float64),
    )
    pairs = pair_edges(batch)
    assert len(pairs) + pairs.n_mutual == 4


def test_gradient_reaches_both_edges(make_batch):
    batch = make_batch(drop=0.0)
    distance = batch.edge_distance.clone().requires_grad_()
    pair_edges(replace(batch, edge_distance=distance)).distance.sum().backward()
    assert (distance.grad == 0.5).all()
