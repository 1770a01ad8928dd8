"""Contract: a sudden death, a full disk, a second start, a flipped bit, an odd command line, a
broken corpus or a hostile client loses nothing, changes no figure in silence, shows no traceback.

This is a slice of a few faults of each kind; the whole is `pytest -m slow tests/faults`, or
`python tests/faults`, which prints the counts. docs/reliability.md says what is promised.
"""

from __future__ import annotations

import pytest
from campaign import FAULTS, SLICE
from fault_world import World


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("faults") / "world", small=True)


@pytest.mark.parametrize("name", SLICE)
def test_a_few_faults_of_each_kind(name: str, world: World) -> None:
    for row in SLICE[name](world):
        assert row.tried or row.skipped, row.name
        assert row.clean, f"{row.name}: {row.findings}, not struck: {row.missed}"


@pytest.fixture(scope="module")
def whole_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("all-faults") / "world")


LEAST = {"kills": 200, "full_disk": 40, "flips": 1000, "overrides": 5000, "corpora": 2000}


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", FAULTS)
def test_all_faults_of_each_kind(name: str, whole_world: World) -> None:
    rows = FAULTS[name](whole_world)
    for row in rows:
        assert row.clean, f"{row.name}: {row.findings}, not struck: {row.missed}"
    if not any(row.skipped for row in rows):
        assert sum(row.tried for row in rows) >= LEAST.get(name, 10)
