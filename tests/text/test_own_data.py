"""Contract: CSV, JSON arrays and parted text become documents as JSON lines do; a file given to the
wrong reader, or with another field for its text, is refused with the settings that read it.
"""

from __future__ import annotations

import csv
import gzip

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from retro_lab.config.errors import UserError
from retro_lab.config.schema import (
    CsvCorpusConfig,
    JsonCorpusConfig,
    JsonlCorpusConfig,
    OnError,
    ParquetCorpusConfig,
    TextCorpusConfig,
)
from retro_lab.text.readers import Malformed, read_documents
from retro_lab.text.readers.base import Unreadable
from retro_lab.text.readers.jsonl import json_records

TABLE = 'id,body\na,"one, ""two""\nthree"\n,plain\n'
BOTH = [("a", 'one, "two"\nthree'), ("t.csv:4", "plain")]


def read(kind, path, **options):
    return [(d.id, d.text) for d in read_documents(kind(path=str(path), **options))]


def refused(kind, path, **options):
    with pytest.raises(UserError) as caught:
        read(kind, path, **options)
    return caught.value.message, caught.value.fix or ""


def written(path, data):
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.compress])
@pytest.mark.parametrize("mark", [",", "\t", ";"])
def test_a_table_is_read_with_any_delimiter_and_packed(tmp_path, pack, mark):
    table = TABLE
    for start in ("id,", "\na,", "\n,"):
        table = table.replace(start, start.replace(",", mark))
    data = b"\xef\xbb\xbf" + table.encode()
    path = written(tmp_path / "t.csv", pack(data))
    assert read(CsvCorpusConfig, path, text_field="body") == BOTH


def test_large_fields_windows_lines_and_columns_beside_the_text_are_kept(tmp_path):
    with (tmp_path / "t.csv").open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerows([["text", "other"], ["x" * 300_000, "é"]])
        writer.writerows([["a\r\n\r\nb", ""], [], ["", "c"]])
    found = read(CsvCorpusConfig, tmp_path)
    assert found == [("t.csv:2", "x" * 300_000), ("t.csv:3", "a\r\n\r\nb"), ("t.csv:7", "")]


BROKEN = [
    ("text,id\na,1\nb,2,3\nc,3\n", "line 3: 3 fields, expected 2"),
    ('text,id\na,1\n"b"x,2\nc,3\n', "line 3: text goes on behind a closing quotation mark"),
    (b"text,id\na,1\n\xe9,2\nc,3\n", "line 3: column 'text' is not valid UTF-8: byte 0xe9"),
]


@pytest.mark.parametrize(("data", "problem"), BROKEN)
def test_a_malformed_row_is_named_by_its_line_or_counted(tmp_path, data, problem):
    path = written(tmp_path / "t.csv", data)
    message, fix = refused(CsvCorpusConfig, path)
    assert message.startswith(f"t.csv, {problem}")
    assert "corpus.on_error=skip" in fix
    malformed = Malformed(OnError.skip)
    documents = read_documents(CsvCorpusConfig(path=str(path)), malformed)
    assert [d.id for d in documents] == ["1", "3"]
    assert malformed.count == 1


def test_a_quotation_mark_that_is_never_closed_is_named_where_it_opens(tmp_path):
    path = written(tmp_path / "t.csv", 'text\na\n"b\nc\nd\n')
    message, fix = refused(CsvCorpusConfig, path)
    assert message.startswith("t.csv, line 3: a quoted field that is never closed")
    assert '""' in fix


def test_json_arrays_are_read_from_files_and_folders(tmp_path):
    written(tmp_path / "a.json", '[\n {"text": "x", "id": 7},\n {"text": "y"}\n]\n')
    wanted = [("7", "x"), ("a.json:2", "y")]
    assert read(JsonCorpusConfig, tmp_path) == wanted
    assert read(JsonlCorpusConfig, tmp_path / "a.json") == wanted


def test_an_array_is_held_in_memory_up_to_a_bound():
    rows = [b"[\n", b'{"text": "a"},\n', b'{"text": "b"}\n', b"]"]
    size = sum(map(len, rows))
    unit, items = json_records("a.json", iter(rows), size)
    assert (unit, [record["text"] for _, record in items]) == ("item", ["a", "b"])
    with pytest.raises(Unreadable, match="is a JSON array, which is read whole") as caught:
        json_records("a.json", iter(rows), size - 1)
    assert "jq -c" in (caught.value.fix or "")
    lines = [b"[1]\n", b'{"text": "a"}\n', b'{"text": "b"}\n']  # a wrong first line, no array
    unit, records = json_records("a.jsonl", iter(lines), 4)
    assert (unit, [line for _, line in records]) == ("line", lines)


def test_a_text_file_is_parted_into_documents(tmp_path):
    path = written(tmp_path / "book.txt", "one\n\ntwo\n\n\nthree\n\n\n \n\n\n\n")
    typed = r"\n\n\n"  # as a shell passes it on
    for separator in (typed, "\n\n\n"):
        found = read(TextCorpusConfig, path, separator=separator)
        assert found == [("book.txt:1", "one\n\ntwo"), ("book.txt:2", "three")]
    message, fix = refused(TextCorpusConfig, path, separator="***")
    assert "corpus.separator='***' is not in the file" in message
    assert "corpus.separator=null" in fix
    written(path, "one\r\n\r\n\r\ntwo")
    assert r"corpus.separator='\r\n\r\n\r\n'" in refused(TextCorpusConfig, path, separator=typed)[1]


def test_a_folder_of_markdown_is_read_and_beside_text_files_listed(tmp_path):
    written(tmp_path / "a.md", "# A")
    assert read(TextCorpusConfig, tmp_path) == [("a.md", "# A")]
    written(tmp_path / "b.txt", "b")
    from retro_lab.text.readers import build_reader

    reader = build_reader(TextCorpusConfig(path=str(tmp_path)))
    assert [file.name for file in reader.files.read] == ["b.txt"]
    assert "corpus.pattern" in reader.files.left_out["a.md"]


CSV = "a table of delimited text"
PARQUET = pa.table({"n": [1], "title": ["t"], "review text": ["long enough"]})
WRONG = [
    ("t.csv", TABLE, JsonlCorpusConfig, CSV, "corpus=csv corpus.text_field=body"),
    ("t", "text\tn\na\t1\n", JsonlCorpusConfig, CSV, "corpus=csv"),
    ("t.csv", TABLE, ParquetCorpusConfig, CSV, "corpus=csv corpus.text_field=body"),
    ("t.txt", "Once, twice\nupon, a\n", JsonlCorpusConfig, "plain text", "corpus=text"),
    ("t.csv", '{"text": "a, b"}\n', CsvCorpusConfig, "JSON", "corpus=jsonl"),
    ("t.csv", '[{"text": "a, b"}]\n', CsvCorpusConfig, "JSON, an array", "corpus=json"),
    ("t.csv", TABLE, CsvCorpusConfig, "no column 'text'.* id, body", "corpus.text_field=body"),
    ("t", '{"a": "x", "body": "long"}', JsonlCorpusConfig, "no field", "corpus.text_field=body"),
    ("t.parquet", PARQUET, ParquetCorpusConfig, "no column", "'corpus.text_field=review text'"),
    ("t.parquet", PARQUET, CsvCorpusConfig, "a Parquet file", "corpus=parquet"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "data", "kind", "said", "fix"), WRONG)
def test_what_another_reader_or_field_takes_is_named_with_its_settings(
    tmp_path, name, data, kind, said, fix
):
    path = tmp_path / name
    if isinstance(data, str):
        written(path, data)
    else:
        pq.write_table(data, path)
    with pytest.raises(UserError, match=said) as caught:
        read(kind, path)
    advice = caught.value.fix or ""
    assert advice.startswith(fix)
    assert "skip" not in advice or "no field" in said


def test_a_missing_path_names_its_neighbour_and_a_folder_its_reader(tmp_path):
    written(tmp_path / "reviews.csv", TABLE)
    assert (
        f"did you mean {tmp_path / 'reviews.csv'}?"
        in refused(CsvCorpusConfig, tmp_path / "review.csv")[1]
    )
    assert refused(JsonlCorpusConfig, tmp_path)[1].startswith("corpus=csv reads .csv files")
