"""Contract: in `generate` of transformers each row is written from the mixture of model and memory,
whatever the strategy, the batch and the padding; and each written token says where it comes from.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from experts_world import World
from numpy.typing import NDArray
from small_database import BOUNDARY, LETTERS
from torch import Tensor

from retro_lab.memory.evidence import Text
from retro_lab.memory.gate import Gate
from retro_lab.memory.logits_processor import MemoryLogitsProcessor
from retro_lab.memory.memory import FittedGate, Memory, addends, next_token
from retro_lab.memory.occurrences import occurrences

WIDTH = LETTERS + 1  # of the logits: letters and boundary, while the database also knows padding


class Attached:
    """A tiny random model, and a memory with a gate whose shares differ from token to token."""

    def __init__(self, world: World) -> None:
        from transformers import AutoConfig, AutoModelForCausalLM

        sizes = {"hidden_size": 16, "num_hidden_layers": 1, "intermediate_size": 24}
        heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
        ids = {"vocab_size": WIDTH, "bos_token_id": None, "eos_token_id": None}
        torch.manual_seed(1)
        config = AutoConfig.for_model("llama", **sizes, **heads, **ids)
        self.model: Any = AutoModelForCausalLM.from_config(config).eval()
        self.memory = Memory([world.experts(True)])
        gate = Gate(len(self.memory.inputs), len(self.memory.experts))
        with torch.no_grad():
            for weight in gate.parameters():
                weight.normal_()
        self.gate = FittedGate(gate.eval(), self.memory.experts, self.memory.inputs)

    def processor(self, **settings: Any) -> MemoryLogitsProcessor:
        return MemoryLogitsProcessor(self.memory, self.gate, BOUNDARY, **settings)

    def mixture(self, ids: list[int]) -> NDArray[np.float64]:
        """[V], of what follows a prompt without a boundary token."""
        with torch.inference_mode():
            logits = self.model(torch.tensor([ids])).logits[0, -1]
        return next_token(
            self.memory, self.gate, Text(np.array([BOUNDARY, *ids], np.int32)), logits
        )

    def greedy(self, ids: list[int], count: int) -> list[int]:
        for _ in range(count):
            ids = [*ids, int(self.mixture(ids).argmax())]
        return ids


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("topics"))


@pytest.fixture(scope="module")
def attached(world: World) -> Attached:
    return Attached(world)


def prompts(world: World) -> tuple[list[int], list[int]]:
    """Two texts like the database's, the second one of another length."""
    return world.chunks.full_texts[5][3:15], world.chunks.full_texts[1][2:9]


def padded(rows: tuple[list[int], ...], pad: int) -> tuple[Tensor, Tensor]:
    """ids and attention mask, padded on the left."""
    length = max(map(len, rows))
    ids = torch.tensor([[pad] * (length - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in rows])
    return ids, mask


def test_greedy_writing_takes_the_likeliest_of_the_mixture(
    world: World, attached: Attached
) -> None:
    for prompt in prompts(world):
        ids = torch.tensor([prompt])
        found = attached.model.generate(
            ids, do_sample=False, max_new_tokens=12, logits_processor=[attached.processor()]
        )
        assert found[0].tolist() == attached.greedy(prompt, 12)
        alone = attached.model.generate(ids, do_sample=False, max_new_tokens=12)
        assert not torch.equal(found, alone)


def test_padding_on_the_left_changes_nothing(world: World, attached: Attached) -> None:
    ids, mask = padded(prompts(world), pad=BOUNDARY)
    found = attached.model.generate(
        ids,
        attention_mask=mask,
        pad_token_id=BOUNDARY,
        do_sample=False,
        max_new_tokens=8,
        logits_processor=[attached.processor(pad_id=BOUNDARY)],
    )
    for row, prompt in zip(found.tolist(), prompts(world), strict=True):
        assert row[-8:] == attached.greedy(prompt, 8)[-8:]


def test_beams_are_scored_by_the_mixture(world: World, attached: Attached) -> None:
    prompt = prompts(world)[0]
    found = attached.model.generate(
        torch.tensor([prompt]),
        num_beams=3,
        do_sample=False,
        max_new_tokens=6,
        return_dict_in_generate=True,
        output_scores=True,
        logits_processor=[attached.processor()],
    )
    written, expected = found.sequences[0].tolist(), 0.0
    for at in range(len(prompt), len(written)):
        expected += np.log(attached.mixture(written[:at])[written[at]])
    assert float(found.sequences_scores[0]) * 6 == pytest.approx(expected, rel=1e-4)


def test_rows_are_distributions(world: World, attached: Attached) -> None:
    ids, _ = padded(prompts(world), pad=BOUNDARY)
    scores = torch.randn(2, WIDTH)
    found = attached.processor(pad_id=BOUNDARY)(ids, scores)
    assert found.dtype == scores.dtype
    assert found.exp().sum(1).tolist() == pytest.approx([1, 1], abs=1e-5)
    likelier = attached.processor(pad_id=BOUNDARY)(ids, scores.log_softmax(1))
    assert torch.allclose(found, likelier, atol=1e-5)


def test_a_prompt_may_begin_with_the_boundary_token(world: World, attached: Attached) -> None:
    prompt, scores = prompts(world)[0], torch.randn(1, WIDTH)
    without = attached.processor()(torch.tensor([prompt]), scores)
    assert torch.equal(without, attached.processor()(torch.tensor([[BOUNDARY, *prompt]]), scores))
    nothing = torch.empty(1, 0, dtype=torch.int64)
    assert attached.processor()(nothing, scores).exp().sum() == pytest.approx(1, abs=1e-5)


def test_what_was_forbidden_stays_so(world: World, attached: Attached) -> None:
    ids, scores = torch.tensor([prompts(world)[0]]), torch.randn(1, WIDTH)
    likeliest = int(attached.processor()(ids, scores).argmax())
    scores[0, likeliest] = float("-inf")
    found = attached.processor()(ids, scores)
    assert found[0, likeliest] == float("-inf")
    assert found.isfinite().sum() == WIDTH - 1


def test_sources_of_what_was_written(world: World, attached: Attached) -> None:
    prompt, processor = prompts(world)[0], attached.processor()
    ids = torch.tensor([prompt])
    [written] = attached.model.generate(
        ids, do_sample=False, max_new_tokens=6, logits_processor=[processor]
    )
    found = processor.sources(written, last=8)
    assert [each.token for each in found] == written[-8:].tolist()
    assert [each.share for each in found[:2]] == [None, None]
    tokens, reader = np.array([BOUNDARY, *written.tolist()], np.int32), world.experts(True).reader
    for number, each in enumerate(found[2:]):
        at = len(tokens) - 6 + number
        with torch.inference_mode():
            logits = attached.model(written[None, : at - 1]).logits[0, -1]
        model, remembered = addends(attached.memory, attached.gate, Text(tokens[:at]), logits)
        part = remembered[tokens[at]]
        assert each.share == pytest.approx(part / (part + model[tokens[at]]), abs=1e-5)
        expected = occurrences(reader, Text(tokens), at)
        assert each.occurrences.match == expected.match
        assert each.occurrences.places.tolist() == expected.places.tolist()
    assert len({round(each.share or 0, 3) for each in found[2:]}) > 1


def test_excluded_documents_are_no_sources(world: World, attached: Attached) -> None:
    prompt, scores = prompts(world)[0], torch.zeros(1, WIDTH)
    everything = np.arange(world.chunks.num_documents)
    nothing = attached.processor(excluded=everything)
    assert nothing(torch.tensor([prompt]), scores).exp().tolist() == [
        pytest.approx([1 / WIDTH] * WIDTH)
    ]
    [leaning] = nothing.sources(torch.tensor(prompt), last=1)
    assert leaning.occurrences.match == 0
    assert 5 in documents_of(world, attached.processor(), prompt)
    without = attached.processor(excluded=np.array([5]))
    assert 5 not in documents_of(world, without, prompt)


def documents_of(world: World, processor: MemoryLogitsProcessor, prompt: list[int]) -> list[int]:
    """The documents that the last token of a prompt leans on."""
    [leaning] = processor.sources(torch.tensor(prompt), last=1)
    return world.chunks.document[leaning.occurrences.places // world.chunks.chunk_size].tolist()


def test_a_memory_of_states_is_refused(attached: Attached, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attached.memory.kinds[0], "needs_states", True)
    with pytest.raises(ValueError, match="states of the model"):
        attached.processor()
