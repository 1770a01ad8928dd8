"""Node `prepare`: who prepares the data; never changes what is prepared."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class EngineKind(Enum):
    """What works on the blocks of a stage."""

    local = "local"
    ray = "ray"


@dataclass
class PrepareConfig:
    """Where blocks of chunks, embeddings and neighbours are made.

    Attributes:
        engine: local, in this process; or ray, by workers of a Ray cluster that share its files.
        workers: processes of the cluster; null takes as many as it has cores, or GPUs for.
        gpus_per_worker: GPUs each of them holds; 0.5 shares one among two.
    """

    engine: EngineKind = EngineKind.local
    workers: int | None = None
    gpus_per_worker: float = 0.0
