"""Contract: a dataset of chunks is imported as it is: its tokens on their own grid, its neighbours
under their new numbers, its documents in the splits that their specs are given for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson
import pytest
from composed import config_of
from norlund_dataset import (
    END,
    SIZE,
    UNKNOWN,
    Shard,
    random_shard,
    word,
    write_dataset,
    write_tokenizer,
)

from retro_lab.config.errors import ConfigError, UserError
from retro_lab.config.fingerprints import canonical
from retro_lab.config.rules import check
from retro_lab.config.schema import Config
from retro_lab.evaluation.records.results import Results
from retro_lab.run.data.graph import DataGraph
from retro_lab.run.experiment import run_experiment
from retro_lab.run.timing import Stopwatch

K = 3


@dataclass
class World:
    """The dataset on disk, what it was made from, and overrides that read it."""

    folder: Path
    train: list[Shard]
    validation: list[Shard]
    overrides: list[str]

    @property
    def shards(self) -> list[Shard]:
        return [*self.train, *self.validation]

    @property
    def documents(self) -> list[list[int]]:
        return [tokens for shard in self.shards for tokens in shard.documents]

    def config(self, *more: str) -> Config:
        config = config_of(*self.overrides, *more)
        check(config)
        return canonical(config)


def lengths(rng: np.random.Generator, count: int) -> list[int]:
    return [*rng.integers(2, 70, count).tolist(), SIZE - 1, SIZE, 2 * SIZE]


def neighbours_of(rng: np.random.Generator, shard: Shard, total: int) -> np.ndarray:
    found = np.array([rng.choice(total, K, replace=False) for _ in shard.chunks], np.int64)
    found[rng.random(found.shape) < 0.1] = -1
    return found


def make(folder: Path) -> World:
    """Two training shards, the second of which is searched first, and one of validation."""
    rng = np.random.default_rng(0)
    train = [random_shard(rng, lengths(rng, 20)), random_shard(rng, lengths(rng, 30))]
    train[0].documents[4][3:] = [UNKNOWN, 9, END, 10, 0, 11]  # "</s>" and "<pad>" in a text
    train[0].documents.append([])  # only its end: it has no text
    train[0] = Shard(train[0].documents)
    validation = [random_shard(rng, lengths(rng, 12))]
    total = sum(len(shard.chunks) for shard in (*train, *validation))
    for shard in (*train, *validation):
        shard.neighbours = neighbours_of(rng, shard, total)
    specs = {"data": train, "val": validation}
    searched = [("data", 1), ("data", 0), ("val", 0)]
    paths = write_dataset(folder / "dataset", specs, searched)
    tokenizer = write_tokenizer(folder / "tokenizer")
    overrides = [
        "debug=fast",
        "corpus=norlund",
        f"corpus.path={paths['data']}",
        f"corpus.validation_path={paths['val']}",
        "corpus.split.test=0.3",
        "corpus.max_bytes=null",
        "tokenizer=hf",
        f"tokenizer.path={tokenizer}",
        "retriever=stored",
        "neighbours.k=2",
        f"neighbours.k_store={K}",
        "neighbours.min_coverage=0.2",
        f"eval.overlap_neighbours={K}",
        "logger=none",
        "trainer.threads=1",
        f"runs_dir={folder / 'runs'}",
        f"store.dir={folder / 'store'}",
    ]
    return World(folder, train, validation, overrides)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make(tmp_path_factory.mktemp("norlund"))


def test_tokens_stay_on_their_grid_and_bytes_are_those_that_they_spell(world: World) -> None:
    graph = DataGraph(world.config())
    corpus, chunks = graph.own.corpus.data, graph.own.chunks.data
    kept = [int(name) for name in corpus.ids]
    empty = [i for i, tokens in enumerate(world.documents) if not tokens]
    assert kept == [i for i in range(len(world.documents)) if i not in empty]
    rows = []
    for number, document in enumerate(kept):
        tokens = world.documents[document]
        spelt = ["" if token <= UNKNOWN else word(token) for token in tokens]
        assert corpus.text(number) == "".join(spelt[1:])
        first, last = chunks.first_chunk[number : number + 2]
        stored = chunks.tokens[first:last].reshape(-1)
        plain = np.maximum(tokens, UNKNOWN).tolist()
        assert stored[: len(tokens)].tolist() == [chunks.boundary_id, *plain[1:]]
        assert (stored[len(tokens) :] == chunks.pad_id).all()
        counted = chunks.token_bytes[first:last].reshape(-1)
        assert counted[: len(tokens)].tolist() == [0, *(len(piece) for piece in spelt[1:])]
        assert not counted[len(tokens) :].any()
        rows.append(last - first)
    assert sum(rows) == chunks.num_chunks
    built = graph.own.chunks.artifact
    assert built is not None
    assert built.stats["unknown"] == 3  # the unknown token, and "</s>" and "<pad>" in a text
    counts = built.stats["splits"].values()
    assert sum(split["unknown"] for split in counts) == 3
    texts = "".join(chunks.texts(np.arange(chunks.num_chunks), corpus))
    assert texts == "".join(corpus.text(i) for i in range(corpus.num_documents))
    last = len(world.validation[0].documents)
    assert (corpus.split[-last:] == 1).all()
    assert set(corpus.split[:-last]) == {0, 2}


def expected_table(world: World, graph: DataGraph) -> np.ndarray:
    """Neighbours in numbers of the store, in the plainest way: by the tokens' places."""
    corpus, chunks = graph.own.corpus.data, graph.own.chunks.data
    document = {int(name): number for number, name in enumerate(corpus.ids)}
    number_of, where = 0, {}  # (shard, its chunk) -> chunk of the store, or None
    for s, shard in enumerate(world.shards):
        for i, start in enumerate(shard.first):
            own = (shard.owner == i).sum()
            for c in range(own):
                kept = document.get(number_of)
                where[s, start + c] = None if kept is None else chunks.first_chunk[kept] + c
            number_of += 1
    searched = [(s, c) for s in (1, 0, 2) for c in range(len(world.shards[s].chunks))]
    table = np.full((chunks.num_chunks, K), -1)
    for s, shard in enumerate(world.shards):
        assert shard.neighbours is not None
        for c, row in enumerate(shard.neighbours):
            place = where[s, c]
            if place is not None:
                found = [-1 if n < 0 else where[searched[n]] for n in row]
                table[place] = [-1 if n is None else n for n in found]
    return table


def test_neighbours_are_the_datasets_own_under_new_numbers(world: World) -> None:
    graph = DataGraph(world.config())
    chunks = graph.own.chunks.data
    table = expected_table(world, graph)
    assert (table >= 0).mean() > 0.7
    np.testing.assert_array_equal(chunks.neighbours, table)


def test_read_are_those_in_the_database_and_of_other_documents(world: World) -> None:
    config = world.config()
    graph = DataGraph(config)
    chunks, stored = graph.own.chunks.data, expected_table(world, graph)
    found = graph.neighbours(config.retriever).data.ids
    allowed = np.isin(stored, chunks.searched)
    allowed &= chunks.document[stored] != chunks.document[: len(stored), None]
    for row, kept, ids in zip(stored, allowed, found.tolist(), strict=True):
        expected = row[kept].tolist()
        assert ids == expected + [-1] * (K - len(expected))
    assert 0.3 < allowed.mean() < 0.9


def test_a_model_is_trained_and_evaluated_on_it(world: World) -> None:
    config = world.config("eval.tokens=true", "eval.pages=3")
    run = run_experiment(config, Stopwatch())
    results = Results.load(run.results_file)
    corpus, chunks = DataGraph(config).own.corpus.data, DataGraph(config).own.chunks.data
    text = (chunks.split == 2)[:, None] & (chunks.tokens != chunks.pad_id)
    text &= chunks.tokens != chunks.boundary_id
    assert results.metrics["test"]["on"].tokens == text.sum()
    assert results.metrics["test"]["on"].bytes == corpus.num_bytes("test")
    assert results.metrics["test"]["on"].nats != results.metrics["test"]["off"].nats


def test_its_chunks_can_be_searched_anew(world: World) -> None:
    config = world.config("retriever=bm25")
    graph = DataGraph(config)
    assert (graph.neighbours(config.retriever).data.ids >= 0).mean() > 0.5


def test_text_from_elsewhere_can_not_be_searched(world: World) -> None:
    from retro_lab.retrieval.base import Queries
    from retro_lab.retrieval.search.registry import build_retriever

    retriever = build_retriever(world.config().retriever)
    nothing = np.zeros(1, np.int64)
    with pytest.raises(UserError, match="can't search for other text"):
        retriever.candidates(Queries(nothing[:, None], None, nothing, nothing), 2)


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def change(name: str, function: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / "shards" / f"{name}.npy"
        np.save(path, function(np.load(path)))

    return damage


def edit(spec: str, function: Callable[[dict], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        content = orjson.loads((folder / f"{spec}.spec.json").read_bytes())
        function(content)
        (folder / f"{spec}.spec.json").write_bytes(orjson.dumps(content))

    return damage


def without_a_shard(content: dict) -> None:
    del content["shards"][1]


DAMAGE: list[tuple[str, Callable[[Path], object], str]] = [
    ("cut", lambda f: cut_in_half(f / "shards/data1.chunks.npy"), r"data1\.chunks\.npy: can't"),
    ("gone", lambda f: (f / "shards/data0.seq2chunk.npy").unlink(), "seq2chunk.*can't be read"),
    ("json", lambda f: cut_in_half(f / "val.spec.json"), "val.spec.json: not valid JSON"),
    ("list", lambda f: (f / "data.spec.json").write_text("[]"), "expected .*shards"),
    ("key", edit("data", lambda c: c["shards"][1].pop("chunk2seq")), "has no .*chunk2seq"),
    ("floats", change("data0.chunks", lambda a: a.astype(np.float32)), "float32 with 2"),
    ("order", change("data0.seq2chunk", lambda a: a[::-1]), "expected ascending"),
    ("owners", change("data1.chunk2seq", lambda a: a + 1), "doesn't go with .*data1.seq2chunk"),
    ("short", change("data1.chunk2seq", lambda a: a[:-1]), "doesn't go with .*data1.seq2chunk"),
    ("rows", change("data0.neighbours", lambda a: a[:-2]), r"data0.neighbours.npy: .* rows for"),
    ("far", change("val0.neighbours", lambda a: a + 10**6), "is outside of the"),
    ("negative", change("val0.neighbours", lambda a: np.where(a < 0, -7, a)), "is outside of the"),
    ("token", change("data1.chunks", lambda a: np.maximum(a, 900)), "holds the token 900"),
    ("below", change("data1.chunks", lambda a: a.astype(np.int64) - 10**4), "holds the token -"),
    ("path", edit("data", lambda c: c["shards"][0].update(chunks=5)), "expected paths"),
    ("spec", edit("data", lambda c: c.update(neighbours=["a"])), "expected .*index_spec"),
    ("unlisted", edit("data", without_a_shard), "which is in none of the specs given"),
]


@pytest.mark.parametrize(("damage", "said"), [d[1:] for d in DAMAGE], ids=[d[0] for d in DAMAGE])
def test_damage_is_named(damage: Callable[[Path], object], said: str, tmp_path: Path) -> None:
    world = make(tmp_path)
    damage(tmp_path / "dataset")
    with pytest.raises(UserError, match=said):
        _ = DataGraph(world.config()).own.chunks.data


def test_a_changed_file_is_another_corpus(tmp_path: Path) -> None:
    world = make(tmp_path)
    before = DataGraph(world.config()).neighbours(world.config().retriever).stage.key
    change("val0.neighbours", lambda a: a[:, ::-1])(tmp_path / "dataset")
    assert DataGraph(world.config()).neighbours(world.config().retriever).stage.key != before


def test_shards_without_neighbours_have_none(tmp_path: Path) -> None:
    world = make(tmp_path)
    edit("val", lambda content: content["shards"][0].pop("neighbours"))(tmp_path / "dataset")
    graph = DataGraph(world.config())
    chunks = graph.own.chunks.data
    assert chunks.neighbours is not None
    validation = chunks.split == 1
    assert (chunks.neighbours[validation] == -1).all()
    assert (chunks.neighbours[~validation] >= 0).mean() > 0.5


def test_settings_that_do_not_go_together(world: World) -> None:
    bpe = [o for o in world.overrides if not o.startswith("tokenizer")]
    for overrides, said in (
        (bpe, "takes the tokenizer that made them"),
        ([*world.overrides, "corpus.tokenizer=other"], "takes the tokenizer that made them"),
        (["retriever=stored"], "corpus=python brings no neighbours"),
        ([*world.overrides, "database.fraction=0.5"], "nothing else is searched"),
    ):
        with pytest.raises(ConfigError, match=said):
            check(config_of(*overrides))


def test_chunks_of_another_size_are_refused(world: World) -> None:
    with pytest.raises(UserError, match=r"chunk_size=32, but the dataset's chunks have 16"):
        _ = DataGraph(world.config("chunking.chunk_size=32")).own.chunks.data


def test_another_kind_of_tokenizer_is_refused(world: World, tmp_path: Path) -> None:
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.decoder = decoders.ByteLevel()
    wrapped = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>")
    wrapped.save_pretrained(str(tmp_path))
    with pytest.raises(UserError, match="isn't a SentencePiece tokenizer"):
        _ = DataGraph(world.config(f"tokenizer.path={tmp_path}")).own.corpus.data
