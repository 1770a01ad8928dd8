"""Contract: over a Hugging Face model a memory trains nothing but its gate, or nothing at all; and
what an evaluation scores is what `generate` of transformers writes with the same memory.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden import Golden, results_of
from local_backbone import write_backbone

from retro_lab.commands.evaluate import evaluate
from retro_lab.config.errors import ConfigError, UserError
from retro_lab.config.schema import EvaluateConfig, MemoryConfig
from retro_lab.evaluation.records.chunk_table import ChunkTable
from retro_lab.evaluation.records.results import Results
from retro_lab.evaluation.records.token_table import TokenTable
from retro_lab.evaluation.report.memory_report import memory_verdict
from retro_lab.run.attached_memory import AttachedMemory
from retro_lab.run.directory import RunDirectory
from retro_lab.run.finished import FinishedRun

KNN = MemoryConfig(name="knn", experts=["knn"], gate_tokens=2_000)
MEMORY = MemoryConfig(name="suffix_topic", experts=["suffix", "topic"], gate_tokens=2_000)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_backbone(tmp_path_factory.mktemp("models") / "Memory-Llama")


@pytest.fixture(scope="module")
def run(golden: Golden, backbone: Path) -> RunDirectory:
    """`train.py recipe.backbone=FOLDER retriever=none memory=suffix_topic`."""
    given = ["tokenizer.vocab_size=4096", "eval.stride=256", "eval.bootstrap_samples=50"]
    return golden.run(
        f"recipe.backbone={backbone}",
        *("retriever=none", "memory=suffix_topic", "memory.gate_tokens=2000"),
        *(*given, "eval.random=true", "eval.tokens=true"),
    )


@pytest.fixture(scope="module")
def attached(run: RunDirectory) -> AttachedMemory:
    return AttachedMemory(run.path)


@pytest.fixture(scope="module")
def model(backbone: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(backbone).eval()


def scores(run: RunDirectory) -> dict[str, np.ndarray]:
    return ChunkTable.load(run.chunks_file).nats


def bits(run: RunDirectory) -> dict[str, float]:
    table = ChunkTable.load(run.chunks_file)
    return {name: nats.sum() / np.log(2) / table.bytes.sum() for name, nats in table.nats.items()}


def test_only_the_gate_is_trained(run: RunDirectory) -> None:
    assert not (run.path / "checkpoints").exists()
    found = bits(run)
    assert set(found) == {"baseline", "memory", "memory_random"}
    assert found["memory"] < 0.8 * found["baseline"]  # its weights are random


def test_a_run_without_a_memory_is_evaluated_with_one(run: RunDirectory) -> None:
    before = scores(run)
    asked = dataclasses.replace(run.config().eval, random=False)
    out = results_of(EvaluateConfig(run=str(run.path), eval=asked, memory=MemoryConfig()))
    assert set(scores(out)) == {"baseline"}
    run.forget_evaluation()
    evaluate(EvaluateConfig(run=str(run.path), eval=run.config().eval, memory=MEMORY))
    after = scores(run)
    assert all(np.array_equal(after[name], nats) for name, nats in before.items())


def test_its_last_hidden_states_are_searched(run: RunDirectory, model: Any) -> None:
    """Random weights still tell contexts apart."""
    asked = dataclasses.replace(run.config().eval, random=False, tokens=False)
    out = results_of(EvaluateConfig(run=str(run.path), eval=asked, memory=KNN))
    found = bits(out)
    assert found["memory"] < 0.9 * found["baseline"]
    chunks = FinishedRun.open(run).graph.chunks
    document = int(chunks.document[chunks.chunks_of("train")[0]])
    text = np.asarray(chunks.tokens)[chunks.document == document].reshape(-1)
    ids = torch.from_numpy(text[text != chunks.pad_id].astype(np.int64))[None, :64]
    with torch.inference_mode():
        expected = model(ids, output_hidden_states=True).hidden_states[-1][0]
    stored = (Path(run.config().store.dir) / "token_states").glob("*/keys.npy")
    keys = [np.load(path, mmap_mode="r")[: len(expected)] for path in stored]
    of_width = [each.astype(np.float32) for each in keys if each.shape == expected.shape]
    assert any(np.allclose(each, expected, atol=1e-2) for each in of_width)


def test_a_processor_gives_what_was_scored(
    run: RunDirectory, attached: AttachedMemory, model: Any
) -> None:
    finished = FinishedRun.open(run)
    chunks, table = finished.graph.chunks, ChunkTable.load(run.chunks_file)
    tokens, processor = TokenTable.load(run.tokens_file), attached.processor()
    document = table.document_id[0]
    number = finished.graph.corpus.ids.index(document)
    text = np.asarray(chunks.tokens)[chunks.document == number].reshape(-1).astype(np.int64)
    row = table.document_id[tokens.chunk_row] == document
    nats = tokens.nats["memory"][row]
    for at in (1, 2, 63, 64, 65, 130, 200):
        ids = torch.from_numpy(text[:at])[None]
        with torch.inference_mode():
            logits = model(ids).logits[:, -1]
        found = processor(ids, logits)
        assert found.exp().sum() == pytest.approx(1, abs=1e-5)
        assert -float(found[0, text[at]]) == pytest.approx(nats[at - 1], abs=1e-4)


def test_what_is_written_has_its_sources(
    run: RunDirectory, attached: AttachedMemory, model: Any
) -> None:
    finished = FinishedRun.open(run)
    corpus = finished.graph.corpus
    text = corpus.text(int(corpus.documents_of("train")[0]))[:40]
    [prompt] = finished.tokenizer.encode_batch([text])
    processor = attached.processor()
    ids = torch.from_numpy(prompt.ids.astype(np.int64))[None]
    [written] = model.generate(
        ids, do_sample=False, max_new_tokens=12, logits_processor=[processor]
    )
    found = attached.sources(processor, written, last=12)
    assert "".join(source.token for source in found) == finished.tokenizer.decode(
        written[-12:].tolist()
    )
    first = found[0]
    assert first.share is not None
    assert first.share > 0.5
    assert first.match > 8
    assert all(text[-8:] + first.token in snippet for snippet in first.snippets.values())
    assert set(first.snippets) <= set(corpus.ids)


def test_the_gate_of_the_package_needs_no_training(run: RunDirectory, model: Any) -> None:
    shipped, asked = dataclasses.replace(MEMORY, gate="shipped"), run.config().eval
    gates = set((Path(run.config().store.dir) / "memory_gate").iterdir())
    out = results_of(EvaluateConfig(run=str(run.path), eval=asked, memory=shipped))
    found = bits(out)
    assert found["memory"] < 0.9 * found["baseline"]
    for results, gate in ((run, "a gate fitted on"), (out, "the same gate over")):
        verdict = memory_verdict(Results.load(results.results_file))
        assert verdict is not None
        assert f"Control: {gate} the evidence of other" in verdict.controls[0]
    attached = AttachedMemory(run.path, shipped)
    ids = torch.tensor([[97, 98, 99]])
    with torch.inference_mode():
        mixed = attached.processor()(ids, model(ids).logits[:, -1])
    assert mixed.exp().sum() == pytest.approx(1, abs=1e-5)
    assert gates == set((Path(run.config().store.dir) / "memory_gate").iterdir())


@pytest.mark.parametrize("changes", [{"cache": True}, {"experts": ["suffix"]}, {"experts": []}])
def test_the_gate_of_the_package_is_of_suffix_and_topic(
    run: RunDirectory, changes: dict[str, Any]
) -> None:
    other = dataclasses.replace(MEMORY, gate="shipped", **changes)
    with pytest.raises(ConfigError, match="mixes suffix and topic"):
        evaluate(EvaluateConfig(run=str(run.path), memory=other))
    with pytest.raises(ConfigError, match="mixes suffix and topic"):
        AttachedMemory(run.path, other)


def test_without_a_memory_nothing_is_attached(run: RunDirectory) -> None:
    with pytest.raises(UserError, match="reads suffix and topic"):
        AttachedMemory(run.path, MemoryConfig())
