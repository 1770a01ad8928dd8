"""A small generated corpus with planted copies, and how the tests of the commands run on it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson
from composed import config_of

from retro_lab.config.fingerprints import baseline_of, canonical, plain_of, steps_of
from retro_lab.config.rules import check
from retro_lab.config.schema import Config
from retro_lab.run.directory import RunDirectory
from retro_lab.run.experiment import run_experiment
from retro_lab.run.timing import Stopwatch

PLANTED = ("planted-a", "planted-b")


@dataclass(frozen=True)
class Golden:
    """The folder of everything, and what every command line on it shares."""

    folder: Path
    overrides: tuple[str, ...]

    def config(self, *more: str) -> Config:
        config = config_of(*self.overrides, *more)
        check(config)
        return canonical(config)

    def run(self, *more: str) -> RunDirectory:
        return run_experiment(self.config(*more), Stopwatch())

    def baseline(self) -> RunDirectory:
        """Of the golden run; tests of backbones and rivals leave other baselines beside it."""
        return RunDirectory.of(baseline_of(self.config()))

    def plain(self) -> RunDirectory:
        """What the golden run's gain is measured against."""
        config = self.config()
        return RunDirectory.of(plain_of(config, steps_of(config)))


def write_corpus(folder: Path) -> None:
    """60 documents of random words; two test documents are copies of training documents."""
    rng = np.random.default_rng(7)
    words = ["".join(rng.choice(list("abcdefghij"), 4)) for _ in range(300)]
    texts = {f"train-{i:02}": " ".join(rng.choice(words, 150)) for i in range(44)}
    texts |= {f"validation-{i}": " ".join(rng.choice(words, 100)) for i in range(4)}
    texts |= {f"test-{i:02}": " ".join(rng.choice(words, 150)) for i in range(10)}
    texts |= dict(zip(PLANTED, [texts["train-03"], texts["train-30"]], strict=True))
    lines = [orjson.dumps({"id": name, "text": text}) for name, text in texts.items()]
    (folder / "corpus.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    for split, prefixes in (
        ("train", ("train",)),
        ("validation", ("validation",)),
        ("test", ("test", "planted")),
    ):
        ids = [name for name in texts if name.startswith(prefixes)]
        (folder / f"{split}.txt").write_text("\n".join(ids) + "\n")
