"""The quick configurations of `tests/composed.py`, as a fixture."""

from __future__ import annotations

from collections.abc import Callable

import composed
import pytest

from retro_lab.config.schema import Config


@pytest.fixture(scope="session")
def config_of() -> Callable[..., Config]:
    return composed.config_of
