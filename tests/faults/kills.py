"""Sudden deaths over every command: nothing is lost, and the command goes on to the same end."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import torch
from fault_children import Death, Ended, draw_death, dying
from fault_counts import Counts, ending, last_line
from fault_world import Phase, World, differences, fingerprint, label, places

from retro_lab.training.loggers import METRICS


def kills(world: World, trials: int, seed: int = 0, names: tuple[str, ...] = ()) -> list[Counts]:
    """A row for each place where runs can lie; the trials are shared out over the phases.

    Args:
        names: of the phases that are struck; all if empty.
    """
    rng = random.Random(seed)
    rows = []
    for turn, (place, base, why_not) in enumerate(places(world.folder), start=1):
        counts = Counts(f"sudden deaths, runs on the {place}")
        rows.append(counts)
        if base is None:
            counts.skipped = f"not tried: {why_not}"
            continue
        phases = [phase for phase in world.phases.values() if not names or phase.name in names]
        if trials >= len(phases):
            counts.must_hit = frozenset(phase.name for phase in phases)
        number = 0
        while counts.tried < trials and number < 2 * trials:
            phase = phases[(turn + number) % len(phases)]
            event = draw_event(rng, phase)
            trial(world, phase, base / f"trial-{seed}-{number}", draw_death(rng, event), counts)
            number += 1
        if base != world.folder:
            shutil.rmtree(base)
    return rows


def draw_event(rng: random.Random, phase: Phase) -> int:
    """A change of a kind of file that is drawn first, so that rare kinds are struck as well."""
    kind = rng.choice(sorted(set(phase.labels)))
    return rng.choice([n for n, name in enumerate(phase.labels, 1) if name == kind])


def trial(world: World, phase: Phase, folder: Path, death: Death, counts: Counts) -> None:
    """One death and the same command again."""
    shutil.copytree(phase.start, folder)
    note = world.folder / "struck-at"
    note.unlink(missing_ok=True)
    died = world.do(phase.argv, folder, before=dying([folder], death, note))
    if not note.is_file():
        shutil.rmtree(folder)
        return  # it ended before: no fault was tried
    where = label(note.read_text(), folder)
    counts.tried += 1
    counts.hit[phase.name] += 1
    counts.hit[where] += 1
    story = f"{phase.name}, {death.kind} at change {death.event} ({where})"
    judge(world, phase, folder, died, story, counts)
    shutil.rmtree(folder)


def judge(
    world: World, phase: Phase, folder: Path, died: Ended, story: str, counts: Counts
) -> None:
    """Looks at what a fault left, runs the command again, and compares with the reference."""
    if died.code is None:
        counts.found("lost", f"{story}: it hung")
    if died.has_traceback:
        counts.found("tracebacks", f"{story}: {ending(died.said)}")
    for sentence in broken_checkpoints(folder):
        counts.found("lost", f"{story}: {sentence}")
    again = world.do(phase.argv, folder)
    if again.has_traceback:
        counts.found("tracebacks", f"{story}, then again: {ending(again.said)}")
    if again.code != 0:
        counts.found("lost", f"{story}, then again ends with {again.code}: {_error(again.said)}")
        return
    wrong = differences(fingerprint(folder), phase.expected)
    if wrong:
        counts.found("wrong", f"{story}, then again: {', '.join(wrong[:4])} differ")


def broken_checkpoints(folder: Path) -> list[str]:
    """A sentence for each run whose last checkpoint is not what its curves say it must be.

    A checkpoint follows every step, and a step's line in the curves comes before it.
    """
    problems = []
    for curves in folder.glob(f"runs/*/{METRICS}"):
        steps = curves.read_bytes().count(b"train/loss") - 1
        path = curves.parent / "checkpoints" / "last.ckpt"
        try:
            held = torch.load(path, weights_only=True)["global_step"] if path.exists() else 0
        except Exception as error:
            problems.append(f"{path.name} is damaged: {last_line(str(error))}")
            continue
        if held < steps:
            problems.append(f"{path.name} holds step {held}, after {steps} were written")
    return problems


def _error(said: str) -> str:
    lines = [line for line in said.splitlines() if line.startswith("error:")]
    return lines[-1][:300] if lines else last_line(said)
