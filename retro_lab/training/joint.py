"""The joint phase: the last steps of a training, with the nats of a mixture as the loss.

The mixture is the model's with a memory. A gate is fitted for the weights at the first of these
steps and stays fixed; the model then learns what the memory does not already know. Evidence comes
from the training split, without the document itself, as the gate's own; evaluation fits a gate anew
for the final weights.

Shapes: B batch, N tokens of a window, T scored tokens of a batch, E experts, V vocabulary, M chunk
size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from retro_lab.evaluation.measure.memory_scoring import DocumentTexts
from retro_lab.evaluation.measure.scoring import UNSCORED
from retro_lab.memory.evidence import Evidence
from retro_lab.memory.gate import Gate, differentiable_nats, finite_logs
from retro_lab.memory.memory import FittedGate, Memory
from retro_lab.memory.readings import gate_inputs, view_of
from retro_lab.nn.scored import Readable, logits_of
from retro_lab.text.chunks import ChunkStore


@dataclass(frozen=True)
class TrainedMemory:
    """What a joint phase reads.

    Attributes:
        memory: read at every token; needs no states of the model.
        texts: the documents of the training split and of validation.
        store: of their chunks.
        fit: fits a gate over all experts for the model's present weights.
    """

    memory: Memory
    texts: DocumentTexts
    store: ChunkStore
    fit: Callable[[], FittedGate]


class JointLoss(nn.Module):
    """Nats of targets under the mixture of a model with a memory.

    Args:
        reads: the memory, and the text that it is read about.
        start: first optimiser step of the phase, counted from 0.
    """

    fitted: Tensor

    def __init__(self, reads: TrainedMemory, start: int) -> None:
        super().__init__()
        self.reads, self.start = reads, start
        self.gate = Gate(len(reads.memory.inputs), len(reads.memory.experts)).requires_grad_(False)
        self.register_buffer("fitted", torch.tensor(False))

    @property
    def begun(self) -> bool:
        """Whether the gate is fitted, so that the loss is the mixture's."""
        return bool(self.fitted)

    def begin_at(self, step: int) -> None:
        """Fits the gate, if this optimiser step is the first of the phase.

        A checkpoint holds the fitted gate, so that a resumed run has the same one.
        """
        if step < self.start or self.begun:
            return
        self.gate.load_state_dict(self.reads.fit().gate.state_dict())
        self.fitted.fill_(True)

    def forward(
        self, model: nn.Module, batch: Mapping[str, Tensor], *, retrieval: bool = True
    ) -> Tensor:
        """[B, N], -log p of the targets under the mixture; 0 at unscored positions.

        Args:
            model: a `Readable`.
            batch: collated windows of `retro_lab.data`.
            retrieval: whether the model reads the neighbours of the batch.
        """
        at = batch["target_chunks"] != UNSCORED  # [B, N]
        evidence, places = self._evidence(batch)
        wanted = batch["targets"][at][:, None]
        theirs = torch.from_numpy(evidence.favourite).to(wanted)  # [T, E]
        neighbours = batch.get("neighbour_ids") if retrieval else None
        hidden, copy = cast(Readable, model).hidden(
            batch["input_ids"], neighbours, batch["document_ids"]
        )

        def view(row: int, hidden: Tensor) -> tuple[Tensor, ...]:
            """The fields of a `ModelView` for the scored positions of a row."""
            here = torch.zeros_like(at)
            here[row] = at[row]
            part = slice(int(at[:row].sum()), int(at[: row + 1].sum()))
            logits = logits_of(cast(Readable, model), here, hidden, copy)
            return view_of(logits, wanted[part], theirs[part].clamp_min(0))

        # Logits [N, V] of one row at a time, and once more for its gradients.
        rows = [
            checkpoint(view, row, hidden, use_reentrant=False)
            for row in range(len(at))
            if at[row].any()
        ]
        found = [torch.cat(each) for each in zip(*cast(list, rows), strict=True)]
        nats = torch.zeros(at.shape, device=at.device)
        return nats.masked_scatter(at, self._mixed(found, evidence, places)) if found else nats

    def _mixed(self, view: list[Tensor], evidence: Evidence, places: NDArray[np.int64]) -> Tensor:
        """[T], nats under the mixture, from the fields of a `ModelView` and the evidence."""
        nats = view[0]
        present, probability = (
            torch.from_numpy(each).to(nats.device)
            for each in (evidence.present, evidence.probability)
        )
        log_shares = self.gate(gate_inputs(view, evidence, places), present)
        return differentiable_nats(log_shares, finite_logs(nats, probability))

    def _evidence(self, batch: Mapping[str, Tensor]) -> tuple[Evidence, NDArray[np.int64]]:
        """The memory's evidence about the scored tokens of a batch, and their places [T]."""
        memory, texts, store = self.reads.memory, self.reads.texts, self.reads.store
        chunk = batch["target_chunks"].cpu().numpy()  # [B, N]
        at = chunk != UNSCORED
        row, position = np.nonzero(at)
        document = np.asarray(store.document)[chunk[at]]
        size = store.chunk_size
        places = np.asarray(store.index)[chunk[at]].astype(np.int64) * size + (position + 1) % size
        parts = [
            memory.read(texts.of(int(document[part.start])), *_ends(places[part]))
            for part in _runs(row, document)
        ]
        return Evidence.stacked(parts), places


def _runs(row: NDArray[np.intp], document: NDArray[np.integer]) -> Iterator[slice]:
    """Slices of scored tokens that follow each other: of one row and one document."""
    ends = np.flatnonzero((np.diff(row) != 0) | (np.diff(document) != 0)) + 1
    bounds = [0, *ends.tolist(), len(row)]
    for start, stop in pairwise(bounds):
        if stop > start:
            yield slice(start, stop)


def _ends(places: NDArray[np.int64]) -> tuple[int, int]:
    return int(places[0]), int(places[-1]) + 1
