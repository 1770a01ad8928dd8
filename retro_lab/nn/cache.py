"""What generation remembers between two steps, so that a token never costs a full forward pass.

Self-attention keeps its keys and values, CCA the keys and values of the neighbours read at the
moment, the pointer its keys and the latest tokens, and the encoder's condition the activations of
the chunk that is being written.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .chunks import RetrievedChunks

FIRST_CAPACITY = 64  # positions; doubled whenever they run out


class AttentionCache:
    """Keys and values of one layer's self-attention, in buffers that grow by doubling.

    Attributes:
        length: positions kept.
        last_key: [B, H, 1, P] the latest key before smearing, None at the start.
    """

    def __init__(self) -> None:
        self.length = 0
        self.last_key: Tensor | None = None
        self._buffer: Tensor | None = None  # [2, B, H, capacity, P]

    def append(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Adds [B, H, L, P] each and returns all keys and values, [B, H, S, P]."""
        stop = self.length + key.shape[2]
        buffer = self._with_room(stop, key)
        buffer[0, :, :, self.length : stop] = key
        buffer[1, :, :, self.length : stop] = value
        self.length = stop
        return buffer[0, :, :, :stop], buffer[1, :, :, :stop]

    def reorder(self, rows: Tensor) -> None:
        """Makes row i of the batch what row rows[i] was."""
        if self._buffer is not None:
            self._buffer = self._buffer.index_select(1, rows)
        if self.last_key is not None:
            self.last_key = self.last_key.index_select(0, rows)

    def _with_room(self, wanted: int, like: Tensor) -> Tensor:
        old = self._buffer
        if old is not None and old.shape[3] >= wanted:
            return old
        batch, heads, _, width = like.shape
        capacity = max(FIRST_CAPACITY, wanted, 2 * self.length)
        self._buffer = like.new_empty(2, batch, heads, capacity, width)
        if old is not None:
            self._buffer[:, :, :, : self.length] = old[:, :, :, : self.length]
        return self._buffer


@dataclass(frozen=True)
class HeldNeighbours:
    """The encoded neighbours of the latest complete chunk, as their readers need them.

    Attributes:
        chunks: masks and geometry of that one chunk (U = 1).
        cca: by layer, counted from 1, the keys and values [B, H, K * R, P] of its CCA.
        pointer_keys: [B, 1, K * R, H * P], None without a pointer.
    """

    chunks: RetrievedChunks
    cca: dict[int, tuple[Tensor, Tensor]]
    pointer_keys: Tensor | None

    def reorder(self, rows: Tensor) -> HeldNeighbours:
        """Row i of the batch is what row rows[i] was."""
        chunks = self.chunks
        masks = ("ids", "token_mask", "chunk_mask", "readable")
        picked = {name: getattr(chunks, name).index_select(0, rows) for name in masks}
        return HeldNeighbours(
            replace(chunks, **picked),
            {
                layer: (k.index_select(0, rows), v.index_select(0, rows))
                for layer, (k, v) in self.cca.items()
            },
            None if self.pointer_keys is None else self.pointer_keys.index_select(0, rows),
        )


@dataclass
class Cache:
    """State of `Retro.step`; made by `Retro.new_cache`, changed in place.

    Attributes:
        layers: of the decoder's self-attention, one a block.
        activations: [B, L, D] of the chunk being written, after self-attention of the first layer
            with CCA: what the encoder will be conditioned on.
        recent: [B, MAX_MATCH - 1] latest tokens, -1 before the start.
        length: tokens seen.
        held: neighbours that may be read now, None if there are none.
    """

    layers: list[AttentionCache]
    activations: Tensor
    recent: Tensor
    length: int = 0
    held: HeldNeighbours | None = None

    def completed_by(self, num_tokens: int, chunk_size: int) -> int:
        """Chunks that the next `num_tokens` tokens complete."""
        return (self.length + num_tokens) // chunk_size - self.length // chunk_size

    def reorder(self, rows: Tensor) -> None:
        """Makes row i of the batch what row rows[i] was; rows may repeat, as in beam search.

        Args:
            rows: int64 [B'], on the model's device.
        """
        for layer in self.layers:
            layer.reorder(rows)
        self.activations = self.activations.index_select(0, rows)
        self.recent = self.recent.index_select(0, rows)
        if self.held is not None:
            self.held = self.held.reorder(rows)

    def remember(self, new_ids: Tensor) -> None:
        """Counts tokens [B, L] as seen, once every layer has seen them."""
        self.recent = torch.cat((self.recent, new_ids), dim=1)[:, new_ids.shape[1] :]
        self.length += new_ids.shape[1]
