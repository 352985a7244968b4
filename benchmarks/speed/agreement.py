"""Check that two forms of the same maths give the same numbers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

#: Largest relative difference between ours and the plain form in double precision.
TOLERANCE = 1e-10


def agreement(
    ours: tuple[nn.Module, Callable[[], Tensor]], plain: tuple[nn.Module, Callable[[], Tensor]]
) -> float:
    """Compare two forms in double precision: loss or output, and gradients of all weights.

    Parameters
    ----------
    ours, plain : tuple of nn.Module and callable
        Module in double precision, and a call that runs it.

    Returns
    -------
    float
        Largest difference, relative to the largest entry of each tensor.

    Raises
    ------
    AssertionError
        If it is above `TOLERANCE`.
    """
    results = []
    for module, run in (ours, plain):
        module.zero_grad()
        output = run()
        # Weights tell the entries of an output apart in the gradient.
        (output * torch.linspace(0.5, 1.5, output.numel()).view_as(output)).sum().backward()  # type: ignore[no-untyped-call]
        gradients = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
        results.append({"output": output.detach(), **gradients})
    first, second = results
    # A weight that one form leaves out and the other multiplies with zero has no influence.
    zero = torch.zeros(())
    worst = max(
        float((first.get(name, zero) - second.get(name, zero)).abs().max())
        / max(float(second.get(name, zero).abs().max()), 1.0)
        for name in first.keys() | second.keys()
    )
    if not worst < TOLERANCE:
        raise AssertionError(f"ours and the plain form differ by {worst:.1e}")
    return worst
