"""What runs out of memory says so, and what to do, in one error."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from dssl_sklearn.exceptions import OutOfMemoryError

_P = ParamSpec("_P")
_Result = TypeVar("_Result")
_Self = TypeVar("_Self", bound=Any)

#: What torch says of a tensor that finds no place, on the CPU and on a GPU.
_WORDS = ("can't allocate memory", "not enough memory", "out of memory")


def explains_memory(
    method: Callable[Concatenate[_Self, _P], _Result],
) -> Callable[Concatenate[_Self, _P], _Result]:
    """Decorate a method of an estimator: out of memory, it raises ``OutOfMemoryError``.

    torch raises a ``RuntimeError`` for want of memory, numpy a ``MemoryError``.
    """

    @functools.wraps(method)
    def wrapped(self: _Self, /, *args: _P.args, **kwargs: _P.kwargs) -> _Result:
        try:
            return method(self, *args, **kwargs)
        except (MemoryError, RuntimeError) as error:
            if isinstance(error, OutOfMemoryError) or not is_out_of_memory(error):
                raise
            raise OutOfMemoryError(
                f"memory is not enough for this {type(self).__name__} "
                f"({str(error).splitlines()[0] if str(error) else 'no place'}); lower `batch_size` "
                f"(now {self.batch_size}) or `width` and `n_layers` in `backbone_params`, hand in "
                "fewer or smaller crystals, or stream them"
            ) from error

    return wrapped


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error stands for want of memory."""
    return isinstance(error, MemoryError) or any(word in str(error) for word in _WORDS)
