"""Contract: `explain` says for each stage hit or miss, and which difference caused the miss."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from retro_lab.store import ArtifactStore, Stage

TOKENIZER = Stage("tokenizer", 1, {"vocab_size": 512}, {})
CHUNKS = Stage(
    "chunks",
    1,
    {"chunk_size": 64, "split": {"test": 0.1, "ids": None}},
    {"tokenizer": TOKENIZER},
    {"a.jsonl": "ab12"},
)


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    store = ArtifactStore(tmp_path)
    for stage in (TOKENIZER, CHUNKS):
        store.build(stage, lambda workspace: None)
    return store


def test_hits(store: ArtifactStore):
    lines = [explanation.line() for explanation in store.explain([TOKENIZER, CHUNKS])]
    assert lines == [f"tokenizer/{TOKENIZER.key}  hit", f"chunks/{CHUNKS.key}  hit"]


@pytest.mark.parametrize(
    ("change", "reasons"),
    [
        ({"fields": {**CHUNKS.fields, "chunk_size": 32}}, ("chunk_size: 64 -> 32",)),
        (
            {"fields": {"chunk_size": 64, "split": {"test": 0.2, "ids": "x.txt"}}},
            ("split.ids: null -> x.txt", "split.test: 0.1 -> 0.2"),
        ),
        (
            {"fields": {"chunk_size": 64}},
            ("split.ids: null -> (absent)", "split.test: 0.1 -> (absent)"),
        ),
        ({"version": 2}, ("version: 1 -> 2",)),
        ({"inputs": {"a.jsonl": "cd34"}}, ("input a.jsonl: ab12 -> cd34",)),
        (
            {"inputs": {"b.jsonl": "ab12"}},
            ("input a.jsonl: ab12 -> (absent)", "input b.jsonl: (absent) -> ab12"),
        ),
        (
            {"parents": {"tokenizer": dataclasses.replace(TOKENIZER, version=2)}},
            ("parent tokenizer is itself a miss",),
        ),
    ],
    ids=["field", "nested", "fewer", "version", "input", "inputs", "parent"],
)
def test_a_miss_names_what_differs(store: ArtifactStore, change: dict, reasons: tuple[str, ...]):
    stage = dataclasses.replace(CHUNKS, **change)
    [explanation] = store.explain([stage])
    assert (explanation.hit, explanation.reasons) == (False, reasons)
    assert explanation.line() == f"chunks/{stage.key}  miss  {'; '.join(reasons)}"


def test_another_stored_parent_is_named(store: ArtifactStore):
    other = store.build(dataclasses.replace(TOKENIZER, version=2), lambda workspace: None)
    [explanation] = store.explain([dataclasses.replace(CHUNKS, parents={"tokenizer": other})])
    expected = f"parent tokenizer: tokenizer/{TOKENIZER.key} -> tokenizer/{other.key}"
    assert explanation.reasons == (expected,)


def test_the_nearest_of_several_is_compared(store: ArtifactStore):
    far = dataclasses.replace(CHUNKS, version=2, fields={"chunk_size": 8}, inputs={})
    store.build(far, lambda workspace: None)
    [explanation] = store.explain([dataclasses.replace(CHUNKS, version=3)])
    assert explanation.reasons == ("version: 1 -> 3",)


def test_the_first_of_its_kind(store: ArtifactStore):
    [explanation] = store.explain([Stage("index", 1, {}, {"chunks": CHUNKS})])
    assert explanation.reasons == ("no index stored yet",)


def test_explaining_changes_nothing(tmp_path: Path):
    root = tmp_path / "store"
    assert not ArtifactStore(root).explain([TOKENIZER])[0].hit
    assert not root.exists()


def test_a_damaged_result_is_a_miss_that_says_so(store: ArtifactStore):
    (store.folder(CHUNKS) / "manifest.json").unlink()
    [explanation] = store.explain([CHUNKS])
    assert explanation.line().endswith("miss  damaged: manifest.json is missing")
