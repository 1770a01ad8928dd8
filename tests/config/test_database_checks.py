"""Contract of the group `database`: each broken rule is named by its key; corpora have names of
their own; what comes to the training split is the training split.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from retro_lab.commands import evaluate
from retro_lab.config.compose import load_config
from retro_lab.config.errors import EXIT_USER_ERROR, ConfigError
from retro_lab.config.fingerprints import baseline_of, canonical, database_key, run_key
from retro_lab.config.rules import check
from retro_lab.config.schema import (
    Config,
    DatabaseConfig,
    ParquetCorpusConfig,
    PythonCorpusConfig,
    TextCorpusConfig,
)
from retro_lab.config.serialise import from_plain, to_plain

BOOKS = ("database=corpora", "+corpus@database.corpora.books=python")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["database.fraction=0"], "database.fraction=0.0"),
        (["database.fraction=1.1"], "database.fraction=1.1"),
        (["database.splits=[tset]"], r"database.splits=\[tset\]"),
        (["database.splits=[train,train]"], "each once"),
        (["database.splits=[]"], "nothing to search"),
        (["database.splits=[test]", "eval=exact"], "exact overlap says nothing"),
        (["database.add=[a.jsonl,b.jsonl,a.jsonl]"], "names a file twice"),
        (["database.add=[a.xml]"], "a.xml is no .jsonl"),
        (["database=planted", "database.plant_share=2"], "database.plant_share=2"),
        (["database=planted", "database.plant_split=train"], "database.plant_split=train"),
        (["eval=injection", "eval.injection.doses=[0,0.5]"], r"eval.injection.doses=\[0.0,0.5\]"),
        (["eval=injection", "eval.injection.doses=[0.5,0.5]"], "different shares"),
        (["eval=injection", "eval.injection.doses=[1.5]"], "at most 1"),
        (["eval=injection", "eval.leakage=false"], "eval.leakage=false"),
        (["eval=injection", "eval.split=train"], "eval.split=train"),
        ([*BOOKS, "database.corpora.books.split.test=0.5"], "database.corpora.books.split has no"),
        ([*BOOKS, "database.corpora.books.max_bytes=0"], "database.corpora.books.max_bytes=0"),
        (["database=corpora", "+corpus@database.corpora.own=python"], "can't be the name"),
        (["neighbours.max_jaccard=0"], "neighbours.max_jaccard=0"),
        (["neighbours.dedup=1.5"], "neighbours.dedup=1.5"),
    ],
)
def test_each_rule_is_checked(
    config_of: Callable[..., Config], overrides: list[str], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        check(config_of(*overrides))
    check(config_of("retriever=none", "memory=none", *overrides))  # searches nothing


def test_corpora_keep_their_kinds_and_order() -> None:
    wiki = ("+corpus@database.corpora.wiki=parquet", "database.corpora.wiki.path=w")
    config, without = load_config([*BOOKS, *wiki]), load_config()
    assert [type(c) for c in config.database.other_corpora().values()] == [
        PythonCorpusConfig,
        ParquetCorpusConfig,
    ]
    assert from_plain(to_plain(config)) == config
    assert config.database.in_words() == "the training split, books (python) and wiki (parquet)"
    assert run_key(config) != run_key(without)
    assert run_key(baseline_of(config)) == run_key(baseline_of(without))


def test_added_files_have_readers_and_names_of_their_own() -> None:
    paths = ["x/books.jsonl.zst", "y/books.parquet", "folder/planted", "own.jsonl"]
    found = DatabaseConfig(add=paths).added_corpora()
    assert list(found) == ["books", "books_2", "planted_2", "own_2"]
    assert isinstance(found["books_2"], ParquetCorpusConfig)
    assert isinstance(found["planted_2"], TextCorpusConfig)


def test_what_comes_to_the_training_split_is_the_training_split(
    config_of: Callable[..., Config],
) -> None:
    nothing = config_of("database=planted", "database.plant_share=0")
    assert canonical(nothing).database == DatabaseConfig()
    assert run_key(nothing) == run_key(config_of())
    keys = {
        database_key(config_of(*o).database)
        for o in ([], ["database.fraction=0.5"], ["database=planted"], BOOKS)
    }
    assert len(keys) == 4


@pytest.mark.parametrize("setting", ["database.fraction=0.5", "trainer.threads=1", "plain.lr=1"])
def test_evaluate_asks_which_option(setting: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate.main(["run=r", setting]) == EXIT_USER_ERROR
    assert f"no option of {setting.partition('.')[0]} is chosen" in capsys.readouterr().err


def test_evaluate_says_which_command_takes_a_setting(capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate.main(["run=r", "model=nano"]) == EXIT_USER_ERROR
    assert "leave it out; python train.py takes it" in capsys.readouterr().err
