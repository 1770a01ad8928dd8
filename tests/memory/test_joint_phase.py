"""Contract of the joint phase: its loss is that of the mixture that an evaluation scores, a causal
distribution that never reads the document itself; the model is trained through it from the phase's
first step on; and an interrupted training goes on to the same weights, to the bit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from experts_world import World
from small_database import PAD, VOCABULARY, SmallDatabase

from retro_lab.config.schema import (
    AdamWConfig,
    ChunkingConfig,
    Config,
    EvalConfig,
    ScheduleConfig,
    TrainerConfig,
)
from retro_lab.data.datamodule import RetroDataModule
from retro_lab.data.dataset import EvaluationData, TrainingData
from retro_lab.evaluation.measure.memory_scoring import DocumentTexts, token_readings
from retro_lab.memory.evidence import Evidence, Text
from retro_lab.memory.gate_stage import fit_gate
from retro_lab.memory.memory import FittedGate, Memory
from retro_lab.memory.readings import Readings
from retro_lab.nn import Retro, RetroConfig
from retro_lab.training.checkpoint import checkpoint_folder, model_weights, resumable_step
from retro_lab.training.fit import fit
from retro_lab.training.joint import JointLoss, TrainedMemory
from retro_lab.training.phase import Phase

CHUNKING = ChunkingConfig(chunk_size=8, continuation_chunks=1, sequence_length=32)
STEPS, START = 8, 5


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("topics"))


class Small(Retro):
    """A model without retrieval, that may be interrupted before one of its training passes."""

    left = -1

    def hidden(self, *given):
        if self.training:
            self.left -= 1
            if self.left == 0:
                raise RuntimeError("crash")
        return super().hidden(*given)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Padding is never predicted."""
        return super().logits(hidden).index_fill(-1, torch.tensor(PAD), -1e3)


def small_model(dropout: float = 0.0) -> Small:
    torch.manual_seed(0)
    sizes = {"d_model": 16, "num_layers": 2, "num_heads": 2, "head_dim": 8, "d_ff": 32}
    encoder = {f"encoder_{k}": v for k, v in sizes.items() if k in ("d_model", "num_layers")}
    config = RetroConfig(
        vocab_size=VOCABULARY,
        **sizes,
        **encoder,
        cca_layers=(),
        encoder_cca_layers=(),
        chunk_size=CHUNKING.chunk_size,
        neighbour_length=16,
        pad_id=PAD,
        dropout=dropout,
    )
    model = Small(config)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) / 8)
    return model


def random_gate(memory: Memory) -> FittedGate:
    """A gate whose shares depend on the features."""
    fitted = FittedGate(JointLoss(Mock(memory=memory), 0).gate, memory.experts, memory.inputs)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in fitted.gate.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) / 4)
    return fitted


def begun(world: World, store=None, fit_: Callable[[], FittedGate] | None = None) -> JointLoss:
    """The loss over the world's memory, about the text of a store; its own by default."""
    memory, store = Memory([world.experts(True)]), world.chunks if store is None else store
    texts = DocumentTexts(store, world.chunks)
    reads = TrainedMemory(memory, texts, store, fit_ or (lambda: random_gate(memory)))
    loss = JointLoss(reads, 0)
    loss.begin_at(0)
    return loss


def packed(store) -> dict[str, torch.Tensor]:
    """All training windows; several documents share most of them."""
    data = TrainingData(store, CHUNKING, None, 0)
    return data.__getitems__(range(len(data)))


def test_the_loss_is_that_of_an_evaluation(world: World) -> None:
    model, memory = small_model().eval(), Memory([world.experts(True)])
    data = EvaluationData(world.chunks, "train", CHUNKING, None, 0, 16)
    batch = data.__getitems__(range(len(data)))
    texts = {False: DocumentTexts(world.chunks, world.chunks)}
    read = list(token_readings(model, [batch], memory, texts, world.chunks, retrieval=False))
    readings = Readings.stacked([each.readings[False] for each in read])
    gate = random_gate(memory)
    expected = gate.nats(readings, memory)
    assert np.abs(expected - readings.nats).mean() > 0.1
    nats = begun(world)(model, batch)
    at = batch["target_chunks"] >= 0
    assert nats[at].detach().numpy() == pytest.approx(expected, abs=1e-4)
    assert not nats[~at].any()


def test_it_begins_at_its_first_step(world: World) -> None:
    fitted = Mock(side_effect=begun(world).reads.fit)
    loss = JointLoss(replace(begun(world).reads, fit=fitted), 5)
    for step, count in ((0, 0), (4, 0), (5, 1), (6, 1)):
        loss.begin_at(step)
        assert (loss.begun, fitted.call_count) == (count > 0, count)


def with_token(store: SmallDatabase, place: int, token: int) -> SmallDatabase:
    """The store with another token at a flat place."""
    other = SmallDatabase([[0]])
    other.__dict__ |= store.__dict__ | {"tokens": store.tokens.copy()}
    other.tokens.reshape(-1)[place] = token
    return other


def test_it_is_a_causal_distribution(world: World) -> None:
    """Of every token that could stand at a place of a window with several documents."""
    model, (row, column) = small_model().eval(), (4, 10)
    place = row * CHUNKING.sequence_length + column + 1
    assert packed(world.chunks)["document_ids"][row].unique().numel() > 1
    found = []
    for token in range(PAD):
        store = with_token(world.chunks, place, token)
        batch = packed(store)
        assert batch["targets"][row, column] == token
        found.append(begun(world, store)(model, batch)[row].detach().numpy())
    nats = np.stack(found)  # [V - 1, N]; padding is never predicted
    assert np.exp(-nats[:, column]).sum() == pytest.approx(1, abs=1e-4)
    assert np.ptp(nats[:, column]) > 0.1
    assert np.ptp(nats[:, :column], axis=0).max() < 1e-5
    assert np.ptp(nats[:, column + 1], axis=0) > 1e-3


class Watched(Memory):
    """A memory that keeps the texts it is asked about."""

    def __init__(self, world: World) -> None:
        super().__init__([world.experts(True)])
        self.texts: list[Text] = []

    def read(self, text: Text, *given) -> Evidence:
        self.texts.append(text)
        return super().read(text, *given)


def test_no_document_reads_itself(world: World) -> None:
    memory, full = Watched(world), world.chunks.full_texts
    texts = DocumentTexts(world.chunks, world.chunks)
    reads = TrainedMemory(memory, texts, world.chunks, lambda: random_gate(memory))
    JointLoss(reads, 0)(small_model(), packed(world.chunks))
    read = [text.tokens.tolist() for text in memory.texts]
    assert all(text in read for text in full if len(text) > 2)
    for text, tokens in zip(memory.texts, read, strict=True):
        assert text.excluded.tolist() == [full.index(tokens)]


def config() -> Config:
    trainer = TrainerConfig(val_every=100, log_every=3, checkpoint_every=3, threads=1)
    return Config(
        chunking=CHUNKING,
        optim=AdamWConfig(lr=1e-2),
        schedule=ScheduleConfig(steps=STEPS, batch_size=2, warmup_steps=1),
        trainer=trainer,
        eval=EvalConfig(batch_size=4),
    )


def trained(folder: Path, world: World, left: int = -1, start: int = START) -> Small:
    """A model after a training with a joint phase.

    Args:
        left: training passes of the model until it is interrupted; it is not if negative.
    """
    asked, model, memory = config(), small_model(dropout=0.2), Memory([world.experts(True)])
    data = RetroDataModule(
        world.chunks,
        None,
        chunking=asked.chunking,
        neighbours=asked.neighbours,
        schedule=asked.schedule,
        trainer=asked.trainer,
        eval=asked.eval,
        seed=asked.seed,
    )
    windows = EvaluationData(world.chunks, "train", CHUNKING, None, 0, 16)
    texts = DocumentTexts(world.chunks, world.chunks)

    def present_gate() -> FittedGate:
        batch = windows.__getitems__(range(len(windows)))
        given = model, [batch], memory, {False: texts}, world.chunks
        read = [each.readings[False] for each in token_readings(*given, retrieval=False)]
        readings = Readings.stacked(read)
        return fit_gate(memory.families, memory, readings, readings, asked.seed)[0]

    joint = JointLoss(TrainedMemory(memory, texts, world.chunks, present_gate), start)
    phase = replace(Phase.first(asked, "training", PAD), joint=joint)
    model.left = left
    fit(model, data, phase, asked, folder)
    return model


@pytest.fixture(scope="module")
def whole(world: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    folder = tmp_path_factory.mktemp("whole")
    weights = trained(folder, world).state_dict()
    stored = model_weights(checkpoint_folder(folder) / "last.ckpt")
    assert stored.keys() == weights.keys()  # a run's weights are the model's alone
    return weights


# Checkpoints follow steps 3 and 6, on either side of the phase's start.
@pytest.mark.parametrize("left", [START, START + 2, STEPS])
def test_an_interrupted_training_goes_on_to_the_same_weights(
    left: int, world: World, whole: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    with pytest.raises(RuntimeError, match="crash"):
        trained(tmp_path, world, left)
    assert 0 < resumable_step(tmp_path) < STEPS
    again = trained(tmp_path, world).state_dict()
    for name, value in whole.items():
        assert torch.equal(again[name], value), name


def test_only_the_last_steps_are_trained_through_it(
    world: World, whole: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    never = trained(tmp_path / "never", world, start=STEPS).state_dict()
    later = trained(tmp_path / "later", world, start=STEPS - 1).state_dict()
    for other in (never, later):
        assert any(not torch.equal(other[name], value) for name, value in whole.items())
    # The checkpoint of step 3 lies before either phase.
    for name in ("a", "b"):
        with pytest.raises(RuntimeError, match="crash"):
            trained(tmp_path / name, world, START, start=START if name == "a" else STEPS)
    stored = [model_weights(checkpoint_folder(tmp_path / n) / "last.ckpt") for n in ("a", "b")]
    for name, value in stored[0].items():
        assert torch.equal(stored[1][name], value)
