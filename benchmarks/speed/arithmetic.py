"""What the matrix products of a network need, and what this core can do."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode


def _addmm_(*shapes: tuple[int, ...], **_: object) -> int:
    left, right = shapes[1:3]
    return 2 * left[0] * left[1] * right[1]


def matrix_flops(job: Callable[[], object]) -> int:
    """Floating-point operations of the matrix products of a call, a product and a sum as two.

    Parameters
    ----------
    job : callable
        Forward, or forward and backward pass.

    Returns
    -------
    int
        Operations of mm, addmm, bmm and their forms in place.
    """
    # The counter knows no product that is added in place.
    in_place: dict[Any, Any] = {torch.ops.aten.addmm_: _addmm_}
    with FlopCounterMode(display=False, custom_mapping=in_place) as counter:
        job()
    return int(counter.get_total_flops())


def sgemm_rate(size: int = 1024, repeats: int = 9) -> float:
    """Best rate of a float32 matrix product on one thread, in operations per CPU-second.

    Parameters
    ----------
    size : int, default=1024
        Rows and columns of the matrices.
    repeats : int, default=9
        Tries.

    Returns
    -------
    float
        Operations per second.
    """
    a, b = torch.rand(size, size), torch.rand(size, size)
    out = torch.empty(size, size)
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        torch.mm(a, b, out=out)
        seconds.append(time.process_time() - start)
    return 2.0 * size**3 / min(seconds)
