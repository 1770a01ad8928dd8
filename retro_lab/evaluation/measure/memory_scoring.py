"""Scores a model with a memory: one pass of the model gives the nats under several gates.

Legend: B batch, N tokens of a window, T scored tokens, M chunk size, V vocabulary, D width of the
model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from retro_lab.memory.evidence import Evidence, Text
from retro_lab.memory.memory import FittedGate, Memory
from retro_lab.memory.readings import ModelView, Readings
from retro_lab.memory.states import watched_states
from retro_lab.nn.scored import Readable, logits_at
from retro_lab.text.chunks import ChunkStore

from .metrics import ChunkScores, MemoryShares
from .scoring import ChunkSums, ScoredTokens, on_device, reads_neighbours

if TYPE_CHECKING:
    from retro_lab.huggingface import GraftedRetro
    from retro_lab.nn import Retro

LOGITS_AT_ONCE = 2**27  # logits of a forward pass, half a gigabyte


class DocumentTexts:
    """The scored documents as texts that a memory reads.

    Args:
        scored: the store of the scored chunks.
        database: the store of the memory's chunks; the scored ones have the same ids in it.
        seed: of the control, None for the documents' own contexts. With a seed the contexts of each
            document are those of another one of `others`, drawn at random.
        others: documents to draw from.
    """

    def __init__(
        self,
        scored: ChunkStore,
        database: ChunkStore,
        seed: int | None = None,
        others: NDArray[np.integer] | None = None,
    ) -> None:
        self._scored, self._seed, self._others = scored, seed, others
        identity = np.asarray(database.identity)
        self._identity = identity[np.asarray(database.first_chunk)[:-1]]
        self._made: tuple[int, Text] | None = None

    def of(self, document: int) -> Text:
        """The text of a document; the one asked for last is kept."""
        if self._made is None or self._made[0] != document:
            self._made = (document, self._make(document))
        return self._made[1]

    def _make(self, document: int) -> Text:
        tokens, excluded = self._tokens(document), self._same(document)
        if self._seed is None or self._others is None:
            return Text(tokens, excluded)
        rng = np.random.default_rng((self._seed, document))
        among = self._others[self._others != document]
        other = int(rng.choice(among)) if len(among) else document
        contexts = np.resize(self._tokens(other), len(tokens))
        return Text(tokens, np.union1d(excluded, self._same(other)), contexts)

    def _tokens(self, document: int) -> NDArray[np.int32]:
        first, last = self._scored.first_chunk[document : document + 2]
        tokens = np.asarray(self._scored.tokens[first:last]).reshape(-1).astype(np.int32)
        return tokens[tokens != self._scored.pad_id]

    def _same(self, document: int) -> NDArray[np.intp]:
        return np.flatnonzero(self._identity == self._identity[document])


Variants = Mapping[bool, DocumentTexts]
"""Texts by whether their contexts are those of other documents, the control."""


class KeptEvidence:
    """The evidence that a memory gave, for further models that are scored with the same memory.

    Evidence that needs states of the model is never kept.

    Args:
        most: tokens, about 600 bytes each with suffix and topic; later ones are read again.
    """

    def __init__(self, most: int = 2**19) -> None:
        self._left = most
        self._kept: dict[tuple[bool, int, int, int], Evidence] = {}

    def read(
        self, memory: Memory, text: Text, part: tuple[bool, int, int, int], window: _Window
    ) -> Evidence:
        """As `Memory.read`.

        Args:
            part: whether contexts are those of other documents, the document, start and stop.
        """
        _, _, start, stop = part
        if memory.needs_states:
            return memory.read(text, start, stop, window.states)
        if part not in self._kept:
            found = memory.read(text, start, stop)
            if stop - start > self._left:
                return found
            self._left -= stop - start
            self._kept[part] = found
        return self._kept[part]


class TokenReadings(NamedTuple):
    """Scored tokens with what a gate sees of them, in the order of the text.

    Attributes:
        readings: by the key of `Variants`; all of the same tokens.
    """

    tokens: ScoredTokens
    readings: dict[bool, Readings]


def token_readings(
    model: nn.Module,
    batches: Iterable[Mapping[str, Tensor]],
    memory: Memory,
    texts: Variants,
    store: ChunkStore,
    *,
    retrieval: bool,
    kept: KeptEvidence | None = None,
    at_once: int = LOGITS_AT_ONCE,
) -> Iterator[TokenReadings]:
    """The readings of all scored tokens of the windows, batch by batch.

    Args:
        model: a `Readable`; a `Retro` or `GraftedRetro` if the memory needs states.
        batches: collated windows of `retro_lab.data`, in a fixed order.
        memory: read at every token.
        texts: of the scored documents.
        store: of the scored chunks.
        retrieval: whether the model reads the neighbours of the batch.
        kept: evidence of the same memory about the same texts, and room for more.
        at_once: most logits of a forward pass, but for a single window.
    """
    kept = KeptEvidence(0) if kept is None else kept
    for moved in on_device(model, batches):
        neighbour_ids = moved["neighbour_ids"] if retrieval else None
        size = store.chunk_size
        reads = reads_neighbours(moved["input_ids"], neighbour_ids, size, store.pad_id)
        scored = ScoredTokens.of(moved, reads, size)
        at = scored.at.reshape(moved["input_ids"].shape)
        parts: dict[bool, list[Readings]] = {random: [] for random in texts}
        start = 0
        size = max(1, at_once // (at.shape[1] * store.vocab_size))
        windows = _windows(model, moved, neighbour_ids, at, size, memory.needs_states)
        for each in windows:
            tokens = slice(start, start + len(each.logits))
            start = tokens.stop
            if not len(each.logits):
                continue
            places = _places(scored, tokens, store)
            document = int(store.document[scored.chunk[tokens][0]])
            found = {}
            for random, of in texts.items():
                part = random, document, *_ends(places)
                found[random] = kept.read(memory, of.of(document), part, each)
            targets = next(iter(texts.values())).of(document).tokens[places]
            favourites = [evidence.favourite for evidence in found.values()]
            views = ModelView.of_each(each.logits, targets, favourites)
            for (random, evidence), view in zip(found.items(), views, strict=True):
                parts[random].append(Readings.of(evidence, view, places))
        if len(scored.chunk):
            yield TokenReadings(scored, {r: Readings.stacked(each) for r, each in parts.items()})


class Mixed(NamedTuple):
    """A gate to score with.

    Attributes:
        gate: which experts are mixed, and how.
        random: whether they read the contexts of other documents.
        shares: whether what they gave to each token is kept, if scores by token are.
    """

    gate: FittedGate
    random: bool
    shares: bool = False


def score_with_memory(
    readings: Iterable[TokenReadings],
    mixed: Mapping[str, Mixed | None],
    memory: Memory,
    store: ChunkStore,
    *,
    by_token: bool,
    advance: Callable[[int], None],
) -> dict[str, ChunkScores]:
    """The scores of each condition.

    Args:
        mixed: by condition; None scores the language model alone.
        by_token: also keep each token's score.
        advance: called with the number of tokens scored.
    """
    size = store.chunk_size if by_token else None
    sums = {
        name: ChunkSums(store.num_chunks, size, () if each is None else _kept(each))
        for name, each in mixed.items()
    }
    for tokens, variants in readings:
        for name, each in mixed.items():
            if each is None:
                sums[name].add(tokens, next(iter(variants.values())).nats)
                continue
            read, names = variants[each.random], _kept(each) if by_token else ()
            paid = MemoryShares(*each.gate.paid(read, memory), names) if names else None
            sums[name].add(tokens, each.gate.nats(read, memory), paid)
        advance(len(tokens.chunk))
    return {name: total.scores() for name, total in sums.items()}


def _kept(mixed: Mixed) -> tuple[str, ...]:
    """Names of the experts whose shares are kept."""
    return mixed.gate.experts if mixed.shares else ()


class _Window(NamedTuple):
    """What the model says at the scored positions of a window.

    Attributes:
        logits: [T, V].
        states: float32 [T, D], None for a memory that needs none.
    """

    logits: Tensor
    states: NDArray[np.float32] | None


@torch.inference_mode()
def _windows(
    model: nn.Module,
    batch: Mapping[str, Tensor],
    neighbour_ids: Tensor | None,
    at: NDArray[np.bool_],
    size: int,
    needs_states: bool,
) -> Iterator[_Window]:
    """The windows of a batch, `size` at once, read at the scored positions `at` [B, N]."""
    for start in range(0, len(at), size):
        part = slice(start, start + size)
        neighbours = None if neighbour_ids is None else neighbour_ids[part]
        marked = torch.from_numpy(at[part]).to(batch["input_ids"].device)
        inputs = batch["input_ids"][part], neighbours, batch["document_ids"][part]
        own = cast("Retro | GraftedRetro", model)
        with watched_states(own) if needs_states else nullcontext([]) as seen:
            logits = logits_at(cast(Readable, model), marked, *inputs)
        counts = at[part].sum(axis=1)
        states: list[NDArray[np.float32] | None] = [None] * len(counts)
        if needs_states:
            everywhere = seen[0][marked].float().cpu().numpy()
            states[:] = np.split(everywhere, counts.cumsum()[:-1])
        yield from map(_Window, logits.split(counts.tolist()), states)


def _ends(places: NDArray[np.int64]) -> tuple[int, int]:
    """The first of consecutive places, and the one after the last."""
    return int(places[0]), int(places[-1]) + 1


def _places(scored: ScoredTokens, tokens: slice, store: ChunkStore) -> NDArray[np.int64]:
    """Places in their document of a window's tokens, which follow each other."""
    index = np.asarray(store.index)[scored.chunk[tokens]].astype(np.int64)
    return index * store.chunk_size + scored.place[tokens]
