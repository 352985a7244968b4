from dataclasses import replace

import torch

from dssl_sklearn.models.pairs import pair_edges


def members(pair):
    """Edges of each pair."""
    return [(pair == k).nonzero().flatten().tolist() for k in range(int(pair.max()) + 1)]


def test_two_edges_of_a_pair_run_back_and_forth(make_batch):
    batch = make_batch()
    pair, _ = pair_edges(batch)
    source, target = batch.edge_index
    sizes = [len(edges) for edges in members(pair)]
    assert set(sizes) == {1, 2}
    for edges in members(pair):
        if len(edges) == 2:
            a, b = edges
            assert (source[a], target[a]) == (target[b], source[b])
            assert (batch.edge_shift[a] == -batch.edge_shift[b]).all()


def test_every_edge_with_an_edge_back_has_a_partner(make_batch):
    batch = make_batch(drop=0.3)
    source, target = batch.edge_index.tolist()
    shifts = map(tuple, batch.edge_shift.long().tolist())
    known = set(zip(source, target, shifts, strict=True))
    n_with_partner = sum((t, s, tuple(-x for x in shift)) in known for s, t, shift in known)
    pair, distance = pair_edges(batch)
    assert 0 < n_with_partner < len(known)
    assert 2 * (len(pair) - len(distance)) == n_with_partner


def test_complete_neighbor_lists_halve(make_batch):
    batch = make_batch(drop=0.0)
    assert 2 * len(pair_edges(batch)[1]) == batch.edge_index.shape[1]


def test_distances_belong_to_their_pairs(make_batch):
    batch = make_batch()
    pair, distance = pair_edges(batch)
    torch.testing.assert_close(distance[pair], batch.edge_distance, rtol=0, atol=1e-12)


def test_edges_of_different_length_stay_apart(make_batch):
    batch = make_batch(drop=0.0)
    noise = torch.linspace(0, 0.5, len(batch.edge_distance))
    pair, distance = pair_edges(replace(batch, edge_distance=batch.edge_distance + noise))
    assert len(distance) == len(pair)


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
    pair, _ = pair_edges(batch)
    assert pair[0] != pair[1]
    assert pair[0] != pair[3]


def test_gradient_reaches_both_edges(make_batch):
    batch = make_batch(drop=0.0)
    distance = batch.edge_distance.clone().requires_grad_()
    pair_edges(replace(batch, edge_distance=distance))[1].sum().backward()
    assert (distance.grad == 0.5).all()
