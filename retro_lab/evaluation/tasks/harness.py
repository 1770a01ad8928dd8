"""Adapter that lets lm-eval score a run, with retrieval.

Every request is treated as a document, so it begins with the boundary token. This module needs the
optional package lm-eval, so import it only when the harness is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import normalize_gen_kwargs

from retro_lab.config.errors import UserError
from retro_lab.store import track
from retro_lab.text.tokenizers import Tokenizer

from ..measure.text_scoring import ScoredText, TextScorer
from .greedy import GreedyWriter

DEFAULT_TOKENS = 256  # new tokens if the task sets no limit; lm-eval's default

Pair = tuple[tuple[str, str], list[int], list[int]]


class RunLM(TemplateLM):
    """A run under one condition, as a language model of lm-eval.

    Args:
        scorer: scores texts under the condition.
        writer: generates text under the condition.
        tokenizer: tokenizer of the run.
        what: name of the condition, for the progress bar.
    """

    def __init__(
        self, scorer: TextScorer, writer: GreedyWriter, tokenizer: Tokenizer, what: str
    ) -> None:
        super().__init__()
        self.scorer, self.writer, self.own_tokenizer = scorer, writer, tokenizer
        self.what = what

    @property
    def eot_token_id(self) -> int:
        return self.own_tokenizer.boundary_id

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **kwargs: Any
    ) -> list[int]:
        [encoded] = self.own_tokenizer.encode_batch([string])
        return encoded.ids.tolist()

    def loglikelihood(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        return super().loglikelihood(requests, disable_tqdm=True)

    def _loglikelihood_tokens(
        self, requests: Sequence[Pair], **kwargs: Any
    ) -> list[tuple[float, bool]]:
        """Log-likelihood of each continuation, and whether it is the greedy continuation."""
        texts = []
        for _, context, continuation in requests:
            before = context if context == [self.prefix_token_id] else self._document(context)
            texts.append(ScoredText([*before, *continuation], len(before)))
        scores = self.scorer.score(texts, greedy=True, what=f"scoring {self.what}")
        return [(-score.nats, bool(score.greedy)) for score in scores]

    def loglikelihood_rolling(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        """Log-likelihood of whole texts, in the windows of the run."""
        encoded = self.own_tokenizer.encode_batch([str(r.args[0]) for r in requests])
        texts = [ScoredText(self._document(ids.tolist())) for ids, _ in encoded]
        return [-s.nats for s in self.scorer.score(texts, what=f"scoring {self.what}")]

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Greedy continuations, each cut before its first stop string.

        Raises:
            UserError: the task samples tokens, or leaves no room for a prompt.
        """
        texts = [""] * len(requests)
        with track(len(requests), f"writing {self.what}", "requests") as advance:
            for (until, limit), numbers in _by_stop(requests).items():
                self._check_room(requests[numbers[0]].task_name, limit)
                contexts = [str(requests[number].args[0]) for number in numbers]
                written = self.writer.write(
                    [self._document(self.tok_encode(context)) for context in contexts],
                    max_tokens=limit,
                    until=until,
                    advance=advance,
                )
                for number, text in zip(numbers, written, strict=True):
                    texts[number] = text
        return texts

    def _check_room(self, task: Any, limit: int) -> None:
        if limit >= self.writer.window:
            raise UserError(
                f"the task {task} asks for up to {limit} new tokens, and the run's windows have "
                f"{self.writer.window}: no room is left for its prompts",
                fix="leave it out of eval.tasks, or take a run with a longer "
                "chunking.sequence_length",
            )

    def _document(self, tokens: Sequence[int]) -> list[int]:
        return [self.prefix_token_id, *tokens]


def _by_stop(requests: Sequence[Instance]) -> dict[tuple[tuple[str, ...], int], list[int]]:
    """Indices of the requests by stop strings and token limit."""
    found: dict[tuple[tuple[str, ...], int], list[int]] = {}
    for number, request in enumerate(requests):
        _, given = cast("tuple[str, dict[str, Any]]", request.args)
        asked = cast("dict[str, Any]", normalize_gen_kwargs(given, DEFAULT_TOKENS))
        if asked["do_sample"] and asked.get("temperature", 1.0) > 0:
            raise UserError(
                f"the task {request.task_name} draws tokens at random, and this adapter is greedy",
                fix="leave it out of eval.tasks",
            )
        until = tuple(stop for stop in asked["until"] if stop)
        found.setdefault((until, asked["max_gen_toks"]), []).append(number)
    return found
