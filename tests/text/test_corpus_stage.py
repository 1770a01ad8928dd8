"""Contract: the corpus artifact holds every document's bytes once, cut and split as configured."""

from __future__ import annotations

import hashlib
import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from text_builders import built_corpus, workspace, write_jsonl

from retro_lab.config.errors import UserError
from retro_lab.config.schema import JsonlCorpusConfig, OnError, SplitConfig
from retro_lab.store import ArtifactStore
from retro_lab.text.corpus import SPLITS, Corpus, build_corpus, corpus_stage

SPLIT = SplitConfig(validation=0.3, test=0.3)
RECORDS = [{"id": f"r{i}", "text": f"text {i} é" * (1 + i % 7)} for i in range(60)]


@pytest.fixture
def config(tmp_path):
    path = write_jsonl(tmp_path / "docs.jsonl", RECORDS)
    return JsonlCorpusConfig(path=str(path), split=SPLIT)


def test_documents_come_back(config, tmp_path):
    corpus, stats = built_corpus(config, tmp_path)
    assert corpus.ids == [r["id"] for r in RECORDS]
    assert [corpus.text(i) for i in range(corpus.num_documents)] == [r["text"] for r in RECORDS]
    assert corpus.raw(7) == RECORDS[7]["text"].encode()
    assert corpus.raw_span(0, 8) == "text 0 é".encode()[:8]
    assert corpus.num_bytes() == sum(len(r["text"].encode()) for r in RECORDS) == stats["bytes"]
    assert corpus.num_bytes() == sum(corpus.num_bytes(split) for split in SPLITS)
    numbers = np.concatenate([corpus.documents_of(split) for split in SPLITS])
    assert sorted(numbers) == list(range(60))
    for code, split in enumerate(SPLITS):
        assert stats["splits"][split] == {
            "documents": int((corpus.split == code).sum()),
            "bytes": corpus.num_bytes(split),
        }


def test_processes_share_it_by_path(config, tmp_path):
    corpus, _ = built_corpus(config, tmp_path)
    data = pickle.dumps(corpus)
    assert len(data) < 1000
    assert pickle.loads(data).text(3) == corpus.text(3)


def test_same_input_same_bytes(config, tmp_path):
    def files():
        place = workspace(tmp_path)
        build_corpus(config, place)
        return {p.name: p.read_bytes() for p in place.path.iterdir() if p.is_file()}

    assert files() == files()


def test_empty_and_malformed_records_are_counted(tmp_path, caplog):
    path = write_jsonl(tmp_path / "docs.jsonl", [*RECORDS, {"text": ""}, b"{", {"text": ""}])
    config = JsonlCorpusConfig(path=str(path), split=SPLIT, on_error=OnError.skip)
    corpus, stats = built_corpus(config, tmp_path)
    assert corpus.num_documents == 60
    assert stats["skipped"] == {"empty": 2, "malformed": 1, "over_max_bytes": 0}
    told = [r for r in caplog.records if r.getMessage().startswith("the corpus has 60 documents (")]
    assert [r.levelname for r in told] == ["WARNING"]
    assert told[0].getMessage().endswith("left out: 1 malformed, 2 empty")
    assert built_corpus(replace(config, max_bytes=10**6), tmp_path)[1] == stats
    with pytest.raises(UserError, match="line 62"):
        built_corpus(replace(config, on_error=OnError.stop), tmp_path)


def test_nothing_to_read(tmp_path):
    path = write_jsonl(tmp_path / "docs.jsonl", [{"text": ""}, {"body": "x"}])
    config = JsonlCorpusConfig(path=str(path), on_error=OnError.skip)
    message = (
        "1 empty and 1 malformed records were skipped, the first: docs.jsonl, line 2: no field"
    )
    with pytest.raises(UserError, match=message):
        built_corpus(config, tmp_path)


@pytest.mark.parametrize("max_bytes", [None, 10])
def test_repeated_id_names_both_places(tmp_path, max_bytes):
    records = [{"id": "a", "text": "x"}, {"id": "b", "text": "y"}, {"id": "a", "text": ""}]
    path = write_jsonl(tmp_path / "docs.jsonl", records)
    config = JsonlCorpusConfig(path=str(path), max_bytes=max_bytes)
    with pytest.raises(UserError, match=r"id 'a': docs.jsonl, line 1, and docs.jsonl, line 3"):
        built_corpus(config, tmp_path)


def kept_by_hand(records, max_bytes):
    """By sha256 of their ids, what fits, until nine tenths are full and one does not fit."""
    kept, total = set(), 0
    for record in sorted(records, key=lambda r: hashlib.sha256(r["id"].encode()).hexdigest()):
        size = len(record["text"].encode())
        if total + size <= max_bytes:
            kept.add(record["id"])
            total += size
        elif total >= 0.9 * max_bytes:
            break
    return [r["id"] for r in records if r["id"] in kept]


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(max_bytes=st.integers(500, 3000))
def test_max_bytes_keeps_a_random_sample_in_order(config, tmp_path, max_bytes):
    corpus, stats = built_corpus(replace(config, max_bytes=max_bytes), tmp_path)
    assert corpus.ids == kept_by_hand(RECORDS, max_bytes)
    assert corpus.num_bytes() <= max_bytes
    assert stats["skipped"]["over_max_bytes"] == 60 - corpus.num_documents
    by_id = {r["id"]: r["text"] for r in RECORDS}
    assert [corpus.text(i) for i in range(corpus.num_documents)] == [by_id[i] for i in corpus.ids]
    # A cut deals nobody to another split.
    whole, _ = built_corpus(config, tmp_path)
    codes = dict(zip(whole.ids, whole.split, strict=True))
    assert [codes[name] for name in corpus.ids] == corpus.split.tolist()


def test_max_bytes_below_the_smallest_document(config, tmp_path):
    with pytest.raises(UserError, match=r"corpus.max_bytes=3: every document .* has 9 bytes"):
        built_corpus(replace(config, max_bytes=3), tmp_path)


@pytest.mark.parametrize("place", [0, 3, 40])
def test_a_document_larger_than_what_is_left_is_passed_over_and_named(tmp_path, caplog, place):
    records = sorted(RECORDS, key=lambda r: hashlib.sha256(r["id"].encode()).hexdigest())
    others = [dict(r) for r in records]
    records[place] = {"id": records[place]["id"], "text": "lorem " * 1000}
    del others[place]
    total = sum(len(r["text"].encode()) for r in others)
    path = write_jsonl(tmp_path / "docs.jsonl", records)
    config = JsonlCorpusConfig(path=str(path), split=SPLIT, max_bytes=total)

    corpus, stats = built_corpus(config, tmp_path)

    assert corpus.ids == [r["id"] for r in others]
    assert stats["skipped"]["over_max_bytes"] == 1
    named = [r.getMessage() for r in caplog.records if "passes over" in r.getMessage()]
    assert len(named) == 1
    assert named[0].endswith(f"{records[place]['id']!r} (6,000 bytes)")


def test_a_draw_that_is_nearly_full_ends_at_the_first_document_that_does_not_fit(tmp_path, caplog):
    names = sorted("abcdef", key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    sizes = [40, 52, 20, 5, 5, 1]
    path = write_jsonl(
        tmp_path / "docs.jsonl",
        [{"id": n, "text": "x" * size} for n, size in zip(names, sizes, strict=True)],
    )
    config = JsonlCorpusConfig(path=str(path), max_bytes=100)
    corpus, _ = built_corpus_whole(config, tmp_path)
    assert corpus.ids == names[:2]
    assert not any("passes over" in r.getMessage() for r in caplog.records)


def built_corpus_whole(config, root):
    place = workspace(root)
    stats = build_corpus(config, place, whole=True)
    return Corpus.open(place.path), stats


def test_key_follows_what_changes_the_content(config, tmp_path):
    key = corpus_stage(config).key
    copy = write_jsonl(tmp_path / "elsewhere" / "docs.jsonl", RECORDS)
    same = [replace(config, name="mine"), replace(config, path=str(copy))]
    assert {corpus_stage(c).key for c in same} == {key}
    lists = [tmp_path / "one.txt", tmp_path / "two.txt"]
    for path in lists:
        path.write_text(f"{path.stem}\n")
    different = [
        replace(config, max_bytes=10_000),
        replace(config, on_error=OnError.skip),
        replace(config, text_field="body"),
        replace(config, id_field="name"),
        replace(config, test_path=str(copy)),
        replace(config, split=replace(SPLIT, test=0.2)),
        replace(config, split=replace(SPLIT, group_pattern="(r)")),
        *[replace(config, split=replace(SPLIT, test_ids=str(path))) for path in lists],
    ]
    keys = [corpus_stage(c).key for c in different]
    write_jsonl(tmp_path / "docs.jsonl", RECORDS[1:])
    keys += [key, corpus_stage(config).key]
    assert len(set(keys)) == len(keys)


def test_it_builds_in_the_store(config, tmp_path):
    store = ArtifactStore(tmp_path / "store")
    artifact = store.build(corpus_stage(config), lambda place: build_corpus(config, place))
    assert sorted(artifact.manifest["files"]) == [
        "ids.json",
        "offsets.npy",
        "split.npy",
        "text.bin",
    ]
    assert artifact.stats["documents"] == 60
