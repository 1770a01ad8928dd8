"""Contract: a trained run is used with the data that it was trained on, found in the store by its
lineage: from any folder, without the raw text, and whatever became of that text since. What the
store lost is made again if it can be, else one message says what is missing.
"""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import orjson
import pytest
from golden import Golden

from retro_lab.__main__ import main
from retro_lab.commands.evaluate import evaluate
from retro_lab.commands.serve import open_run
from retro_lab.config.errors import UserError
from retro_lab.config.schema import Config, EvaluateConfig, SplitConfig, StoreConfig
from retro_lab.config.serialise import write_config
from retro_lab.evaluation.records.results import Results
from retro_lab.run.compared import compared_configs
from retro_lab.run.data.graph import DataGraph
from retro_lab.run.directory import RunDirectory
from retro_lab.run.finished import FinishedRun
from retro_lab.store import lineage


@pytest.fixture
def run(golden: Golden, finished: RunDirectory, tmp_path: Path) -> RunDirectory:
    """The golden run and its baseline as if trained on a file in a folder that is gone."""
    for source in (golden.baseline(), golden.plain(), finished):
        config = of_gone_text(source.config(), tmp_path)
        copy = RunDirectory.of(config)
        shutil.copytree(source.path, copy.path)
        write_config(config, copy.config_file)
    return copy


def of_gone_text(config: Config, folder: Path) -> Config:
    corpus = dataclasses.replace(config.corpus, path=str(folder / "gone.jsonl"))  # type: ignore[call-arg]
    lists = SplitConfig(**{f"{split}_ids": str(folder / split) for split in ("train", "test")})
    lists.validation_ids = lists.test_ids
    return dataclasses.replace(
        config, corpus=dataclasses.replace(corpus, split=lists), runs_dir=str(folder / "runs")
    )


def evaluated(run: RunDirectory) -> Results:
    """Scored anew, the plain models too."""
    for each in (run, *map(RunDirectory.of, compared_configs(run.config()).values())):
        each.forget_evaluation()
    evaluate(EvaluateConfig(run=str(run.path), eval=run.config().eval))
    return Results.load(run.results_file)


def with_own_store(run: RunDirectory, folder: Path) -> Path:
    """The run's store, copied, so that something may be taken out of it."""
    config, store = run.config(), folder / "store"
    shutil.copytree(config.store.dir, store, dirs_exist_ok=True)
    write_config(dataclasses.replace(config, store=StoreConfig(str(store))), run.config_file)
    return store


def test_every_command_works_without_the_raw_text(
    run: RunDirectory,
    finished: RunDirectory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = run.lineage
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    results = evaluated(run)
    assert results.metrics == Results.load(finished.results_file).metrics
    assert results.lineage == Results.load(finished.results_file).lineage == before
    assert main(["generate", f"run={run.path}", "prompt=abcd", "tokens=3"]) == 0
    assert main(["export", f"run={run.path}", f"out={tmp_path / 'export'}"]) == 0
    assert open_run(run).text_search().size == open_run(finished).text_search().size
    assert "Traceback" not in capsys.readouterr().err


def test_text_that_changed_since_is_not_read(
    run: RunDirectory, finished: RunDirectory, tmp_path: Path
) -> None:
    (tmp_path / "gone.jsonl").write_bytes(b'{"id": "a", "text": "of today"}\n')
    assert evaluated(run).metrics == Results.load(finished.results_file).metrics


def test_what_the_store_lost_is_made_again_or_named(run: RunDirectory, tmp_path: Path) -> None:
    store, kept = with_own_store(run, tmp_path), run.config().store.dir
    lost = run.lineage
    for stage in ("index", "chunks"):
        shutil.rmtree(store / stage)
    assert main(["generate", f"run={run.path}", "prompt=abcd", "tokens=3"]) == 0
    for stage in ("index", "chunks"):
        assert [path.name for path in (store / stage).iterdir()] == [lost[stage]]
    shutil.rmtree(store / "corpus")
    with pytest.raises(UserError, match=r"corpus\.path=.*gone\.jsonl: no such file") as caught:
        evaluated(run)
    assert f"was trained on corpus/{lost['corpus']}, which the store {store}" in str(caught.value)
    assert "RETRO_LAB_STORE=<folder>" in str(caught.value.fix)
    assert "set corpus.path" not in str(caught.value)
    assert kept == str(store)


def test_the_store_may_be_named_beside_any_command(
    run: RunDirectory,
    finished: RunDirectory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = with_own_store(run, tmp_path)
    shutil.rmtree(store / "corpus")
    monkeypatch.setenv("RETRO_LAB_STORE", finished.config().store.dir)
    assert main(["generate", f"run={run.path}", "prompt=abcd", "tokens=3"]) == 0


def test_an_export_needs_the_tokenizer_only(run: RunDirectory, tmp_path: Path) -> None:
    store = with_own_store(run, tmp_path)
    for stage in store.iterdir():
        if stage.name not in ("tokenizer", "locks"):
            shutil.rmtree(stage)
    assert main(["export", f"run={run.path}", f"out={tmp_path / 'export'}"]) == 0
    asked = ["generate", f"run={run.path}", "prompt=abcd", "tokens=3"]
    assert main([*asked, "retrieval=off"]) == 0
    assert main([*asked, "neighbours_text=abcd"]) == 0
    assert main(asked) == 2


def test_raw_text_of_another_content_is_refused_where_it_is_needed(
    run: RunDirectory, golden: Golden, tmp_path: Path
) -> None:
    store, config = with_own_store(run, tmp_path), run.config()
    shutil.rmtree(store / "corpus")
    for source, target in (("train", "train"), ("test", "test")):
        shutil.copy(golden.corpus / f"{source}.txt", tmp_path / target)
    (tmp_path / "gone.jsonl").write_bytes(b'{"id": "a", "text": "of today"}\n')
    with pytest.raises(UserError, match="what it is made from is not what it was"):
        _ = FinishedRun(run, config).graph.own.corpus.data


def test_a_run_of_several_corpora_knows_which_is_which(golden: Golden, tmp_path: Path) -> None:
    """The lineage joins their keys by `+`; the manifests say whose each is."""
    books, more = tmp_path / "books.jsonl", tmp_path / "more.jsonl"
    for path, text in ((books, "abcd bcde "), (more, "cdef defg ")):
        lines = [{"id": f"{path.stem}-{i}", "text": text * (40 + i)} for i in range(8)]
        path.write_bytes(b"\n".join(map(orjson.dumps, lines)) + b"\n")
    config = golden.config(
        "database=corpora",
        "+corpus@database.corpora.books=jsonl",
        f"database.corpora.books.path={books}",
        f"database.add=[{more}]",
        "retriever=faiss_flat",
        "embedder=hashing",
    )
    trained = DataGraph(config)
    run = RunDirectory(tmp_path / "run")
    run.begin(config, anew=True)
    run.check_lineage(trained.lineage)
    assert "+" in run.lineage["corpus"]
    books.unlink()
    more.write_bytes(b'{"id": "a", "text": "of today"}\n')
    found = FinishedRun(run, run.config()).graph
    assert lineage(found.neighbours(config.retriever).stage) == trained.lineage
    assert found.prepare() == trained.lineage
    other = dataclasses.replace(run.config(), database=golden.config().database)
    own = DataGraph(golden.config()).own.chunks.stage
    assert FinishedRun(run, other).graph.own.chunks.stage.key == own.key
