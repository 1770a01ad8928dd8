"""Content-addressed stages: built once, checked, resumable, published atomically."""

from .arrays import mapped
from .engine import build_engine
from .explain import Explanation
from .maintenance import Garbage, Problem, collect_garbage, verify
from .progress import counted, track
from .stage import Artifact, Stage, ancestry, lineage
from .store import ArtifactStore
from .workspace import Workspace

__all__ = [
    "Artifact",
    "ArtifactStore",
    "Explanation",
    "Garbage",
    "Problem",
    "Stage",
    "Workspace",
    "ancestry",
    "build_engine",
    "collect_garbage",
    "counted",
    "lineage",
    "mapped",
    "track",
    "verify",
]
