"""Contract: a database is one space of ids that begins with the run's own chunks, unchanged; which
documents are in it, and which are the same, follows from hashes and contents alone.
"""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from text_builders import built_chunks, stored_corpus, workspace

from retro_lab.config.errors import UserError
from retro_lab.config.schema import (
    CorporaDatabaseConfig,
    DatabaseConfig,
    Half,
    PlantedDatabaseConfig,
)
from retro_lab.store import Stage
from retro_lab.text.corpus import Corpus
from retro_lab.text.database import (
    NO_SPLIT,
    DatabaseCorpus,
    DatabaseStore,
    Source,
    build_database,
    database_stage,
    planted_documents,
)
from retro_lab.text.database_documents import identities, own_part, planted_part, taken_part
from retro_lab.text.tokenizers.byte import ByteTokenizer

SIZE = 8
LETTERS = st.text("abc", min_size=1, max_size=20)
QUICK = settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def corpus_of(texts: list[str], root: Path, prefix: str) -> Corpus:
    """Texts dealt to the splits in turn, with ids that no other prefix has."""
    corpus = stored_corpus(texts, root)
    names = [f"{prefix}{number}" for number in range(len(texts))]
    (corpus.path / "ids.json").write_bytes(orjson.dumps(names))
    return Corpus.open(corpus.path)


def source_of(texts: list[str], root: Path, prefix: str, name: str = "") -> Source:
    corpus = corpus_of(texts, root, prefix)
    return Source(name, built_chunks(corpus, ByteTokenizer(), SIZE, root)[0], corpus)


def joined(
    config: DatabaseConfig,
    sources: list[Source],
    root: Path,
    *,
    block: int | None = None,
    **more: bool | int,
) -> tuple[DatabaseStore, DatabaseCorpus]:
    place = workspace(root, block)
    build_database(config, sources[0], sources[1:], place, **more)  # type: ignore[arg-type]
    store = DatabaseStore(place.path)
    return store, DatabaseCorpus(store, [source.corpus for source in sources])


def documents_searched(store: DatabaseStore, corpus: Corpus) -> set[str]:
    return {corpus.ids[d] for d in store.document[store.searched]}


@QUICK
@given(st.lists(LETTERS, min_size=3, max_size=9), st.lists(LETTERS, max_size=5), st.data())
def test_ids_say_which_chunk_of_which_corpus(
    tmp_path: Path, own: list[str], other: list[str], data: st.DataObject
) -> None:
    sources = [source_of(own, tmp_path, "a")]
    if other:
        sources.append(source_of(other, tmp_path, "b", "other"))
    share = data.draw(st.sampled_from([0.3, 1.0]))
    store, corpus = joined(PlantedDatabaseConfig(plant_share=share), sources, tmp_path)
    first = sources[0].chunks
    assert store.own_chunks == first.num_chunks
    for name in ("tokens", "token_bytes", "document", "index", "text_start", "split"):
        assert np.array_equal(getattr(store, name)[: store.own_chunks], getattr(first, name))
    assert (store.split[store.own_chunks :] == NO_SPLIT).all()
    for chunk in range(store.num_chunks):
        source = sources[store.parts[store.part[chunk]]["source"]]
        assert np.array_equal(store.tokens[chunk], source.chunks.tokens[store.place[chunk]])
        own_ids, place = [chunk], [store.place[chunk]]
        assert store.texts(own_ids, corpus) == source.chunks.texts(place, source.corpus)
        # A neighbour is read with what follows it in its own document, and no further.
        assert np.array_equal(store.values(own_ids, 1), source.chunks.values(place, 1))
        name = source.corpus.ids[source.chunks.document[store.place[chunk]]]
        assert corpus.ids[store.document[chunk]].rpartition(":")[2] == name
    for split in ("train", "validation", "test"):
        assert np.array_equal(store.chunks_of(split), first.chunks_of(split))


def test_copies_open_in_other_processes(tmp_path: Path) -> None:
    sources = [source_of(["aa", "bb", "cc"], tmp_path, "a"), source_of(["dd"], tmp_path, "b", "o")]
    store, corpus = joined(DatabaseConfig(), sources, tmp_path)
    again, text = pickle.loads(pickle.dumps((store, corpus)))
    assert np.array_equal(again.searched, store.searched)
    assert text.ids == corpus.ids == ["a0", "a1", "a2", "o:b0"]


@QUICK
@given(st.integers(3, 40), st.lists(st.floats(0.01, 1), min_size=2, max_size=2))
def test_a_smaller_fraction_is_a_part_of_a_larger_one(
    tmp_path: Path, count: int, fractions: list[float]
) -> None:
    corpus = corpus_of(["x"] * count, tmp_path, "a")
    low, high = sorted(fractions)
    own = [own_part(corpus, {"train"}, f, set()).searched for f in (low, high, 1.0)]
    taken = [set(taken_part("o", 1, corpus, f).documents.tolist()) for f in (low, high, 1.0)]
    assert (own[0] <= own[1]).all()
    assert (own[1] <= own[2]).all()
    assert np.array_equal(own[2], corpus.split == 0)
    assert taken[0] <= taken[1] <= taken[2] == set(range(count))


def test_a_fraction_is_about_its_share_of_every_split(tmp_path: Path) -> None:
    """The hash is not the one that dealt documents to the splits."""
    from retro_lab.text.splits import draw

    names = [f"n{i}" for i in range(4000)]
    corpus = corpus_of(["x"] * len(names), tmp_path, "n")
    drawn = taken_part("o", 1, corpus, 0.25).documents
    assert len(drawn) / len(names) == pytest.approx(0.25, abs=0.03)
    train = np.array([draw(name) > 0.2 for name in names])
    assert train[drawn].mean() == pytest.approx(train.mean(), abs=0.04)


@QUICK
@given(
    st.integers(6, 60),
    st.lists(st.floats(0, 1), min_size=2, max_size=2),
    st.sampled_from(list(Half)),
)
def test_plants_are_nested_in_one_half(
    tmp_path: Path, count: int, shares: list[float], half: Half
) -> None:
    corpus = corpus_of(["x"] * count, tmp_path, "a")
    low, high = sorted(shares)
    parts, records = zip(
        *(
            planted_part(PlantedDatabaseConfig(plant_share=s, plant_half=half), corpus)
            for s in (low, high, 1.0)
        ),
        strict=True,
    )
    planted = [set(record["planted"]) for record in records]
    halves = records[0]["halves"]
    assert planted[0] <= planted[1] <= planted[2] == set(halves[half.name])
    assert not set(halves["first"]) & set(halves["second"])
    test = {corpus.ids[d] for d in corpus.documents_of("test")}
    assert set(halves["first"]) | set(halves["second"]) == test
    assert 0 <= len(halves["first"]) - len(halves["second"]) <= 1
    assert {corpus.ids[d] for d in parts[0].documents} == planted[0]
    assert len(planted[0]) == pytest.approx(low * len(halves[half.name]), abs=1)
    assert bool(planted[0]) == (low > 1e-9)


def test_a_planted_copy_is_another_document(tmp_path: Path) -> None:
    own = source_of([f"text {i} of the run" for i in range(9)], tmp_path, "a")
    store, corpus = joined(PlantedDatabaseConfig(plant_share=1.0), [own], tmp_path)
    record = planted_documents(store.path)
    assert record is not None
    for name in record["planted"]:
        original, copy = corpus.ids.index(name), corpus.ids.index(f"planted:{name}")
        rows = [np.flatnonzero(store.document == d) for d in (original, copy)]
        assert np.array_equal(store.tokens[rows[0]], store.tokens[rows[1]])
        assert not set(store.identity[rows[0]]) & set(store.identity[rows[1]])
        assert np.isin(rows[1], store.searched).all()
        assert not np.isin(rows[0], store.searched).any()
    assert len(record["planted"]) == 2  # of three test documents, the first half


def test_copies_in_another_corpus_are_the_same_document(tmp_path: Path) -> None:
    own = source_of(["once", "twice", "twice", "mine", "x", "y"], tmp_path, "a")
    other = source_of(["once", "new", "new", "twice"], tmp_path, "b", "o")
    same_id = source_of(["an edited text", "z"], tmp_path, "a", "p")
    parts = [own_part(own.corpus, {"train"}, 1.0, set())]
    parts += [taken_part(s.name, n, s.corpus, 1.0) for n, s in enumerate([other, same_id], 1)]
    same = identities(parts, [s.corpus for s in (own, other, same_id)])
    #      own                  other          same ids as a0 and a1
    assert same.tolist() == [0, 1, 1, 3, 4, 5, 0, 7, 8, 1, 0, 1]
    alone = identities(parts[:1], [own.corpus])
    assert alone.tolist() == [0, 1, 2, 3, 4, 5]


def test_what_is_searched(tmp_path: Path) -> None:
    sources = [
        source_of([f"text {i}" for i in range(9)], tmp_path, "a"),
        source_of(["one", "two", "three"], tmp_path, "b", "o"),
    ]

    def searched(config: DatabaseConfig, **more: bool) -> set[str]:
        return documents_searched(*joined(config, sources, tmp_path, **more))

    train, others = {"a0", "a3", "a6"}, {"o:b0", "o:b1", "o:b2"}
    assert searched(CorporaDatabaseConfig()) == train | others
    assert searched(CorporaDatabaseConfig(splits=[])) == others
    assert searched(CorporaDatabaseConfig(splits=[]), with_training=True) == train | others
    assert searched(CorporaDatabaseConfig(splits=["test"])) == {"a2", "a5", "a8"} | others
    part = searched(CorporaDatabaseConfig(fraction=0.5))
    assert part < train | others
    assert searched(CorporaDatabaseConfig(fraction=0.5), with_training=True) == part | train


@pytest.mark.parametrize("block", [1, 3, 1000])
def test_adding_moves_no_id(tmp_path: Path, block: int) -> None:
    own = source_of([f"text {i} of the run" for i in range(6)], tmp_path, "a")
    old = source_of(["old one", "old two"], tmp_path, "b", "old")
    new = source_of(["new one, and longer", "text 0 of the run"], tmp_path, "c", "new")
    config = PlantedDatabaseConfig(plant_share=1.0)
    before, _ = joined(config, [own, old], tmp_path, block=block)
    after, _ = joined(config, [own, old, new], tmp_path, block=block, added=1)
    first = slice(before.num_chunks)
    for name in ("tokens", "token_bytes", "document", "index", "text_start", "part", "place"):
        assert np.array_equal(getattr(after, name)[first], getattr(before, name))
    assert np.array_equal(after.searched[: len(before.searched)], before.searched)
    assert len(after.searched) > len(before.searched)


def test_an_empty_database_is_an_error(tmp_path: Path) -> None:
    own = source_of(["aa", "bb", "cc"], tmp_path, "a")
    with pytest.raises(UserError, match="no chunk with text is left to search"):
        joined(DatabaseConfig(fraction=1e-9), [own], tmp_path)


def test_keys_hold_what_is_searched() -> None:
    chunks, others = Stage("chunks", 1, {}, {}), {"o": Stage("chunks", 1, {"x": 1}, {})}
    base = CorporaDatabaseConfig()

    def key(config: DatabaseConfig, **more: bool) -> str:
        return database_stage(config, chunks, others, **more).key

    planted = PlantedDatabaseConfig()
    variants = [
        key(base),
        key(replace(base, fraction=0.5)),
        key(replace(base, splits=["test", "train"])),
        key(base, with_training=True),
        key(planted),
        key(replace(planted, plant_share=0.2)),
        key(replace(planted, plant_half=Half.second)),
        key(replace(planted, plant_split="validation")),
        database_stage(base, chunks, {}).key,
    ]
    assert len(set(variants)) == len(variants)
    assert key(replace(base, name="other")) == key(base)
    assert key(replace(base, splits=["train", "test"])) == key(
        replace(base, splits=["test", "train"])
    )
