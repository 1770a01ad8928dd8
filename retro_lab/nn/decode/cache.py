"""State of generation between steps, so that a token never takes a full forward pass.

Self-attention keeps keys and values, CCA the keys and values of the current neighbours, the pointer
its keys and the latest tokens, and the encoder the activations of the latest M positions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from ..chunks import RetrievedChunks
from ..positions import Axis, CosSin, RotaryPositions
from .schedule import Schedule

FIRST_CAPACITY = 64  # positions; doubled when exceeded
FIRST_ROTATIONS = 256  # positions with precomputed cosines and sines; doubled when exceeded


class AttentionCache:
    """Keys and values of one layer's self-attention, in buffers that grow by doubling.

    Args:
        num_heads, head_dim: H and P.

    Attributes:
        length: positions kept.
        last_key: contiguous [B, H, 1, P], the latest raw key, if keys are smeared; updated in
            place. None at the start.
    """

    def __init__(self, num_heads: int, head_dim: int) -> None:
        self._head = num_heads, head_dim
        self.length = 0
        self.last_key: Tensor | None = None
        self._buffers: tuple[Tensor, Tensor] | None = None  # [B, H, capacity, P] each

    def append(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Appends [B, H, L, P] each and returns all keys and values, [B, H, S, P]."""
        start, stop = self.length, self.length + key.shape[2]
        keys, values = self.room(stop, key)
        keys[:, :, start:stop] = key
        values[:, :, start:stop] = value
        self.length = stop
        return keys[:, :, :stop], values[:, :, :stop]

    def room(self, stop: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Buffers [B, H, capacity, P] of keys and values with capacity for `stop` positions.

        After writing, the caller sets `length`, so that a failed step leaves the cache unchanged.

        Args:
            like: a tensor [B, ..] of the wanted dtype and device.
        """
        if self._buffers is None or self._buffers[0].shape[2] < stop:
            self._buffers = self._enlarged(stop, like)
        return self._buffers

    def start_keys(self, like: Tensor) -> Tensor:
        """`last_key`, initialised with zeros at the start; `like` as for `room`."""
        if self.last_key is None:
            heads, width = self._head
            self.last_key = like.new_zeros(len(like), heads, 1, width)
        return self.last_key

    def reorder(self, rows: Tensor) -> None:
        """Replaces row i of the batch by row rows[i]."""
        if self._buffers is not None:
            keys, values = self._buffers
            self._buffers = keys.index_select(0, rows), values.index_select(0, rows)
        if self.last_key is not None:
            self.last_key = self.last_key.index_select(0, rows)

    def _enlarged(self, stop: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Larger buffers with the old content."""
        (heads, width), old = self._head, self._buffers
        held = 0 if old is None else old[0].shape[2]
        capacity = max(FIRST_CAPACITY, stop, 2 * held)
        keys, values = like.new_empty(2, len(like), heads, capacity, width)
        if old is not None:
            keys[:, :, :held], values[:, :, :held] = old
        return keys, values


class RotationCache:
    """Cosines and sines of positions from 0 on, computed once for all steps and layers."""

    def __init__(self) -> None:
        self._known: CosSin | None = None  # [C, P] each

    def of(self, positions: RotaryPositions, axis: Axis, like: Tensor) -> CosSin:
        """`positions.cos_sin` for an axis without repeats; read-only views."""
        if not isinstance(axis.start, int):
            return positions.cos_sin(axis, like)
        stop, known = axis.start + axis.length, self._known
        if known is None or len(known[0]) < stop:
            known = self._known = positions.cos_sin(Axis(max(FIRST_ROTATIONS, 2 * stop)), like)
        return known[0][axis.start : stop], known[1][axis.start : stop]


@dataclass(frozen=True)
class HeldNeighbours:
    """The encoded neighbours of one chunk in each row, projected for CCA and pointer.

    Attributes:
        chunks: masks and geometry of that one chunk (U = 1).
        cca: keys and values [B, H, K * R, P] of CCA by layer, counted from 1.
        pointer_keys: [B, 1, K * R, H * P], None without a pointer.
    """

    chunks: RetrievedChunks
    cca: dict[int, tuple[Tensor, Tensor]]
    pointer_keys: Tensor | None

    @cached_property
    def readable(self) -> Tensor | None:
        """[B, 1, 1], True for rows with neighbours; None if all have some."""
        readable = self.chunks.chunk_mask.unsqueeze(-1)
        return None if readable.all() else readable

    @cached_property
    def mask(self) -> Tensor | None:
        """[B, 1, 1, K * R], tokens that CCA may attend to; None for all.

        A row without neighbours allows all.
        """
        mask = self.chunks.attendable
        return None if mask.all() else mask

    def mapped(self, change: Callable[[Tensor], Tensor]) -> HeldNeighbours:
        """A copy with `change` applied to every tensor, in a fixed order."""
        chunks = self.chunks
        return HeldNeighbours(
            replace(
                chunks,
                ids=change(chunks.ids),
                token_mask=change(chunks.token_mask),
                chunk_mask=change(chunks.chunk_mask),
                readable=change(chunks.readable),
                known=None,  # used by the encoder only
            ),
            {layer: (change(key), change(value)) for layer, (key, value) in self.cca.items()},
            None if self.pointer_keys is None else change(self.pointer_keys),
        )

    def merged(self, rows: Tensor, batch: int, before: HeldNeighbours | None) -> HeldNeighbours:
        """Neighbours of a batch: these for `rows`, those in `before` for the other rows.

        Raises:
            ValueError: the numbers of neighbours differ.
        """
        if before is None:  # zero masks: nothing to read
            return self.mapped(
                lambda new: new.new_zeros(batch, *new.shape[1:]).index_copy(0, rows, new)
            )
        if before.chunks.ids.shape[2] != self.chunks.ids.shape[2]:
            raise ValueError(
                "rows that search at different times need the same number of neighbours: "
                f"{before.chunks.ids.shape[2]} and {self.chunks.ids.shape[2]}"
            )
        olds: list[Tensor] = []
        before.mapped(lambda old: olds.append(old) or old)
        remaining = iter(olds)
        return self.mapped(lambda new: next(remaining).index_copy(0, rows, new))

    def without(self, rows: Tensor) -> HeldNeighbours:
        """A copy in which these rows have no neighbours."""
        masks = (self.chunks.chunk_mask, self.chunks.readable)
        chunk_mask, readable = (mask.index_fill(0, rows, False) for mask in masks)
        return replace(self, chunks=replace(self.chunks, chunk_mask=chunk_mask, readable=readable))


@dataclass
class Cache:
    """State of `step`; created by `new_cache`, changed in place.

    Attributes:
        schedule: when each row searches.
        layers: caches of the decoder's self-attention, one a block.
        activations: [B, L, D] of the latest M positions, after self-attention of the first layer
            with CCA; they condition the encoder.
        recent: [B, MAX_MATCH - 1] latest tokens, -1 before the start.
        first: [B, 1] `schedule.first`, on the model's device.
        phases: [B, 1] `schedule.phases`, on the model's device.
        length: positions so far, including those before a row's first token.
        held: the current neighbours, None without any.
        rotations: of the decoder's heads, shared by CCA.
    """

    schedule: Schedule
    layers: list[AttentionCache]
    activations: Tensor
    recent: Tensor
    first: Tensor
    phases: Tensor
    length: int = 0
    held: HeldNeighbours | None = None
    rotations: RotationCache = field(default_factory=RotationCache)

    def searches(self, num_tokens: int) -> list[list[int]]:
        """For each row, its token counts at which it searches within the next `num_tokens`."""
        return self.schedule.searches(self.length, self.length + num_tokens)

    def searching(self, ahead: int) -> list[int]:
        """Rows that search at the token `ahead` positions after the next."""
        return self.schedule.searching(self.length + ahead)

    def reorder(self, rows: Tensor) -> None:
        """Replaces row i of the batch by row rows[i]; rows may repeat or be left out.

        Args:
            rows: int64 [B'], on the model's device.
        """
        if len(set(zip(self.schedule.first, self.schedule.phases, strict=True))) > 1 or len(
            rows
        ) != len(self.schedule.first):
            self.schedule = self.schedule.reordered(rows.tolist())
        for layer in self.layers:
            layer.reorder(rows)
        for name in ("activations", "recent", "first", "phases"):
            setattr(self, name, getattr(self, name).index_select(0, rows))
        if self.held is not None:
            self.held = self.held.mapped(lambda held: held.index_select(0, rows))

    def offset(self) -> int | Tensor:
        """The next token's offset in its attending chunk, from 0; [B, 1] if rows differ."""
        schedule = self.schedule
        if schedule.aligned:
            return (self.length + schedule.phases[0]) % schedule.stride
        return (self.length + self.phases) % schedule.stride

    def real(self, num_tokens: int) -> Tensor | None:
        """[B, L], False at next positions before a row's first token; None if all are True."""
        if self.length >= max(self.schedule.first, default=0):
            return None
        return self._places(self.length, self.length + num_tokens) >= self.first

    def visible(self, num_tokens: int) -> Tensor | None:
        """Mask of the next tokens, [L, S] or [B, 1, L, S]; None without restriction.

        Positions before a row's first token see each other: all of them are zeros.
        """
        stop = self.length + num_tokens
        causal = None
        if num_tokens > 1:
            everything = self.first.new_ones(num_tokens, stop, dtype=torch.bool)
            causal = everything.tril(self.length)
        if not self.schedule.padded:
            return causal
        seen = (self._places(0, stop) >= self.first).unsqueeze(1)  # [B, 1, S]
        if causal is not None:
            outside = self._places(self.length, stop) < self.first  # [B, L]
            seen = (seen | outside.unsqueeze(2)) & causal
        return seen.unsqueeze(1)

    def known(self, rows: list[int], chunk_size: int) -> Tensor | None:
        """[B', M], whether each of the latest M positions (with the next) is a token, or None."""
        counts = [min(chunk_size, self.length + 1 - self.schedule.first[row]) for row in rows]
        if min(counts) == chunk_size:
            return None
        missing = torch.tensor([[chunk_size - count] for count in counts], device=self.first.device)
        return self._places(0, chunk_size) >= missing

    def remember(self, new_ids: Tensor) -> None:
        """Records tokens [B, L] as seen, after every layer has processed them."""
        self.recent = torch.cat((self.recent, new_ids), dim=1)[:, new_ids.shape[1] :]
        self.length += new_ids.shape[1]

    def _places(self, start: int, stop: int) -> Tensor:
        return torch.arange(start, stop, device=self.first.device)
