"""The files of a run, of those it is compared with and of the store, and who reads each.

A use is what a user does with a run; it returns what the user sees of it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
from collections.abc import Callable
from pathlib import Path

import orjson
from fault_world import file_digest, fingerprint

from retro_lab.api.exporting import export
from retro_lab.commands.evaluate import evaluate
from retro_lab.commands.generate_neighbours import described
from retro_lab.commands.generate_request import parse
from retro_lab.config.schema import Config, EvaluateConfig
from retro_lab.run.directory import RunDirectory
from retro_lab.run.experiment import run_experiment
from retro_lab.run.finished import FinishedRun
from retro_lab.run.timing import Stopwatch
from retro_lab.run.writer import Writer
from retro_lab.sweeps.report import report

Use = Callable[[Path, str, Config], object]
"""Uses a run whose file of this name may be damaged, by a command with these settings."""


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
    return said.getvalue(), file_digest(run.parent / "report.csv")


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
    """Weights and figures after the training that was stopped has gone on.

    The other runs' files are left alone: what the command did not read may be damaged.
    """
    run_experiment(config, Stopwatch())
    return [file_digest(run / file) for file in ("checkpoints/last.ckpt", "results.json")]


def _exported(run: Path, name: str, config: Config) -> object:
    """The weights and the tokenizer as a model folder."""
    out = run.parents[1] / "exported"
    export(FinishedRun.open(run, "finished"), out)
    return fingerprint(out)


def _generated(run: Path, name: str, config: Config) -> object:
    """A text that the run writes with neighbours that it searches, and the neighbours."""
    words = ["prompt=w1 w2 w3", "tokens=12", "stride=1", "temperature=0", "show=neighbours"]
    request = parse([f"run={run}", *words])
    writer = Writer.load(request)
    read: list[str] = []
    pieces = writer.write(
        request.prompts, request, lambda one: read.append(described(writer, request, one))
    )
    return [piece for _, piece in pieces], read


def _figures(folder: Path) -> object:
    results = orjson.loads((folder / "results.json").read_bytes())
    return results["metrics"], results["leakage"]


@dataclasses.dataclass(frozen=True)
class Target:
    """A file, who reads it, and how often it is struck.

    Attributes:
        file: below the run; or `store` for any of the store; or, after `baseline/` or `plain/`,
            below the run that it is compared with.
        use: what a user does with it; returns what the user sees of it.
        weight: share of the flips.
        stopped: whether the run is one whose training was stopped.
    """

    file: str
    use: Use
    weight: int = 1
    stopped: bool = False

    @property
    def name(self) -> str:
        return f"{self.file}, {self.use.__name__.strip('_')}"


TARGETS = (
    Target("checkpoints/last.ckpt", _scored_anew, 5),
    Target("results.json", _shown, 4),
    Target("chunks.parquet", _evaluated_otherwise, 6),
    Target("checkpoints/last.ckpt", _resumed, 5, stopped=True),
    Target("baseline/checkpoints/last.ckpt", _resumed, 2, stopped=True),
    Target("baseline/checkpoints/last.ckpt", _scored_anew, 2),
    Target("plain/checkpoints/last.ckpt", _resumed, 1, stopped=True),
    Target("plain/checkpoints/last.ckpt", _scored_anew, 2),
    Target("checkpoints/last.ckpt", _exported, 2),
    Target("results.json", _reported, 4),
    Target("tokens.parquet", _evaluated_otherwise, 4),
    Target("evaluations/inspect/chunks.parquet", _evaluated_otherwise, 2),
    Target("evaluations/inspect/tokens.parquet", _evaluated_otherwise, 2),
    Target("config.yaml", _scored_anew, 3),
    Target("config.yaml", _resumed, 1, stopped=True),
    Target("baseline/config.yaml", _resumed, 1, stopped=True),
    Target("status.json", _shown, 1),
    Target("baseline/status.json", _resumed, 1, stopped=True),
    Target("plain/status.json", _scored_anew, 1),
    Target("lineage.json", _scored_anew, 1),
    Target("baseline/lineage.json", _resumed, 1, stopped=True),
    Target("evaluation.json", _shown, 1),
    Target("plain/evaluation.json", _resumed, 1, stopped=True),
    Target("plain/results.json", _reported, 1),
    Target("gain.json", _shown, 1),
    Target("metrics.jsonl", _resumed, 1, stopped=True),
    Target("model.json", _exported, 1),
    Target("tokenizer/tokenizer.json", _exported, 1),
    Target("tokenizer/tokenizer.json", _generated, 1),
    Target("tokenizer/kind.json", _exported, 1),
    Target("tokenizer/checksums.json", _generated, 1),
    Target("checksums.json", _shown, 1),
    Target("checkpoints/checksums.json", _scored_anew, 1),
    Target("checkpoints/checksums.json", _resumed, 1, stopped=True),
    Target("baseline/checkpoints/checksums.json", _resumed, 1, stopped=True),
    Target("store", _scored_anew, 2),
    Target("store", _generated, 1),
)
