"""The structure tasks of matbench v0.1 with their official folds (Dunn et al. 2020)."""

from __future__ import annotations

import hashlib
import os
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import KFold, StratifiedKFold

from dssl_sklearn._atomic import atomic_path
from dssl_sklearn._checks import check_choice
from dssl_sklearn.datasets._bunch import make_bunch
from dssl_sklearn.datasets._files import explain_failure, read_json_gz
from dssl_sklearn.exceptions import DatasetError, InvalidInputError

BASE_URL = "https://ml.materialsproject.org/projects"
DATA_HOME_VARIABLE = "DSSL_SKLEARN_DATA"
_TIMEOUT_SECONDS = 60
_FOLD_SEED = 18012019  # fixed by matbench v0.1
_COMPOSITION_TASKS = ("steels", "expt_gap", "expt_is_metal", "glass")
_DUNN = (
    "A. Dunn, Q. Wang, A. Ganose, D. Dopp, A. Jain, Benchmarking materials property prediction "
    "methods: the Matbench test set and Automatminer reference algorithm, npj Comput. Mater. 6, "
    "138 (2020), doi:10.1038/s41524-020-00406-3"
)


@dataclass(frozen=True)
class MatbenchTask:
    """One task as matbench's metadata give it.

    Attributes
    ----------
    column : str
        Column of the target in the file.
    unit : str
        Its unit.
    n_rows : int
        Number of crystals; the folds hold for exactly these rows.
    sha256 : str
        Of the public file.
    meaning : str
        What the target is.
    flag : bool
        Whether the target is a class, and the folds therefore stratified.
    """

    column: str
    unit: str
    n_rows: int
    sha256: str
    meaning: str
    flag: bool = False


TASKS = {
    "matbench_jdft2d": MatbenchTask(
        "exfoliation_en",
        "meV/atom",
        636,
        "26057dc4524e193e32abffb296ce819b58b6e11d1278cae329a2f97817a4eddf",
        "exfoliation energy of layered crystals",
    ),
    "matbench_phonons": MatbenchTask(
        "last phdos peak",
        "1/cm",
        1265,
        "4db551f21ec5f577e6202725f10e34dfc509aa7df3a6bdaac497da7f6dbbb9b3",
        "frequency of the last peak of the phonon density of states",
    ),
    "matbench_dielectric": MatbenchTask(
        "n",
        "1",
        4764,
        "83befa09bc2ec2f4b6143afc413157827a90e5e2e42c1eb507ccfa01bf26a1d6",
        "refractive index",
    ),
    "matbench_log_gvrh": MatbenchTask(
        "log10(G_VRH)",
        "log10(GPa)",
        10987,
        "098af941f4c663270f1fe21abf20ffad6fb85ecbfcba5786ceac03983ac29da7",
        "decimal logarithm of the shear modulus (Voigt-Reuss-Hill)",
    ),
    "matbench_log_kvrh": MatbenchTask(
        "log10(K_VRH)",
        "log10(GPa)",
        10987,
        "44b113ddb7e23aa18731a62c74afa7e5aa654199e0db5f951c8248a00955c9cd",
        "decimal logarithm of the bulk modulus (Voigt-Reuss-Hill)",
    ),
    "matbench_perovskites": MatbenchTask(
        "e_form",
        "eV/unit cell",
        18928,
        "4641e2417f8ec8b50096d2230864468dfa08278dc9d257c327f65d0305278483",
        "heat of formation of the five-atom perovskite cell",
    ),
    "matbench_mp_gap": MatbenchTask(
        "gap pbe",
        "eV",
        106113,
        "58b65746bd88329986ed66031a2ac1369c7c522f7bc9f9081528e07097c2c057",
        "band gap (PBE)",
    ),
    "matbench_mp_is_metal": MatbenchTask(
        "is_metal",
        "1",
        106113,
        "9a028ed5750a4c76ca36e9f3c8d48fe0bf3fb21b76ec2289e58ae7048d527919",
        "flag: whether the crystal is a metal (PBE)",
        flag=True,
    ),
    "matbench_mp_e_form": MatbenchTask(
        "e_form",
        "eV/atom",
        132752,
        "dedcb1d4ba2e3e50dbdd45ba5bc647a00e9c2bcf8f8bf556dc8e92caa39eb21f",
        "formation energy",
    ),
}


def get_data_home(data_home: str | os.PathLike[str] | None = None) -> Path:
    """Find the folder that downloaded data sets are kept in.

    Parameters
    ----------
    data_home : str or path-like, optional
        The folder; by default the environment variable ``DSSL_SKLEARN_DATA``, else
        ``~/dssl_sklearn_data``.

    Returns
    -------
    Path
        The folder. It is made when something is first put there.
    """
    chosen = data_home or os.environ.get(DATA_HOME_VARIABLE) or "~/dssl_sklearn_data"
    return Path(chosen).expanduser()


def fetch_matbench(
    name: str,
    data_home: str | os.PathLike[str] | None = None,
    *,
    download_if_missing: bool = True,
    return_X_y: bool = False,
    as_frame: bool = False,
) -> Any:  # noqa: ANN401 - Bunch, or (X, y) if asked for
    """Load a structure task of matbench v0.1, downloading it at the first use.

    Parameters
    ----------
    name : str
        Such as ``"matbench_jdft2d"`` or ``"jdft2d"``; also ``phonons``, ``dielectric``,
        ``log_gvrh``, ``log_kvrh``, ``perovskites``, ``mp_gap``, ``mp_is_metal`` and ``mp_e_form``.
    data_home : str or path-like, optional
        Folder that holds, or will hold, ``<name>.json.gz``; see `get_data_home`.
    download_if_missing : bool, default=True
        Download the file where it is missing; if False, that is an error.
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.
    as_frame : bool, default=False
        Hand out pandas objects, with matbench's identifiers as index.

    Returns
    -------
    Bunch or tuple
        data : list of Structure, or DataFrame of shape (n, 1)
            The crystals in the official order.
        target : ndarray or Series of shape (n,)
            Float, or bool for ``mp_is_metal``.
        folds : list of 5 tuples (train, test) of ndarray of int
            Rows of the official folds; fit for ``cv=`` of scikit-learn's functions.
        frame : DataFrame or None
            Structures and target side by side, if `as_frame`.
        target_names : list of str
            The target's name in the file.
        unit : str
            Its unit.
        units : dict of str to str
            The same by the target's name, as from the other loaders.
        ids, formulas : list of str
            Matbench's identifiers and reduced formulas.
        DESCR, filename : str
            Description with citation; the file that was read.

    Raises
    ------
    InvalidInputError
        If the name is unknown, or that of a task without structures.
    DatasetError
        If the file is missing, damaged, not the whole task, or cannot be downloaded.

    References
    ----------
    A. Dunn et al., npj Comput. Mater. 6, 138 (2020), doi:10.1038/s41524-020-00406-3.
    """
    name = _full_name(name)
    task = TASKS[name]
    path = get_data_home(data_home) / f"{name}.json.gz"
    if not path.exists():
        if not download_if_missing:
            raise DatasetError(
                f"{path} does not exist. Download it from {BASE_URL}/{path.name}, name the folder "
                "that has it as data_home, or allow download_if_missing."
            )
        _download(f"{BASE_URL}/{path.name}", path, task.sha256)
    structures, target = _read(path, task)
    bunch = make_bunch(
        structures,
        {task.column: target},
        task.column,
        _identifiers(name, task),
        as_frame=as_frame,
        folds=official_folds(target, stratify=task.flag),
        unit=task.unit,
        units={task.column: task.unit},
        formulas=[structure.composition.reduced_formula for structure in structures],
        DESCR=_describe(name, task),
        filename=str(path),
    )
    return (bunch.data, bunch.target) if return_X_y else bunch


def official_folds(
    target: NDArray[Any], *, stratify: bool = False
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Split rows as matbench v0.1 does.

    Parameters
    ----------
    target : ndarray of shape (n,)
        Targets in the official order of the rows.
    stratify : bool, default=False
        Keep the share of each class, as matbench does for its classification tasks.

    Returns
    -------
    list of 5 tuples (train, test) of ndarray of int
        Row numbers.
    """
    splitter = StratifiedKFold if stratify else KFold
    folds = splitter(n_splits=5, shuffle=True, random_state=_FOLD_SEED)
    return list(folds.split(np.zeros((len(target), 1)), target))


def _full_name(name: str) -> str:
    short = name.removeprefix("matbench_")
    if short in _COMPOSITION_TASKS:
        raise InvalidInputError(
            f"name={name!r} is a matbench task of compositions without structures; crystal graphs "
            f"need one of {', '.join(TASKS)}."
        )
    check_choice("name", short, [task.removeprefix("matbench_") for task in TASKS])
    return f"matbench_{short}"


def _read(path: Path, task: MatbenchTask) -> tuple[list[Any], NDArray[Any]]:
    from pymatgen.core import Structure

    cure = "Delete it, so that it is downloaded anew, or put a whole copy in its place."
    record = read_json_gz(path, cure)
    with explain_failure(path, cure):
        if record["columns"] != ["structure", task.column]:
            raise DatasetError(
                f"{path} has the columns {record['columns']}, expected "
                f"{['structure', task.column]}. {cure}"
            )
        if len(record["data"]) != task.n_rows:
            raise DatasetError(
                f"{path} has {len(record['data'])} rows, expected {task.n_rows}: without all of "
                f"them, in order, the folds are not the official ones. {cure}"
            )
        structures = [Structure.from_dict(structure) for structure, _ in record["data"]]
        target = np.array([value for _, value in record["data"]], bool if task.flag else np.float64)
    return structures, target


def _download(url: str, path: Path, sha256: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as part:
            part.write_bytes(_fetched(url, sha256))
    except (OSError, ValueError) as error:
        raise DatasetError(
            f"cannot download {url} to {path} ({type(error).__name__}: {error}). Check the "
            f"connection, or download it by hand and name its folder as data_home or in "
            f"{DATA_HOME_VARIABLE}."
        ) from error


def _fetched(url: str, sha256: str) -> bytes:
    with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as response:  # noqa: S310 - BASE_URL is fixed
        content: bytes = response.read()
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise ValueError(f"sha256 is {found}, expected {sha256}")
    return content


def _identifiers(name: str, task: MatbenchTask) -> list[str]:
    stem = name.removeprefix("matbench_")
    width = len(str(task.n_rows))
    return [f"mb-{stem}-{row:0{width}d}" for row in range(1, task.n_rows + 1)]


def _describe(name: str, task: MatbenchTask) -> str:
    return (
        f"{name}\n{'=' * len(name)}\n"
        f"{task.n_rows} crystals of matbench v0.1 in the official order.\n\n"
        f"Targets\n-------\n- {task.column} [{task.unit}]: {task.meaning}\n\n"
        f"Folds\n-----\nThe five official ones: shuffled with the seed {_FOLD_SEED}"
        f"{', stratified by class' if task.flag else ''}.\n\n"
        f"Source\n------\n{BASE_URL}/{name}.json.gz\n\n"
        f"References\n----------\n- {_DUNN}\n"
    )
