"""Contract: a sudden death, a full disk, a second start, a flipped bit, an odd command line, a
broken corpus or a hostile client loses nothing, changes no figure in silence, shows no traceback.

This is a slice of a few faults of each kind; the whole is `pytest -m slow tests/faults`, or
`python tests/faults`, which prints the counts. docs/reliability.md says what is promised.
"""

from __future__ import annotations

import pytest
from bit_flips import Flip, Trial, judge_flip, stopped, undamaged
from campaign import FAULTS, SLICE
from fault_counts import Counts
from fault_world import World
from flip_targets import TARGETS

from retro_lab.run.directory import RunDirectory


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("faults") / "world", small=True)


@pytest.mark.parametrize("name", SLICE)
def test_a_few_faults_of_each_kind(name: str, world: World) -> None:
    for row in SLICE[name](world):
        assert row.tried or row.skipped, row.name
        assert row.clean, f"{row.name}: {row.findings}, not struck: {row.missed}"


def test_the_runs_that_a_run_is_compared_with_are_told_apart(world: World) -> None:
    runs = world.phases["train"].end / "runs"
    steps = {
        name: RunDirectory(runs / run).config().schedule.steps
        for name, run in world.compared.items()
    }
    assert steps["baseline"] < steps["plain"]


@pytest.fixture(scope="module")
def whole_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("all-faults") / "world")


LEAST = {"kills": 200, "full_disk": 40, "flips": 1000, "overrides": 5000, "corpora": 2000}


@pytest.mark.slow
def test_damage_that_a_command_does_not_read_has_no_effect(whole_world: World) -> None:
    """The plain model was scored before, so going on with the run does not read its weights."""
    (target,) = (t for t in TARGETS if t.name == "plain/checkpoints/last.ckpt, resumed")
    trial = Trial(whole_world, stopped(whole_world), whole_world.folder / "flipped", target)
    clean = undamaged(trial)
    place = trial.path.read_bytes().index(b"pytorch-lightning_version")  # in the pickled names
    flip = Flip(target, trial.path.relative_to(trial.source), byte=place + 3, bit=7)
    counts = Counts("one flip")
    judge_flip(*trial.use(flip), clean, flip, counts)
    assert counts.findings == []


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", FAULTS)
def test_all_faults_of_each_kind(name: str, whole_world: World) -> None:
    rows = FAULTS[name](whole_world)
    for row in rows:
        assert row.clean, f"{row.name}: {row.findings}, not struck: {row.missed}"
    if not any(row.skipped for row in rows):
        assert sum(row.tried for row in rows) >= LEAST.get(name, 10)
