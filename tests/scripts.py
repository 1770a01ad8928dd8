"""Environment in which a test's script finds the package and the tests' helpers, as tests do."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).parents[1]


def environment(*folders: Path, **variables: str) -> dict[str, str]:
    """This process's environment variables for a Python process that a test starts.

    Args:
        folders: searched for modules before the project's own folders.
        variables: set beside the others.
    """
    path = os.pathsep.join(map(str, (*folders, ROOT, ROOT / "tests")))
    return {**os.environ, "PYTHONPATH": path, **variables}
