"""Scores any text as a run scores the documents of its splits, with retrieval.

A text is a document: it begins with the boundary token, is cut into chunks, and is scored in the
windows of `evaluation_windows`. Neighbours are searched with the tokens of one chunk and read from
the chunk's last token on, so no token is scored with information from later tokens.

Shapes: B batch, N tokens, U chunks of a window, K neighbours, R neighbour tokens, M chunk size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from retro_lab.config.errors import UserError
from retro_lab.config.schema import ChunkingConfig
from retro_lab.data.windows import evaluation_windows
from retro_lab.store import track

IGNORED = -100
Search = Callable[[Sequence[Sequence[int]]], NDArray[np.int64]]
"""Maps Q chunks to the tokens of their neighbours, [Q, K, R]; a missing one is all pad_id."""


class ScoredText(NamedTuple):
    """A text to score.

    Attributes:
        tokens: token ids, the boundary token first.
        first: index of the first token to score, at least 1.
    """

    tokens: Sequence[int]
    first: int = 1


class TextScore(NamedTuple):
    """The score of a text.

    Attributes:
        nats: negative log-likelihood of the scored tokens.
        greedy: whether each scored token was the likeliest; None unless requested.
    """

    nats: float
    greedy: bool | None


class Windows(NamedTuple):
    """Windows of a forward pass.

    Attributes:
        input_ids: [B, N].
        targets: [B, N], -100 where nothing is scored.
        neighbours: [B, U, K, R]; None without retrieval.
    """

    input_ids: Tensor
    targets: Tensor
    neighbours: Tensor | None


class _Piece(NamedTuple):
    """A window on text number `text`: tokens [start, stop) are read to score [first, stop]."""

    text: int
    start: int
    stop: int
    first: int


class TextScorer:
    """Scores texts with a model and a neighbour search.

    Args:
        model: has `token_nats`, and returns logits when called; in evaluation mode.
        chunking: chunk and window sizes of the run.
        pad_id: id of padding.
        stride: tokens between windows, a multiple of the chunk size.
        batch_size: windows a forward pass.
        search: finds neighbours; None scores without retrieval.
    """

    def __init__(
        self,
        model: nn.Module,
        chunking: ChunkingConfig,
        *,
        pad_id: int,
        stride: int,
        batch_size: int,
        search: Search | None,
    ) -> None:
        self.model, self.chunking, self.pad_id = model, chunking, pad_id
        self.stride, self.batch_size, self.search = stride, batch_size, search
        self.device = next((p.device for p in model.parameters()), torch.device("cpu"))

    def score(
        self, texts: Sequence[ScoredText], *, greedy: bool = False, what: str = "scoring"
    ) -> list[TextScore]:
        """The score of every text, in order.

        Args:
            greedy: also check whether each scored token is the likeliest.
            what: label of the progress bar.
        """
        pieces = sorted(self._pieces(texts), key=lambda piece: piece.start - piece.stop)
        nats, is_greedy = np.zeros(len(texts)), np.ones(len(texts), bool)
        known: dict[tuple[int, ...], NDArray[np.int64]] = {}
        with track(len(pieces), what, "windows") as advance:
            for begin in range(0, len(pieces), self.batch_size):
                batch = pieces[begin : begin + self.batch_size]
                batch_nats, batch_greedy = self._score(batch, texts, greedy, known)
                rows = [piece.text for piece in batch]
                np.add.at(nats, rows, batch_nats)
                np.logical_and.at(is_greedy, rows, batch_greedy)
                advance(len(batch))
        return [
            TextScore(float(sum_), bool(best) if greedy else None)
            for sum_, best in zip(nats, is_greedy, strict=True)
        ]

    def _pieces(self, texts: Sequence[ScoredText]) -> Iterator[_Piece]:
        """The windows with a token to score."""
        size = self.chunking.chunk_size
        last = np.array([len(text.tokens) - 1 for text in texts], np.int64)
        first_chunk = np.concatenate([[0], np.cumsum(last // size + 1)]).astype(np.int64)
        windows = evaluation_windows(
            first_chunk, last, self.chunking.sequence_length // size, self.stride // size, size
        )
        number = np.searchsorted(first_chunk, windows.start_chunk, side="right") - 1
        start = (windows.start_chunk - first_chunk[number]) * size
        stop = np.minimum(start + windows.num_chunks * size, last[number])
        asked = np.array([text.first for text in texts], np.int64)
        first = np.maximum(start + windows.first_target + 1, asked[number])
        for row in np.flatnonzero(first <= stop).tolist():
            yield _Piece(*(int(column[row]) for column in (number, start, stop, first)))

    @torch.inference_mode()
    def _score(
        self,
        batch: Sequence[_Piece],
        texts: Sequence[ScoredText],
        greedy: bool,
        known: dict[tuple[int, ...], NDArray[np.int64]],
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """[B] nats of each piece, and [B] whether all its tokens were the likeliest."""
        length = max(piece.stop - piece.start for piece in batch)
        input_ids = torch.full((len(batch), length), self.pad_id)
        targets = torch.full((len(batch), length), IGNORED)
        for row, piece in enumerate(batch):
            tokens = torch.as_tensor(texts[piece.text].tokens[piece.start : piece.stop + 1])
            input_ids[row, : len(tokens) - 1] = tokens[:-1]
            scored = piece.first - 1 - piece.start
            targets[row, scored : len(tokens) - 1] = tokens[scored + 1 :]
        neighbours = self._neighbours(batch, texts, length, known)
        windows = Windows(input_ids.to(self.device), targets.to(self.device), neighbours)
        read = [(texts[piece.text].tokens, piece.first) for piece in batch]
        nats, best = self.token_nats(windows, read, greedy)
        sums = nats.double().sum(1).cpu().numpy()
        if not np.isfinite(sums).all():
            raise UserError(
                "the model gives a loss that is not finite, so it cannot be evaluated",
                fix="training has diverged: train again with a lower optim.lr or a longer warm-up",
            )
        return sums, best

    def token_nats(
        self, windows: Windows, read: Sequence[tuple[Sequence[int], int]], greedy: bool
    ) -> tuple[Tensor, NDArray[np.bool_]]:
        """[B, N] nats, 0 where nothing is scored; and [B] whether all targets were the likeliest.

        Args:
            read: tokens of each window's text, and the index of its first scored one.
            greedy: whether to find the likeliest tokens; all are taken for such if not.
        """
        targets = windows.targets
        if not greedy:
            given = windows.input_ids, targets, windows.neighbours
            nats = self.model.token_nats(*given)  # pyright: ignore[reportCallIssue]
            return nats, np.ones(len(targets), bool)
        logits = self.model(windows.input_ids, windows.neighbours)
        best = ((logits.argmax(-1) == targets) | (targets == IGNORED)).all(1).cpu().numpy()
        nats = F.cross_entropy(
            logits.flatten(0, 1).float(), targets.flatten(), reduction="none"
        ).view_as(targets)
        return nats, best

    def _neighbours(
        self,
        batch: Sequence[_Piece],
        texts: Sequence[ScoredText],
        length: int,
        known: dict[tuple[int, ...], NDArray[np.int64]],
    ) -> Tensor | None:
        """[B, U, K, R] neighbours of the complete chunks of each piece; None without such chunks.

        Args:
            known: cache of the neighbours by chunk; new results are added.
        """
        size = self.chunking.chunk_size
        if self.search is None or length < size:
            return None
        chunks = {
            (row, place // size): tuple(tokens[piece.start + place :][:size])
            for row, piece in enumerate(batch)
            for tokens in [texts[piece.text].tokens]
            for place in range(0, piece.stop - piece.start - size + 1, size)
        }
        new = list(dict.fromkeys(chunk for chunk in chunks.values() if chunk not in known))
        if new:
            known.update(zip(new, self.search(new), strict=True))
        shape = next(iter(known.values())).shape
        found = np.full((len(batch), length // size, *shape), self.pad_id, np.int64)
        for place, chunk in chunks.items():
            found[place] = known[chunk]
        return torch.from_numpy(found).to(self.device)
