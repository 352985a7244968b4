"""Memory that the layers of a network, and one batch after the other, share."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

#: Bytes of a cache line.
_LINE = 64
#: Layers of a training step whose largest tensor is kept for the backward pass, however large; the
#: others share one more and make theirs anew. Each kept layer saves some 2 % of the time and costs
#: some 0.7 MB per crystal of a three-view step at the published size.
KEPT_LAYERS = 2
#: More layers are kept as long as all these tensors stay below this: small batches, which need
#: little memory anyhow, are spared the repetition.
KEPT_BYTES = 3 * 2**27


def n_kept_layers(n_bytes: int) -> int:
    """Layers that keep their tensor of `n_bytes` for the backward pass."""
    # One of the tensors within the limit is the shared one.
    return max(KEPT_LAYERS, KEPT_BYTES // max(n_bytes, 1) - 1)


class Workspace:
    """A few large tensors, written over and over.

    Large tensors made anew in every layer and every step spend as long on page faults as on
    arithmetic. Neither copies nor pickles: a copy starts empty.
    """

    def __init__(self) -> None:
        self.release()

    def release(self) -> None:
        """Give the memory back."""
        self._memory: list[Tensor] = []
        self._owners: list[object] = []
        self._next = 0

    def begin(self) -> None:
        """Start a forward pass: what earlier ones have written may go."""
        self._next = 0

    def claim(self, owner: object, shape: tuple[int, int], like: Tensor, *, keep: bool) -> Tensor:
        """Take memory, with anything in it.

        Parameters
        ----------
        owner : object
            Who writes there, to be given to `recall`.
        shape : tuple of two int
            Shape of the tensor.
        like : Tensor
            Data type and device.
        keep : bool
            Whether it would be useful later. The first layers of a forward pass get memory of
            their own (see `n_kept_layers`), the others what they have to share.

        Returns
        -------
        Tensor of shape `shape`
            The memory.
        """
        n_values = shape[0] * shape[1]
        shared = n_kept_layers(n_values * like.element_size())
        number = min(self._next, shared)
        if keep:
            self._next = number + 1
        # Smaller batches had room for more.
        del self._memory[shared + 1 :], self._owners[shared + 1 :]
        if number == len(self._memory):
            self._memory.append(like.new_empty(0))
            self._owners.append(None)
        memory = self._memory[number]
        if len(memory) < n_values or memory.dtype != like.dtype or memory.device != like.device:
            # The old tensor goes before the new one comes.
            del memory
            self._memory[number] = like.new_empty(0)
            self._memory[number] = _allocate(n_values, like)
        self._owners[number] = owner
        return self._memory[number][:n_values].view(shape)

    def recall(self, owner: object, shape: tuple[int, int]) -> Tensor | None:
        """Return what this owner has written, None if somebody else has written over it."""
        for memory, wrote in zip(self._memory, self._owners, strict=True):
            if wrote is owner:
                return memory[: shape[0] * shape[1]].view(shape)
        return None

    def __reduce__(self) -> tuple[type[Workspace], tuple[Any, ...]]:
        return Workspace, ()


def _allocate(n_values: int, like: Tensor) -> Tensor:
    """Make a tensor with anything in it, on the CPU of large pages where Linux has them.

    NumPy asks for these, torch does not. First writing to them is four times as fast, and later
    use does not wait for translations of addresses.
    """
    if like.device.type != "cpu":
        return torch.empty(n_values, dtype=like.dtype, device=like.device)
    n_bytes = n_values * like.element_size()
    memory = torch.from_numpy(np.empty(n_bytes + _LINE, dtype=np.uint8))
    start = -memory.data_ptr() % _LINE
    return memory[start : start + n_bytes].view(like.dtype)
