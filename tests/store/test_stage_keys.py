"""Contract: a stage's key depends on all of its content, on nothing else, and never drifts."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retro_lab.store import ArtifactStore, Stage, ancestry, lineage
from retro_lab.store.stage import canonical_json

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
)
VALUES = st.recursive(
    SCALARS | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)
FIELDS = st.dictionaries(st.text(max_size=4), VALUES, max_size=4)

TOKENIZER = Stage("tokenizer", 1, {"vocab_size": 8192}, {})
CHUNKS = Stage(
    "chunks", 3, {"chunk_size": 64, "name": "é"}, {"tokenizer": TOKENIZER}, {"a.jsonl": "ab12"}
)


def test_golden_keys():
    # A change here makes every stored result of every user a miss: raise SCHEMA_VERSION with it.
    assert TOKENIZER.key == "732d36a90756ebee"
    assert CHUNKS.key == "0344a7bc287d3d60"


@given(FIELDS, st.randoms())
def test_order_of_fields_does_not_matter(fields, random):
    items = list(fields.items())
    random.shuffle(items)
    assert Stage("corpus", 1, fields, {}).key == Stage("corpus", 1, dict(items), {}).key


@given(FIELDS, FIELDS)
def test_keys_agree_exactly_when_fields_do(left, right):
    same = canonical_json(left) == canonical_json(right)
    assert (Stage("corpus", 1, left, {}).key == Stage("corpus", 1, right, {}).key) == same


@pytest.mark.parametrize(
    "change",
    [
        {"name": "chunks2"},
        {"version": 4},
        {"fields": {"chunk_size": 65, "name": "é"}},
        {"fields": {"chunk_size": "64", "name": "é"}},
        {"fields": {"chunk_size": 64}},
        {"parents": {}},
        {"parents": {"other": TOKENIZER}},
        {"parents": {"tokenizer": dataclasses.replace(TOKENIZER, version=2)}},
        {"inputs": {}},
        {"inputs": {"a.jsonl": "ab13"}},
        {"inputs": {"b.jsonl": "ab12"}},
    ],
    ids=str,
)
def test_any_change_changes_the_key(change):
    assert dataclasses.replace(CHUNKS, **change).key != CHUNKS.key


def test_parent_counts_the_same_built_or_not(tmp_path: Path):
    built = ArtifactStore(tmp_path).build(TOKENIZER, lambda workspace: None)
    assert dataclasses.replace(CHUNKS, parents={"tokenizer": built}).key == CHUNKS.key


def test_numpy_scalars_and_tuples_are_plain_json():
    numpy = Stage("index", 1, {"k": np.int64(4), "sizes": (1, 2)}, {})
    assert numpy.key == Stage("index", 1, {"k": 4, "sizes": [1, 2]}, {}).key


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (float("nan"), ValueError),
        (float("inf"), ValueError),
        (Path("x"), TypeError),
        ({1}, TypeError),
    ],
)
def test_what_is_not_json_is_refused(value, error):
    with pytest.raises(error):
        _ = Stage("corpus", 1, {"value": value}, {}).key


@pytest.mark.parametrize("name", ["", "../corpus", "Corpus", "a/b", "locks"])
def test_names_that_are_no_folder_of_their_own_are_refused(name):
    with pytest.raises(ValueError, match="can't be named"):
        Stage(name, 1, {}, {})


def test_lineage_reaches_the_roots_through_manifests(tmp_path: Path):
    store = ArtifactStore(tmp_path)
    tokenizer = store.build(TOKENIZER, lambda workspace: None)
    middle = Stage("chunks", 1, {}, {"tokenizer": tokenizer})
    top = Stage("index", 1, {}, {"chunks": store.build(middle, lambda workspace: None)})
    artifact = store.build(top, lambda workspace: None)
    expected = {"tokenizer": TOKENIZER.key, "chunks": middle.key, "index": top.key}
    assert lineage(artifact) == lineage(top) == expected
    assert ancestry(artifact) == set(expected.items())
    assert artifact.manifest["parents"] == {"chunks": {"stage": "chunks", "key": middle.key}}


def test_lineage_joins_two_results_of_one_stage():
    other = dataclasses.replace(TOKENIZER, version=2)
    both = Stage("fusion", 1, {}, {"a": TOKENIZER, "b": other})
    assert lineage(both)["tokenizer"] == "+".join(sorted([TOKENIZER.key, other.key]))
