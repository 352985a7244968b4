"""Warnings that point at the line of the user's code that they are about."""

from __future__ import annotations

import sys
import warnings

#: Packages whose files say nothing to a user; the other ones may stand between us and the user.
_PASSED_OVER = {"dssl_sklearn", "contextlib", "joblib", "mapie", "sklearn"}


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Give a warning that is attributed to the code of the user.

    Parameters
    ----------
    message : str
        What to say.
    category : type of Warning, default=UserWarning
        Its class.
    """
    # `skip_file_prefixes` of warnings.warn does this from Python 3.12 on.
    level, frame = 2, sys._getframe(1)  # noqa: SLF001 - there is no public way as cheap
    while frame.f_back is not None:
        if frame.f_globals.get("__name__", "").split(".")[0] not in _PASSED_OVER:
            break
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
