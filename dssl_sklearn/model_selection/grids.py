"""Small grids to begin a search with."""

from __future__ import annotations

from typing import Any

from dssl_sklearn.exceptions import InvalidInputError


def fine_tuning_grid(prefix: str = "") -> dict[str, list[Any]]:
    """Eight settings of a `DSSLRegressor` or `DSSLClassifier` on pretrained weights.

    The defaults are among them. Few labels favor the low learning rate of the backbone and frozen
    epochs, many labels the high one.

    Parameters
    ----------
    prefix : str, default=""
        What stands before the names, such as ``"dsslregressor__"`` in a pipeline.

    Returns
    -------
    dict of str to list
        For ``GridSearchCV`` and its kin.

    Raises
    ------
    InvalidInputError
        If `prefix` is neither empty nor ends in two underscores.

    Examples
    --------
    >>> from dssl_sklearn.model_selection import fine_tuning_grid
    >>> sorted(fine_tuning_grid())
    ['backbone_lr_factor', 'freeze_epochs', 'lr']
    """
    return _prefixed(
        prefix, {"lr": [1e-3, 2e-3], "backbone_lr_factor": [None, 0.5], "freeze_epochs": [0, 5]}
    )


def embedding_svr_grid(prefix: str = "svr__") -> dict[str, list[Any]]:
    """Twelve settings of a support vector regression on standardized embeddings.

    The defaults of scikit-learn are among them. `C` and `epsilon` are in the unit of the target:
    standardize it (``TransformedTargetRegressor``) where its spread is far from one.

    Parameters
    ----------
    prefix : str, optional
        What stands before the names; the default, ``"svr__"``, fits
        ``make_pipeline(DSSLPretrainer(pretrained="mp", max_epochs=0), StandardScaler(), SVR())``.

    Returns
    -------
    dict of str to list
        For ``GridSearchCV`` and its kin.

    Raises
    ------
    InvalidInputError
        If `prefix` is neither empty nor ends in two underscores.

    Examples
    --------
    >>> from dssl_sklearn.model_selection import embedding_svr_grid
    >>> embedding_svr_grid()["svr__C"]
    [1.0, 10.0, 100.0]
    """
    return _prefixed(
        prefix, {"C": [1.0, 10.0, 100.0], "gamma": ["scale", 0.003], "epsilon": [0.02, 0.1]}
    )


def _prefixed(prefix: str, grid: dict[str, list[Any]]) -> dict[str, list[Any]]:
    if prefix and not prefix.endswith("__"):
        raise InvalidInputError(
            f"prefix is {prefix!r}, expected the name of a step and two underscores, such as "
            f"{prefix.rstrip('_') + '__'!r}."
        )
    return {prefix + name: values for name, values in grid.items()}
