"""The options of `pytest --pyargs retro_lab.testing`; pytest finds them by an entry point.

They can't stand in conftest.py, which pytest reads too late for a package. Imports no more than
pytest, since every session of pytest loads this.
"""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("retro_lab", "contract tests of retro_lab, for parts of your own")
    for kind in ("retriever", "embedder", "reader"):
        group.addoption(f"--{kind}", metavar="module:Class", help=f"the {kind} to test")
    group.addoption(
        "--setting", action="append", default=[], metavar="name=value", help="a setting of it"
    )
