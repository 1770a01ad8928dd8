"""Generation with retrieval in the loop: step, sample, search at the end of a chunk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..retro import Retro
from .cache import Cache
from .incremental import new_cache, step
from .sampling import Sampler, Sampling


class Query(NamedTuple):
    """A row's search query: the latest M tokens, or all of fewer.

    Attributes:
        row: number of the prompt in the batch.
        end: tokens of the row so far.
        tokens: the query, at most M.
    """

    row: int
    end: int
    tokens: list[int]


Search = Callable[[list[Query]], Tensor]
"""Maps Q queries to neighbour tokens [Q, K, R], missing ones as rows of pad_id."""

ReadOut = Callable[[Tensor, dict[int, list[int]]], Tensor]
"""Maps logits [B, V] and the texts so far, by row, to log-probabilities [B, V] to draw from."""


@torch.inference_mode()
def generate(
    model: Retro,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    *,
    max_tokens: int,
    stop_id: int | None = None,
    search: Search | None = None,
    stride: int | None = None,
    left_pad: bool = False,
    read_out: ReadOut | None = None,
) -> Iterator[dict[int, int]]:
    """Continues a batch of prompts of any lengths; rows are independent.

    Args:
        model: in evaluation mode.
        prompts: token ids, at least one each.
        sampling: settings of the draws.
        max_tokens: most tokens of a continuation.
        stop_id: a row that draws this id ends before it.
        search: None disables retrieval.
        stride: tokens between searches, 1 to M; None for M, one search a chunk.
        left_pad: shift each row's searches so that one falls on the prompt's end.
        read_out: None draws from the model's own distribution.

    Yields:
        After each step, the new token of each continuing row, by row.

    Raises:
        ValueError: an empty prompt, or a stride out of range.
    """
    if not all(prompts):
        raise ValueError("a prompt needs at least one token")
    lengths = [len(prompt) for prompt in prompts]
    first = [max(lengths, default=0) - length for length in lengths]
    size = model.config.chunk_size if stride is None else stride
    shift = [-length % size for length in lengths] if left_pad and size > 0 else None
    cache = new_cache(model, len(prompts), stride, first, shift)
    sampler = Sampler(sampling, len(prompts), banned=[model.config.pad_id])
    device = model.embedding.weight.device
    texts = [list(prompt) for prompt in prompts]
    rows = list(range(len(prompts)))  # rows that continue
    new = [[0] * before + text for before, text in zip(first, texts, strict=True)]
    for count in range(1, max_tokens + 1):
        if not rows:
            return
        searched = (
            None if search is None else _search(model, cache, rows, texts, len(new[0]), search)
        )
        ids = torch.tensor(new, device=device)
        logits = step(model, ids, cache, searched)[:, -1]
        if read_out is not None:
            logits = read_out(logits, {row: texts[row] for row in rows})
        drawn = dict(zip(rows, sampler.draw(logits, rows), strict=True))
        going = [place for place, row in enumerate(rows) if drawn[row] != stop_id]
        if len(going) < len(rows):
            rows = [rows[place] for place in going]
            if count < max_tokens:
                cache.reorder(torch.tensor(going, dtype=torch.long, device=device))
        for row in rows:
            texts[row].append(drawn[row])
        new = [[drawn[row]] for row in rows]
        yield {row: drawn[row] for row in rows}


def _search(
    model: Retro,
    cache: Cache,
    rows: list[int],
    texts: list[list[int]],
    num_tokens: int,
    search: Search,
) -> Tensor | None:
    """[B, U, K, R] neighbours of the searches within the next tokens; None without a search."""
    size = model.config.chunk_size
    due = cache.searches(num_tokens)
    queries = [
        Query(row, end, texts[row][max(0, end - size) : end])
        for row, ends in zip(rows, due, strict=True)
        for end in ends
    ]
    if not queries:
        return None
    found = search(queries).to(model.embedding.weight.device)
    most = max(map(len, due))
    neighbours = found.new_full((len(rows), most, *found.shape[1:]), model.config.pad_id)
    begin = 0
    for place, ends in enumerate(due):
        neighbours[place, : len(ends)] = found[begin : begin + len(ends)]
        begin += len(ends)
    return neighbours
