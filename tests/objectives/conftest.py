import pytest
import torch

from dssl_sklearn.objectives import EncodedView
from dssl_sklearn.views.view import draw_views


@pytest.fixture
def encode(network):
    """Draw the views of some specs and pass them through the small network."""

    def run(specs, batch, seed=0):
        views = draw_views(batch, specs, torch.Generator().manual_seed(seed))
        return {spec: EncodedView(view, *network(view.batch)) for spec, view in views.items()}

    return run


@pytest.fixture
def run_head(encode):
    """Outcome of an objective's head on a batch."""

    def run(objective, head, batch, seed=0):
        return head(list(encode(objective.specs(), batch, seed).values()), batch)

    return run


@pytest.fixture
def assert_trains(network, run_head):
    """Check that the gradient of the loss reaches every weight of head and network."""

    def check(objective, head, batch):
        run_head(objective, head, batch).loss.backward()
        for part in (network, head):
            for name, weight in part.named_parameters():
                assert weight.grad is not None, name
                assert weight.grad.isfinite().all(), name
                assert weight.grad.abs().sum() > 0, name

    return check
