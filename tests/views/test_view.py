from dataclasses import replace

import pytest
import torch

from dssl_sklearn.exceptions import InvalidInputError
from dssl_sklearn.views.view import ViewSpec, draw_view, draw_views, stack_views

FULL = ViewSpec(mask_ratio=0.3, move=0.2, strain=0.02)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    "setting, message",
    [
        ({"mask_ratio": 1.5}, "mask_ratio must be between 0 and 1, got 1.5"),
        ({"mask_ratio": float("nan")}, "mask_ratio must be between 0 and 1, got nan"),
        ({"mask_ratio": True}, "mask_ratio must be between 0 and 1, got True"),
        ({"move": True}, "move must be a finite number >= 0, got True"),
        ({"move": -0.1}, "move must be a finite number >= 0, got -0.1"),
        ({"move": "much"}, "move must be a finite number >= 0, got 'much'"),
        ({"strain": float("inf")}, "strain must be a finite number >= 0, got inf"),
        ({"move": 0.1, "move_kind": "ball"}, "move_kind must be one of .*, got 'ball'"),
    ],
)
def test_unusable_settings_are_named(setting, message):
    with pytest.raises(InvalidInputError, match=message):
        ViewSpec(**setting)


def test_kind_of_moves_does_not_matter_without_moves():
    assert ViewSpec(mask_ratio=0.15, move_kind="sphere") == ViewSpec(mask_ratio=0.15)
    assert ViewSpec(move=0.1, move_kind="sphere") != ViewSpec(move=0.1)


def test_plain_view_is_the_clean_batch(random_batch):
    batch = random_batch()
    view = draw_view(batch, ViewSpec(), generator())
    assert len(view.masked) == 0
    assert torch.equal(view.batch.numbers, batch.numbers)
    assert torch.equal(view.batch.edge_distance, batch.edge_distance)


def test_all_changes_at_once(random_batch, brute_distances):
    batch = random_batch()
    view = draw_view(batch, FULL, generator())
    assert (view.batch.numbers[view.masked] == 0).all()
    assert not torch.allclose(view.batch.lattice, batch.lattice)
    torch.testing.assert_close(view.batch.edge_distance, brute_distances(view.batch))


def test_moves_are_of_the_kind_asked_for(random_batch):
    batch = random_batch()
    view = draw_view(batch, ViewSpec(move=0.5, move_kind="sphere"), generator())
    length = (view.batch.positions - batch.positions).norm(dim=1)
    torch.testing.assert_close(length, torch.full_like(length, 0.5))


def test_targets_do_not_travel_with_the_view(random_batch):
    batch = random_batch(properties=("magmom",))
    batch = replace(batch, crystal_properties={"energy": torch.zeros(len(batch))})
    plain, full = (draw_view(batch, spec, generator()).batch for spec in (ViewSpec(), FULL))
    for view in (plain, full, stack_views([batch]), stack_views([batch, batch])):
        assert view.site_properties == {}
        assert view.crystal_properties == {}
    assert batch.site_properties
    assert batch.crystal_properties


def test_true_elements_of_masked_sites_do_not_reach_the_network(random_batch, network):
    batch = random_batch()
    view = draw_view(batch, FULL, generator())
    numbers = batch.numbers.clone()
    numbers[view.masked] = 1 + numbers[view.masked] % 103
    again = draw_view(replace(batch, numbers=numbers), FULL, generator())
    assert torch.equal(again.masked, view.masked)
    for one, other in zip(network(view.batch), network(again.batch), strict=True):
        assert torch.equal(one, other)


def test_equal_specs_share_a_view_and_draws_differ(random_batch):
    batch = random_batch()
    second = replace(FULL, draw=1)
    views = draw_views(batch, [FULL, second, replace(FULL)], generator())
    assert list(views) == [FULL, second]
    assert not torch.allclose(views[FULL].batch.positions, views[second].batch.positions)
    assert not torch.allclose(views[FULL].batch.lattice, views[second].batch.lattice)


def test_views_repeat_for_equal_seeds_and_go_on_for_one_generator(random_batch):
    batch = random_batch()
    source = generator(3)
    first, later = (draw_view(batch, FULL, source) for _ in range(2))
    again = draw_view(batch, FULL, generator(3))
    assert torch.equal(first.batch.edge_distance, again.batch.edge_distance)
    assert torch.equal(first.masked, again.masked)
    assert not torch.allclose(first.batch.edge_distance, later.batch.edge_distance)


@pytest.mark.parametrize("spec", [ViewSpec(move=0.2), ViewSpec(strain=0.02), FULL])
def test_distances_keep_their_precision_under_autocast(random_batch, spec):
    batch = random_batch(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        view = draw_view(batch, spec, generator())
    plain = draw_view(batch, spec, generator())
    assert view.batch.edge_distance.dtype == torch.float32
    assert torch.equal(view.batch.edge_distance, plain.batch.edge_distance)


def test_distances_keep_their_precision_where_matrix_products_have_less(random_batch):
    batch = random_batch(dtype=torch.float32)
    plain = draw_view(batch, FULL, generator())
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")  # bfloat16 where the processor has it
    try:
        view = draw_view(batch, FULL, generator())
    finally:
        torch.set_float32_matmul_precision(before)
    assert torch.equal(view.batch.edge_distance, plain.batch.edge_distance)


def test_one_pass_over_stacked_views_equals_separate_passes(random_batch, network):
    batch = random_batch()
    specs = [FULL, ViewSpec(move=0.1), ViewSpec(mask_ratio=0.5)]
    views = [view.batch for view in draw_views(batch, specs, generator()).values()]
    stacked = stack_views(views)
    assert len(stacked) == 3 * len(batch)
    assert (stacked.edge_index[1].diff() >= 0).all()
    assert (stacked.batch.diff() >= 0).all()
    sites, crystals = network(stacked)
    separate = [network(view) for view in views]
    torch.testing.assert_close(sites, torch.cat([s for s, _ in separate]))
    torch.testing.assert_close(crystals, torch.cat([c for _, c in separate]))
    torch.testing.assert_close(
        stacked.edge_vectors(), torch.cat([view.edge_vectors() for view in views])
    )


def test_batches_of_different_sizes_stack_too(random_batch, network):
    parts = [random_batch((2, 3), seed=1), random_batch((4,), seed=2)]
    torch.testing.assert_close(
        network(stack_views(parts))[1], torch.cat([network(part)[1] for part in parts])
    )


def test_no_view_is_refused():
    with pytest.raises(InvalidInputError, match="views is empty"):
        stack_views([])
