"""A small generated corpus with planted copies, and how the tests of the commands run on it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from composed import config_of
from small_corpus import CorpusSize, corpus_overrides

from retro_lab.commands.evaluate import evaluate
from retro_lab.config.fingerprints import baseline_of, canonical, plain_of, steps_of
from retro_lab.config.rules import check
from retro_lab.config.schema import Config, EvaluateConfig
from retro_lab.run.directory import RunDirectory
from retro_lab.run.experiment import run_experiment
from retro_lab.run.finished import FinishedRun
from retro_lab.run.timing import Stopwatch
from retro_lab.store.stage import LOCKS_FOLDER

PLANTED = ("planted-a", "planted-b")
CORPUS = CorpusSize(
    words=300,
    documents=(44, 4, 10),
    lengths=(150, 100, 150),
    copies=dict(zip(PLANTED, (3, 30), strict=True)),
)


def evaluation_of(out: RunDirectory, name: str) -> RunDirectory:
    """Where an evaluation of another kind than the run's own lies, below the run or a database."""
    return RunDirectory(out.path / "evaluations" / name)


def results_of(command: EvaluateConfig) -> RunDirectory:
    """Evaluates a run, and says where the results are."""
    evaluate(command)
    opened = FinishedRun.open(Path(str(command.run))).with_command(command)
    return opened.with_database(command.database).results_in


@dataclass(frozen=True)
class Golden:
    """Runs on the generated corpus, and what every command line of theirs shares.

    Attributes:
        folder: of the runs and their data.
        corpus: where `corpus.jsonl` and the ids of its splits are; its path is part of a run's key.
        overrides: of every command line.
    """

    folder: Path
    corpus: Path
    overrides: tuple[str, ...]

    @classmethod
    def of(cls, folder: Path, corpus: Path) -> Golden:
        """Nothing is run yet."""
        return cls(
            folder,
            corpus,
            (
                *corpus_overrides(corpus),
                "tokenizer.vocab_size=400",
                "debug=fast",
                "corpus.max_bytes=null",
                "logger=none",
                "trainer.threads=1",
                f"runs_dir={folder / 'runs'}",
                f"store.dir={folder / 'store'}",
            ),
        )

    def copy_to(self, other: Golden) -> None:
        """Copies the runs and their data, which then belong to the other folder."""
        (other.folder / "store" / LOCKS_FOLDER).mkdir(parents=True, exist_ok=True)  # a store has it
        for name in ("store/*/*", "runs/*"):
            for source in self.folder.glob(name):
                target = other.folder / source.relative_to(self.folder)
                if source.is_dir() and not target.exists():
                    shutil.copytree(source, target)
        for path in (other.folder / "runs").glob("*/config.yaml"):
            path.write_text(path.read_text().replace(str(self.folder), str(other.folder)))

    def config(self, *more: str) -> Config:
        config = config_of(*self.overrides, *more)
        check(config)
        return canonical(config)

    def run(self, *more: str) -> RunDirectory:
        return run_experiment(self.config(*more), Stopwatch())

    def copy_runs(self, folder: Path) -> RunDirectory:
        """A copy of the golden run in a new folder, and of the runs that it is compared with."""
        own = RunDirectory.of(self.config()).path
        for path in (own, self.baseline().path, self.plain().path):
            shutil.copytree(path, folder / path.name)
        return RunDirectory(folder / own.name)

    def baseline(self) -> RunDirectory:
        """Of the golden run; tests of backbones and rivals leave other baselines beside it."""
        return RunDirectory.of(baseline_of(self.config()))

    def plain(self) -> RunDirectory:
        """What the golden run's gain is measured against."""
        config = self.config()
        return RunDirectory.of(plain_of(config, steps_of(config)))
