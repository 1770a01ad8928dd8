"""Lossless encoding with any tokenizer of the `tokenizers` library.

Many tokenizers lose text: they replace unknown text by one token, lower-case, normalise, or drop
white space. Bits-per-byte of such tokens would measure another, easier text. Here a text's tokens
must decode to exactly that text. If they don't, the text is encoded

1. without the tokenizer's normaliser and prefix space, if that suffices;
2. else in a mix: parts that decode correctly as tokens, the rest as byte tokens, 256 ids of our own
   after the vocabulary. The model predicts byte tokens like any others.

Special tokens are never read from a text: the backend gets names for them that no text contains.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter
from typing import Any, NamedTuple
from uuid import uuid4

import orjson
from tokenizers import Tokenizer as Backend

from .base import LosesText

NUM_BYTES = 256
_ASCII = 'The quick  brown fox,\n\n\tdon\'t STOP! ({[<"x">]}) 0123456789 @#$%^&*_+-=|\\/~`;:,.?\r\n'
PROBES = [
    _ASCII,
    " between blanks ",
    "Ünï cödé, e\u0301 a\u0308, ﬁ ½ ² \uff46\uff55",
    "東京タワー 한국어 العربية עברית हिन्दी ไทย",
    "😀👩\u200d💻 \u00a0\u2028\ufeff\x01\x7f",
]
"""Test texts; a tokenizer that fails to restore one gets byte tokens."""

_GAP = re.compile(r"\s{2,}|[^\S ]")  # white space other than a single space
_NO_WORD = re.compile(r"\W+")
_HIDDEN = uuid4().hex  # random in every process, so that no text can contain it


class Tokens(NamedTuple):
    """Tokens of a text, and each token's first character."""

    ids: list[int]
    starts: list[int]


class ExactBackend:
    """A backend that restores every text, or raises `LosesText`.

    Args:
        definition: the `tokenizers` library's JSON.
        boundary_id: the token before each document.
        first_byte: id of the first byte token, if there are any.

    Attributes:
        spells: whether byte tokens are used, because the tokenizer itself loses one of `PROBES`.
    """

    def __init__(self, definition: str, boundary_id: int, first_byte: int) -> None:
        plain = _hide_special(orjson.loads(definition), boundary_id)
        self._backends = [Backend.from_str(orjson.dumps(d).decode()) for d in _ways(plain)]
        self._boundary_id, self._first_byte = boundary_id, first_byte
        self.spells = None in self._whole(PROBES)
        if self.spells:
            del self._backends[1:]  # seldom helps, yet would be tried on most of the text

    @property
    def restores_ascii(self) -> bool:
        """Whether the tokenizer itself restores plain English."""
        [(_, back)] = self._round_trips(self._backends[0], [_ASCII])
        return back == _ASCII

    def encode_batch(self, texts: Sequence[str]) -> list[Tokens]:
        """Tokens of each text; raises LosesText if a text can't be restored."""
        found = self._whole(texts)
        lost = [i for i, tokens in enumerate(found) if tokens is None]
        if lost and not self.spells:
            text = texts[lost[0]]
            [(_, back)] = self._round_trips(self._backends[0], [text])
            raise LosesText(text, back)
        for i, tokens in zip(lost, self._mixed([texts[i] for i in lost]), strict=True):
            found[i] = tokens
        return [tokens for tokens in found if tokens is not None]

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ids; special tokens and ids after the byte tokens decode to nothing."""
        ordinary = (i for i in map(int, ids) if i != self._boundary_id)
        return "".join(
            self._decoded(kind, run) for kind, run in itertools.groupby(ordinary, self._is_byte)
        )

    def _is_byte(self, token: int) -> bool:
        return self.spells and 0 <= token - self._first_byte < NUM_BYTES

    def _decoded(self, is_byte: bool, run: Iterable[int]) -> str:
        if is_byte:
            return bytes(i - self._first_byte for i in run).decode(errors="replace")
        return self._backends[0].decode(list(run))

    def _round_trips(self, backend: Backend, texts: Sequence[str]) -> Iterator[tuple[Tokens, str]]:
        encodings = backend.encode_batch(list(texts), add_special_tokens=False)
        backs = backend.decode_batch([encoding.ids for encoding in encodings])
        for encoding, back in zip(encodings, backs, strict=True):
            yield Tokens(encoding.ids, [start for start, _ in encoding.offsets]), back

    def _whole(self, texts: Sequence[str]) -> list[Tokens | None]:
        """For each text, ordinary tokens that restore it, or None."""
        found: list[Tokens | None] = [None] * len(texts)
        left = list(range(len(texts)))
        for backend in self._backends:
            round_trips = self._round_trips(backend, [texts[i] for i in left])
            for i, (tokens, back) in zip(left, round_trips, strict=True):
                found[i] = tokens if back == texts[i] else None
            left = [i for i in left if found[i] is None]
        return found

    def _mixed(self, texts: Sequence[str]) -> list[Tokens]:
        """Texts as ordinary tokens where these restore the text, else as bytes.

        Parts that fail are cut into smaller ones. Two runs of ordinary tokens never touch, so each
        decodes separately.
        """
        done: list[list[tuple[int, Tokens]]] = [[] for _ in texts]
        waiting: list[tuple[int, int, str]] = []  # index of the text, start of the part, part

        def take(owner: int, start: int, parts: Iterable[tuple[int, str, bool]]) -> None:
            for place, part, in_bytes in parts:
                if in_bytes:
                    done[owner].append((start + place, self._spelt(part)))
                else:
                    waiting.append((owner, start + place, part))

        for owner, text in enumerate(texts):
            take(owner, 0, _parts(text, _GAP))
        while waiting:
            batch, waiting = waiting, []
            for (owner, start, part), tokens in zip(
                batch, self._whole([part for _, _, part in batch]), strict=True
            ):
                if tokens is None:
                    take(owner, start, _cut(part))
                else:
                    done[owner].append((start, tokens))
        return [_joined(parts) for parts in done]

    def _spelt(self, text: str) -> Tokens:
        data = [character.encode() for character in text]
        ids = [self._first_byte + byte for byte in b"".join(data)]
        return Tokens(ids, [place for place, each in enumerate(data) for _ in each])


def reads_special(backend: Backend, boundary_id: int) -> bool:
    """Whether the tokenizer's model reads a special token's spelling as the token itself."""
    names = _special(orjson.loads(backend.to_str()), boundary_id)
    encodings = backend.encode_batch(sorted(names), add_special_tokens=False)
    ids = {backend.token_to_id(name) for name in names}
    return any(ids.intersection(encoding.ids) for encoding in encodings)


def _parts(text: str, in_bytes: re.Pattern[str]) -> Iterator[tuple[int, str, bool]]:
    """(start, text, whether matched) of a pattern's matches and the gaps between them, in order."""
    end = 0
    for match in in_bytes.finditer(text):
        if match.start() > end:
            yield end, text[end : match.start()], False
        yield match.start(), match[0], True
        end = match.end()
    if end < len(text):
        yield end, text[end:], False


def _cut(text: str) -> Iterable[tuple[int, str, bool]]:
    """As `_parts`, cut at a blank near the middle; without blanks, by words."""
    blank = text.find(" ", len(text) // 2)
    blank = text.rfind(" ") if blank < 0 else blank
    if blank < 0:
        parts = _parts(text, _NO_WORD)
        return [(start, part, in_bytes or part == text) for start, part, in_bytes in parts]
    cuts = (0, blank, blank + 1, len(text))
    halves = [(i, text[i:j], text[i:j] == " ") for i, j in itertools.pairwise(cuts) if i < j]
    return halves


def _joined(parts: list[tuple[int, Tokens]]) -> Tokens:
    """Tokens of a text from its parts, in order of their starts."""
    found = Tokens([], [])
    for start, tokens in sorted(parts, key=itemgetter(0)):
        found.ids.extend(tokens.ids)
        found.starts.extend([start + place for place in tokens.starts])
    return found


def _special(definition: dict[str, Any], boundary_id: int) -> set[str]:
    """Names of the tokens that are not text: special tokens and the boundary."""
    added = definition["added_tokens"]
    named = {t["content"] for t in added if t["special"] or t["id"] == boundary_id}
    return named | {name for name, i in _vocabulary(definition) if i == boundary_id}


def _vocabulary(definition: dict[str, Any]) -> Iterable[tuple[str, int]]:
    vocabulary = definition["model"]["vocab"]
    if isinstance(vocabulary, dict):
        return vocabulary.items()
    return ((name, i) for i, (name, _) in enumerate(vocabulary))


def _hide_special(definition: dict[str, Any], boundary_id: int) -> dict[str, Any]:
    """The definition with its special tokens renamed to names that no text contains.

    The library's own flag (`encode_special_tokens`) protects only added tokens: a Unigram model
    still finds "</s>" in its vocabulary.
    """
    hidden = {name: f"{name}{_HIDDEN}" for name in _special(definition, boundary_id)}

    def rename(name: str) -> str:
        return hidden.get(name, name)

    model = dict(definition["model"])
    vocabulary = model["vocab"]
    if isinstance(vocabulary, dict):
        model["vocab"] = {rename(name): i for name, i in vocabulary.items()}
    else:
        model["vocab"] = [[rename(name), score] for name, score in vocabulary]
    if model.get("unk_token") is not None:
        model["unk_token"] = rename(model["unk_token"])
    if "merges" in model:
        model["merges"] = [m for m in model["merges"] if hidden.keys().isdisjoint(_made_by(m))]
    added = [token | {"content": rename(token["content"])} for token in definition["added_tokens"]]
    return definition | {"model": model, "added_tokens": added}


def _made_by(merge: str | list[str]) -> tuple[str, str, str]:
    """Both sides of a merge, and their concatenation."""
    left, right = merge.split(" ", 1) if isinstance(merge, str) else merge
    return left, right, left + right


def _ways(definition: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The definition, and a copy without normaliser and prefix space if either exists."""
    yield definition
    changed = definition | {"normalizer": None}
    before = definition["pre_tokenizer"]
    steps = before["pretokenizers"] if before and before["type"] == "Sequence" else [before]
    if any(step and step.get("add_prefix_space") for step in steps):
        without = [step | {"add_prefix_space": False} for step in steps]
        changed["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": without}
    if changed != definition:
        yield changed
