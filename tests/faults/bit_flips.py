"""One flipped bit in a file of a run or of its store: found, or without any effect on a figure."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import orjson
from fault_children import Child, Death, dying
from fault_counts import Counts, last_line
from fault_world import World, fingerprint, quick_place
from matplotlib.figure import Figure
from pictures import draw_nothing

from retro_lab.__main__ import refusal  # that of every command
from retro_lab.commands.evaluate import evaluate
from retro_lab.config.errors import UserError
from retro_lab.config.schema import Config, EvaluateConfig, StoreConfig
from retro_lab.run.directory import RunDirectory
from retro_lab.run.experiment import run_experiment
from retro_lab.run.timing import Stopwatch
from retro_lab.sweeps.report import report

Use = Callable[[Path, str, Config], object]
"""Uses a run whose file of this name may be damaged, by a command with these settings."""
_REFUSED = 2
_WARNED = "was changed after the run wrote it"
"""Said of a config.yaml that is not as it was written: people edit it, so it is obeyed."""


def _shown(run: Path, name: str, config: Config) -> object:
    """The figures that an evaluation shows that was done before, without the list of its files:
    a damaged record is scored anew, by the run's own settings, which keep no scores by token.
    """
    with contextlib.redirect_stdout(io.StringIO()) as said:
        evaluate(EvaluateConfig(run=str(run), eval=config.eval))
    return said.getvalue().partition("\nrun     ")[0]


def _reported(run: Path, name: str, config: Config) -> object:
    """The report of the run."""
    with contextlib.redirect_stdout(io.StringIO()) as said:
        report([run])
    return said.getvalue(), fingerprint(run.parents[1])["runs/report.csv"]


def _evaluated_otherwise(run: Path, name: str, config: Config) -> object:
    """Figures of another evaluation, which takes the scores that are stored."""
    folder = (run / name).parent
    kind = config.eval.name if folder == run else folder.name
    by_token = "tokens" in name or folder != run
    other = dataclasses.replace(config.eval, name=kind, alphas=[0.5, 1.0], tokens=by_token)
    evaluate(EvaluateConfig(run=str(run), eval=other))
    return _figures(folder)


def _scored_anew(run: Path, name: str, config: Config) -> object:
    """Figures from the weights and the store."""
    for record in run.rglob("evaluation.json"):
        record.unlink()
    evaluate(EvaluateConfig(run=str(run), eval=config.eval))
    return _figures(RunDirectory(run).for_evaluation(config).path)  # as config.yaml says now


def _resumed(run: Path, name: str, config: Config) -> object:
    """Weights and figures after the training that was stopped has gone on."""
    run_experiment(config, Stopwatch())
    found = fingerprint(run.parents[1])
    return [found[f"runs/{run.name}/{file}"] for file in ("checkpoints/last.ckpt", "results.json")]


def _figures(run: Path) -> object:
    results = orjson.loads((run / "results.json").read_bytes())
    return results["metrics"], results["leakage"]


@dataclasses.dataclass(frozen=True)
class Target:
    """A file, who reads it, and how often it is struck.

    Attributes:
        file: below the run, or below `runs` of the store, or of the `baseline`.
        use: what a user does with it; returns what the user sees of it.
        weight: share of the flips.
        stopped: whether the run is one whose training was stopped.
    """

    file: str
    use: Use
    weight: int = 1
    stopped: bool = False


TARGETS = (
    Target("checkpoints/last.ckpt", _scored_anew, 5),
    Target("results.json", _shown, 4),
    Target("chunks.parquet", _evaluated_otherwise, 6),
    Target("checkpoints/last.ckpt", _resumed, 5, stopped=True),
    Target("baseline/checkpoints/last.ckpt", _resumed, 2, stopped=True),
    Target("results.json", _reported, 4),
    Target("tokens.parquet", _evaluated_otherwise, 4),
    Target("evaluations/inspect/chunks.parquet", _evaluated_otherwise, 2),
    Target("evaluations/inspect/tokens.parquet", _evaluated_otherwise, 2),
    Target("config.yaml", _scored_anew, 3),
    Target("config.yaml", _resumed, 1, stopped=True),
    Target("status.json", _shown, 1),
    Target("lineage.json", _scored_anew, 1),
    Target("evaluation.json", _shown, 1),
    Target("metrics.jsonl", _resumed, 1, stopped=True),
    Target("checksums.json", _shown, 1),
    Target("checkpoints/checksums.json", _scored_anew, 1),
    Target("store", _scored_anew, 2),
)


def bit_flips(world: World, flips: int, seed: int = 0) -> list[Counts]:
    """A row: each flip in a copy of a run, used by a command's own function in a child."""
    counts = Counts("bit flips in run files and store")
    rng = random.Random(seed)
    after = world.phases.get("look", world.phases["train"]).end
    lacking = () if "look" in world.phases else ("tokens.parquet", "evaluations/")
    targets = [one for one in TARGETS if not one.file.startswith(lacking)]
    counts.must_hit = frozenset(one.file for one in targets[:flips])
    stopped = _stopped(world) if any(one.stopped for one in targets[:flips]) else after
    clean: dict[Target, str] = {}
    with quick_place(world.folder) as place:
        for number in range(flips):
            target = rng.choices(targets, [one.weight for one in targets])[0]
            if number < len(targets):
                target = targets[number]  # each at least once
            trial = Trial(world, stopped if target.stopped else after, place / "flipped", target)
            if target not in clean:
                clean[target] = _used(trial.use(None)[1])
            _judge(*trial.use(rng), clean[target], target, counts)
    return [counts]


def _used(said: str) -> str:
    """What a user saw of a run, as a child that used it says at its end."""
    return said.rpartition("\nused:")[2]


def _judge(code: int | None, said: str, clean: str, target: Target, counts: Counts) -> None:
    story = f"{target.file}, {target.use.__name__.strip('_')}"
    counts.tried += 1
    counts.hit[target.file] += 1
    if code == _REFUSED:
        counts.hit["refused"] += 1
    elif code != 0:
        counts.found("tracebacks", f"{story}: ends with {code}: {last_line(said)}")
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

    def use(self, rng: random.Random | None) -> tuple[int | None, str]:
        """Exit code and what a child says who uses the file, in which `rng` flips a bit."""
        shutil.copytree(self.source, self.folder)
        if rng is not None:
            _flip(_chosen(self.folder, self.world, self.target, rng), rng)
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


def _chosen(folder: Path, world: World, target: Target, rng: random.Random) -> Path:
    if target.file == "store":
        files = sorted(p for p in (folder / "runs/.store").rglob("*") if p.is_file())
        return rng.choice([path for path in files if path.stat().st_size])
    if target.file.startswith("baseline/"):
        return folder / "runs" / world.baseline / target.file.removeprefix("baseline/")
    return folder / "runs" / world.run / target.file


def _flip(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    bit = rng.randrange(8 * len(data))
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def _stopped(world: World) -> Path:
    """A folder in which the training of the run was stopped between two steps."""
    phase = world.phases["train"]
    numbers = dict(enumerate(phase.labels, 1))
    last = max(number for number, name in numbers.items() if name == "run/checkpoints")
    own = [n for n, name in numbers.items() if name == "run/metrics.jsonl" and n < last]
    folder, note = world.folder / "stopped", world.folder / "stopped-at"
    shutil.copytree(phase.start, folder)
    # Its last line of curves comes after the last checkpoint but one.
    world.do(phase.argv, folder, before=dying([folder], Death("kill", own[-2]), note))
    run = RunDirectory(folder / "runs" / world.run)
    if run.state != "training" or not (run.path / "checkpoints/last.ckpt").is_file():
        raise RuntimeError("the run was not stopped between two checkpoints")
    return folder
