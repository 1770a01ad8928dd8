"""A tiny dataset in the format of TobiasNorlund/retro, and a tokenizer like that of the format."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

WORDS = 60
SIZE = 16
END, UNKNOWN = 1, 2
FIRST_WORD = 3


def write_tokenizer(folder: Path) -> Path:
    """Words w0, w1, .. behind padding, end and unknown, as SentencePiece numbers them."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    pieces += [(f"\u2581w{i}", -1.0 - i / WORDS) for i in range(WORDS)]
    backend = Tokenizer(models.Unigram(pieces, unk_id=UNKNOWN))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    backend.add_special_tokens([AddedToken(name, special=True) for name, _ in pieces[:3]])
    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    wrapped = PreTrainedTokenizerFast(tokenizer_object=backend, **names)
    wrapped.save_pretrained(str(folder))
    return folder


def word(token: int) -> str:
    return f" w{token - FIRST_WORD}"


@dataclass
class Shard:
    """Documents as lists of tokens without their ends, and the arrays that they become."""

    documents: list[list[int]]
    neighbours: np.ndarray | None = None
    chunks: np.ndarray = field(init=False)
    first: np.ndarray = field(init=False)
    owner: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        rows, counts = [], []
        for tokens in self.documents:
            ended = [*tokens, END]
            ended += [0] * (-len(ended) % SIZE)
            rows.append(np.array(ended, np.uint16).reshape(-1, SIZE))
            counts.append(len(rows[-1]))
        self.chunks = np.concatenate(rows)
        self.first = (np.cumsum(counts) - counts).astype(np.int64)
        self.owner = np.repeat(np.arange(len(counts)), counts).astype(np.int32)

    def write(self, folder: Path, name: str) -> dict[str, str]:
        """Its files, and its entry in a spec."""
        arrays = {"chunks": self.chunks, "seq2chunk": self.first, "chunk2seq": self.owner}
        if self.neighbours is not None:
            arrays["neighbours"] = self.neighbours
        for kind, array in arrays.items():
            np.save(folder / f"{name}.{kind}.npy", array)
        return {kind: f"shards/{name}.{kind}.npy" for kind in arrays}


def random_shard(rng: np.random.Generator, lengths: list[int]) -> Shard:
    return Shard([(FIRST_WORD + rng.integers(0, WORDS, n)).tolist() for n in lengths])


def write_dataset(
    folder: Path, specs: dict[str, list[Shard]], searched: list[tuple[str, int]]
) -> dict[str, Path]:
    """Spec files by name.

    Args:
        specs: shards of each.
        searched: spec and number of the shards that neighbours count over.
    """
    (folder / "shards").mkdir(parents=True)
    (folder / "index").mkdir()
    entries = {
        spec: [shard.write(folder / "shards", f"{spec}{i}") for i, shard in enumerate(shards)]
        for spec, shards in specs.items()
    }
    index = [{"chunks": f"../{entries[spec][i]['chunks']}"} for spec, i in searched]
    (folder / "index" / "index.spec.json").write_bytes(orjson.dumps(index))
    found = {}
    for spec, shards in entries.items():
        content: dict[str, Any] = {"shards": shards}
        content["neighbours"] = {"faiss_index": "x", "index_spec": "index/index.spec.json"}
        found[spec] = folder / f"{spec}.spec.json"
        found[spec].write_bytes(orjson.dumps(content))
    return found
