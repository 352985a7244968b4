import copy
import pickle

import pytest
import torch

from dssl_sklearn.models import DeeperGATGNN
from dssl_sklearn.models import workspace as module
from dssl_sklearn.models.workspace import Workspace

LIKE = torch.zeros(())


@pytest.fixture
def workspace(monkeypatch):
    monkeypatch.setattr(module, "KEPT_LAYERS", 2)
    monkeypatch.setattr(module, "KEPT_BYTES", 0)
    return Workspace()


def fill(workspace, owners, shape=(2, 3), *, keep=True):
    workspace.begin()
    for value in owners:
        workspace.claim(value, shape, LIKE, keep=keep).fill_(value)


def test_first_layers_and_the_last_are_kept(workspace):
    owners = [1000, 2000, 3000, 4000]
    fill(workspace, owners)
    recalled = [workspace.recall(owner, (2, 3)) for owner in owners]
    assert recalled[2] is None
    for k in (0, 1, 3):
        assert (recalled[k] == owners[k]).all()


def test_more_layers_are_kept_where_they_fit(workspace, monkeypatch):
    owners = [1000, 2000, 3000, 4000, 5000]
    n_bytes = 2 * 3 * LIKE.element_size()
    monkeypatch.setattr(module, "KEPT_BYTES", 4 * n_bytes)  # three kept, one shared
    fill(workspace, owners)
    kept = [workspace.recall(owner, (2, 3)) is not None for owner in owners]
    assert kept == [True, True, True, False, True]
    assert len(workspace._memory) == 4
    # A batch twice as large has room for the least number alone.
    fill(workspace, owners, shape=(4, 3))
    kept = [workspace.recall(owner, (4, 3)) is not None for owner in owners]
    assert kept == [True, True, False, False, True]
    assert len(workspace._memory) == 3


def test_without_keeping_one_tensor_serves_all(workspace):
    fill(workspace, [1000, 2000], keep=False)
    assert workspace.recall(1000, (2, 3)) is None
    assert (workspace.recall(2000, (2, 3)) == 2000).all()


def test_memory_is_used_again_by_a_smaller_batch_and_grows_for_a_larger_one(workspace):
    first = workspace.claim(1, (4, 3), LIKE, keep=True)
    workspace.begin()
    second = workspace.claim(2, (2, 3), LIKE, keep=True)
    assert second.shape == (2, 3)
    assert second.data_ptr() == first.data_ptr()
    workspace.begin()
    assert workspace.claim(3, (5, 3), LIKE, keep=True).shape == (5, 3)
    assert workspace.claim(4, (5, 3), LIKE.double(), keep=True).dtype == torch.float64


def test_what_a_later_forward_pass_writes_over_is_forgotten(workspace):
    fill(workspace, [1000, 2000])
    fill(workspace, [3000])
    assert workspace.recall(1000, (2, 3)) is None
    assert (workspace.recall(2000, (2, 3)) == 2000).all()


@pytest.mark.parametrize(
    "clone", [copy.copy, copy.deepcopy, lambda w: pickle.loads(pickle.dumps(w))]
)
def test_copies_start_empty(workspace, clone):
    fill(workspace, [1000])
    assert clone(workspace).recall(1000, (2, 3)) is None
    assert workspace.recall(1000, (2, 3)) is not None


def test_network_frees_memory_when_it_is_evaluated(make_batch):
    network = DeeperGATGNN(width=4, n_layers=2, n_heads=2, n_basis=5).double()
    network(make_batch())
    assert network._workspace._memory
    network.eval()
    assert not network._workspace._memory
    network(make_batch())
    assert not network._workspace._memory


def test_two_forward_passes_before_a_backward_pass(make_batch):
    network = DeeperGATGNN(width=4, n_layers=7, n_heads=2, n_basis=5).double()
    batches = [make_batch(seed=k) for k in range(2)]
    together = sum(network(batch).square().sum() for batch in batches)
    weights = list(network.layers.parameters())
    gradients = torch.autograd.grad(together, weights)
    one_by_one = [torch.autograd.grad(network(b).square().sum(), weights) for b in batches]
    for found, *expected in zip(gradients, *one_by_one, strict=True):
        torch.testing.assert_close(found, sum(expected), rtol=1e-10, atol=1e-10)
