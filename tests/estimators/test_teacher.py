"""Pretraining on numbers that come with the crystals: attached, learned, kept."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from skorch.callbacks import Callback

from dssl_sklearn import DSSLPretrainer, StructureToGraph
from dssl_sklearn.crystals.dataset import GraphDataset
from dssl_sklearn.crystals.elements import element_property
from dssl_sklearn.exceptions import InvalidInputError
from dssl_sklearn.objectives import Denoising, Teacher

SITE, CRYSTAL = ("electronegativity", "chemistry"), ("volume", "cell")
TEACHER = Teacher(site=SITE, crystal=CRYSTAL)


@pytest.fixture(scope="module")
def bare(elastic):
    graphs = StructureToGraph(n_jobs=1).fit_transform(elastic[0][:160])
    return GraphDataset.from_graphs(list(graphs))


@pytest.fixture(scope="module")
def dataset(bare):
    """Targets that a network can know: of the elements, and of the cell per atom."""
    negativity = element_property("electronegativity")[bare.numbers]
    mass = element_property("atomic_mass")[bare.numbers]
    volume = np.abs(np.linalg.det(bare.lattice)) / bare.n_sites
    total = np.add.reduceat(mass, bare.site_ptr[:-1])
    return bare.with_properties(
        site={"electronegativity": negativity, "chemistry": np.column_stack([mass, -negativity])},
        crystal={
            "volume": volume,
            "cell": np.column_stack([volume ** (1 / 3), total / bare.n_sites]),
        },
    )


@pytest.fixture
def params(tiny):
    return {**tiny, "objectives": [Denoising(), TEACHER]}


def same_weights(first, second):
    states = [
        {**p.encoder_.state_dict(), **p.net_.criterion_.state_dict()} for p in (first, second)
    ]
    return states[0].keys() == states[1].keys() and all(
        torch.equal(states[0][k], states[1][k]) for k in states[0]
    )


def test_learns_known_functions_of_unseen_crystals(dataset):
    pretrainer = DSSLPretrainer(
        objectives=TEACHER,
        backbone_params={"width": 32, "n_layers": 2, "n_basis": 16},
        max_epochs=15,
        batch_size=16,
        lr=5e-3,
        validation_fraction=0.2,
        random_state=0,
    ).fit(dataset)
    last = pretrainer.history_[-1]
    # The mean absolute deviation of a normal distribution is 0.8 standard deviations.
    for name in (*SITE, *CRYSTAL):
        assert last[f"valid_teacher_{name}_mae"] < 0.35, name
    assert last["valid_teacher_loss"] < 0.25 * pretrainer.history_[0]["train_teacher_loss"]


def test_targets_that_were_exchanged_cannot_be_learned(dataset):
    """The test above would pass on any targets if they were given away."""
    order = np.random.default_rng(0).permutation(len(dataset))
    shuffled = dataset.with_properties(
        crystal={"volume": dataset.crystal_properties["volume"][order]}
    )
    pretrainer = DSSLPretrainer(
        objectives=Teacher(crystal=("volume",)),
        backbone_params={"width": 16, "n_layers": 1, "n_basis": 8},
        max_epochs=10,
        lr=3e-3,
        validation_fraction=0.2,
        random_state=0,
    ).fit(shuffled)
    assert pretrainer.history_[-1]["valid_teacher_volume_mae"] > 0.5


def test_history_and_statistics(dataset, params):
    pretrainer = DSSLPretrainer(**params).fit(dataset)
    for part in ("train", "valid"):
        for name in (*SITE, *CRYSTAL):
            assert np.isfinite(pretrainer.history_[:, f"{part}_teacher_{name}_mae"]).all()
        assert np.isfinite(pretrainer.history_[:, f"{part}_denoise_loss"]).all()
    head = pretrainer.net_.criterion_.heads["teacher"]
    values = dataset.crystal_properties["cell"]
    np.testing.assert_allclose(head.crystal.mean[1:].numpy(), values.mean(0), rtol=1e-5)
    np.testing.assert_allclose(head.crystal.scale[1:].numpy(), values.std(0), rtol=1e-4)


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_a_dataset_is_used_as_it_is(dataset, params, monkeypatch, n_jobs):
    def forbidden(*_):
        raise AssertionError("made an object per crystal")

    expected = DSSLPretrainer(**params).fit(dataset)
    used = []
    monkeypatch.setattr(GraphDataset, "__getitem__", forbidden)
    monkeypatch.setattr(GraphDataset, "__iter__", forbidden)
    monkeypatch.setattr(GraphDataset, "from_graphs", forbidden)
    batch = GraphDataset.batch
    monkeypatch.setattr(
        GraphDataset, "batch", lambda self, rows: used.append(self) or batch(self, rows)
    )
    pretrainer = DSSLPretrainer(**params, n_jobs=n_jobs).fit(dataset)
    assert {id(graphs) for graphs in used} == {id(dataset)}
    assert same_weights(pretrainer, expected)
    assert pretrainer.transform(dataset).shape == (len(dataset), 8)
    assert np.isfinite(pretrainer.score(dataset))


def test_order_in_which_crystals_come_does_not_mix_their_targets(dataset, params):
    """The same crystals with the same targets, in another order, have the same loss."""
    pretrainer = DSSLPretrainer(**{**params, "objectives": TEACHER}).fit(dataset)
    order = np.random.default_rng(0).permutation(len(dataset))
    # One batch: its loss is a mean over the known entries of all crystals.
    pretrainer.net_.set_params(batch_size=len(dataset))
    assert pretrainer.score(dataset.take(order)) == pytest.approx(pretrainer.score(dataset))
    values = {k: v[order] for k, v in dataset.crystal_properties.items()}
    mixed = dataset.with_properties(crystal=values)
    assert pretrainer.score(mixed) < pretrainer.score(dataset)


def test_crystals_without_targets_do_not_count(dataset, params):
    half = np.arange(len(dataset)) % 2 == 0
    unknown = np.repeat(half, dataset.n_sites)
    partial = dataset.with_properties(
        site={k: np.where(unknown.reshape(-1, *[1] * (v.ndim - 1)), np.nan, v)
              for k, v in dataset.site_properties.items()},
        crystal={k: np.where(half.reshape(-1, *[1] * (v.ndim - 1)), np.nan, v)
                 for k, v in dataset.crystal_properties.items()},
    )  # fmt: skip
    pretrainer = DSSLPretrainer(**{**params, "objectives": TEACHER}).fit(partial)
    pretrainer.net_.set_params(batch_size=len(dataset))
    assert pretrainer.score(partial) == pytest.approx(pretrainer.score(dataset.take(~half)))
    head = pretrainer.net_.criterion_.heads["teacher"]
    volume = dataset.crystal_properties["volume"][~half]
    assert float(head.crystal.mean[0]) == pytest.approx(volume.mean(), rel=1e-5)


def test_save_and_load(dataset, params, tmp_path):
    pretrainer = DSSLPretrainer(**params).fit(dataset)
    pretrainer.save(tmp_path / "weights.safetensors")
    loaded = DSSLPretrainer.load(tmp_path / "weights.safetensors")
    assert loaded.objectives_ == [Denoising(), TEACHER]
    assert same_weights(loaded, pretrainer)
    np.testing.assert_array_equal(loaded.transform(dataset), pretrainer.transform(dataset))
    assert loaded.score(dataset) == pretrainer.score(dataset)


def test_goes_on_from_its_weights(dataset, params, bare):
    first = DSSLPretrainer(**params).fit(dataset)
    more = DSSLPretrainer(pretrained=first, max_epochs=1, batch_size=8, random_state=0).fit(dataset)
    assert more.objectives_ == first.objectives_
    scale = [p.net_.criterion_.heads["teacher"].site.scale for p in (first, more)]
    assert torch.equal(*scale)
    first.set_params(warm_start=True).fit(dataset)
    assert len(first.history_) == 4
    # Embedding needs no targets, and neither do other objectives.
    assert DSSLPretrainer(pretrained=first, max_epochs=0).fit(bare).transform(bare).shape[1] == 8
    DSSLPretrainer(pretrained=first, objectives="denoise", max_epochs=1, random_state=0).fit(bare)


class Interruption(Callback):
    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == 2:
            raise OSError("power cut")


def test_an_interrupted_run_ends_as_an_uninterrupted_one(dataset, params, tmp_path):
    params = {**params, "max_epochs": 4}
    whole = DSSLPretrainer(**params).fit(dataset)
    interrupted = DSSLPretrainer(**params, checkpoint_dir=tmp_path, callbacks=[Interruption()])
    with pytest.raises(OSError, match="power cut"):
        interrupted.fit(dataset)
    interrupted.set_params(callbacks=None).fit(dataset)
    assert same_weights(interrupted, whole)
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("level", ["site", "crystal"])
def test_other_targets_have_their_own_checkpoint(dataset, params, tmp_path, level):
    first = DSSLPretrainer(**params, checkpoint_dir=tmp_path).fit(dataset)
    name = {"site": "electronegativity", "crystal": "volume"}[level]
    values = getattr(dataset, f"{level}_properties")[name]
    changed = dataset.with_properties(**{level: {name: values[::-1].copy()}})
    second = clone(first).fit(changed)
    assert len(list(tmp_path.iterdir())) == 2
    assert not same_weights(first, second)


class TestErrors:
    def test_absent_site_property(self, bare, params):
        message = r"without the site properties \['chemistry', 'electronegativity'\]"
        with pytest.raises(InvalidInputError, match=message + r".*with_properties\(site="):
            DSSLPretrainer(**params).fit(bare)

    def test_absent_crystal_property(self, dataset, tiny):
        objective = Teacher(crystal=("volumes",))
        message = r"no crystal property 'volumes'; did you mean 'volume'\?; attach"
        with pytest.raises(InvalidInputError, match=message):
            DSSLPretrainer(**tiny, objectives=objective).fit(dataset)

    def test_structures_without_them(self, elastic, tiny):
        for objective in (Teacher(site=("energy",)), Teacher(crystal=("energy",))):
            with pytest.raises(InvalidInputError, match=r"'energy'.*with_properties"):
                DSSLPretrainer(**tiny, objectives=objective).fit(elastic[0][:16])

    def test_score_of_crystals_without_them(self, dataset, bare, params):
        pretrainer = DSSLPretrainer(**params).fit(dataset)
        with pytest.raises(InvalidInputError, match="without the site properties"):
            pretrainer.score(bare)

    def test_other_settings_of_the_graphs(self, dataset, params):
        with pytest.raises(InvalidInputError, match=r"cutoff=8\.0 and max_neighbors=12, exp"):
            DSSLPretrainer(**params, cutoff=6.0).fit(dataset)
