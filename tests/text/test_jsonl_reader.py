"""Contract: JSON lines in any container become documents; what is wrong is named with its line."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import random

import pytest
import zstandard
from text_builders import write_jsonl

from retro_lab.config.errors import UserError
from retro_lab.config.schema import JsonlCorpusConfig, OnError, TextCorpusConfig
from retro_lab.text.readers import Malformed, input_digest, read_documents

RECORDS = [{"id": f"r{i}", "text": f"text {i} é\r\n"} for i in range(50)]


def read(path, **options):
    return list(read_documents(JsonlCorpusConfig(path=str(path), **options)))


PACK = {
    "": bytes,
    ".gz": gzip.compress,
    ".zst": zstandard.ZstdCompressor().compress,
    ".xz": lzma.compress,
    ".bz2": bz2.compress,
}


@pytest.mark.parametrize("suffix", list(PACK))
def test_reads_every_container(tmp_path, suffix):
    data = write_jsonl(tmp_path / "plain", RECORDS).read_bytes()
    pack = PACK[suffix]
    path = tmp_path / f"docs.jsonl{suffix}"
    half = len(data) // 2
    path.write_bytes(pack(data[:half]) + pack(data[half:]))  # two frames, as tools append them

    documents = read(path)

    assert [(d.id, d.text) for d in documents] == [(r["id"], r["text"]) for r in RECORDS]
    assert documents[16].place == f"docs.jsonl{suffix}, line 17"


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_truncated_file_is_named(tmp_path, suffix):
    data = write_jsonl(tmp_path / "plain", RECORDS).read_bytes()
    pack = gzip.compress if suffix == ".gz" else zstandard.ZstdCompressor().compress
    packed = pack(data)
    path = tmp_path / f"docs.jsonl{suffix}"
    path.write_bytes(packed[: len(packed) // 2])

    with pytest.raises(UserError, match=f"docs.jsonl{suffix}: can't be read: (Trunc|.* ended)"):
        read(path)


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_of_a_truncated_file_the_lines_before_the_cut_are_read_on_request(tmp_path, suffix):
    noise = random.Random(0)
    records = [{"text": noise.randbytes(500).hex()} for _ in range(200)]
    packed = write_jsonl(tmp_path / "plain", records).read_bytes()
    packed = gzip.compress(packed) if suffix == ".gz" else zstandard.compress(packed)
    path = tmp_path / f"a.jsonl{suffix}"
    path.write_bytes(packed[: len(packed) * 9 // 10])
    write_jsonl(tmp_path / "b.jsonl", RECORDS)
    config = JsonlCorpusConfig(path=str(tmp_path / "[ab].*"), on_error=OnError.skip)

    malformed = Malformed(OnError.skip)
    documents = list(read_documents(config, malformed))

    cut = len(documents) - len(RECORDS)
    assert 60 < cut < 180
    assert [d.text for d in documents[:cut]] == [r["text"] for r in records[:cut]]
    assert malformed.count == 1
    assert malformed.first is not None
    assert malformed.first.startswith(f"a.jsonl{suffix}, after line {cut}: can't be read: ")
    with pytest.raises(UserError, match=f"a.jsonl{suffix}, after line {cut}: can't be read"):
        read(path)


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_wrong_suffix_is_named(tmp_path, suffix):
    path = write_jsonl(tmp_path / f"docs.jsonl{suffix}", RECORDS)
    with pytest.raises(UserError, match=f"docs.jsonl{suffix}: is not compressed") as caught:
        read(path)
    assert "skip" not in (caught.value.fix or "")
    path.write_bytes(lzma.compress(path.read_bytes()))  # another one than the suffix says
    assert len(read(path)) == len(RECORDS)


@pytest.mark.parametrize("name", ["docs.jsonl", "docs.jsonl.gz"])
def test_padding_behind_a_compressed_file_is_no_text(tmp_path, name):
    data = write_jsonl(tmp_path / "plain", RECORDS).read_bytes()
    (tmp_path / name).write_bytes(gzip.compress(data) + b"\0" * 512)
    assert [d.id for d in read(tmp_path / name)] == [r["id"] for r in RECORDS]


@pytest.mark.parametrize("suffix", [".json", ".json.gz"])
@pytest.mark.parametrize("indent", [None, 2])
def test_a_json_array_is_read_by_its_items(tmp_path, suffix, indent):
    data = json.dumps([*RECORDS, {"text": "no id"}, "no object"], indent=indent).encode()
    path = tmp_path / f"docs{suffix}"
    path.write_bytes(gzip.compress(data) if suffix == ".json.gz" else data)
    with pytest.raises(UserError, match=f"docs{suffix}, item 52: expected a JSON object"):
        read(path)
    documents = read(path, on_error=OnError.skip)
    assert [d.id for d in documents] == [*(r["id"] for r in RECORDS), f"docs{suffix}:51"]
    assert documents[16].place == f"docs{suffix}, item 17"


OTHER = [
    (b"PAR1....", "a Parquet file", "corpus=parquet"),
    (b"PK\x03\x04....", "a zip archive", "unpack it"),
    (b"%PDF-1.7\n", "a PDF", "extract its text"),
    (b"x" * 257 + b"ustar\0", "a tar archive", "unpack it"),
    ("\ufeff{}".encode("utf-16-le"), "UTF-16 text", "iconv"),
]


@pytest.mark.parametrize(("data", "name", "fix"), OTHER)
@pytest.mark.parametrize("kind", [JsonlCorpusConfig, TextCorpusConfig])
def test_another_format_is_named_and_no_advice_to_skip_it_is_given(tmp_path, kind, data, name, fix):
    path = tmp_path / "docs.jsonl"
    path.write_bytes(data)
    with pytest.raises(UserError, match=f"docs.jsonl: is {name}, expected text") as caught:
        list(read_documents(kind(path=str(path))))
    assert fix in (caught.value.fix or "")
    assert "skip" not in (caught.value.fix or "")
    malformed = Malformed(OnError.skip)
    assert not list(read_documents(kind(path=str(path), on_error=OnError.skip), malformed))
    assert malformed.count == 1


def test_whole_numbers_written_as_floats_are_ids(tmp_path):
    path = tmp_path / "docs.jsonl"
    path.write_bytes(b'{"text": "a", "id": 3.0}\n{"text": "b", "id": NaN, "score": Infinity}\n')
    assert [(d.id, d.text) for d in read(path)] == [("3", "a"), ("docs.jsonl:2", "b")]


def test_oddities_that_are_text_are_kept(tmp_path):
    path = tmp_path / "docs.jsonl"
    path.write_bytes(
        b'\xef\xbb\xbf{"text": "nul \\u0000 kept"}\r\n\r\n{"text": ""}\n'
        b'{"id": 7, "text": "line sep \xe2\x80\xa8 and \\ud83d\\ude00"}'
    )
    assert [(d.id, d.text) for d in read(path)] == [
        ("docs.jsonl:1", "nul \0 kept"),
        ("docs.jsonl:3", ""),
        ("7", "line sep \u2028 and 😀"),
    ]


BROKEN = [
    (b'{"text": "no end', "not valid JSON: .* at column"),
    (b'{"text": "\xff"}', "not valid UTF-8: byte 0xff at offset 10"),
    (b'{"text": "\\ud800"}', "not valid JSON"),
    (b'["text"]', "expected a JSON object"),
    (b"[", "a JSON value over several lines, expected an object a line"),
    (b'{"body": "x", "title": "y"}', "no field 'text'; the fields are: body, title"),
    (b'{"text": null}', "field 'text' holds null, expected a string"),
    (b'{"text": 3}', "field 'text' holds a number"),
    (b'{"text": "x", "id": [1]}', "field 'id' holds a list"),
    (b'{"text": "x", "id": true}', "field 'id' holds true or false"),
    (b'{"text": "x", "id": 1.5}', "field 'id' holds 1.5, expected a string or a whole number"),
    (b'{"text": "x", "id": 1180591620717411303424}', "field 'id' holds 1.18.*, expected"),
    (b'{"text": "\\ud800", "x": NaN}', "not valid JSON"),
    (b'{"text": "x"},', "a comma behind the object"),
    (b'{"text": "x"}\r{"text": "y"}', "lines end in carriage returns"),
]


@pytest.mark.parametrize(("line", "problem"), BROKEN)
def test_malformed_record_stops_with_its_line(tmp_path, line, problem):
    path = write_jsonl(tmp_path / "docs.jsonl", [{"text": "good"}, line])
    with pytest.raises(UserError, match=f"docs.jsonl, line 2: {problem}") as caught:
        read(path)
    assert "corpus.on_error=skip" in (caught.value.fix or "")


@pytest.mark.parametrize(("line", "problem"), BROKEN)
def test_malformed_record_is_counted_on_request(tmp_path, line, problem):
    path = write_jsonl(tmp_path / "docs.jsonl", [line, {"id": "a", "text": "good"}, line])
    malformed = Malformed(OnError.skip)
    documents = read_documents(JsonlCorpusConfig(path=str(path)), malformed)
    assert [d.id for d in documents] == ["a"]
    assert malformed.count == 2
    assert malformed.first is not None
    assert malformed.first.startswith("docs.jsonl, line 1: ")


@pytest.mark.slow
def test_a_line_of_200_mb_is_a_document_or_named(tmp_path):
    text = "ab c" * 50_000_000
    path = tmp_path / "docs.jsonl"
    for end, found in (('"}', 3), ("", 2)):
        path.write_text(f'{{"text": "first"}}\n{{"text": "{text}{end}\n{{"text": "last"}}\n')
        malformed = Malformed(OnError.skip)
        config = JsonlCorpusConfig(path=str(path), on_error=OnError.skip)
        documents = list(read_documents(config, malformed))
        assert len(documents) == found
        assert documents[1].text == (text if end else "last")
    assert malformed.first is not None
    assert malformed.first.startswith("docs.jsonl, line 2: not valid JSON")
    assert len(malformed.first) < 200


def test_folder_and_glob_name_documents_alike(tmp_path):
    for name in ("b.jsonl", "a.jsonl", "sub/a.jsonl"):
        write_jsonl(tmp_path / name, [{"text": name}])
    (tmp_path / "notes.md").write_text("not read")
    wanted = ["a.jsonl:1", "b.jsonl:1", "sub/a.jsonl:1"]
    assert [d.id for d in read(tmp_path)] == wanted
    assert [d.id for d in read(tmp_path / "**" / "*.jsonl")] == wanted


def test_given_files_carry_their_split(tmp_path):
    paths = [write_jsonl(tmp_path / f / "x.jsonl", [{"text": f}]) for f in ("a", "b", "c")]
    train, validation, test = map(str, paths)
    documents = read(train, validation_path=validation, test_path=test)
    assert [(d.id, d.split) for d in documents] == [
        ("x.jsonl:1", "train"),
        ("validation/x.jsonl:1", "validation"),
        ("test/x.jsonl:1", "test"),
    ]
    assert [d.split for d in read(train, test_path=test)] == [None, "test"]
    with pytest.raises(UserError, match="are one file"):
        read(train, test_path=train)


def test_missing_input_names_key_and_fix(tmp_path):
    (tmp_path / "x.csv").write_text("a,b")
    cases = {
        "nothing.jsonl": "corpus.path=.*nothing.jsonl: no such file or folder",
        "*.zst": "corpus.path=.*: no file matches",
        ".": r"the folder has no files like .*\.jsonl.*; it holds 1 \.csv",
    }
    for name, message in cases.items():
        with pytest.raises(UserError, match=message) as caught:
            read(tmp_path / name)
        assert caught.value.fix


def test_digest_follows_content_and_not_place(tmp_path):
    def digest(folder, records):
        path = write_jsonl(tmp_path / folder / "docs.jsonl", records)
        return input_digest(JsonlCorpusConfig(path=str(path)))

    assert list(digest("a", RECORDS)) == ["docs.jsonl"]
    assert digest("a", RECORDS) == digest("b", RECORDS)
    assert digest("a", RECORDS) != digest("a", RECORDS[:-1])


def test_null_for_the_id_numbers_all(tmp_path):
    path = write_jsonl(
        tmp_path / "docs.jsonl", [{"id": "a", "text": "x"}, {"id": "a", "text": "y"}]
    )
    assert [d.id for d in read(path, id_field=None)] == ["docs.jsonl:1", "docs.jsonl:2"]
