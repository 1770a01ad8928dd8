"""Foretells a training before it starts: tokens, memory and time, and what is hopeless about them.

The figures are orders of magnitude: memory and time follow from the model's sizes and from how fast
this machine multiplies matrices.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from retro_lab.config.fingerprints import steps_of
from retro_lab.config.schema import (
    Config,
    FileCorpusConfig,
    Freeze,
    NorlundCorpusConfig,
    ParquetCorpusConfig,
    TrainerConfig,
)
from retro_lab.nn.config import RetroConfig
from retro_lab.run.backbone import with_backbone
from retro_lab.run.compared import compared_configs
from retro_lab.run.cost import training_flops
from retro_lab.run.model import build_model, nominal_vocab_size, parameter_counts, retro_config
from retro_lab.text.readers import build_reader
from retro_lab.text.readers.left_out import COMPRESSED

USUAL = 20
"""Training tokens a parameter of a language model trained on its compute's worth of text.

Source: Hoffmann et al. 2022, arXiv:2203.15556.
"""

_HOPELESS = USUAL / 100
_TOO_OFTEN = 40  # times that the training text is read
_BYTES_PER_TOKEN = 4.0  # of English text in subwords
_STATE_BYTES = 16  # a trained parameter: weight, gradient and two moments, in float32
_FROZEN_BYTES = 4
_NUMBERS_PER_LAYER = 24  # activations kept, in widths a token; measured with models tiny and small
_LOGITS = 3  # logits, their softmax and its gradient
_FASTEST, _SLOWEST = 0.9, 0.2  # share of a matrix product's rate that training reaches
_MATRIX = {"cpu": 512, "cuda": 8192}  # width of the product that is timed
_REPEATS = 30


@dataclass(frozen=True)
class Machine:
    """What a training can use here.

    Attributes:
        memory: bytes of the machine, or of its GPU; None if unknown.
        rate: floating-point operations a second of a large matrix product; None if unknown.
    """

    memory: int | None
    rate: float | None

    @classmethod
    def here(cls, trainer: TrainerConfig) -> Machine:
        """This machine, measured within a second; unknown if `trainer` asks for an absent GPU."""
        import torch

        gpu = trainer.accelerator != "cpu" and torch.cuda.is_available()
        if trainer.accelerator == "gpu" and not gpu:
            return cls(None, None)
        memory = torch.cuda.mem_get_info()[1] if gpu else main_memory()
        kind = torch.bfloat16 if trainer.precision.startswith("bf16") else torch.float32
        workers = trainer.devices * trainer.num_nodes if gpu else 1  # processes share the cores
        return cls(memory, workers * _rate("cuda" if gpu else "cpu", kind))


def _rate(device: str, kind: Any) -> float:
    """Operations a second of a large matrix product; the fastest of several, as least disturbed."""
    import torch

    width, threads = _MATRIX[device], torch.get_num_threads()
    factor, seconds = torch.ones(width, width, dtype=kind, device=device), []
    torch.set_num_threads(1)  # one thread alone is timed well beside other processes too
    for _ in range(_REPEATS):
        begun = time.perf_counter()
        float((factor @ factor)[0, 0])  # waits for the GPU
        seconds.append(time.perf_counter() - begun)
    torch.set_num_threads(threads)
    return 2 * width**3 / min(seconds) * (threads if device == "cpu" else 1)


def main_memory() -> int:
    """Bytes of main memory that this process may use, a container's limit included."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            limits.append(int((Path("/sys/fs/cgroup") / name).read_text()))
        except (OSError, ValueError):  # another system, or no limit
            continue
    return min(limits)


@dataclass(frozen=True)
class Training:
    """A training, foretold.

    Attributes:
        parameters: of the model.
        trained: those that training changes.
        tokens: read in all optimiser steps, a retrofit's first phase included; 0 if nothing is
            trained.
        epochs: times that the training text is read; None if its size is unknown.
        text_bytes: of the corpus; None if unknown.
        memory: bytes while training.
        flops: of all models that this command trains.
    """

    parameters: int
    trained: int
    tokens: int
    epochs: float | None
    text_bytes: int | None
    memory: int
    flops: float

    @classmethod
    def of(cls, config: Config) -> Training:
        """The training of a checked and canonical configuration.

        Raises:
            UserError: the corpus's files are missing, or the backbone can't be read.
        """
        import torch

        text = text_bytes(config)
        config = with_backbone(config)
        with torch.device("meta"):
            model = build_model(config)
        counts = parameter_counts(model)
        frozen = config.recipe.backbone is not None and config.recipe.freeze is Freeze.backbone
        trained = counts["retrieval"] if frozen else counts["total"]
        size = nominal_vocab_size(config.tokenizer)
        tokens = steps_of(config) * config.schedule.batch_size * config.chunking.sequence_length
        states = _STATE_BYTES * trained + _FROZEN_BYTES * (counts["total"] - trained)
        return cls(
            parameters=counts["total"],
            trained=trained,
            tokens=tokens,
            epochs=None if text is None else tokens / _training_tokens(config, text),
            text_bytes=text,
            memory=states + activation_bytes(config, retro_config(config, size, size - 1)),
            flops=_all_flops(config),
        )

    def seconds(self, machine: Machine) -> tuple[float, float] | None:
        """The least and the most time that it should take; None if unknown."""
        if machine.rate is None:
            return None
        least = self.flops / machine.rate
        return least / _FASTEST, least / _SLOWEST

    def warnings(self, machine: Machine) -> Iterator[str]:
        """What is hopeless about it, each with what to change."""
        if not self.tokens:
            return
        share = self.tokens / self.trained
        if share < _HOPELESS:
            yield (
                f"{share:.2g} training tokens a parameter, where about {USUAL} are usual: such a "
                "model learns next to nothing; raise schedule.steps (and recipe.steps) or choose a "
                "smaller model"
            )
        if self.epochs is not None and self.epochs > _TOO_OFTEN:
            yield (
                f"the training text is read about {self.epochs:,.0f} times, which is learning by "
                "heart; lower schedule.steps, or take more text"
            )
        if machine.memory is not None and self.memory > machine.memory:
            yield (
                f"training needs about {self.memory / 1e9:,.1f} GB of memory and there are "
                f"{machine.memory / 1e9:,.1f} GB; choose a smaller model, or raise "
                "trainer.accumulate, which divides a batch"
            )


def text_bytes(config: Config) -> int | None:
    """Bytes of the corpus's text, at most `corpus.max_bytes`; None if compressed or elsewhere.

    Raises:
        UserError: the corpus's files are missing.
    """
    corpus, limit = config.corpus, config.corpus.max_bytes
    if not isinstance(corpus, FileCorpusConfig):
        return limit
    files = build_reader(corpus).files.read
    sized = not isinstance(corpus, (NorlundCorpusConfig, ParquetCorpusConfig))
    if not sized or any(PurePath(file.name).suffix in COMPRESSED for file in files):
        return None
    total = sum(file.path.stat().st_size for file in files)
    return total if limit is None else min(total, limit)


def activation_bytes(config: Config, model: RetroConfig) -> int:
    """Bytes of activations and logits of the micro-batch that one device holds.

    Attention weights are not counted: they are computed in blocks.
    """
    trainer, chunking = config.trainer, config.chunking
    shares = trainer.devices * trainer.num_nodes * trainer.accumulate
    windows = max(1, config.schedule.batch_size // shares)
    tokens = windows * chunking.sequence_length
    numbers = (
        _NUMBERS_PER_LAYER * tokens * model.d_model * (model.num_layers + len(model.cca_layers))
    )
    if model.cca_layers:
        length = chunking.chunk_size * (1 + chunking.continuation_chunks)
        read = tokens // chunking.chunk_size * config.neighbours.k * length
        numbers += _NUMBERS_PER_LAYER * read * model.encoder_d_model * model.encoder_num_layers
    if trainer.checkpointing:
        numbers //= _NUMBERS_PER_LAYER
    wide = 2 if trainer.precision.startswith("bf16") else 4
    return wide * numbers + 4 * _LOGITS * tokens * model.vocab_size


def _training_tokens(config: Config, text: int) -> float:
    split = config.corpus.split
    share = 1 - split.validation - split.test
    each = 1.0 if config.tokenizer.name == "byte" else _BYTES_PER_TOKEN
    return max(1.0, share * text / each)


def _all_flops(config: Config) -> float:
    """Operations of the run's own steps and of those of the models it is compared with."""
    return sum(map(training_flops, [config, *compared_configs(config).values()]))
