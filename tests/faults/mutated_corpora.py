"""Corpus files that something happened to: read as what they say, or one message."""

from __future__ import annotations

import gzip
import io
import json
import random
import shutil
import traceback
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard
from composed import config_of
from fault_children import Child
from fault_counts import Counts, count_told, ending, last_line, tell
from fault_world import World, quick_place

from retro_lab.__main__ import refusal  # that of every command
from retro_lab.config.errors import UserError
from retro_lab.config.schema import Config
from retro_lab.run.data.graph import DataGraph
from retro_lab.text.corpus import Corpus

KINDS = ("jsonl", "jsonl.gz", "jsonl.zst", "txt", "parquet", "ids")
_CHOICES = ("tokenizer=byte", "retriever=none")
_BATCH = 50  # files a child; a crash of a library's C code costs no more than these
_INSERTS = (
    *(b"\x00", b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\r", b"\n\n", b"\r\n", b"\xe2\x80\xa8"),
    *(
        b'"',
        b"\\",
        b"{",
        b"[" * 3000,
        b"}",
        b",",
        b"\\ud800",
        b"\\u0000",
        b"1e999",
        b"NaN",
        b"null",
    ),
    *(
        b'{"text": 5}\n',
        b'{"id": null, "text": "x"}\n',
        b"[]\n",
        b"5\n",
        b'{"text": "a", "text": "b"}\n',
    ),
)


def mutated_corpora(world: World, files: int, seed: int = 0) -> list[Counts]:
    """A row over so many files, in children that read some each."""
    counts = Counts("mutated corpus files", must_hit=frozenset({*KINDS, "read", "refused"}))
    for corpus in ("jsonl", "parquet", "text"):  # composed here, not in every child
        config_of(f"corpus={corpus}", "corpus.path=here", *_CHOICES)
    with quick_place(world.folder) as folder:
        for first in range(0, files, _BATCH):
            numbers = range(first, min(first + _BATCH, files))
            child = Child(lambda numbers=numbers: _read_all(folder, numbers, seed))
            ended = child.wait()
            read = count_told(ended.said, ("read", "refused"), counts)
            if read < len(numbers):
                how = f"reading ends with {ended.code}: {ending(ended.said)}"
                counts.found("tracebacks", f"file {numbers[read]}: {how}")
    return [counts]


def _read_all(folder: Path, numbers: range, seed: int) -> int:
    for number in numbers:
        rng = random.Random(f"{seed}-{number}")
        kind = KINDS[number % len(KINDS)]
        place = folder / str(number)
        outcome, sentence = _read_one(place, kind, rng)
        tell(kind, outcome, f"{kind}: {sentence}")
        shutil.rmtree(place, ignore_errors=True)
    return 0


def _read_one(folder: Path, kind: str, rng: random.Random) -> tuple[str, str]:
    """`refused`, `read`, `wrong` or `tracebacks`, and a sentence."""
    folder.mkdir(parents=True)
    config = _write(folder, kind, rng)
    try:
        corpus = DataGraph(config).own.corpus.data
    except Exception as error:
        if isinstance(error, UserError) or refusal(error) is not None:
            return "refused", ""
        return "tracebacks", ending(traceback.format_exc())
    if kind.startswith("jsonl") and config.corpus.on_error.value == "stop":
        problem = _not_as_written(corpus, folder / f"docs.{kind}", kind)
        if problem:
            return "wrong", problem
    return "read", ""


def _write(folder: Path, kind: str, rng: random.Random) -> Config:
    """Writes a small corpus, lets something happen to it, and returns how it is read."""
    texts = {
        f"d{i}": " ".join(rng.choices(("abc", "é", "漢字", "x y", "0"), k=8)) for i in range(12)
    }
    lines = b"".join(orjson.dumps({"id": n, "text": t}) + b"\n" for n, t in texts.items())
    path = folder / f"docs.{kind}"
    overrides = [f"store.dir={folder / 'store'}", *_CHOICES]
    overrides += ["corpus.split.validation=0.3", "corpus.split.test=0.3"]
    if kind == "txt":
        for name, text in texts.items():
            (folder / "texts" / name).mkdir(parents=True)
            (folder / "texts" / name / "a.txt").write_text(text)
        victim = rng.choice(sorted((folder / "texts").rglob("*.txt")))
        victim.write_bytes(mutated(victim.read_bytes(), rng))
        return config_of("corpus=text", f"corpus.path={folder / 'texts'}", *overrides)
    if kind == "parquet":
        table = pa.table({"id": list(texts), "text": list(texts.values())})
        pq.write_table(table, path, compression=rng.choice(("none", "snappy", "zstd")))
        path.write_bytes(mutated(path.read_bytes(), rng))
        return config_of("corpus=parquet", f"corpus.path={path}", *overrides)
    overrides += [f"corpus.on_error={rng.choice(('stop', 'stop', 'skip'))}"]
    if kind == "ids":
        path = folder / "docs.jsonl"
        path.write_bytes(lines)
        for split, names in (
            ("train", range(6)),
            ("validation", range(6, 9)),
            ("test", range(9, 12)),
        ):
            data = "".join(f"d{i}\n" for i in names).encode()
            (folder / f"{split}.txt").write_bytes(mutated(data, rng))
            overrides.append(f"corpus.split.{split}_ids={folder / split}.txt")
        return config_of("corpus=jsonl", f"corpus.path={path}", *overrides)
    outside = kind != "jsonl" and rng.random() < 0.5  # the packed bytes, or what is packed
    data = lines if outside else mutated(lines, rng)
    if kind == "jsonl.gz":
        data = gzip.compress(data, mtime=0)
    elif kind == "jsonl.zst":
        data = zstandard.ZstdCompressor(write_checksum=True).compress(data)
    path.write_bytes(mutated(data, rng) if outside else data)
    return config_of("corpus=jsonl", f"corpus.path={path}", *overrides)


def mutated(data: bytes, rng: random.Random) -> bytes:
    """The data after one to three accidents."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        place = rng.randrange(len(data)) if data else 0
        kind = rng.randrange(7)
        if kind == 0:  # cut short
            data = data[:place]
        elif kind == 1 and data:  # a flipped bit
            data = data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :]
        elif kind == 2:
            data = data[:place] + rng.choice(_INSERTS) + data[place:]
        elif kind == 3:  # a part comes twice
            stop = place + rng.randrange(1, 80)
            data = data[:stop] + data[place:]
        elif kind == 4:  # a part is gone
            data = data[:place] + data[place + rng.randrange(1, 80) :]
        elif kind == 5:  # a block of zeros, as a file system leaves it after a crash
            data = data[:place] + bytes(rng.randrange(1, 64)) + data[place:]
        else:
            data += rng.choice((data, b"\n", b"garbage", rng.randbytes(20)))
    return data


def _not_as_written(corpus: Corpus, path: Path, kind: str) -> str | None:
    """What differs from what Python's own json reads in the file; None if nothing does."""
    raw = path.read_bytes()
    if kind == "jsonl.gz":
        raw = gzip.decompress(raw)
    elif kind == "jsonl.zst":
        with zstandard.ZstdDecompressor().stream_reader(
            io.BytesIO(raw), read_across_frames=True
        ) as stream:
            raw = stream.read()
    lines = [line for line in raw.removeprefix(b"\xef\xbb\xbf").split(b"\n") if line.strip()]
    try:
        records = [json.loads(line.decode("utf-8")) for line in lines]
        expected = sorted(record["text"] for record in records)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        return f"a record was read that is none: {last_line(str(error))}"
    found = sorted(corpus.text(document) for document in range(corpus.num_documents))
    if [text for text in found if text] != [text for text in expected if text]:
        return f"{len(found)} documents were read, {len(expected)} are there, or their text differs"
    return None
