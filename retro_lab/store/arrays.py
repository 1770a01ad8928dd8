"""Arrays of stored results, memory-mapped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def mapped(path: Path) -> NDArray:
    """The array in an .npy file, read from disk where it is indexed."""
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    return array.view(np.ndarray)  # indexing a plain array is faster than a memmap
