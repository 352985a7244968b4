from pathlib import Path

import numpy as np
import pytest

SHARED_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture
def shared_file():
    """Find a file of the shared data folder beside the repository, or skip."""

    def find(name):
        path = SHARED_DATA / name
        if not path.exists():
            pytest.skip(f"{path} is not at hand")
        return path

    return find


def _damaged_copies(content):
    rng = np.random.default_rng(0)
    yield b""
    for share in (0.02, 0.5, 0.98):
        yield content[: int(share * len(content))]
    yield rng.bytes(len(content))
    for _ in range(40):
        copy = bytearray(content)
        for position, bit in zip(rng.choice(len(content), 8), rng.integers(8, size=8), strict=True):
            copy[position] ^= 1 << bit
        yield bytes(copy)


@pytest.fixture
def damaged_copies():
    """Make from the bytes of a file an empty one, cut ones, noise, and many with flipped bits."""
    return _damaged_copies
