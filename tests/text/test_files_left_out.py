"""Contract: of a folder or glob the files that are no text of the corpus are left out, named and
recorded: hidden ones, editors' copies, our own output, and compressed copies of what is read.
"""

from __future__ import annotations

import gzip
import logging
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from text_builders import built_corpus, write_jsonl

from retro_lab.config.errors import UserError
from retro_lab.config.schema import (
    CorpusConfig,
    JsonlCorpusConfig,
    ParquetCorpusConfig,
    SplitConfig,
    TextCorpusConfig,
    WikitextCorpusConfig,
)
from retro_lab.store import ArtifactStore
from retro_lab.text.corpus import build_corpus, corpus_in_words, corpus_stage
from retro_lab.text.readers import build_reader, input_digest, read_documents

RECORDS = [{"text": f"text {i}"} for i in range(60)]
SPLIT = SplitConfig(validation=0.3, test=0.3)


def names(config: CorpusConfig) -> list[str]:
    return [file.name for file in build_reader(config).files.read]


def fill(folder: Path, suffix: str) -> None:
    """Two files of a corpus, and what editors and we ourselves leave beside them."""
    run, stored = "runs/nano-1", "cache/chunks/0123456789abcdef"
    for marker in (f"{run}/config.yaml", f"{run}/status.json", f"{stored}/manifest.json"):
        (folder / marker).parent.mkdir(parents=True, exist_ok=True)
        (folder / marker).write_text("{}")
    for name in (
        *("a", "sub/b", "runs/mine"),
        *(".hidden", ".ipynb_checkpoints/a-checkpoint", "sub/.git/c"),
        *(f"{run}/metrics", f"{run}/wandb/output", f"{stored}/data"),
        "cache/chunks/0123456789abcdea.partial/data",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}{suffix}").write_bytes(b"")


@pytest.mark.parametrize(
    ("kind", "suffix"),
    [(JsonlCorpusConfig, ".jsonl"), (ParquetCorpusConfig, ".parquet"), (TextCorpusConfig, ".txt")],
)
def test_a_folder_is_read_without_what_others_left_in_it(
    kind: type[JsonlCorpusConfig], suffix: str, tmp_path: Path
) -> None:
    fill(tmp_path, suffix)
    files = build_reader(kind(path=str(tmp_path))).files
    assert [file.name for file in files.read] == [
        f"{name}{suffix}" for name in ("a", "runs/mine", "sub/b")
    ]
    reasons = {name.removesuffix(suffix): reason for name, reason in files.left_out.items()}
    assert reasons == {
        ".hidden": "hidden",
        ".ipynb_checkpoints/a-checkpoint": "hidden",
        "sub/.git/c": "hidden",
        "runs/nano-1/metrics": "in the folder of a run",
        "runs/nano-1/wandb/output": "in the folder of a run",
        "cache/chunks/0123456789abcdef/data": "in a store",
        "cache/chunks/0123456789abcdea.partial/data": "in a store",
    }
    glob = kind(path=f"{tmp_path}/**/*{suffix}")
    assert names(glob) == [file.name for file in files.read]


def test_what_a_user_names_is_read_whatever_it_is(tmp_path: Path) -> None:
    fill(tmp_path, ".txt")
    for path, found in {
        ".hidden.txt": [".hidden.txt"],
        "runs/nano-1": ["metrics.txt", "wandb/output.txt"],
        "sub/.git": ["c.txt"],
        "sub/.g*/*.txt": [".git/c.txt"],
    }.items():
        assert names(TextCorpusConfig(path=str(tmp_path / path))) == found
    hidden = TextCorpusConfig(path=str(tmp_path), pattern=".*.txt")
    assert names(hidden) == [".hidden.txt"]


def test_copies_that_editors_keep_are_left_out(tmp_path: Path) -> None:
    for name in ("a", "a~", "#a#", "b#"):
        (tmp_path / name).write_text(name)
    for config in (
        TextCorpusConfig(path=str(tmp_path), pattern="*"),
        TextCorpusConfig(path=f"{tmp_path}/*"),
    ):
        assert names(config) == ["a", "b#"]
        assert set(build_reader(config).files.left_out.values()) == {"an editor's copy"}


@pytest.mark.parametrize("pattern", ["", "/*"])
def test_a_file_and_its_compressed_copies_are_one(tmp_path: Path, pattern: str) -> None:
    for name in ("x.jsonl", "x.jsonl.gz", "x.jsonl.zst", "y.jsonl.gz", "y.jsonl.zst", "z.jsonl.gz"):
        (tmp_path / name).write_bytes(b"")
    files = build_reader(JsonlCorpusConfig(path=f"{tmp_path}{pattern}")).files
    assert [file.name for file in files.read] == ["x.jsonl", "y.jsonl.gz", "z.jsonl.gz"]
    assert files.left_out == {
        "x.jsonl.gz": "a compressed copy of x.jsonl",
        "x.jsonl.zst": "a compressed copy of x.jsonl",
        "y.jsonl.zst": "a compressed copy of y.jsonl.gz",
    }


def test_copies_compressed_by_any_tool_are_known(tmp_path: Path) -> None:
    for suffix in ("", ".gz", ".zst", ".xz", ".bz2", ".part"):
        (tmp_path / f"x.txt{suffix}").write_text("x")
    assert names(TextCorpusConfig(path=str(tmp_path), pattern="*")) == ["x.txt", "x.txt.part"]


def test_a_copy_is_refused_as_another_split(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "x.jsonl", RECORDS)
    copy = tmp_path / "x.jsonl.gz"
    copy.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(UserError, match="are one file, but for compression"):
        names(JsonlCorpusConfig(path=str(path), test_path=str(copy)))
    with pytest.raises(UserError, match="are one file, but for compression"):
        names(JsonlCorpusConfig(path=str(tmp_path), test_path=str(copy)))


def test_wikitext_reads_the_plain_file_of_a_split(tmp_path: Path) -> None:
    for split in ("train", "valid", "test"):
        (tmp_path / f"wiki.{split}.raw").write_text(f"\n = {split} = \n\n text\n")
        (tmp_path / f"wiki.{split}.raw.gz").write_bytes(b"")
    assert [d.split for d in read_documents(WikitextCorpusConfig(path=str(tmp_path)))] == [
        "train",
        "validation",
        "test",
    ]


def test_nothing_but_such_files_is_an_error_that_says_why(tmp_path: Path) -> None:
    (tmp_path / ".x.txt").write_text("x")
    with pytest.raises(UserError, match=r"all 1 files found are left out.*\.x\.txt \(hidden\)"):
        names(TextCorpusConfig(path=str(tmp_path)))


def test_files_are_listed_when_they_are_read_and_recorded(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "retro_lab")
    folder = tmp_path / "data"
    path = write_jsonl(folder / "docs.jsonl", RECORDS)
    config = JsonlCorpusConfig(path=str(folder), split=SPLIT)
    alone, key = built_corpus(config, tmp_path)[1], corpus_stage(config).key
    (folder / "docs.jsonl.gz").write_bytes(gzip.compress(path.read_bytes()))
    caplog.clear()
    corpus, stats = built_corpus(config, tmp_path)
    assert corpus.num_documents == 60
    assert caplog.messages[:2] == [
        "the corpus is read from 1 file: docs.jsonl",
        "left out of the corpus: 1 file: docs.jsonl.gz (a compressed copy of docs.jsonl)",
    ]
    reasons = {"docs.jsonl.gz": "a compressed copy of docs.jsonl"}
    assert stats["files"] == {"read": 1, "left_out": 1, "reasons": reasons}
    assert alone["files"] == {"read": 1, "left_out": 0, "reasons": {}}
    assert corpus_in_words(stats).endswith("left out: 1 of the files found")
    assert corpus_stage(config).key == key
    assert list(input_digest(config)) == ["docs.jsonl"]


def test_of_many_files_the_first_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "retro_lab")
    for number in range(120):
        (tmp_path / f"{number:03}.txt").write_text("x")
        (tmp_path / f".{number:03}.txt").write_text("x")
    stats = built_corpus(TextCorpusConfig(path=str(tmp_path), split=SPLIT), tmp_path)[1]
    assert caplog.messages[0].endswith(
        "120 files: " + ", ".join(f"{number:03}.txt" for number in range(10)) + ", and 110 more"
    )
    assert (stats["files"]["left_out"], len(stats["files"]["reasons"])) == (120, 100)


def test_a_run_never_changes_the_corpus_that_it_was_trained_on(tmp_path: Path) -> None:
    """Its output and its store lie in the very folder that is read."""
    write_jsonl(tmp_path / "docs.jsonl", RECORDS)
    config = JsonlCorpusConfig(path=str(tmp_path), split=SPLIT)
    stage, store = corpus_stage(config), ArtifactStore(tmp_path / "store")
    built = store.build(stage, lambda w: build_corpus(config, w))
    (built.path / "more.jsonl").write_text("{}")
    run = tmp_path / "runs" / "nano-1"
    run.mkdir(parents=True)
    for name in ("config.yaml", "lineage.json", "metrics.jsonl"):
        (run / name).write_text("{}")
    pyarrow.parquet.write_table(pa.table({"text": ["x"]}), run / "chunks.parquet")
    assert corpus_stage(config).key == stage.key
