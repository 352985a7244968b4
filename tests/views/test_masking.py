import pytest
import torch

from dssl_sklearn.views.masking import MASKED, mask_sites


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("ratio, n_masked", [(0.01, 1), (0.15, 3), (0.5, 10), (1.0, 20)])
def test_share_of_the_sites_is_masked(random_batch, ratio, n_masked):
    batch = random_batch((12, 1, 7))
    view, masked = mask_sites(batch, ratio, generator())
    assert len(masked) == n_masked
    assert (masked.diff() > 0).all()
    assert (view.numbers[masked] == MASKED).all()
    assert int((view.numbers == MASKED).sum()) == n_masked


def test_everything_else_is_kept_and_the_input_left_alone(random_batch):
    batch = random_batch((12, 1, 7))
    before = batch.numbers.clone()
    view, masked = mask_sites(batch, 0.3, generator())
    kept = torch.ones(20, dtype=torch.bool)
    kept[masked] = False
    assert torch.equal(batch.numbers, before)
    assert torch.equal(view.numbers[kept], before[kept])
    assert view.edge_distance is batch.edge_distance


def test_every_site_is_masked_at_times(random_batch):
    batch = random_batch((12, 1, 7))
    source = generator()
    seen = {int(site) for _ in range(100) for site in mask_sites(batch, 0.15, source)[1]}
    assert seen == set(range(20))


def test_masks_do_not_depend_on_the_elements(random_batch):
    # The true element of a masked site must not be recoverable from the view.
    one, other = random_batch((12, 1, 7)), random_batch((12, 1, 7))
    masked = mask_sites(one, 0.3, generator())[1]
    other.numbers[masked] = 1 + other.numbers[masked] % 103
    first, second = (mask_sites(batch, 0.3, generator()) for batch in (one, other))
    assert not torch.equal(one.numbers, other.numbers)
    assert torch.equal(first[0].numbers, second[0].numbers)
    assert torch.equal(first[1], second[1])
