"""The networks: from scratch, pretrained and fine-tuned, as embeddings, and the paper's recipe."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from sklearn.pipeline import Pipeline, make_pipeline

from accuracy.cgcnn import CGCNNBackbone
from accuracy.classical import INNER_FOLDS, RIDGE_ALPHAS, SVR_GRID, make_ridge, make_svr
from accuracy.methods import ALONE, Method
from dssl_sklearn import DSSLPretrainer, DSSLRegressor
from dssl_sklearn.crystals.stiffness import prior_stiffness
from dssl_sklearn.datasets import Corpus
from dssl_sklearn.estimators.pretrained import shipped_weights
from dssl_sklearn.estimators.recipes import FINE_TUNE_RECIPES, RecipeName
from dssl_sklearn.objectives import Contrastive, MaskedAtoms, Microproperty

#: What the Gaussian process beside a network does; results change with it.
KERNEL = "six groups, composition apart from its spread; labels far out hardly count"


@dataclass(frozen=True)
class PaperSettings:
    """How much of the paper's recipe is run: 15 layers and 500 epochs are out of reach on a CPU.

    Attributes
    ----------
    n_layers : int
        Layers of the DeeperGATGNN backbone; the paper has 15.
    epochs : int
        Epochs of fine-tuning; the paper has 500.
    pretraining_epochs : int
        Epochs of pretraining; the paper has 500.
    n_crystals : int
        Crystals of pretraining, drawn from those of at most `max_sites` sites.
    max_sites : int
        Largest cell in pretraining.
    """

    n_layers: int = 3
    epochs: int = 40
    pretraining_epochs: int = 5
    n_crystals: int = 10_000
    max_sites: int = 20


def network_methods(
    paper: PaperSettings, weights: Path, pretrain: Callable[[], None], device: str = "auto"
) -> dict[str, Method]:
    """Methods that train networks.

    Parameters
    ----------
    paper : PaperSettings
        Reduction of the paper's recipe.
    weights : Path
        File of the paper's pretrained weights, with its card beside it.
    pretrain : callable
        Makes that file, where it is not there yet when it is needed.
    device : str, default="auto"
        torch device.

    Returns
    -------
    dict of str to Method
        By name; four methods for each set of weights that ships: fine-tuned under its name, the
        fine-tuned network alone under ``<name>:network``, and its embeddings under
        ``<name>+svr`` and ``<name>+ridge``.
    """
    of_paper = {
        "recipe": "paper",
        "max_epochs": paper.epochs,
        "backbone_params": {"n_layers": paper.n_layers},
    }
    title = f"the paper's recipe ({paper.n_layers} layers, {paper.epochs} epochs)"
    methods = {
        "cgcnn": Method(
            "CGCNN-like, from scratch",
            "networks",
            partial(make_cgcnn, device=device),
            _settings(
                {"kernel_share": 0}, backbone="CGCNNBackbone, width 64, 3 layers, 41 Gaussians"
            ),
        ),
        **_ours("scratch", "ours, from scratch", {}, device),
        "paper": Method(
            f"{title}, from scratch",
            "paper",
            partial(_make_regressor, params=of_paper, device=device),
            _settings(of_paper),
        ),
        "paper_pretrained": Method(
            f"{title}, pretrained",
            "paper",
            partial(
                _make_pretrained_paper,
                params=of_paper,
                weights=weights,
                pretrain=pretrain,
                device=device,
            ),
            _settings(of_paper, pretraining=asdict(paper)),
            card=weights.with_suffix(".json"),
        ),
    }
    for name, shipped in shipped_weights().items():
        methods |= _weights_methods(name, shipped, device)
    return methods


def _weights_methods(name: str, weights: Path, device: str) -> dict[str, Method]:
    used: dict[str, Any] = {"ours": True, "card": weights.with_suffix(".json")}
    content = {"weights": hashlib.sha256(weights.read_bytes()).hexdigest()}
    scales = ["linear", "log"]
    grid = {"grid": SVR_GRID, "scales": scales, "inner_folds": INNER_FOLDS}
    return {
        **_ours(name, f'ours, "{name}" fine-tuned', {"pretrained": name}, device, content, **used),
        f"{name}+svr": Method(
            f'SVR, "{name}" embeddings',
            "networks",
            partial(_make_on_embeddings, name=name, make=make_svr, device=device),
            {"model": "make_svr", **grid, **content},
            **used,
        ),
        f"{name}+ridge": Method(
            f'ridge, "{name}" embeddings',
            "networks",
            partial(_make_on_embeddings, name=name, make=make_ridge, device=device),
            {"model": "make_ridge", "alphas": RIDGE_ALPHAS, "clipped": True, **content},
            **used,
        ),
    }


def _ours(
    name: str,
    title: str,
    params: dict[str, Any],
    device: str,
    content: Mapping[str, str] | None = None,
    **about: Any,  # noqa: ANN401 - further fields of a method
) -> dict[str, Method]:
    """A regressor with all defaults, and with its network alone."""

    def method(title: str, params: dict[str, Any], alone: Method | None = None) -> Method:
        make = partial(_make_regressor, params=params, device=device)
        settings = _settings(params, **(content or {}))
        return Method(title, "networks", make, settings, **{"ours": True, **about, "alone": alone})

    alone = method(f"{title}, network alone", {**params, "kernel_share": 0.0})
    return {name: method(title, params, alone), name + ALONE: alone}


def _settings(params: dict[str, Any], **more: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """Arguments given, and what those not given stand for in this version."""
    recipe: RecipeName = params.get("recipe", "default")
    defaults = asdict(FINE_TUNE_RECIPES[recipe])
    settings = {"model": "DSSLRegressor", "params": params, "recipe": defaults, **more}
    if params.get("kernel_share", defaults["kernel_share"]):
        settings["kernel"] = KERNEL
    return settings


def _make_regressor(seed: int, *, params: dict[str, Any], device: str) -> DSSLRegressor:
    return DSSLRegressor(**params, device=device, random_state=seed)


def make_cgcnn(seed: int, *, device: str) -> DSSLRegressor:
    """CGCNN's convolution in our training, unfitted."""
    # A module is copied with its weights, so that they are drawn here.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = CGCNNBackbone()
    return DSSLRegressor(backbone=backbone, kernel_share=0, device=device, random_state=seed)


def _make_on_embeddings(
    seed: int, *, name: str, make: Callable[[int], Any], device: str
) -> Pipeline:
    embedder = DSSLPretrainer(pretrained=name, max_epochs=0, device=device, random_state=seed)
    return make_pipeline(embedder, make(seed))


def _make_pretrained_paper(
    seed: int, *, params: dict[str, Any], weights: Path, pretrain: Callable[[], None], device: str
) -> DSSLRegressor:
    if not weights.exists():
        pretrain()
    return DSSLRegressor(**params, pretrained=weights, device=device, random_state=seed)


def pretrain_paper(paper: PaperSettings, corpus: Corpus, path: Path, device: str) -> None:
    """Pretrain as in the paper, write weights and card; goes on after an interruption.

    The stiffness table is the prior one, from element data alone: the fitted one has seen bulk
    moduli of the elastic set.

    Parameters
    ----------
    paper : PaperSettings
        Length and size.
    corpus : Corpus
        Crystals without any formula of a test part.
    path : Path
        File of the weights; the card, which lists the formulas of the crystals, stands beside it.
    device : str
        torch device.
    """
    pretrainer = DSSLPretrainer(
        recipe="paper",
        objectives=[
            MaskedAtoms(weight=0.1),
            Microproperty(weight=0.1, values=prior_stiffness()),
            Contrastive(weight=1.0, loss="cosine", move=0.5, move_kind="sphere"),
        ],
        backbone_params={"n_layers": paper.n_layers},
        max_epochs=paper.pretraining_epochs,
        checkpoint_dir=path.with_suffix(".checkpoints"),
        device=device,
        random_state=0,
        verbose=1,
    )
    formulas = sorted(set(corpus.reduced_formulas().tolist()))
    card = {"data": {"n_crystals": len(corpus), "formulas": formulas}}
    path.with_suffix(".json").write_text(json.dumps(card), encoding="utf-8")
    pretrainer.fit(corpus).save(path)
