"""Contract of `generate memory=`: every token is drawn from the mixture with the memory, a batch is
written as each prompt alone, and `show=memory` names the documents that the text leans on.
"""

from __future__ import annotations

import numpy as np
import orjson
import pytest
import torch
from golden import PLANTED, Golden

from retro_lab.commands.generate import main
from retro_lab.config.schema import MemoryConfig
from retro_lab.memory.evidence import Text
from retro_lab.memory.memory import next_token
from retro_lab.nn import Retro
from retro_lab.run.attached_memory import AttachedMemory
from retro_lab.run.directory import RunDirectory
from retro_lab.run.writer import Request, Writer


@pytest.fixture(scope="module")
def run(golden: Golden, finished: RunDirectory) -> RunDirectory:
    """The golden run's baseline."""
    return golden.baseline()


def request(run: RunDirectory, *prompts: str) -> Request:
    return Request(run=run.path, prompts=prompts, tokens=12, temperature=0, memory="suffix_topic")


def opening(golden: Golden, document: str) -> str:
    """The first words of a document of the corpus."""
    records = [orjson.loads(line) for line in (golden.corpus / "corpus.jsonl").open("rb")]
    [text] = [record["text"] for record in records if record["id"] == document]
    return " ".join(text.split()[:12])


def test_each_token_is_drawn_from_the_mixture(run: RunDirectory, golden: Golden) -> None:
    prompt = opening(golden, PLANTED[0])
    writer = Writer.load(request(run, prompt))
    assert isinstance(writer.model, Retro)
    written = "".join(piece for _, piece in writer.write([prompt], request(run, prompt)))
    attached = AttachedMemory(run.path, MemoryConfig.of("suffix", "topic"))
    ids = writer.encode(prompt)
    for _ in range(12):
        with torch.inference_mode():
            logits = writer.model(torch.tensor([ids]))[0, -1]
        text = Text(np.array(ids, np.int32))
        mixture = next_token(attached.memory, attached.gate, text, logits)
        assert mixture.sum() == pytest.approx(1, abs=1e-5)
        mixture[writer.model.config.pad_id] = 0
        ids.append(int(mixture.argmax()))
    assert written == writer.tokenizer.decode(ids[len(writer.encode(prompt)) :])
    assert len(writer.leaned[0]) == 12
    assert max(source.match for source in writer.leaned[0]) >= 8  # what was copied is recalled


def test_a_batch_is_written_as_each_prompt_alone(run: RunDirectory, golden: Golden) -> None:
    prompts = [opening(golden, "train-01"), opening(golden, PLANTED[1])[:20]]

    def written(*given: str) -> list[str]:
        parts = [""] * len(given)
        asked = request(run, *given)
        for row, piece in Writer.load(asked).write(given, asked):
            parts[row] += piece
        return parts

    assert written(*prompts) == [written(prompt)[0] for prompt in prompts]


def test_what_it_leans_on_is_shown(
    run: RunDirectory, golden: Golden, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [f"run={run.path}", f"prompt={opening(golden, 'train-01')}", "tokens=8"]
    assert main([*arguments, "temperature=0", "memory=suffix", "show=memory"]) == 0
    shown = capsys.readouterr().out
    assert "% of the probability of 8 tokens]" in shown
    assert "train-01" in shown
    assert main([*arguments, "show=memory"]) == 2
    assert "memory=suffix_topic" in capsys.readouterr().err
