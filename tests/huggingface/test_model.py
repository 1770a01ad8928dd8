"""Contract: RETRO is a Hugging Face model like any other: it saves, loads, scores by their
conventions and generates by their strategies, with and without retrieval.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny import FAMILIES, PAD, VOCABULARY, K, M, R, grafted, neighbours, retro_config, tokens
from torch import Tensor
from transformers import AutoModelForCausalLM

from retro_lab.huggingface import RetroForCausalLM
from retro_lab.nn import Retro
from retro_lab.nn.cpu import accelerate

BOUNDARY = VOCABULARY - 1


def own(**changes: object) -> RetroForCausalLM:
    """A wrapped model of our own whose CCA writes something."""
    torch.manual_seed(1)
    model = accelerate(Retro(retro_config(smeared_keys=True, **changes))).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("cca.attention.out.weight"):
            torch.nn.init.normal_(parameter, std=0.3)
    return RetroForCausalLM.of(model, eos_token_id=BOUNDARY, pad_token_id=PAD).eval()


def plain() -> RetroForCausalLM:
    torch.manual_seed(1)
    return RetroForCausalLM.of(accelerate(Retro(retro_config().baseline))).eval()


def lookup(chunk: Tensor) -> Tensor:
    """A retriever that anybody can check: neighbours are made of the chunk itself."""
    repeated = chunk.repeat(1, R // M)
    return torch.stack([repeated.roll(k, dims=1) for k in range(K)], dim=1)


def found_for(ids: Tensor) -> Tensor | None:
    chunks = [lookup(ids[:, u * M : (u + 1) * M]) for u in range(ids.shape[1] // M)]
    return torch.stack(chunks, dim=1) if chunks else None


@pytest.mark.parametrize("kind", ["own", "plain", "gpt2", "gpt_neox", "qwen3"])
def test_what_is_saved_is_what_is_loaded(kind: str, tmp_path: Path) -> None:
    if kind in FAMILIES:
        model = RetroForCausalLM.of(grafted(kind))
    else:
        model = own() if kind == "own" else plain()
    model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").exists()
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert isinstance(loaded, RetroForCausalLM)
    ids, found = tokens(2, 14), None if kind == "plain" else neighbours(2, 3)
    assert torch.equal(loaded(ids, neighbour_ids=found).logits, model.model(ids, found))
    assert torch.equal(loaded(ids).logits, model(ids).logits)


def test_loss_is_the_shifted_mean() -> None:
    model, ids = own(), tokens(2, 14)
    labels = ids.clone()
    labels[0, :5] = -100
    found = neighbours(2, 3)
    output = model(ids, labels=labels, neighbour_ids=found)
    targets = torch.cat((labels[:, 1:], torch.full((2, 1), -100)), dim=1)
    nats = model.model.token_nats(ids, targets, found)
    torch.testing.assert_close(output.loss, nats.sum() / (targets != -100).sum())


@pytest.mark.parametrize("kind", ["own", "plain", "llama"])
def test_padding_on_the_right_changes_nothing_before_it(kind: str) -> None:
    model = {"own": own, "plain": plain}.get(kind, lambda: RetroForCausalLM.of(grafted("llama")))()
    ids = tokens(1, 10)
    padded = torch.cat((ids, torch.full((1, 4), PAD)), dim=1)
    mask = (padded != PAD).long()
    for given in (mask, None):
        torch.testing.assert_close(
            model(padded, attention_mask=given).logits[:, :10], model(ids).logits
        )


@pytest.mark.parametrize("kind", ["own", "llama", "gpt2"])
def test_padding_on_the_left_is_as_if_it_were_not_there(kind: str) -> None:
    model = own() if kind == "own" else RetroForCausalLM.of(grafted(kind)).eval()
    model.retriever = lookup
    ids = tokens(1, 10)
    padded = torch.cat((torch.full((1, M), PAD), ids), dim=1)
    logits = model(padded, attention_mask=(padded != PAD).long()).logits
    torch.testing.assert_close(logits[:, M:], model(ids).logits, atol=1e-5, rtol=1e-5)
    model.retriever = None
    padded = torch.cat((torch.full((1, 3), PAD), ids), dim=1)
    logits = model(padded, attention_mask=(padded != PAD).long()).logits
    torch.testing.assert_close(logits[:, 3:], model(ids).logits, atol=1e-5, rtol=1e-5)


def test_ragged_padding_on_the_left_is_refused_with_retrieval() -> None:
    model = own()
    model.retriever = lookup
    padded = torch.cat((torch.full((1, 3), PAD), tokens(1, 10)), dim=1)
    with pytest.raises(ValueError, match="whole chunks of 4"):
        model(padded, attention_mask=(padded != PAD).long())


@pytest.mark.parametrize("retrieval", [False, True])
@pytest.mark.parametrize("kind", ["own", "llama"])
def test_greedy_is_the_argmax_of_full_passes(kind: str, retrieval: bool) -> None:
    model = own() if kind == "own" else RetroForCausalLM.of(grafted("llama")).eval()
    model.retriever = lookup if retrieval else None
    prompt = tokens(2, 6)
    made = model.generate(prompt, max_new_tokens=9, do_sample=False, eos_token_id=None)
    ids = prompt
    for _ in range(9):
        logits = model.model(ids, found_for(ids) if retrieval else None)
        ids = torch.cat((ids, logits[:, -1].argmax(-1, keepdim=True)), dim=1)
    assert torch.equal(made, ids)


@pytest.mark.parametrize("strategy", ["beam", "sampling"])
def test_strategies_do_not_depend_on_the_cache(strategy: str) -> None:
    how = {
        "beam": {"num_beams": 3, "do_sample": False},
        "sampling": {"do_sample": True, "top_k": 5},
    }[strategy]
    model = own()
    model.retriever = lookup
    made = []
    for use_cache in (True, False):
        torch.manual_seed(4)
        made.append(model.generate(tokens(2, 6), max_new_tokens=9, use_cache=use_cache, **how))
    assert torch.equal(*made)


def test_no_n_gram_is_repeated() -> None:
    model = own()
    model.retriever = lookup
    made = model.generate(
        tokens(1, 6), max_new_tokens=20, do_sample=False, no_repeat_ngram_size=2, eos_token_id=None
    )
    pairs = list(zip(made[0].tolist(), made[0, 1:].tolist(), strict=False))
    assert len(pairs) == len(set(pairs)) == 25


def test_given_neighbours_are_read_for_the_first_chunks_only() -> None:
    model, prompt, given = own(), tokens(2, 6), neighbours(2, 1)
    made = model.generate(
        prompt, neighbour_ids=given, max_new_tokens=6, do_sample=False, eos_token_id=None
    )
    ids = prompt
    for _ in range(6):
        missing = torch.full((2, ids.shape[1] // M - 1, K, R), PAD)
        logits = model.model(ids, torch.cat((given, missing), dim=1))
        ids = torch.cat((ids, logits[:, -1].argmax(-1, keepdim=True)), dim=1)
    assert torch.equal(made, ids)


def test_each_chunk_is_searched_once() -> None:
    model, asked = own(), []
    model.retriever = lambda chunk: asked.append(chunk.shape) or lookup(chunk)
    model.generate(tokens(2, 6), max_new_tokens=11, do_sample=False, eos_token_id=None)
    assert asked == [(2, M)] * 4  # the last token made is not read
