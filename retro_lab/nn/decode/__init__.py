"""Generation with retrieval: caches, incremental forward pass, search schedule, sampling."""

from .cache import Cache
from .generation import Query, Search, generate
from .incremental import new_cache, step
from .sampling import Sampler, Sampling
from .schedule import Schedule

__all__ = [
    "Cache",
    "Query",
    "Sampler",
    "Sampling",
    "Schedule",
    "Search",
    "generate",
    "new_cache",
    "step",
]
