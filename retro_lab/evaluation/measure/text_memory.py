"""Scores any text under the mixture of a model with a memory.

Shapes: B batch, N tokens of a window, T scored tokens of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from retro_lab.memory.evidence import Evidence, Text
from retro_lab.memory.memory import FittedGate, Memory, next_token
from retro_lab.memory.readings import ModelView, Readings
from retro_lab.nn.scored import Readable, logits_at

from .text_scoring import IGNORED, TextScorer, Windows


class MemoryTextScorer(TextScorer):
    """A `TextScorer` whose model has a memory. Nothing of the database is left out.

    Args:
        memory: needs no states of the model.
        gate: fitted for the model, or one that comes with the package.
        settings: as of `TextScorer`.
    """

    def __init__(self, memory: Memory, gate: FittedGate, *model: Any, **settings: Any) -> None:
        super().__init__(*model, **settings)
        self.memory, self.gate = memory, gate

    def token_nats(
        self, windows: Windows, read: Sequence[tuple[Sequence[int], int]], greedy: bool
    ) -> tuple[Tensor, NDArray[np.bool_]]:
        at = windows.targets != IGNORED  # [B, N]
        model = cast(Readable, self.model)
        logits = logits_at(model, at, windows.input_ids, windows.neighbours)  # [T, V]
        counts = at.sum(1).tolist()
        texts = [Text(np.asarray(tokens, np.int32)) for tokens, _ in read]
        places = [np.arange(first, first + n) for (_, first), n in zip(read, counts, strict=True)]
        evidence = Evidence.stacked(
            [
                self.memory.read(text, int(part[0]), int(part[-1]) + 1)
                for text, part in zip(texts, places, strict=True)
            ]
        )
        targets = windows.targets[at].cpu().numpy()
        view = ModelView.of(logits, targets, evidence.favourite)
        readings = Readings.of(evidence, view, np.concatenate(places))
        nats = torch.zeros(at.shape, dtype=torch.float64, device=at.device)
        nats[at] = torch.from_numpy(self.gate.nats(readings, self.memory)).to(at.device)
        best = np.ones(len(at), bool)
        if greedy:
            rows = zip(texts, places, logits.split(counts), strict=True)
            best = np.array([self._is_greedy(*row) for row in rows])
        return nats, best

    def _is_greedy(self, text: Text, places: NDArray[np.intp], logits: Tensor) -> bool:
        """Whether each token of a text at these places is the likeliest after those before it.

        Args:
            logits: [T, V], of the language model.
        """
        return all(
            int(next_token(self.memory, self.gate, Text(text.tokens[:place]), row).argmax())
            == text.tokens[place]
            for place, row in zip(places.tolist(), logits, strict=True)
        )
