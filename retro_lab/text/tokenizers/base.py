"""The tokenizer protocol, and cutting of long texts to bound memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from retro_lab.config.errors import UserError

PIECE_CHARACTERS = 2**18  # longest piece of a text that is encoded at once
BATCH_CHARACTERS = 2**22  # encoded together; libraries need about 100 bytes a character


class Encoded(NamedTuple):
    """A text in tokens, without the boundary token.

    Attributes:
        ids: int32 [T].
        num_bytes: uint32 [T], UTF-8 bytes of the raw text for each token; they sum to the text's
            length.
    """

    ids: NDArray[np.int32]
    num_bytes: NDArray[np.uint32]


class LosesText(UserError):
    """A text that a tokenizer without byte tokens fails to restore.

    Args:
        text: the text, or a part of it.
        back: the decoded tokens.
    """

    def __init__(self, text: str, back: str) -> None:
        at = next((i for i, (a, b) in enumerate(zip(text, back, strict=False)) if a != b), None)
        at = min(len(text), len(back)) if at is None else at
        start = max(0, at - 10)
        super().__init__(
            f"the tokenizer loses text: {text[start : at + 20]!r} comes back as "
            f"{back[start : at + 20]!r}",
            fix="leave such documents out, or use tokenizer=bpe or byte",
        )
        self.given = text, back

    def __reduce__(self) -> tuple[type[LosesText], tuple[str, str]]:
        return type(self), self.given  # blocks are cut in other processes


class Tokenizer(Protocol):
    """Text to ids and back.

    Attributes:
        vocab_size: number of ids, including boundary, padding and, for a lossy tokenizer, 256 byte
            tokens.
        boundary_id: the token before each document; never made from text.
        pad_id: fills the last chunk of a document; never made from text.
    """

    vocab_size: int
    boundary_id: int
    pad_id: int

    def encode_batch(self, texts: Sequence[str]) -> list[Encoded]:
        """Tokens of each text, which decode to exactly that text.

        Special tokens are never read from the text.

        Raises:
            LosesText: a text can't be restored.
        """
        ...

    def decode(self, ids: Iterable[int]) -> str:
        """Text of `ids` without boundary and padding; invalid UTF-8 becomes U+FFFD."""
        ...

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The tokenizer in an artifact's folder."""
        ...


def pieces(text: str, limit: int = PIECE_CHARACTERS) -> Iterator[str]:
    """Cuts a long text into pieces of at most `limit` characters.

    The cut is before a line feed that follows a visible character. The pre-tokenizers of GPT-2 and
    its descendants end a word there, so the tokens equal those of the whole text. Without such a
    place the cut is before a space, else anywhere.
    """
    start = 0
    while len(text) - start > limit:
        stop = _cut(text, start + 1, start + limit)
        yield text[start:stop]
        start = stop
    yield text[start:]


def _cut(text: str, low: int, high: int) -> int:
    """The last good start of a new piece in [low, high], or `high`."""
    for blank in "\n ":
        place = text.rfind(blank, low, high + 1)
        while place > low and text[place - 1].isspace():
            place = text.rfind(blank, low, place)
        if place > low:
            return place
    return high


def batches(lengths: Sequence[int], limit: int = BATCH_CHARACTERS) -> Iterator[slice]:
    """Slices of consecutive items with a total length of at most `limit`, or of single items."""
    start = total = 0
    for i, length in enumerate(lengths):
        if i > start and total + length > limit:
            yield slice(start, i)
            start, total = i, 0
        total += length
    if start < len(lengths):
        yield slice(start, len(lengths))


class CutLimits(NamedTuple):
    """Most characters that a backend receives: in a piece, and in a batch of pieces."""

    piece: int = PIECE_CHARACTERS
    batch: int = BATCH_CHARACTERS


CUT_LIMITS = CutLimits()


def cut_all(texts: Sequence[str], limit: int) -> tuple[list[str], list[int]]:
    """Pieces of at most `limit` characters of all texts, and the index of each piece's text."""
    cut = [list(pieces(text, limit)) for text in texts]
    return [p for parts in cut for p in parts], [i for i, parts in enumerate(cut) for _ in parts]
