"""Random numbers and their precision, which leave the user's alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

#: torch's generators belong to the whole process: threads take turns.
_TURN = threading.RLock()


@contextmanager
def seeded(seed: int, device: str) -> Iterator[None]:
    """Seed torch inside the block and give the user's random state back afterwards.

    One thread at a time, so that runs repeat with joblib's threads, too. Networks are made in
    single precision, whatever default the user has set (for a force field, say).

    Parameters
    ----------
    seed : int
        Seed of torch's global generators.
    device : str
        Device whose generator is used beside the CPU's.
    """
    devices = [torch.device(device)] if device.startswith("cuda") else []
    with _TURN, torch.random.fork_rng(devices=devices):
        default = torch.get_default_dtype()
        torch.set_default_dtype(torch.float32)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            torch.set_default_dtype(default)
