"""What two processes do together; run by test_two_processes.py, which compares it with one."""

import sys
from unittest import mock

import numpy as np
import torch
import torch.distributed as dist
from accelerate import Accelerator

from dssl_sklearn import DSSLClassifier, DSSLPretrainer, DSSLRegressor
from dssl_sklearn.crystals.builder import GraphBuilder
from dssl_sklearn.crystals.store import GraphStore
from dssl_sklearn.datasets import load_elasticity
from dssl_sklearn.estimators import kernel_share
from dssl_sklearn.exceptions import InvalidInputError
from dssl_sklearn.objectives.losses import barlow_loss, cosine_loss, ntxent_loss, vicreg_loss
from dssl_sklearn.training.sharing import gather_rows, share_of_batch

OBJECTIVES = ["mask", "contrastive", "denoise", "displacement", "descriptors"]
LOSSES = {f.__name__: f for f in (barlow_loss, cosine_loss, ntxent_loss, vicreg_loss)}
TINY = {
    "backbone_params": {"width": 8, "n_layers": 1, "n_basis": 6},
    "max_epochs": 2,
    "random_state": 0,
    "validation_fraction": 0.25,
}


def crystals():
    structures, y = load_elasticity(target="log10_K_VRH", return_X_y=True)
    small = [row for row, structure in enumerate(structures) if len(structure) <= 8][:24]
    graphs = GraphBuilder(8.0, 12).usable_graphs([structures[row] for row in small], skip=False)[0]
    return graphs, y[small]


def trained(accelerator):
    """Losses, weights and predictions of pretraining and fine-tuning."""
    net = {} if accelerator is None else {"accelerator": accelerator}
    X, y = crystals()
    # The second fit has batches of one crystal, fewer than processes.
    pretrainers = [
        DSSLPretrainer(
            **TINY,
            batch_size=batch_size,
            objectives=OBJECTIVES,
            early_stopping=True,
            net_params=net,
        ).fit(X[:n])
        for n, batch_size in ((24, 8), (4, 1))
    ]
    regressor = DSSLRegressor(
        **TINY, batch_size=8, pretrained=pretrainers[0], freeze_epochs=1, net_params=net
    )
    # As with thousands of labels: most join late, and choose the share of the Gaussian process.
    with mock.patch.multiple(kernel_share, MIN_CHOSEN=24, _LATE=0.9):
        regressor.fit(X, y)
    found = {"prediction": regressor.predict(X), "embedding": pretrainers[0].transform(X)}
    found["score"] = pretrainers[0].score(X)
    for name, estimator in zip("abc", [*pretrainers, regressor], strict=True):
        epochs = [{k: v for k, v in e.items() if isinstance(v, float)} for e in estimator.history_]
        found |= {f"{name}_{k}": [e[k] for e in epochs] for k in epochs[0] if k != "dur"}
        weights = estimator.net_.get_all_learnable_params()
        found |= {f"{name}_weight_{k}": w.detach().numpy() for k, w in weights}
    return found


def trained_from_disk(accelerator, folder):
    """Losses, weights and probabilities of a classifier, everything read from a graph store."""
    net = {} if accelerator is None else {"accelerator": accelerator}
    X, y = crystals()
    if accelerator is None or accelerator.is_main_process:
        GraphStore.build(folder, X)
    if accelerator is not None:
        accelerator.wait_for_everyone()
    store = GraphStore(folder)
    pretrainer = DSSLPretrainer(**TINY, batch_size=8, net_params=net).fit(store)
    labels = np.digitize(y, np.quantile(y, [0.3, 0.6]))
    classifier = DSSLClassifier(**TINY, batch_size=8, pretrained=pretrainer, net_params=net)
    classifier.fit(store, labels)
    found = {"probability": classifier.predict_proba(store)}
    for name, estimator in (("d", pretrainer), ("e", classifier)):
        found[f"{name}_losses"] = estimator.history_[:, "train_loss"]
        weights = estimator.net_.get_all_learnable_params()
        found |= {f"{name}_weight_{k}": w.detach().numpy() for k, w in weights}
    return found


def contrastive(rank, n_ranks):
    """Values and gradients of the contrastive losses of embeddings that are spread."""
    generator = torch.Generator().manual_seed(0)
    views = torch.randn(2, 7, 5, generator=generator, dtype=torch.float64)
    own = slice(3 * rank, 3 if rank + 1 < n_ranks else 7)
    found = {}
    for name, loss in LOSSES.items():
        parts = [view[own].clone().requires_grad_() for view in views]
        whole = [gather_rows(p, own.start, 7) if n_ranks > 1 else p for p in parts]
        value = loss(*whole)
        value.backward()
        # All processes compute the same loss, and the gradient is that of their sum.
        found[name] = value.item()
        found[f"{name}_gradient"] = torch.stack([p.grad / n_ranks for p in parts]).numpy()
    return found


def in_full(found):
    """Put the gradients of the two processes together."""
    everything = [None, None]
    dist.all_gather_object(everything, found)
    return {
        k: np.concatenate([f[k] for f in everything], axis=1) if k.endswith("gradient") else v
        for k, v in found.items()
    }


def refusals(accelerator):
    """What is refused: each process with crystals of its own."""
    X, _ = crystals()
    rank = accelerator.process_index
    pretrainer = DSSLPretrainer(**TINY, batch_size=8, net_params={"accelerator": accelerator})
    try:
        pretrainer.fit(X[rank::2])
    except InvalidInputError as error:
        return str(error)
    return ""


def agreed_without_a_seed(accelerator):
    """Weights where every process would draw a seed of its own."""
    pretrainer = DSSLPretrainer(
        **{**TINY, "random_state": None}, batch_size=8, net_params={"accelerator": accelerator}
    ).fit(crystals()[0][:8])
    return torch.cat([w.detach().flatten() for w in pretrainer.encoder_.parameters()]).numpy()


def shares(n_ranks):
    """Bounds of every share of a batch."""
    X, _ = crystals()
    batch = GraphBuilder(8.0, 12).dataset(X).batch(range(24))
    return [share_of_batch(batch, rank, n_ranks) for rank in range(n_ranks)]


if __name__ == "__main__":
    torch.set_num_threads(1)
    the_accelerator = Accelerator(cpu=True)
    the_rank = the_accelerator.process_index
    result = trained(the_accelerator) | in_full(contrastive(the_rank, 2))
    result |= trained_from_disk(the_accelerator, f"{sys.argv[1]}/store")
    result["refused"] = refusals(the_accelerator)
    result["drawn"] = agreed_without_a_seed(the_accelerator)
    np.savez(f"{sys.argv[1]}/{the_rank}.npz", **result)
    the_accelerator.end_training()
