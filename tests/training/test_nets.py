"""The nets: batches, seeds, and the loss on crystals outside the training."""

import numpy as np
import pytest
import torch

from dssl_sklearn import DSSLPretrainer, DSSLRegressor
from dssl_sklearn.training.data import CrystalDataset


@pytest.fixture
def dataset(fitted_pretrainer, elastic):
    builder = fitted_pretrainer._builder(fitted_pretrainer.architecture_)
    return CrystalDataset(builder.dataset(elastic[0][:20]))


def test_the_loss_is_a_mean_over_crystals(fitted_pretrainer, dataset):
    net = fitted_pretrainer.net_
    net.seed_views(0)
    losses, sizes = [], []
    net.history.new_epoch()
    for batch in net.get_iterator(dataset, training=False):
        net.history.new_batch()
        losses.append(float(net.validation_step(batch)["loss"]))
        sizes.append(len(batch[0]))
    del net.history[-1]
    assert len(set(sizes)) > 1
    assert net.pretext_loss(dataset) == pytest.approx(np.average(losses, weights=sizes))


def test_an_interrupted_score_leaves_the_history_alone(fitted_pretrainer, dataset, monkeypatch):
    net = fitted_pretrainer.net_
    before = len(net.history)

    def fail(*_):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(net, "infer", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        net.pretext_loss(dataset)
    assert len(net.history) == before


def test_scores_do_not_depend_on_the_training_mode(fitted_pretrainer, dataset):
    net = fitted_pretrainer.net_
    expected = net.pretext_loss(dataset)
    net.module_.train()
    assert net.pretext_loss(dataset) == expected


def test_batches_cover_every_crystal_once(fitted_pretrainer, dataset):
    net = fitted_pretrainer.net_
    torch.manual_seed(0)
    for training in (True, False):
        loader = net.get_iterator(dataset, training=training)
        numbers = [batch.numbers for batch, _ in loader]
        assert len(numbers) == len(loader) == 3
        found = torch.cat(numbers).sort().values
        assert torch.equal(found, torch.tensor(dataset.graphs.numbers).long().sort().values)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_batches_can_be_cut_in_a_process_of_their_own(tiny, elastic):
    X, y = elastic[0][:16], elastic[1][:16]
    here = DSSLRegressor(**tiny).fit(X, y)
    there = DSSLRegressor(**tiny).set_params(iterator_train__num_workers=1).fit(X, y)
    np.testing.assert_array_equal(there.predict(X), here.predict(X))


def test_parts_of_an_epoch_follow_from_seed_and_epoch(tiny, elastic):
    """What is random in the second epoch does not depend on how the first one went."""
    found = []
    for lr in (1e-3, 1e-2):
        pretrainer = DSSLPretrainer(**{**tiny, "lr": lr}).fit(elastic[0][:16])
        pretrainer.net_.on_epoch_begin(pretrainer.net_)
        found.append(torch.initial_seed())
        del pretrainer.net_.history[-1]
    assert found[0] == found[1]


def test_every_epoch_draws_views_anew(tiny, elastic, dataset):
    net = DSSLPretrainer(**tiny).fit(elastic[0][:16]).net_
    net.module_.train()
    clean = dataset.graphs.batch(np.arange(8))
    drawn = []
    for _ in range(2):
        net.on_epoch_begin(net)
        drawn.append([e.view.batch.positions for e in net.infer(clean).views.values()])
    assert not all(torch.equal(a, b) for a, b in zip(*drawn, strict=True))
