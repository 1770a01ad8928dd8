"""A memory in `generate` of transformers: a logits processor that mixes it into any model.

It needs nothing of transformers itself: `generate` calls whatever it is given. Sampling, beams and
temperatures then work on the mixture.

Legend: B rows of a batch, N tokens so far, V vocabulary.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .database_experts import DatabaseExperts
from .evidence import Text
from .folder import MemoryFolder
from .memory import FittedGate, Memory, addends
from .occurrences import Occurrences, occurrences


class Leaning(NamedTuple):
    """What a token of a text leans on.

    Attributes:
        token: its id.
        share: part of its probability that the memory gave; None for a token that was not
            generated with this memory, such as those of the prompt.
        occurrences: its places in the database.
    """

    token: int
    share: float | None
    occurrences: Occurrences


class MemoryLogitsProcessor:
    """Replaces the scores of the next tokens by the logarithm of a mixture with a memory.

    The memory reads a row as a document: the boundary token, unless the row begins with it, and
    then the row without its padding on the left. A token that an earlier processor forbade, with a
    score of minus infinity, stays forbidden.

    Args:
        memory: of the kinds that need no states of the model.
        gate: fitted for the model, or one that comes with the package.
        boundary_id: the token that documents of the database begin with.
        pad_id: fills rows on the left; None if nothing does.
        excluded: documents of the database to leave out.

    Raises:
        ValueError: the memory needs states of the model.
    """

    def __init__(
        self,
        memory: Memory,
        gate: FittedGate,
        boundary_id: int,
        *,
        pad_id: int | None = None,
        excluded: NDArray[np.integer] | None = None,
    ) -> None:
        if memory.needs_states:
            raise ValueError("a logits processor has no states of the model for this memory")
        self.memory, self.gate = memory, gate
        self.boundary_id, self.pad_id = boundary_id, pad_id
        self.excluded = np.empty(0, np.int64) if excluded is None else excluded
        self._next: dict[bytes, NDArray[np.float32]] = {}
        self._shares: dict[int, float] = {}

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, *, pad_id: int | None = None, threads: int = 1
    ) -> MemoryLogitsProcessor:
        """The processor of a memory that `export ... memory=suffix_topic` wrote.

        Args:
            folder: the `memory` folder beside the model, or any that `write_memory` wrote.
            pad_id: fills rows on the left; None if nothing does.
            threads: processors that count.

        Raises:
            UserError: the folder holds no memory.
        """
        found = MemoryFolder.open(Path(folder), threads)
        return cls(found.memory, found.gate, found.chunks.boundary_id, pad_id=pad_id)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Log-probabilities [B, V] of the mixture.

        Args:
            input_ids: [B, N].
            scores: [B, V], logits or log-probabilities of the language model.
        """
        texts = [self._text(row) for row in input_ids.cpu().numpy()]
        for text in texts:
            self._settle(text)
        self._next, mixed = {}, []
        for text, logits in zip(texts, scores, strict=True):
            model, remembered = addends(self.memory, self.gate, text, logits)
            total = model + remembered
            share = remembered / np.maximum(total, np.finfo(np.float64).tiny)
            self._next[text.tokens.tobytes()] = share.astype(np.float32)
            mixed.append(torch.from_numpy(total).log())
        found = torch.stack(mixed).to(scores)
        return found.masked_fill(scores == float("-inf"), float("-inf"))

    def read_out(self, logits: Tensor, texts: dict[int, list[int]]) -> Tensor:
        """Log-probabilities [B, V] of the mixture, for texts of any length.

        Args:
            logits: [B, V], of the language model.
            texts: tokens of each row, in their order.
        """
        ids = [torch.tensor([text]) for text in texts.values()]
        return torch.cat([self(one, row) for one, row in zip(ids, logits.split(1), strict=True)])

    def sources(self, ids: Tensor, last: int) -> list[Leaning]:
        """What the last tokens of a generated text lean on.

        Args:
            ids: [N], a row of what `generate` returned.
            last: how many tokens.
        """
        text = self._text(ids.cpu().numpy())
        self._settle(text)
        reader = self._database.reader
        return [
            Leaning(
                int(text.tokens[at]),
                self._shares.get(_key(text.tokens[: at + 1])),
                occurrences(reader, text, at),
            )
            for at in range(max(1, len(text.tokens) - last), len(text.tokens))
        ]

    @property
    def _database(self) -> DatabaseExperts:
        return next(kind for kind in self.memory.kinds if isinstance(kind, DatabaseExperts))

    def _text(self, row: NDArray[np.integer]) -> Text:
        """A row as the memory reads it."""
        padding = 0 if self.pad_id is None else int(np.argmin(np.append(row == self.pad_id, False)))
        row = row[padding:].astype(np.int32)
        if not len(row) or row[0] != self.boundary_id:
            row = np.append(np.int32(self.boundary_id), row)
        return Text(row, self.excluded)

    def _settle(self, text: Text) -> None:
        """Notes the memory's share of the text's last token, if the last call predicted it."""
        shares = self._next.get(text.tokens[:-1].tobytes())
        if shares is not None:
            self._shares[_key(text.tokens)] = float(shares[text.tokens[-1]])


def _key(tokens: NDArray[np.int32]) -> int:
    return hash(tokens.tobytes())
