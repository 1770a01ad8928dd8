"""Greedy decoding of token prompts with retrieval, for any model of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set
from typing import TYPE_CHECKING

import torch

from retro_lab.nn import Query, Retro, Sampling, generate
from retro_lab.nn.decode.generation import ReadOut, Search
from retro_lab.text.tokenizers import Tokenizer

if TYPE_CHECKING:
    from retro_lab.huggingface import GraftedRetro

_CONTEXT = 16  # prompt tokens needed to decode the new tokens after them


class GreedyWriter:
    """Continues prompts by greedy decoding.

    Args:
        model: in evaluation mode.
        tokenizer: tokenizer of the run.
        window: tokens of a training window.
        batch_size: prompts decoded at once.
        search: finds neighbours; None decodes without retrieval.
        read_out: replaces the logits of the next tokens, as in `generate`; None takes the model's.
    """

    def __init__(
        self,
        model: Retro | GraftedRetro,
        tokenizer: Tokenizer,
        *,
        window: int,
        batch_size: int,
        search: Search | None,
        read_out: ReadOut | None = None,
    ) -> None:
        self.model, self.tokenizer, self.search = model, tokenizer, search
        self.read_out = read_out
        self.window, self.batch_size = window, batch_size

    def write(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        max_tokens: int,
        until: Sequence[str],
        left_pad: bool = False,
        advance: Callable[[int], None] | None = None,
    ) -> list[str]:
        """The continuations as text, each cut before the first stop string of `until`.

        Prompts too long for the window are cut at their start. `Query.row` of a search is the
        number of the prompt.
        """
        room = self.window - max_tokens
        if room < 1:
            raise ValueError(f"{max_tokens} new tokens leave no room in a window of {self.window}")
        rows = [list(prompt)[-room:] for prompt in prompts]
        order = sorted(range(len(rows)), key=lambda row: len(rows[row]))
        texts = [""] * len(rows)
        for begin in range(0, len(order), self.batch_size):
            batch = order[begin : begin + self.batch_size]
            written = self._batch([rows[row] for row in batch], batch, max_tokens, until, left_pad)
            for row, text in zip(batch, written, strict=True):
                texts[row] = text
            if advance is not None:
                advance(len(batch))
        return texts

    def _batch(
        self,
        prompts: list[list[int]],
        numbers: Sequence[int],
        max_tokens: int,
        until: Sequence[str],
        left_pad: bool,
    ) -> list[str]:
        new: list[list[int]] = [[] for _ in prompts]
        texts, going = [""] * len(prompts), set(range(len(prompts)))
        search = None if self.search is None else _numbered(self.search, numbers)
        for step in self._steps(prompts, max_tokens, search, left_pad, going):
            for row, token in step.items():
                if row not in going:
                    continue
                new[row].append(token)
                texts[row], stopped = self._cut(prompts[row], new[row], until)
                if stopped:
                    going.discard(row)
            if not going:
                break
        return texts

    def _steps(
        self,
        prompts: list[list[int]],
        max_tokens: int,
        search: Search | None,
        left_pad: bool,
        going: Set[int],
    ) -> Iterator[dict[int, int]]:
        """Yields new tokens by row, as `generate` does.

        Args:
            going: unfinished rows; the caller removes a row after its stop string.
        """
        stop_id = self.tokenizer.boundary_id
        if isinstance(self.model, Retro):
            yield from generate(
                self.model,
                prompts,
                Sampling(temperature=0.0),
                max_tokens=max_tokens,
                stop_id=stop_id,
                search=search,
                left_pad=left_pad,
                read_out=self.read_out,
            )
            return
        if left_pad:
            raise ValueError("a graft cannot pad its prompts on the left")
        for row, prompt in enumerate(prompts):
            for token in self._by_full_passes(self.model, row, prompt, max_tokens, search):
                if token == stop_id:
                    break
                yield {row: token}
                if row not in going:
                    break

    @torch.inference_mode()
    def _by_full_passes(
        self,
        model: GraftedRetro,
        row: int,
        prompt: list[int],
        max_tokens: int,
        search: Search | None,
    ) -> Iterator[int]:
        """Yields the tokens of one continuation, with a full forward pass for each.

        A graft has no key-value cache.
        """
        size, device = model.config.chunk_size, next(model.parameters()).device
        tokens, found = list(prompt), []
        for _ in range(max_tokens):
            for end in range((len(found) + 1) * size, len(tokens) + 1, size):
                if search is not None:
                    found.append(search([Query(row, end, tokens[end - size : end])])[0])
            neighbours = torch.stack(found).unsqueeze(0).to(device) if found else None
            logits = model(torch.tensor([tokens], device=device), neighbours)[:, -1]
            if self.read_out is not None:
                logits = self.read_out(logits, {row: tokens})
            tokens.append(int(logits[0].argmax()))
            yield tokens[-1]

    def _cut(self, prompt: list[int], new: list[int], until: Sequence[str]) -> tuple[str, bool]:
        """The text of the new tokens up to a stop string, and whether there was one."""
        known = prompt[-_CONTEXT:]
        text = self.tokenizer.decode(known + new)[len(self.tokenizer.decode(known)) :]
        ends = [place for stop in until if stop and (place := text.find(stop)) >= 0]
        return (text[: min(ends)], True) if ends else (text, False)


def _numbered(search: Search, numbers: Sequence[int]) -> Search:
    """A search that replaces the row in the batch by the number of the prompt in each query."""
    return lambda queries: search([query._replace(row=numbers[query.row]) for query in queries])
