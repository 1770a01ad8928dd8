"""One flipped bit in a file of a run or of its store: found, or without any effect on a figure."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import random
import shutil
from pathlib import Path

from fault_children import Child, Death, dying
from fault_counts import Counts, ending
from fault_world import World, quick_place
from flip_targets import TARGETS, Target
from matplotlib.figure import Figure
from pictures import draw_nothing

from retro_lab.__main__ import refusal  # that of every command
from retro_lab.config.errors import UserError
from retro_lab.config.schema import StoreConfig
from retro_lab.run.directory import RunDirectory

_REFUSED = 2
_SAID_EVERY = 50
_WARNED = "was changed after the run wrote it"
"""Said of a config.yaml that is not as it was written: people edit it, so it is obeyed."""


def bit_flips(world: World, flips: int, seed: int = 0) -> list[Counts]:
    """A row: each flip in a copy of a run, used by a command's own function in a child."""
    counts = Counts("bit flips in run files and store")
    rng = random.Random(seed)
    after = world.phases.get("look", world.phases["train"]).end
    lacking = () if "look" in world.phases else ("tokens.parquet", "evaluations/")
    targets = [one for one in TARGETS if not one.file.startswith(lacking)]
    counts.must_hit = frozenset(one.name for one in targets[:flips])
    halfway = stopped(world) if any(one.stopped for one in targets[:flips]) else after
    clean: dict[Target, str] = {}
    with quick_place(world.folder) as place:
        for number in range(flips):
            target = rng.choices(targets, [one.weight for one in targets])[0]
            if number < len(targets):
                target = targets[number]  # each at least once
            trial = Trial(world, halfway if target.stopped else after, place / "flipped", target)
            if target not in clean:
                clean[target] = undamaged(trial)
            flip = draw_flip(trial, rng)
            judge_flip(*trial.use(flip), clean[target], flip, counts)
            if counts.tried % _SAID_EVERY == 0:
                print(
                    f"{counts.tried:,} of {flips:,} flips", *counts.findings, sep="\n  ", flush=True
                )
    return [counts]


def undamaged(trial: Trial) -> str:
    """What a user sees who uses the file as it is; RuntimeError if that fails."""
    code, said = trial.use(None)
    if code != 0:
        raise RuntimeError(f"{trial.target.name} fails without a flip: {ending(said)}")
    return _used(said)


def _used(said: str) -> str:
    """What a user saw of a run, as a child that used it says at its end."""
    return said.rpartition("\nused:")[2]


@dataclasses.dataclass(frozen=True)
class Flip:
    """One bit of a file.

    Attributes:
        target: the file's kind, and who reads it.
        path: of the file, below the folder of `runs`.
        byte: its place in the file.
        bit: of the byte, 0 to 7.
    """

    target: Target
    path: Path
    byte: int
    bit: int

    def strike(self, folder: Path) -> None:
        """Flips the bit of the file in a copy."""
        data = bytearray((folder / self.path).read_bytes())
        data[self.byte] ^= 1 << self.bit
        (folder / self.path).write_bytes(data)


def draw_flip(trial: Trial, rng: random.Random) -> Flip:
    """Any bit of the target's file, or of any file of the store."""
    path = trial.path
    if path.is_dir():
        files = sorted(one for one in path.rglob("*") if one.is_file())
        path = rng.choice([one for one in files if one.stat().st_size])
    byte, bit = divmod(rng.randrange(8 * path.stat().st_size), 8)
    return Flip(trial.target, path.relative_to(trial.source), byte, bit)


def judge_flip(code: int | None, said: str, clean: str, flip: Flip, counts: Counts) -> None:
    """Counts what a child ended with and said, against what it says of an undamaged file."""
    target = flip.target
    story = f"{target.name}, bit {flip.bit} of byte {flip.byte} of {flip.path}"
    counts.tried += 1
    counts.hit[target.name] += 1
    if code == _REFUSED:
        counts.hit["refused"] += 1
    elif code != 0:
        counts.found("tracebacks", f"{story}: ends with {code}: {ending(said)}")
    elif _used(said) != clean and _WARNED in said:
        counts.hit["obeyed with a warning"] += 1
    elif _used(said) != clean:
        counts.found("wrong", f"{story}: another result, and exit code 0")
    else:
        counts.hit["no effect, or mended"] += 1


@dataclasses.dataclass(frozen=True)
class Trial:
    """A copy of `source` in `folder`, of which the target's file is used."""

    world: World
    source: Path
    folder: Path
    target: Target

    @property
    def path(self) -> Path:
        """The target's file in the source; the folder of the store."""
        runs, name = self.source / "runs", self.target.file
        owner, _, below = name.partition("/")
        if name == "store":
            return runs / ".store"
        if owner in self.world.compared:
            return runs / self.world.compared[owner] / below
        return runs / self.world.run / name

    def use(self, flip: Flip | None) -> tuple[int | None, str]:
        """Exit code and what a child says who uses the file, in which a bit is flipped."""
        shutil.copytree(self.source, self.folder)
        if flip is not None:
            flip.strike(self.folder)
        ended = Child(self._work).wait()
        shutil.rmtree(self.folder)
        return ended.code, ended.said

    def _work(self) -> int:
        os.chdir(self.folder)
        Figure.savefig = draw_nothing  # type: ignore[method-assign]
        try:
            runs = self.folder / "runs"
            config = dataclasses.replace(
                RunDirectory(self.source / "runs" / self.world.run).config(),
                runs_dir=str(runs),
                store=StoreConfig(str(runs / ".store")),
            )
            run = self.folder / "runs" / self.world.run
            seen = self.target.use(run, self.target.file, config)
        except Exception as error:
            refused = error if isinstance(error, UserError) else refusal(error)
            if refused is None:
                raise
            print("\nrefused:", refused)
            return _REFUSED
        print("\nused:", hashlib.sha256(repr(seen).encode()).hexdigest())
        return 0


def stopped(world: World) -> Path:
    """A folder, made once, in which the training of the run was stopped between two steps."""
    folder, note = world.folder / "stopped", world.folder / "stopped-at"
    if folder.is_dir():
        return folder
    phase = world.phases["train"]
    numbers = dict(enumerate(phase.labels, 1))
    last = max(number for number, name in numbers.items() if name == "run/checkpoints")
    own = [n for n, name in numbers.items() if name == "run/metrics.jsonl" and n < last]
    shutil.copytree(phase.start, folder)
    # Its last line of curves comes after the last checkpoint but one.
    world.do(phase.argv, folder, before=dying([folder], Death("kill", own[-2]), note))
    run = RunDirectory(folder / "runs" / world.run)
    if run.state != "training" or not (run.path / "checkpoints/last.ckpt").is_file():
        raise RuntimeError("the run was not stopped between two checkpoints")
    return folder
