import pytest
import torch
import torch.nn.functional as F

from dssl_sklearn.exceptions import InvalidInputError
from dssl_sklearn.models import EnsembleHead

USUAL = {"n_members": 8, "plain_width": None, "hidden": 64, "n_hidden_layers": 1, "dropout": 0.0}


def make_head(in_width, out_width, **others):
    return EnsembleHead(in_width, out_width, **{**USUAL, **others})


@pytest.mark.parametrize("n_hidden_layers", [0, 1, 2])
def test_members_equal_heads_by_themselves(n_hidden_layers):
    head = make_head(6, 2, n_members=3, hidden=5, n_hidden_layers=n_hidden_layers)
    embeddings = torch.randn(7, 6)
    found = head(embeddings)
    assert found.shape == (7, 3, 2)
    assert len(head.weights) == n_hidden_layers + 1
    for index in range(3):
        layers = [(w[index].T, b[index, 0]) for w, b in zip(head.weights, head.biases, strict=True)]
        rows = F.linear(embeddings, *layers[0])
        for layer in layers[1:]:
            rows = F.linear(F.silu(rows), *layer)
        torch.testing.assert_close(found[:, index], rows)


def test_members_differ_from_the_start():
    found = make_head(6, 1, n_members=4)(torch.randn(5, 6))[..., 0]
    assert (found.std(dim=1) > 1e-3).all()


def test_every_second_member_reads_the_front_alone():
    head = make_head(6, 1, n_members=4, plain_width=2)
    embeddings = torch.randn(5, 6)
    other = torch.cat([embeddings[:, :2], torch.randn(5, 4)], dim=1)
    same = (head(embeddings) == head(other)).all(dim=0)[:, 0]
    assert same.tolist() == [False, True, False, True]


def test_members_learn_apart():
    head = make_head(6, 1, n_members=3)
    head(torch.randn(5, 6))[:, 1].sum().backward()
    for parameter in head.parameters():
        moved = parameter.grad.flatten(1).abs().sum(dim=1) > 0
        assert moved.tolist() == [False, True, False]


def test_dropout_acts_in_training_only():
    head = make_head(6, 1, n_members=2, dropout=0.5)
    embeddings = torch.randn(5, 6)
    assert (head(embeddings) != head(embeddings)).any()
    head.eval()
    assert (head(embeddings) == head(embeddings)).all()


@pytest.mark.parametrize(
    "bad",
    [
        {"n_members": 0},
        {"hidden": 0},
        {"n_hidden_layers": -1},
        {"dropout": 1.0},
        {"dropout": "0.1"},
    ],
)
def test_bad_parameters(bad):
    with pytest.raises(InvalidInputError, match=f"{next(iter(bad))} must be"):
        make_head(4, 1, **bad)
