"""Small corpora, tokenizers and chunk stores, built through the public stages' builders."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import orjson

from retro_lab.config.schema import BpeTokenizerConfig, CorpusConfig, TokenizerConfig
from retro_lab.store import ArtifactStore, Workspace
from retro_lab.store.integrity import write_record
from retro_lab.text.chunks import ChunkStore, build_chunks
from retro_lab.text.corpus import SPLITS, Corpus, build_corpus, corpus_stage
from retro_lab.text.tokenizers import Tokenizer, build_tokenizer, load_tokenizer

_folders = itertools.count()


def workspace(root: Path, largest_block: int | None = None) -> Workspace:
    """A fresh workspace below `root`."""
    return Workspace(root / f"workspace-{next(_folders)}", largest_block=largest_block)


def write_jsonl(path: Path, records: Sequence[object]) -> Path:
    """One record a line; bytes are written as they are."""
    lines = [r if isinstance(r, bytes) else orjson.dumps(r) for r in records]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def built_corpus(config: CorpusConfig, root: Path) -> tuple[Corpus, dict]:
    """The corpus of a configuration and the counts of its build."""
    place = workspace(root)
    stats = build_corpus(config, place)
    return Corpus.open(place.path), dict(stats)


def stored_corpus(texts: Sequence[str], root: Path) -> Corpus:
    """A corpus of just these texts, dealt to the splits in turn, without a reader."""
    folder = workspace(root).path
    data = [text.encode() for text in texts]
    (folder / "text.bin").write_bytes(b"".join(data))
    np.save(folder / "offsets.npy", np.cumsum([0, *map(len, data)], dtype=np.int64))
    np.save(folder / "split.npy", (np.arange(len(texts)) % 3).astype(np.uint8))
    (folder / "ids.json").write_bytes(orjson.dumps([f"d{i}" for i in range(len(texts))]))
    record = {"format_version": 1, "stage": folder.parent.name, "key": folder.name}
    spec = {"fields": {"kind": "jsonl"}, "inputs": {"docs.jsonl": "0"}}
    write_record(folder / "manifest.json", record | {"spec": spec})
    return Corpus.open(folder)


def published_corpus(config: CorpusConfig, root: Path) -> Corpus:
    """The corpus of a configuration as it stands in a store, all of one split."""
    store, stage = ArtifactStore(root / "store"), corpus_stage(config, whole=True)
    return Corpus.open(store.build(stage, lambda w: build_corpus(config, w, whole=True)).path)


def built_tokenizer(config: TokenizerConfig, corpus: Corpus, root: Path) -> Tokenizer:
    """A tokenizer, built and loaded again."""
    place = workspace(root)
    build_tokenizer(config, corpus, place)
    return load_tokenizer(place.path)


def small_bpe(root: Path, vocab_size: int = 300) -> Tokenizer:
    """A BPE tokenizer with a few merges, some of them across bytes of one character."""
    texts = ["the cat sat on the mat", "the hat and the cat, über 東京 東京", "naïve café"]
    corpus = stored_corpus([text for text in texts for _ in SPLITS], root)
    return built_tokenizer(BpeTokenizerConfig(vocab_size=vocab_size), corpus, root)


def built_chunks(
    corpus: Corpus,
    tokenizer: Tokenizer,
    chunk_size: int,
    root: Path,
    *,
    largest_block: int | None = None,
) -> tuple[ChunkStore, dict]:
    """A chunk store and the counts of its build."""
    place = workspace(root, largest_block)
    stats = build_chunks(chunk_size, corpus, tokenizer, place)
    return ChunkStore.open(place.path), dict(stats)
