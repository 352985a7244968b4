import pytest
import torch

from dssl_sklearn.exceptions import InvalidInputError
from dssl_sklearn.models import EnsembleHead, MLPHead


def member(head, index):
    """The head of this number, as one by itself."""
    hidden = head.weights[0].shape[2] if len(head.weights) > 1 else 1
    single = MLPHead(
        head.weights[0].shape[1],
        head.weights[-1].shape[2],
        hidden=hidden,
        n_hidden_layers=len(head.weights) - 1,
    )
    linear = [layer for layer in single.layers if isinstance(layer, torch.nn.Linear)]
    with torch.no_grad():
        for layer, weight, bias in zip(linear, head.weights, head.biases, strict=True):
            layer.weight.copy_(weight[index].T)
            layer.bias.copy_(bias[index, 0])
    return single


@pytest.mark.parametrize("n_hidden_layers", [0, 1, 2])
def test_members_equal_heads_by_themselves(n_hidden_layers):
    head = EnsembleHead(6, 2, n_members=3, hidden=5, n_hidden_layers=n_hidden_layers)
    embeddings = torch.randn(7, 6)
    found = head(embeddings)
    assert found.shape == (7, 3, 2)
    for index in range(3):
        torch.testing.assert_close(found[:, index], member(head, index)(embeddings))


def test_members_differ_from_the_start():
    found = EnsembleHead(6, 1, n_members=4)(torch.randn(5, 6))[..., 0]
    assert (found.std(dim=1) > 1e-3).all()


def test_every_second_member_reads_the_front_alone():
    head = EnsembleHead(6, 1, n_members=4, plain_width=2)
    embeddings = torch.randn(5, 6)
    other = torch.cat([embeddings[:, :2], torch.randn(5, 4)], dim=1)
    same = (head(embeddings) == head(other)).all(dim=0)[:, 0]
    assert same.tolist() == [False, True, False, True]


def test_members_learn_apart():
    head = EnsembleHead(6, 1, n_members=3)
    head(torch.randn(5, 6))[:, 1].sum().backward()
    for parameter in head.parameters():
        moved = parameter.grad.flatten(1).abs().sum(dim=1) > 0
        assert moved.tolist() == [False, True, False]


def test_dropout_acts_in_training_only():
    head = EnsembleHead(6, 1, n_members=2, dropout=0.5)
    embeddings = torch.randn(5, 6)
    assert (head(embeddings) != head(embeddings)).any()
    head.eval()
    assert (head(embeddings) == head(embeddings)).all()


@pytest.mark.parametrize("bad", [{"n_members": 0}, {"hidden": 0}, {"dropout": 2.0}])
def test_bad_parameters(bad):
    with pytest.raises(InvalidInputError, match=next(iter(bad))):
        EnsembleHead(4, 1, **bad)
