"""Works to cite for what an estimator is made of, as BibTeX."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dssl_sklearn._checks import check_choice
from dssl_sklearn.estimators.base import CrystalEstimator
from dssl_sklearn.estimators.pretrained import is_fitted_pretrainer, shipped_record, shipped_weights
from dssl_sklearn.estimators.recipes import FINE_TUNE_RECIPES, PRETRAIN_RECIPES
from dssl_sklearn.objectives import Microproperty, Objective

BIBTEX = {
    "dssl": """@article{fu2024dssl,
  author  = {Fu, Nihang and Wei, Lai and Hu, Jianjun},
  title   = {Physics-Guided Dual Self-Supervised Learning for Structure-Based Material Property
             Prediction},
  journal = {The Journal of Physical Chemistry Letters},
  volume  = {15},
  number  = {10},
  pages   = {2841--2850},
  year    = {2024},
  doi     = {10.1021/acs.jpclett.4c00100}
}""",
    "deeper_gatgnn": """@article{omee2022deepergatgnn,
  author  = {Omee, Sadman Sadeed and Louis, Steph-Yves and Fu, Nihang and Wei, Lai and
             Dey, Sourin and Dong, Rongzhi and Li, Qinyang and Hu, Jianjun},
  title   = {Scalable deeper graph neural networks for high-performance materials property
             prediction},
  journal = {Patterns},
  volume  = {3},
  pages   = {100491},
  year    = {2022},
  doi     = {10.1016/j.patter.2022.100491}
}""",
    "gated": """@article{xie2018cgcnn,
  author  = {Xie, Tian and Grossman, Jeffrey C.},
  title   = {Crystal Graph Convolutional Neural Networks for an Accurate and Interpretable
             Prediction of Material Properties},
  journal = {Physical Review Letters},
  volume  = {120},
  pages   = {145301},
  year    = {2018},
  doi     = {10.1103/PhysRevLett.120.145301}
}""",
    "stiffness": """@article{jin2023atomic,
  author  = {Jin, Ruihua and Yuan, Xiaoang and Gao, Enlai},
  title   = {Atomic stiffness for bulk modulus prediction and high-throughput screening of
             ultraincompressible crystals},
  journal = {Nature Communications},
  volume  = {14},
  pages   = {4258},
  year    = {2023},
  doi     = {10.1038/s41467-023-39826-7}
}""",
    "materials_project": """@article{jain2013materialsproject,
  author  = {Jain, Anubhav and Ong, Shyue Ping and Hautier, Geoffroy and Chen, Wei and
             Richards, William Davidson and Dacek, Stephen and Cholia, Shreyas and Gunter, Dan and
             Skinner, David and Ceder, Gerbrand and Persson, Kristin A.},
  title   = {Commentary: The Materials Project: A materials genome approach to accelerating
             materials innovation},
  journal = {APL Materials},
  volume  = {1},
  pages   = {011002},
  year    = {2013},
  doi     = {10.1063/1.4812323}
}""",
    "chgnet": """@article{deng2023chgnet,
  author  = {Deng, Bowen and Zhong, Peichen and Jun, KyuJung and Riebesell, Janosh and Han, Kevin
             and Bartel, Christopher J. and Ceder, Gerbrand},
  title   = {CHGNet as a pretrained universal neural network potential for charge-informed
             atomistic modelling},
  journal = {Nature Machine Intelligence},
  volume  = {5},
  pages   = {1031--1041},
  year    = {2023},
  doi     = {10.1038/s42256-023-00716-3}
}""",
    "matbench": """@article{dunn2020matbench,
  author  = {Dunn, Alexander and Wang, Qi and Ganose, Alex and Dopp, Daniel and Jain, Anubhav},
  title   = {Benchmarking materials property prediction methods: the Matbench test set and
             Automatminer reference algorithm},
  journal = {npj Computational Materials},
  volume  = {6},
  pages   = {138},
  year    = {2020},
  doi     = {10.1038/s41524-020-00406-3}
}""",
    "elasticity": """@article{dejong2015elastic,
  author  = {de Jong, Maarten and Chen, Wei and Angsten, Thomas and Jain, Anubhav and
             Notestine, Randy and Gamst, Anthony and Sluiter, Marcel and Krishna Ande, Chaitanya and
             van der Zwaag, Sybrand and Plata, Jose J. and Toher, Cormac and Curtarolo, Stefano and
             Ceder, Gerbrand and Persson, Kristin A. and Asta, Mark},
  title   = {Charting the complete elastic properties of inorganic crystalline compounds},
  journal = {Scientific Data},
  volume  = {2},
  pages   = {150009},
  year    = {2015},
  doi     = {10.1038/sdata.2015.9}
}""",
    "dielectric": """@article{petousis2017dielectric,
  author  = {Petousis, Ioannis and Mrdjenovich, David and Ballouz, Eric and Liu, Miao and
             Winston, Donald and Chen, Wei and Graf, Tanja and Schladt, Thomas D. and
             Persson, Kristin A. and Prinz, Fritz B.},
  title   = {High-throughput screening of inorganic compounds for the discovery of novel dielectric
             and optical materials},
  journal = {Scientific Data},
  volume  = {4},
  pages   = {160134},
  year    = {2017},
  doi     = {10.1038/sdata.2016.134}
}""",
    "piezoelectricity": """@article{dejong2015piezoelectric,
  author  = {de Jong, Maarten and Chen, Wei and Geerlings, Henry and Asta, Mark and
             Persson, Kristin A.},
  title   = {A database to enable discovery and design of piezoelectric materials},
  journal = {Scientific Data},
  volume  = {2},
  pages   = {150053},
  year    = {2015},
  doi     = {10.1038/sdata.2015.53}
}""",
    "formation_energy": """@article{faber2015formation,
  author  = {Faber, Felix and Lindmaa, Alexander and von Lilienfeld, O. Anatole and
             Armiento, Rickard},
  title   = {Crystal structure representations for machine learning models of formation energies},
  journal = {International Journal of Quantum Chemistry},
  volume  = {115},
  pages   = {1094--1101},
  year    = {2015},
  doi     = {10.1002/qua.24917}
}""",
}
#: Data sets that only the user knows were used.
DATA_SETS = ("matbench", "elasticity", "dielectric", "piezoelectricity", "formation_energy")


def citation_keys(estimator: CrystalEstimator, data: Iterable[str] = ()) -> list[str]:
    """Keys into `BIBTEX` of what an estimator is made of.

    Parameters
    ----------
    estimator : CrystalEstimator
        Fitted: what was used; unfitted: what would be.
    data : iterable of str, default=()
        Data sets that were used, among `DATA_SETS`.

    Returns
    -------
    list of str
        Without repetition, the method first.

    Raises
    ------
    InvalidInputError
        If a data set is unknown.
    """
    chosen = [data] if isinstance(data, str) else list(data)
    for name in chosen:
        check_choice("data", name, DATA_SETS)
    record = getattr(estimator, "fit_record_", None) or {
        "starts_from": _record_of(estimator.pretrained)
    }
    keys = ["dssl", *_backbone(estimator), *_of_objectives(_objectives(estimator))]
    for step in lineage(record):
        keys += step.get("citations", [])
        if "weights" in step:
            keys += ["materials_project"]
            keys += ["chgnet"] if step["weights"] == "mp-distilled" else []
    return [key for key in dict.fromkeys([*keys, *chosen]) if key in BIBTEX]


def lineage(record: Mapping[str, Any] | None) -> Iterable[Mapping[str, Any]]:
    """The record of a fit, that of the weights it started from, and so on."""
    while record:
        yield record
        record = record.get("starts_from")


def license_of(record: Mapping[str, Any] | None) -> str | None:
    """License of the corpora that pretrained weights learned from, None where none is known."""
    found = dict.fromkeys(step["license"] for step in lineage(record) if step.get("license"))
    return "; ".join(found) or None


def _record_of(pretrained: Any) -> Mapping[str, Any] | None:  # noqa: ANN401
    if is_fitted_pretrainer(pretrained):
        record: Mapping[str, Any] | None = pretrained.fit_record_
        return record
    path = shipped_weights().get(str(pretrained))
    return None if path is None else shipped_record(path)


def _backbone(estimator: CrystalEstimator) -> list[str]:
    if hasattr(estimator, "architecture_"):
        return [str(estimator.architecture_.backbone)]
    if estimator.backbone is not None:
        return [str(estimator.backbone)]
    if is_fitted_pretrainer(estimator.pretrained):
        return [str(estimator.pretrained.architecture_.backbone)]
    recipes = {**FINE_TUNE_RECIPES, **PRETRAIN_RECIPES}
    shipped = str(estimator.pretrained) in shipped_weights()
    return [str(recipes["default" if shipped else estimator.recipe].backbone)]


def _objectives(estimator: CrystalEstimator) -> list[Objective]:
    pretrained = getattr(estimator, "pretrainer_", estimator.pretrained)
    for source in (estimator, pretrained):
        if hasattr(source, "objectives_"):
            return list(source.objectives_)
    return []


def _of_objectives(objectives: list[Objective]) -> list[str]:
    uses_stiffness = any(
        isinstance(o, Microproperty) and isinstance(o.values, str) and o.values == "stiffness"
        for o in objectives
    )
    return ["stiffness"] if uses_stiffness else []
