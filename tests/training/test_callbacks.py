"""Callbacks of our own, on nets that are trained and on histories made by hand."""

import pickle
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.base import clone
from skorch.callbacks import Callback, EarlyStopping, LRScheduler
from skorch.history import History

from dssl_sklearn import DSSLPretrainer
from dssl_sklearn.exceptions import InvalidInputError
from dssl_sklearn.objectives.diagnostics import effective_rank
from dssl_sklearn.training.callbacks import (
    EmbeddingRank,
    StopEarly,
    TermLog,
    copy_callbacks,
)


def net_with(batches):
    """Stand-in for a net whose current epoch has these batch records."""
    history = History()
    history.new_epoch()
    for batch in batches:
        history.new_batch()
        for name, value in batch.items():
            history.record_batch(name, value)
    return SimpleNamespace(history=history, lr=1e-3)


class TestTermLog:
    def test_means_are_weighted_by_the_crystals(self):
        net = net_with(
            [
                {"train_loss": 1.0, "train_batch_size": 1, "train_mask_loss": 2.0},
                {"train_loss": 1.0, "train_batch_size": 3, "train_mask_loss": 6.0},
                {"valid_loss": 1.0, "valid_batch_size": 2, "valid_mask_loss": 9.0},
            ]
        )
        TermLog().on_epoch_end(net)
        last = net.history[-1]
        assert (last["train_mask_loss"], last["valid_mask_loss"]) == (5.0, 9.0)
        # These two are skorch's own to average.
        assert "train_loss" not in last
        assert "train_batch_size" not in last

    def test_batches_that_know_nothing_are_left_out(self):
        net = net_with(
            [
                {"train_batch_size": 1, "train_a": np.nan, "train_b": np.nan},
                {"train_batch_size": 3, "train_a": 6.0, "train_b": np.nan},
            ]
        )
        TermLog().on_epoch_end(net)
        assert net.history[-1, "train_a"] == 6.0
        assert np.isnan(net.history[-1, "train_b"])


class TestEmbeddingRank:
    def run(self, n_batches, size):
        generator = torch.Generator().manual_seed(0)
        callback, net = EmbeddingRank(), net_with([])
        callback.on_epoch_begin(net)
        crystals = [torch.randn(size, 6, generator=generator) for _ in range(n_batches)]
        for part in crystals:
            view = SimpleNamespace(crystals=part)
            callback.on_batch_end(net, training=True, y_pred=SimpleNamespace(views={0: view}))
        callback.on_epoch_end(net)
        assert callback.embeddings_ == {True: [], False: []}
        return net.history[-1, "effective_rank"], crystals

    def test_of_all_embeddings(self):
        rank, crystals = self.run(3, 10)
        assert rank == effective_rank(torch.cat(crystals))

    def test_of_the_first_thousand_or_so(self):
        rank, crystals = self.run(12, 100)
        assert rank == effective_rank(torch.cat(crystals[:11]))

    def test_nothing_to_tell(self):
        net = net_with([])
        callback = EmbeddingRank()
        callback.on_epoch_begin(net)
        callback.on_epoch_end(net)
        assert "effective_rank" not in net.history[-1]


class TestStopEarly:
    def test_needs_no_criterion_twice_in_a_pickle(self, tiny, elastic):
        params = {**tiny, "early_stopping": True, "validation_fraction": 0.25}
        pretrainer = DSSLPretrainer(**params).fit(elastic[0][:16])
        stop = dict(pretrainer.net_.callbacks_)["early_stopping"]
        assert isinstance(stop, StopEarly)
        assert stop.best_criterion_ is not None
        back = dict(pickle.loads(pickle.dumps(pretrainer)).net_.callbacks_)["early_stopping"]
        assert (back.best_criterion_, back.best_model_weights_) == (None, None)

    def test_keeps_nothing_of_an_epoch_that_is_no_number(self):
        class Net(SimpleNamespace):
            verbose = 0

        net = Net(
            **vars(net_with([])), module_=torch.nn.Linear(1, 1), criterion_=torch.nn.Linear(1, 1)
        )
        stop = StopEarly(patience=3, load_best=True)
        stop.on_train_begin(net)
        net.history.record("valid_loss", np.nan)
        net.history.record("epoch", 1)
        stop.on_epoch_end(net)
        stop.on_train_end(net)
        assert stop.best_criterion_ is None


class TestCopies:
    def test_are_new_with_equal_parameters(self):
        given = [
            EarlyStopping(patience=7),
            ("rate", LRScheduler(step_every="batch")),
            EarlyStopping,
        ]
        copies = copy_callbacks(given)
        assert copies[0] is not given[0]
        assert copies[0].patience == 7
        assert copies[1][0] == "rate"
        assert copies[1][1] is not given[1][1]
        assert copies[1][1].step_every == "batch"
        assert copies[2] is EarlyStopping

    @pytest.mark.parametrize("entry", [3, "early", ("early", 3), object, (EarlyStopping(),)])
    def test_of_anything_else_are_refused(self, entry):
        with pytest.raises(InvalidInputError, match="callbacks holds"):
            copy_callbacks([entry])


class Unbending(Callback):
    """Holds something that cannot be copied, as the loggers of trackers do."""

    def __init__(self, writer):
        self.writer = writer

    def on_epoch_end(self, net, **kwargs):
        self.writer.epochs.append(sorted(net.history[-1]))


class Writer:
    def __init__(self):
        self.epochs = []
        self.lock = threading.Lock()


class TestLoggers:
    def test_a_writer_is_shared_and_sees_every_epoch(self, tiny, elastic):
        writer = Writer()
        callback = Unbending(writer)
        DSSLPretrainer(**tiny, callbacks=[callback]).fit(elastic[0][:16])
        assert len(writer.epochs) == 2
        assert {"train_loss", "effective_rank"} <= set(writer.epochs[-1])
        assert vars(callback) == {"writer": writer}

    def test_clones_write_into_the_same_writer(self, tiny):
        writer = Writer()
        given = DSSLPretrainer(**tiny, callbacks=[("log", Unbending(writer)), Unbending])
        copied = clone(given)
        (_, callback), kind = copied.callbacks
        assert callback.writer is writer
        assert callback is not given.callbacks[0][1]
        assert kind is Unbending
