"""Contract: a graft's greedy continuations are those that `generate` of transformers gives it."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from tiny import PAD, K, M, R, grafted, tokens

from retro_lab.evaluation.tasks.greedy import GreedyWriter
from retro_lab.huggingface import RetroForCausalLM
from retro_lab.nn import Query


class Letters:
    """A tokenizer whose text is the ids themselves."""

    vocab_size, boundary_id, pad_id = PAD + 1, -1, PAD

    def decode(self, ids: list[int]) -> str:
        return "".join(chr(0x100 + i) for i in ids)


def found(chunk: torch.Tensor) -> torch.Tensor:
    """[K, R] neighbours that depend on the chunk searched with."""
    return tokens(K, R, seed=int(chunk.sum()))


@pytest.mark.parametrize("retrieval", [True, False])
def test_as_transformers_writes(retrieval: bool) -> None:
    model = grafted("llama")

    def search(queries: list[Query]) -> torch.Tensor:
        assert all(len(query.tokens) == M for query in queries)
        return torch.stack([found(torch.tensor(query.tokens)) for query in queries])

    writer = GreedyWriter(
        model,
        cast(Any, Letters()),
        window=64,
        batch_size=2,
        search=search if retrieval else None,
    )
    prompts = [tokens(length, seed=length).tolist() for length in (3, 8, 9)]
    written = writer.write(prompts, max_tokens=10, until=[])
    wrapped = RetroForCausalLM.of(model)
    if retrieval:
        wrapped.retriever = lambda ids: torch.stack([found(row) for row in ids])
    for prompt, text in zip(prompts, written, strict=True):
        expected = wrapped.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=10)
        assert text == Letters().decode(expected[0, len(prompt) :].tolist())
