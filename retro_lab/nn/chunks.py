"""Chunk geometry of a forward pass: the positions that may read each chunk's neighbours.

The attending chunk of chunk u is its last token and the first M - 1 tokens of chunk u + 1 (RETRO,
section 2.4). The last token predicts the first token of chunk u + 1 and has seen all of chunk u, so
it is the first position that may read the neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from .config import RetroConfig
from .positions import Axis, arange_like


@dataclass(frozen=True)
class RetrievedChunks:
    """Neighbours of the complete chunks of a batch, with their masks.

    Attributes:
        ids: [B, U, K, R] neighbour tokens.
        start: offset of their first token in the retrieved text: 0, or M if only the continuation
            is read.
        token_mask: [B, U, K, R], True at real tokens.
        chunk_mask: [B, U], True if a chunk has any neighbour.
        readable: [B, U, M], True if the attending position belongs to the document of chunk u and
            that chunk has a neighbour.
        chunk_size: M.
        length: N, tokens of the sequence.
        known: [B, U, M], False at left padding of the retrieving chunk; None without padding.
    """

    ids: Tensor
    start: int
    token_mask: Tensor
    chunk_mask: Tensor
    readable: Tensor
    chunk_size: int
    length: int
    known: Tensor | None = None

    @classmethod
    def of(
        cls, ids: Tensor, document_ids: Tensor | None, length: int, config: RetroConfig
    ) -> RetrievedChunks:
        """Derives the masks; drops neighbours of an incomplete last chunk.

        Args:
            ids: [B, U', K, R] with U' at least the number of complete chunks.
            document_ids: [B, N], or None if each row is one document.

        Raises:
            ValueError: fewer rows of neighbours than complete chunks.
        """
        chunk_size = config.chunk_size
        num_chunks = length // chunk_size
        if ids.dim() != 4 or ids.shape[1] < num_chunks:
            raise ValueError(
                f"neighbour_ids must be [B, U, K, R] with U >= {num_chunks} for {length} tokens in "
                f"chunks of {chunk_size}, got {tuple(ids.shape)}"
            )
        start = chunk_size if config.value == "continuation" else 0
        stop = chunk_size if config.value == "neighbour" else None
        ids = ids[:, :num_chunks, :, start:stop]
        token_mask = ids != config.pad_id
        chunk_mask = token_mask.flatten(2).any(-1)
        readable = chunk_mask.unsqueeze(-1).expand(-1, -1, chunk_size)
        if document_ids is not None:
            attending = attending_chunks(document_ids, num_chunks, chunk_size)
            readable = readable & (attending == attending[..., :1])
        return cls(ids, start, token_mask, chunk_mask, readable, chunk_size, length)

    @classmethod
    def given(
        cls, ids: Tensor | None, document_ids: Tensor | None, length: int, config: RetroConfig
    ) -> RetrievedChunks | None:
        """As `of`; None without neighbours or complete chunks.

        Raises:
            ValueError: as `of`, or the model has no CCA.
        """
        if ids is None:
            return None
        if not config.has_retrieval:
            raise ValueError("this model has no CCA layers; it cannot read neighbours")
        chunks = cls.of(ids, document_ids, length, config)
        return chunks if chunks.ids.numel() else None

    @property
    def num_chunks(self) -> int:
        """Number of complete chunks, U."""
        return self.ids.shape[1]

    @property
    def attendable(self) -> Tensor:
        """[B*U, 1, 1, K*R], tokens that CCA may attend to; all if a chunk has no neighbour.

        A fully masked row would give NaN; the result for such a chunk is never used.
        """
        allowed = self.token_mask.flatten(2) | ~self.chunk_mask.unsqueeze(-1)
        return allowed.flatten(0, 1)[:, None, None, :]

    @property
    def has_previous(self) -> Tensor:
        """[B*U, K*R], True at tokens of a neighbour that follow another of its tokens."""
        batch, num_chunks, num_neighbours, length = self.ids.shape
        inside = arange_like(length, self.ids) > 0
        return inside.repeat(num_neighbours).expand(batch * num_chunks, -1)

    @property
    def axis(self) -> Axis:
        """Positions of the K * R tokens of a chunk's neighbours, equal for each neighbour."""
        num_neighbours, length = self.ids.shape[2:]
        return Axis(length, self.start, num_neighbours)


def attending_chunks(x: Tensor, num_chunks: int, chunk_size: int) -> Tensor:
    """[B, N, ...] -> [B, U, M, ...]: row u holds positions uM + M - 1 to uM + 2M - 2.

    Positions past the end are zero, and `put_back` drops them.
    """
    places = num_chunks * chunk_size
    x = x[:, chunk_size - 1 : chunk_size - 1 + places]
    missing = places - x.shape[1]
    x = F.pad(x, (0, 0) * (x.dim() - 2) + (0, missing))
    return x.unflatten(1, (num_chunks, chunk_size))


def put_back(x: Tensor, length: int) -> Tensor:
    """[B, U, M, ...] -> [B, N, ...]: inverse of `attending_chunks`, zero elsewhere."""
    chunk_size = x.shape[2]
    x = x.flatten(1, 2)
    kept = min(x.shape[1], length - chunk_size + 1)
    after = length - (chunk_size - 1) - kept
    return F.pad(x[:, :kept], (0, 0) * (x.dim() - 2) + (chunk_size - 1, after))
