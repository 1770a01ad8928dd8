"""Contract: text folders, Parquet, WikiText, hub datasets and the standard library as documents."""

from __future__ import annotations

import gzip
import importlib.util
import lzma
import sys
import sysconfig
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from retro_lab.config.errors import UserError
from retro_lab.config.schema import (
    CorpusConfig,
    HfCorpusConfig,
    OnError,
    ParquetCorpusConfig,
    PythonCorpusConfig,
    TextCorpusConfig,
    WikitextCorpusConfig,
)
from retro_lab.text.readers import Malformed, input_digest, read_documents
from retro_lab.text.readers.python import decode_source


def read(config):
    return [(d.id, d.text) for d in read_documents(config)]


def test_text_folder(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "b.txt").write_bytes(b"\xef\xbb\xbfwindows\r\n")
    (tmp_path / "sub" / "a.txt").write_bytes("é\0".encode())
    (tmp_path / "c.md").write_bytes(b"markdown")
    config = TextCorpusConfig(path=str(tmp_path))
    assert read(config) == [("b.txt", "windows\r\n"), ("sub/a.txt", "é\0")]
    assert sorted(input_digest(config)) == ["b.txt", "sub/a.txt"]
    config.pattern = "*.md"
    assert read(config) == [("c.md", "markdown")]


def test_text_that_is_not_utf8(tmp_path):
    (tmp_path / "bad.txt").write_bytes(b"caf\xe9")
    (tmp_path / "good.txt").write_bytes(b"x")
    config = TextCorpusConfig(path=str(tmp_path))
    with pytest.raises(UserError, match=r"bad.txt: not valid UTF-8: byte 0xe9 at offset 3"):
        read(config)
    config.on_error = OnError.skip
    assert read(config) == [("good.txt", "x")]


def test_parquet_rows(tmp_path):
    table = pa.table({"text": ["a", "", "c"], "id": ["x", None, "z"], "other": [1, 2, 3]})
    pq.write_table(table, tmp_path / "docs.parquet", row_group_size=2)
    config = ParquetCorpusConfig(path=str(tmp_path))
    assert read(config) == [("x", "a"), ("docs.parquet:2", ""), ("z", "c")]
    config.text_field = "body"
    with pytest.raises(UserError, match="no column 'body'; the columns are: text, id, other"):
        read(config)
    config.text_field = "other"
    with pytest.raises(UserError, match=r"docs.parquet: column 'other' holds int64, .*text \("):
        read(config)


def test_parquet_columns_of_bytes_and_of_floats(tmp_path):
    table = pa.table({"text": [b"a", "é".encode()], "id": [1.0, None]})
    pq.write_table(table, tmp_path / "docs.parquet")
    config = ParquetCorpusConfig(path=str(tmp_path))
    assert read(config) == [("1", "a"), ("docs.parquet:2", "é")]
    pq.write_table(pa.table({"text": [b"a", b"\xff"]}), tmp_path / "docs.parquet")
    with pytest.raises(UserError, match="row 2: field 'text' holds bytes, not valid UTF-8: byte"):
        read(config)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b'{"text": "a"}', "JSON"),
        (gzip.compress(b"x", mtime=0), "compressed by gzip"),
        (b"PK\3\4", "a zip"),
    ],
)
def test_what_is_no_parquet_file_is_named(tmp_path, data, name):
    (tmp_path / "docs.parquet").write_bytes(data)
    with pytest.raises(UserError, match=f"docs.parquet: is {name}.*expected a Parquet") as caught:
        read(ParquetCorpusConfig(path=str(tmp_path)))
    assert "skip" not in (caught.value.fix or "")


def test_text_files_may_be_compressed(tmp_path):
    (tmp_path / "a.txt.xz").write_bytes(lzma.compress("né\n".encode()))
    assert read(TextCorpusConfig(path=str(tmp_path), pattern="*.xz")) == [("a.txt.xz", "né\n")]


def test_parquet_bad_rows_and_bad_file(tmp_path):
    bad = pa.Array.from_buffers(
        pa.string(), 2, [None, pa.array([0, 1, 2], pa.int32()).buffers()[1], pa.py_buffer(b"a\xff")]
    )
    pq.write_table(pa.table({"text": bad}), tmp_path / "docs.parquet")
    malformed = Malformed(OnError.skip)
    config = ParquetCorpusConfig(path=str(tmp_path / "docs.parquet"))
    assert [d.text for d in read_documents(config, malformed)] == ["a"]
    assert malformed.first == "docs.parquet, row 2: not valid UTF-8 at offset 0"

    path = tmp_path / "docs.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match=r"docs.parquet: can't be read"):
        read(config)
    malformed = Malformed(OnError.skip)
    assert not list(read_documents(config, malformed))
    assert malformed.count == 1


ARTICLES = (
    " \n = First = \n \n Text . \n \n = = Section = = \n \n before \n = a = \n \n after \n",
    " \n = Second one = \n \n A formula \n \n = b = \n goes on \n",
    "\n = Third = \n \n Last",
)


def test_wikitext_articles_are_all_of_the_text(tmp_path):
    (tmp_path / "wiki.train.raw").write_text("".join(ARTICLES))
    documents = read(WikitextCorpusConfig(path=str(tmp_path / "wiki.train.raw")))
    assert [name for name, _ in documents] == [
        "wiki.train.raw:2 First",
        "wiki.train.raw:13 Second one",
        "wiki.train.raw:20 Third",
    ]
    assert "".join(text for _, text in documents) == "".join(ARTICLES)
    assert documents[1][1].startswith(" = Second one = \n")


def test_wikitext_folder_gives_the_splits(tmp_path):
    for name, text in zip(("train", "valid", "test"), ARTICLES, strict=True):
        (tmp_path / f"wiki.{name}.tokens").write_text(text)
    documents = list(read_documents(WikitextCorpusConfig(path=str(tmp_path))))
    assert [d.split for d in documents] == ["train", "validation", "test"]
    with pytest.raises(UserError, match=r"validation_path or corpus.test_path is set too"):
        read(WikitextCorpusConfig(path=str(tmp_path), test_path="x"))
    (tmp_path / "wiki.valid.tokens").unlink()
    with pytest.raises(UserError, match=r"expected one file wiki.valid.\* in the folder"):
        read(WikitextCorpusConfig(path=str(tmp_path)))


def test_python_corpus_is_the_library_without_its_tests():
    documents = dict(read(PythonCorpusConfig()))
    assert "import" in documents["argparse.py"]
    assert "json/decoder.py" in documents
    assert documents["topics/assert"]
    folders = {part for name in documents for part in Path(name).parts[:-1]}
    assert not folders & {"test", "tests", "idle_test", "site-packages", "__pycache__"}
    # The topics are documents of their own; their module would be a second copy of them.
    assert "pydoc_data/topics.py" not in documents
    names = list(documents)
    modules = [name for name in names if not name.startswith("topics/")]
    assert names == sorted(modules) + sorted(set(names) - set(modules))


def test_python_digest_covers_content(tmp_path, monkeypatch):
    (tmp_path / "a.py").write_text("x = 1")
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    first = input_digest(PythonCorpusConfig())
    assert first["python"] == ".".join(map(str, sys.version_info[:3]))
    (tmp_path / "a.py").write_text("x = 2")
    assert input_digest(PythonCorpusConfig()) != first
    (tmp_path / "a.py").unlink()
    with pytest.raises(UserError, match="no module sources"):
        input_digest(PythonCorpusConfig())


def test_python_sources_decode_by_their_cookie():
    assert decode_source("# coding: latin-1\né".encode("latin-1")) == "# coding: latin-1\né"
    assert decode_source("é".encode()) == "é"
    assert decode_source(b"\xef\xbb\xbfx") == "x"
    assert decode_source(b"# coding: no-such-codec\n\xe9") == "# coding: no-such-codec\né"
    assert decode_source(b"x\n\n\n\xe9") == "x\n\n\né"


@pytest.mark.skipif(importlib.util.find_spec("datasets") is None, reason="extra hf")
def test_hub_dataset_from_disk(tmp_path):
    from datasets import Dataset

    rows = {"body": ["a", "b"], "key": [3, 4], "other": [0, 0]}
    Dataset.from_dict(rows).save_to_disk(str(tmp_path / "set"))
    config = HfCorpusConfig(path=str(tmp_path / "set"), text_field="body", id_field="key")
    assert read(config) == [("3", "a"), ("4", "b")]
    before = input_digest(config)
    Dataset.from_dict(rows | {"other": [1, 1]}).save_to_disk(str(tmp_path / "set2"))
    config.path = str(tmp_path / "set2")
    assert input_digest(config) == before  # a column that isn't read changes nothing
    config.text_field = "text"
    with pytest.raises(UserError, match="no column 'text'; the columns are: body, key, other"):
        read(config)


def test_hub_without_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError) as caught:
        read(HfCorpusConfig(path="x"))
    assert caught.value.fix == 'pip install -e ".[hf]"'


def test_unknown_kind_of_corpus():
    with pytest.raises(UserError, match="no reader is registered for CorpusConfig"):
        read(CorpusConfig(name="mine"))
