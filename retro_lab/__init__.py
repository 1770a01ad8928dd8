"""retro_lab: how much of a retrieval gain is knowledge, and how much is leakage?

`import retro_lab as rl` has the names of `retro_lab.api`, each imported on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import AttachedMemory as AttachedMemory
    from .api import Database as Database
    from .api import Generated as Generated
    from .api import Hit as Hit
    from .api import MemoryLogitsProcessor as MemoryLogitsProcessor
    from .api import Results as Results
    from .api import Run as Run
    from .api import RunRetriever as RunRetriever
    from .api import Score as Score
    from .api import UserError as UserError
    from .api import load as load
    from .api import train as train

__version__ = "0.1.0"
__all__ = [
    "AttachedMemory",
    "Database",
    "Generated",
    "Hit",
    "MemoryLogitsProcessor",
    "Results",
    "Run",
    "RunRetriever",
    "Score",
    "UserError",
    "load",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("retro_lab.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
