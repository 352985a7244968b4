import itertools
from dataclasses import replace

import pytest
import torch

from dssl_sklearn.models import ends as module
from dssl_sklearn.models.ends import edge_ends


@pytest.fixture(params=["complete", "cut", "unpaired", "symmetric"])
def batch(request, make_batch, random_batch, symmetric_batch):
    if request.param == "symmetric":
        return symmetric_batch()
    if request.param == "unpaired":
        return random_batch()
    return make_batch(drop=0.0 if request.param == "complete" else 0.2)


def test_ends_of_an_edge_have_its_sites_and_its_distance(batch):
    ends = edge_ends(batch)
    source, target = batch.edge_index
    assert (ends.site[ends.at_target] == target).all()
    assert (ends.site[ends.at_source] == source).all()
    for end in (ends.at_target, ends.at_source):
        found = ends.distance[ends.level[end]]
        torch.testing.assert_close(found, batch.edge_distance, rtol=0, atol=1e-10)


def test_no_end_is_there_twice_or_for_nothing(batch):
    ends = edge_ends(batch)
    rows = list(zip(ends.site.tolist(), ends.level.tolist(), strict=True))
    assert len(set(rows)) == len(rows)
    assert set(torch.cat([ends.at_target, ends.at_source]).tolist()) == set(range(len(ends)))
    assert (ends.level.diff() >= 0).all()
    assert set(ends.level.tolist()) == set(range(len(ends.distance)))


def test_symmetric_crystals_share(symmetric_batch):
    batch = symmetric_batch()
    ends = edge_ends(batch)
    # 12 equal distances at each of the sites of a face-centered cell.
    assert len(ends.distance) == batch.n_crystals
    assert len(ends) == batch.n_sites


def test_distances_that_need_a_gradient_stay_apart(symmetric_batch):
    batch = symmetric_batch()
    distance = batch.edge_distance.clone().requires_grad_()
    ends = edge_ends(replace(batch, edge_distance=distance))
    assert 2 * len(ends.distance) == len(distance)
    ends.distance.sum().backward()
    assert (distance.grad == 0.5).all()


def test_distances_with_two_ends_come_first(batch):
    ends = edge_ends(batch)
    counts = torch.bincount(ends.level)
    assert (counts[: ends.n_twins] == 2).all()
    assert (counts[ends.n_twins :] != 2).all()


def test_blocks_cover_everything_in_order(batch, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 7)
    ends = edge_ends(batch)
    covered = [end for block in ends.blocks for end in range(block.ends.start, block.ends.stop)]
    assert covered == list(range(len(ends)))
    for block in ends.blocks:
        assert 0 < len(block.site) <= 7
        level = torch.arange(block.levels.start, block.levels.stop)[block.level]
        assert (level == ends.level[block.ends]).all()
        assert (block.site == ends.site[block.ends]).all()
        # Every distance of the block has an end in it, the first one where its offset says.
        first = [block.level.tolist().index(k) for k in range(len(block.level_offsets))]
        assert block.level_offsets.tolist() == first
        if block.twins:
            assert block.level.tolist() == [k // 2 for k in range(len(block.site))]


def test_receipts_are_attending_sites_and_scores(batch, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 7)
    ends, n_heads = edge_ends(batch), 3
    n_edges = len(ends.target)
    found = []
    for block, receipts in zip(ends.blocks, ends.receipts(n_heads), strict=True):
        limits = [*receipts.offset.tolist(), len(receipts.row)]
        bags = itertools.product(range(block.ends.start, block.ends.stop), range(n_heads))
        for (end, head), (start, stop) in zip(bags, itertools.pairwise(limits), strict=True):
            pieces = zip(
                receipts.row[start:stop].tolist(), receipts.weight[start:stop].tolist(), strict=True
            )
            found += [(end, head, *piece) for piece in pieces]
        edges = ends.by_source[0][receipts.edges]
        assert (ends.at_source[edges] == receipts.end + block.ends.start).all()
        assert (ends.target[edges] == receipts.site).all()
    assert (ends.by_source[0][ends.source_rank] == torch.arange(n_edges)).all()
    expected = []
    for head in range(n_heads):
        for edge, (end, site) in enumerate(
            zip(ends.at_source.tolist(), ends.target.tolist(), strict=True)
        ):
            expected.append((end, head, site, edge * n_heads + head))
        for end, k in itertools.product(range(len(ends)), range(2)):
            at = n_edges * n_heads + end * 2 * n_heads + k * n_heads + head
            expected.append((end, head, batch.n_sites + k * n_heads + head, at))
    assert sorted(found) == sorted(expected)
