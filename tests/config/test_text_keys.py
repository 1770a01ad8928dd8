"""Contract: a key that holds text takes what was typed, whatever a number looks like; others, null
and the functions of sweeps mean what they meant.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from retro_lab.commands import evaluate, launch
from retro_lab.config.compose import load_config
from retro_lab.config.schema import HfCorpusConfig, JsonlCorpusConfig
from retro_lab.config.text_keys import as_typed, holds_text

NUMBER_LIKE = ["2024_11", "12345e7", "1.10", "-3", "+7", "1_000.5", "inf", "NaN", "True", "false"]


@pytest.fixture(autouse=True)
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty working directory, and logging as it was before Hydra set it up."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RETRO_LAB_STORE", raising=False)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.parametrize("typed", NUMBER_LIKE)
def test_text_is_what_was_typed(typed: str) -> None:
    config = load_config(
        [
            "corpus=hf", "corpus.path=x", f"corpus.revision={typed}", f"runs_dir={typed}",
            "tokenizer=hf", f"tokenizer.path= {typed} ", f"database.add=[a,{typed}]",
            "database=corpora", "+corpus@database.corpora.b=jsonl",
            f"database.corpora.b.path={typed}",
        ]
    )  # fmt: skip
    assert isinstance(config.corpus, HfCorpusConfig)
    assert config.corpus.revision == config.runs_dir == typed
    assert config.store.dir == f"{typed}/.store"
    assert vars(config.tokenizer)["path"] == typed
    assert config.database.add == ["a", typed]
    assert vars(vars(config.database)["corpora"]["b"])["path"] == typed


@pytest.mark.parametrize("typed", ["~/x.jsonl", "a=b", "été/漢字.jsonl", "a&b;c#d", "a!<b>"])
def test_characters_that_the_grammar_lacks_are_text(typed: str) -> None:
    config = load_config(["corpus=jsonl", f"corpus.path={typed}"])
    assert vars(config.corpus)["path"] == typed


def test_points_of_a_sweep_are_what_was_typed() -> None:
    seen = []
    argv = ["-m", "corpus=jsonl", "corpus.path=2024_11,2024_12", "seed=1_0,3", "runs_dir=1_0"]
    assert launch.run("train", lambda config: seen.append(config), argv) == 0
    assert all(isinstance(config.corpus, JsonlCorpusConfig) for config in seen)
    points = [(config.corpus.path, config.seed) for config in seen]
    assert points == [("2024_11", 10), ("2024_11", 3), ("2024_12", 10), ("2024_12", 3)]
    assert {path.name for path in Path.cwd().iterdir()} == {"1_0"}


def test_runs_of_an_evaluation_are_what_was_typed() -> None:
    seen = []
    for argv in (["run=2024_11"], evaluate.with_lists(["run=2024_11,1e5", "store.dir=1_0"])):
        assert launch.run("evaluate", lambda command: seen.append(command), argv) == 0
    assert [command.run for command in seen] == ["2024_11", ["2024_11", "1e5"]]
    assert seen[1].store.dir == "1_0"


@pytest.mark.parametrize(
    "argument",
    [
        "seed=1_0", "corpus.max_bytes=1e6", "optim.betas=[0.9,1]", "corpus.path=null",
        "corpus.path='1_0'", "corpus.path=v1_0", "corpus.path=1.2.3", "corpus.path=${seed}",
        "corpus.path=range(1,3)", "corpus.path=a,=", "hydra.verbose=true", "no.such.key=1_0",
        "--config-dir=1_0", "~logger", "corpus.path=", "trainer.compile=true",
    ],
)  # fmt: skip
def test_all_else_is_left_as_it_is(argument: str) -> None:
    assert as_typed([argument]) == [argument]


def test_whatever_holds_text_is_known() -> None:
    for key in (
        "run", "experiment", "hydra.run.dir", "hydra.job.env_set.NAME", "eval.files.task",
        "corpus@database.corpora.b", "retriever.dense.factory", "logger.wandb.project",
        "corpus.split.test_ids", "recipe.backbone", "hydra/launcher",
    ):  # fmt: skip
        assert holds_text(key), key
    for key in ("seed", "optim.lr", "trainer.threads", "eval.alphas", "corpus", "hydra.verbose"):
        assert holds_text(key) is (key == "corpus"), key
