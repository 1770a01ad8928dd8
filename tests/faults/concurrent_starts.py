"""Three starts of one command: one trains, the others wait or are refused, and touch nothing."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import orjson
from fault_children import Child, Death, Ended, dying
from fault_counts import Counts, ending, last_line
from fault_world import Phase, World, differences, fingerprint, label

from retro_lab.training.loggers import METRICS

_LONG = 30.0  # seconds after which a start is taken to wait for a lock


def concurrent_starts(world: World, trials: int, seed: int = 0) -> list[Counts]:
    """Every other trial holds the first start still while the second and the third come and go."""
    counts = Counts("three starts at once", must_hit=frozenset({"one held"}))
    rng = random.Random(seed)
    phase = world.phases["train"]
    for number in range(trials):
        folder = world.folder / f"starts-{number}"
        shutil.copytree(phase.start, folder)
        if number % 2:
            story = "three at once"
            ended = [child.wait() for child in [world.child(phase.argv, folder) for _ in "123"]]
        else:
            story, ended = _two_while_one_is_held(world, phase, folder, rng)
        counts.tried += 1
        counts.hit[story.partition(" (")[0]] += 1
        judge_starts(phase, folder, story, ended, counts)
        shutil.rmtree(folder)
    return [counts]


def _two_while_one_is_held(
    world: World, phase: Phase, folder: Path, rng: random.Random
) -> tuple[str, list[Ended]]:
    """The first stops at a change, once it is at work; then come the second and the third."""
    note = world.folder / "held-at"
    note.unlink(missing_ok=True)
    event = rng.randrange(phase.events // 8, phase.events)
    first = world.child(phase.argv, folder, before=dying([folder], Death("stop", event), note))
    held = first.wait_stopped()
    others: list[Child] = []
    for _ in range(2):
        others.append(world.child(phase.argv, folder))
        others[-1].is_over(_LONG)
    if held:
        first.go_on()
    where = label(note.read_text(), folder) if held else "not held"
    return f"one held (at {where})", [child.wait() for child in (first, *others)]


def judge_starts(
    phase: Phase, folder: Path, story: str, ended: list[Ended], counts: Counts
) -> None:
    codes = [one.code for one in ended]
    for one in ended:
        if one.has_traceback:
            counts.found("tracebacks", f"{story}: {ending(one.said)}")
        elif one.code == 2 and "another process" not in one.said:
            counts.found("lost", f"{story}: {last_line(one.said)}")
    if 0 not in codes or not set(codes) <= {0, 2}:
        counts.found("lost", f"{story}: exit codes {codes}")
    for curves in folder.glob(f"runs/*/{METRICS}"):
        records = [orjson.loads(line) for line in curves.read_bytes().splitlines()]
        steps = [record["step"] for record in records if "train/loss" in record]
        if steps != sorted(set(steps)):
            counts.found("wrong", f"{story}: steps are logged as {steps}, exit codes {codes}")
    for what in ("baseline", "retrofit"):
        started = sum(f"{what}: from step 0" in one.said for one in ended)
        if started > 1:
            counts.found("lost", f"{story}: the {what} was trained {started} times")
    if wrong := differences(fingerprint(folder), phase.expected):
        counts.found("wrong", f"{story}: {', '.join(wrong[:4])} differ")
