"""Tokenizer `hf`: any fast Hugging Face tokenizer, stored as a copy."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import orjson
from numpy.typing import NDArray
from tokenizers import Tokenizer as Backend

from retro_lab.config.backbone import check_name
from retro_lab.config.errors import UserError

from .base import CUT_LIMITS, CutLimits, Encoded, batches, cut_all
from .exact import NUM_BYTES, ExactBackend, reads_special

FILE = "tokenizer.json"
_BOUNDARY_FILE = "boundary.json"


@dataclass(frozen=True)
class Source:
    """A loaded tokenizer: its definition in JSON and its boundary token."""

    definition: str
    boundary_id: int

    @cached_property
    def mended(self) -> bool:
        """Whether our tokens of plain text may differ from the tokenizer's own.

        True if the tokenizer loses text or reads special tokens from text.
        """
        backend = Backend.from_str(self.definition)
        backend.encode_special_tokens = True
        keeps = self._tokenizer.exact.restores_ascii
        return self.spells or not keeps or reads_special(backend, self.boundary_id)

    @property
    def spells(self) -> bool:
        """Whether the tokenizer loses text, so that byte tokens are added."""
        return self._tokenizer.exact.spells

    @cached_property
    def _tokenizer(self) -> HuggingFaceTokenizer:
        return HuggingFaceTokenizer(Backend.from_str(self.definition), self.boundary_id)

    @property
    def digest(self) -> str:
        """SHA-256 of the definition."""
        return hashlib.sha256(self.definition.encode()).hexdigest()

    @property
    def num_ids(self) -> int:
        """Largest token id plus one."""
        return _num_ids(Backend.from_str(self.definition))


@lru_cache(maxsize=1)  # the stage needs the digest, then the build needs the definition
def load_source(path: str) -> Source:
    """Loads a tokenizer by hub name or local folder.

    Raises:
        UserError: the tokenizer can't be loaded, has no fast version, or has no token for
            boundaries.
    """
    key = f"tokenizer.path={path}"
    check_name("tokenizer.path", path)
    from transformers import AutoTokenizer

    folder = Path(path).expanduser()
    try:
        loaded = AutoTokenizer.from_pretrained(
            str(folder) if folder.exists() else path, trust_remote_code=False
        )
    except (OSError, ValueError, ImportError) as error:
        raise UserError(
            f"{key}: can't be loaded: {error}",
            fix="check the name or folder, and the network; tokenizer=bpe needs neither",
        ) from error
    backend = getattr(loaded, "backend_tokenizer", None)
    if backend is None:
        raise UserError(
            f"{key}: has no fast version, which is needed for the bytes of each token",
            fix="use a tokenizer with a tokenizer.json, or tokenizer=bpe",
        )
    boundary_id = loaded.eos_token_id if loaded.eos_token_id is not None else loaded.bos_token_id
    if boundary_id is None:
        raise UserError(
            f"{key}: has neither an end nor a begin token to mark documents with",
            fix="set eos_token in its tokenizer_config.json, or use tokenizer=bpe",
        )
    return Source(backend.to_str(), int(boundary_id))


def save_source(source: Source, folder: Path) -> HuggingFaceTokenizer:
    """Writes a loaded tokenizer into `folder`, to avoid another download."""
    (folder / FILE).write_text(source.definition, encoding="utf-8")
    (folder / _BOUNDARY_FILE).write_bytes(orjson.dumps(source.boundary_id))
    return HuggingFaceTokenizer.load(folder)


class HuggingFaceTokenizer:
    """A tokenizer of the Hugging Face format, made lossless (`exact.py`).

    A token's bytes are counted in the raw text, from its start to the start of the next token, so
    that they sum to the text's length.

    Args:
        backend: the tokenizer.
        boundary_id: its end token, or else its begin token. Padding is a new id after the last one,
            followed by the byte tokens of a lossy tokenizer.
    """

    def __init__(self, backend: Backend, boundary_id: int) -> None:
        backend.no_truncation()
        backend.no_padding()
        self.definition = backend.to_str()
        """The `tokenizers` library's JSON."""
        self.boundary_id = boundary_id
        self.pad_id = _num_ids(backend)
        self.exact = ExactBackend(self.definition, boundary_id, self.pad_id + 1)
        self.vocab_size = self.pad_id + 1 + (NUM_BYTES if self.exact.spells else 0)

    def __reduce__(self) -> tuple:
        return _restored, (self.definition, self.boundary_id)

    @classmethod
    def load(cls, folder: Path) -> HuggingFaceTokenizer:
        boundary_id = orjson.loads((folder / _BOUNDARY_FILE).read_bytes())
        return cls(Backend.from_file(str(folder / FILE)), boundary_id)

    def encode_batch(self, texts: Sequence[str], limits: CutLimits = CUT_LIMITS) -> list[Encoded]:
        """As in `Tokenizer`."""
        cut, owners = cut_all(texts, limits.piece)
        ids: list[list[np.ndarray]] = [[] for _ in texts]
        starts: list[list[np.ndarray]] = [[] for _ in texts]
        done = [0] * len(texts)  # characters before the current piece of each text
        for part in batches([len(piece) for piece in cut], limits.batch):
            encoded = self.exact.encode_batch(cut[part])
            for owner, piece, tokens in zip(owners[part], cut[part], encoded, strict=True):
                ids[owner].append(np.array(tokens.ids, np.int32))
                starts[owner].append(np.array(tokens.starts, np.int64) + done[owner])
                done[owner] += len(piece)
        return [
            Encoded(np.concatenate(ids[i]), _bytes_between(text, np.concatenate(starts[i])))
            for i, text in enumerate(texts)
        ]

    def decode(self, ids: Iterable[int]) -> str:
        return self.exact.decode(i for i in ids if i != self.pad_id)


def _num_ids(backend: Backend) -> int:
    return max(backend.get_vocab(with_added_tokens=True).values()) + 1


def _bytes_between(text: str, starts: NDArray[np.int64]) -> NDArray[np.uint32]:
    """UTF-8 bytes from each token's first character to the next token's."""
    if not len(starts):
        return np.zeros(0, np.uint32)
    first = np.maximum.accumulate(starts)
    first[0] = 0
    edges = byte_offsets(text)[np.append(first, len(text))]
    return np.diff(edges).astype(np.uint32)


def byte_offsets(text: str) -> NDArray[np.int64]:
    """Byte offset of each of n characters in UTF-8, and of the end: int64 [n + 1]."""
    if text.isascii():
        return np.arange(len(text) + 1)
    code = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    width = 1 + (code >= 0x80) + (code >= 0x800) + (code >= 0x10000)
    return np.concatenate([[0], np.cumsum(width)])


def _restored(definition: str, boundary_id: int) -> HuggingFaceTokenizer:
    return HuggingFaceTokenizer(Backend.from_str(definition), boundary_id)
