"""What generation remembers between two steps, so that a token never costs a full forward pass.

Self-attention keeps its keys and values, CCA the keys and values of the neighbours read at the
moment, the pointer its keys and the latest tokens, and the encoder's condition the activations of
the latest chunk of tokens.
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

FIRST_CAPACITY = 64  # positions; doubled whenever they run out
KNOWN_PLACES = 256  # whose cosines and sines are worked out at first; doubled as they run out


class AttentionCache:
    """Keys and values of one layer's self-attention, in buffers that grow by doubling.

    Args:
        num_heads, head_dim: H and P.

    Attributes:
        length: positions kept.
        last_key: [B, H, 1, P] the latest key before smearing, if keys are smeared, in one piece, so
            that it can be replaced in place; None at the start.
    """

    def __init__(self, num_heads: int, head_dim: int) -> None:
        self._head = num_heads, head_dim
        self.length = 0
        self.last_key: Tensor | None = None
        self._buffers: tuple[Tensor, Tensor] | None = None  # [B, H, capacity, P] each

    def append(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Adds [B, H, L, P] each and returns all keys and values, [B, H, S, P]."""
        start, stop = self.length, self.length + key.shape[2]
        keys, values = self.room(stop, key)
        keys[:, :, start:stop] = key
        values[:, :, start:stop] = value
        self.length = stop
        return keys[:, :, :stop], values[:, :, :stop]

    def room(self, stop: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Buffers [B, H, capacity, P] of keys and values with room up to place `stop`.

        Who writes there sets `length`, so that a step that fails leaves the cache as it was.

        Args:
            like: a tensor [B, ..] of the dtype and on the device that they are to have.
        """
        if self._buffers is None or self._buffers[0].shape[2] < stop:
            self._buffers = self._enlarged(stop, like)
        return self._buffers

    def start_keys(self, like: Tensor) -> Tensor:
        """`last_key`, made of zeros and kept at the start; `like` as for `room`."""
        if self.last_key is None:
            heads, width = self._head
            self.last_key = like.new_zeros(len(like), heads, 1, width)
        return self.last_key

    def reorder(self, rows: Tensor) -> None:
        """Makes row i of the batch what row rows[i] was."""
        if self._buffers is not None:
            keys, values = self._buffers
            self._buffers = keys.index_select(0, rows), values.index_select(0, rows)
        if self.last_key is not None:
            self.last_key = self.last_key.index_select(0, rows)

    def _enlarged(self, stop: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Larger buffers that hold what the old ones do."""
        (heads, width), old = self._head, self._buffers
        held = 0 if old is None else old[0].shape[2]
        capacity = max(FIRST_CAPACITY, stop, 2 * held)
        keys, values = like.new_empty(2, len(like), heads, capacity, width)
        if old is not None:
            keys[:, :, :held], values[:, :, :held] = old
        return keys, values


class KnownRotations:
    """Cosines and sines of places from 0 on, worked out once for all steps and layers."""

    def __init__(self) -> None:
        self._known: CosSin | None = None  # [C, P] each

    def of(self, positions: RotaryPositions, axis: Axis, like: Tensor) -> CosSin:
        """`positions.cos_sin` of places that do not repeat; views, not to be changed."""
        if not isinstance(axis.start, int):
            return positions.cos_sin(axis, like)
        stop, known = axis.start + axis.length, self._known
        if known is None or len(known[0]) < stop:
            known = self._known = positions.cos_sin(Axis(max(KNOWN_PLACES, 2 * stop)), like)
        return known[0][axis.start : stop], known[1][axis.start : stop]


@dataclass(frozen=True)
class HeldNeighbours:
    """The encoded neighbours of one chunk a row, as their readers need them.

    Attributes:
        chunks: masks and geometry of that one chunk (U = 1).
        cca: by layer, counted from 1, the keys and values [B, H, K * R, P] of its CCA.
        pointer_keys: [B, 1, K * R, H * P], None without a pointer.
    """

    chunks: RetrievedChunks
    cca: dict[int, tuple[Tensor, Tensor]]
    pointer_keys: Tensor | None

    @cached_property
    def readable(self) -> Tensor | None:
        """[B, 1, 1], True at rows that have something to read; None if all do."""
        readable = self.chunks.chunk_mask.unsqueeze(-1)
        return None if readable.all() else readable

    @cached_property
    def mask(self) -> Tensor | None:
        """[B, 1, 1, K * R], where CCA may look, which is everywhere where nothing is readable; None
        if it may look everywhere in all rows.
        """
        mask = self.chunks.attendable
        return None if mask.all() else mask

    def each(self, change: Callable[[Tensor], Tensor]) -> HeldNeighbours:
        """The same with every tensor changed, in an order that is always the same."""
        chunks = self.chunks
        return HeldNeighbours(
            replace(
                chunks,
                ids=change(chunks.ids),
                token_mask=change(chunks.token_mask),
                chunk_mask=change(chunks.chunk_mask),
                readable=change(chunks.readable),
                known=None,  # only the encoder asked
            ),
            {layer: (change(key), change(value)) for layer, (key, value) in self.cca.items()},
            None if self.pointer_keys is None else change(self.pointer_keys),
        )

    def put(self, rows: Tensor, batch: int, before: HeldNeighbours | None) -> HeldNeighbours:
        """Those of a batch whose `rows` read these and whose other rows read what they did.

        Raises:
            ValueError: if the numbers of neighbours differ.
        """
        if before is None:  # zeros: masks that say that there is nothing to read
            return self.each(
                lambda new: new.new_zeros(batch, *new.shape[1:]).index_copy(0, rows, new)
            )
        if before.chunks.ids.shape[2] != self.chunks.ids.shape[2]:
            raise ValueError(
                "rows that search at different times need the same number of neighbours: "
                f"{before.chunks.ids.shape[2]} and {self.chunks.ids.shape[2]}"
            )
        olds: list[Tensor] = []
        before.each(lambda old: olds.append(old) or old)
        remaining = iter(olds)
        return self.each(lambda new: next(remaining).index_copy(0, rows, new))

    def without(self, rows: Tensor) -> HeldNeighbours:
        """The same, but these rows have nothing to read."""
        masks = (self.chunks.chunk_mask, self.chunks.readable)
        chunk_mask, readable = (mask.index_fill(0, rows, False) for mask in masks)
        return replace(self, chunks=replace(self.chunks, chunk_mask=chunk_mask, readable=readable))


@dataclass
class Cache:
    """State of `step`; made by `new_cache`, changed in place.

    Attributes:
        schedule: when each row searches.
        layers: of the decoder's self-attention, one a block.
        activations: [B, L, D] of the latest M places, after self-attention of the first layer
            with CCA: what the encoder will be conditioned on.
        recent: [B, MAX_MATCH - 1] latest tokens, -1 before the start.
        first: [B, 1] `schedule.first`, on the model's device.
        phases: [B, 1] `schedule.phases`, likewise.
        length: places seen, those before a row's first token included.
        held: neighbours that may be read now, None if there are none.
        rotations: of the decoder's heads, which CCA's share.
    """

    schedule: Schedule
    layers: list[AttentionCache]
    activations: Tensor
    recent: Tensor
    first: Tensor
    phases: Tensor
    length: int = 0
    held: HeldNeighbours | None = None
    rotations: KnownRotations = field(default_factory=KnownRotations)

    def searches(self, num_tokens: int) -> list[list[int]]:
        """By row, after how many of its own tokens it searches within the next `num_tokens`."""
        return self.schedule.searches(self.length, self.length + num_tokens)

    def searching(self, ahead: int) -> list[int]:
        """Rows that search with the token `ahead` places after the next."""
        return self.schedule.searching(self.length + ahead)

    def reorder(self, rows: Tensor) -> None:
        """Makes row i of the batch what row rows[i] was; rows may repeat or be left out.

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
            self.held = self.held.each(lambda held: held.index_select(0, rows))

    def offset(self) -> int | Tensor:
        """Where the next token stands in its attending chunk, from 0; [B, 1] where rows differ."""
        schedule = self.schedule
        if schedule.aligned:
            return (self.length + schedule.phases[0]) % schedule.stride
        return (self.length + self.phases) % schedule.stride

    def real(self, num_tokens: int) -> Tensor | None:
        """[B, L], False at next places before a row's first token; None if there are none."""
        if self.length >= max(self.schedule.first, default=0):
            return None
        return self._places(self.length, self.length + num_tokens) >= self.first

    def visible(self, num_tokens: int) -> Tensor | None:
        """What the next tokens may see: [L, S] or [B, 1, L, S]; None if everything.

        A place before a row's first token sees others like it: all of them carry zeros.
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
        """[B', M], which of the latest M places, the next one included, hold a token of `rows`."""
        counts = [min(chunk_size, self.length + 1 - self.schedule.first[row]) for row in rows]
        if min(counts) == chunk_size:
            return None
        missing = torch.tensor([[chunk_size - count] for count in counts], device=self.first.device)
        return self._places(0, chunk_size) >= missing

    def remember(self, new_ids: Tensor) -> None:
        """Counts tokens [B, L] as seen, once every layer has seen them."""
        self.recent = torch.cat((self.recent, new_ids), dim=1)[:, new_ids.shape[1] :]
        self.length += new_ids.shape[1]

    def _places(self, start: int, stop: int) -> Tensor:
        return torch.arange(start, stop, device=self.first.device)
