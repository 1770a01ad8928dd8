"""How attention knows where its queries and keys stand: five kinds behind one interface.

A distance is the query's place minus the key's, both on one axis: the sequence in self-attention,
the retrieved text [N, F] elsewhere. The query at offset i of an attending chunk stands there at
M - 1 + i and the token at offset i of the retrieving chunk at i, so that CCA sees
d = i - i' + M - 1 and the encoder's cross-attention d = i' - i (RETRO, sections B.1.2 and 2.4), the
same for each neighbour.

To add a kind: a subclass of `Positions`, a line in `build_positions`, its name in `config.py`.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .config import PositionKind
from .cpu import fused
from .cpu.native import Turns

FURTHEST = 256  # tokens; distances beyond share the outermost bucket
LOG_BUCKETS = 32  # for both directions together
KNOWN_PLACES = 256  # whose turns are worked out when a step asks for some; doubled as they run out


class Axis(NamedTuple):
    """Rows that stand at start, start + 1, .. start + length - 1, `repeats` times over.

    In incremental tables `start` may be a tensor [B, 1]: each row of the batch has its own table.
    """

    length: int
    start: int | Tensor = 0
    repeats: int = 1

    def places(self, device: torch.device) -> Tensor:
        """Integer places of all rows, [repeats * length], or [B, repeats * length]."""
        if isinstance(self.start, int):
            places = torch.arange(self.start, self.start + self.length, device=device)
        else:
            places = torch.arange(self.length, device=device) + self.start
        return places if self.repeats == 1 else places.tile(self.repeats)


class Positions(nn.Module):
    """Knowledge of distances in one attention layer; this kind has none, the others build on it."""

    def tables(self, queries: Axis, keys: Axis, like: Tensor) -> Any:
        """What follows from the geometry alone; the layers of a stack share it.

        Args:
            like: activations of the stack.
        """
        return None

    def forward(
        self, query: Tensor, key: Tensor, tables: Any
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Queries and keys to be multiplied, and what is then added to the scaled products.

        Args:
            query: [B, H, L, P].
            key: [B, H, S, P].
            tables: of `tables` for the same axes.

        Returns:
            Query, key, and a bias that broadcasts to [B, H, L, S], or None.
        """
        return query, key, None

    @property
    def only_turns(self) -> bool:
        """Whether queries and keys are turned as `tables` say, if there are any, and no more."""
        return type(self).forward is Positions.forward

    def incremental(self, queries: Axis, keys: Axis, like: Tensor) -> Any:
        """Tables for `ask`, and for `hold` if the keys to hold stand where the queries do."""
        return self.tables(queries, keys, like)

    def hold(self, key: Tensor, tables: Any) -> Tensor:
        """Keys [B, H, S, P] as they are kept for later queries."""
        return key

    def ask(self, query: Tensor, tables: Any) -> tuple[Tensor, Tensor | None]:
        """Queries to be multiplied with held keys, and the bias, as `forward` returns them."""
        query, _, bias = self(query, query, tables)
        return query, bias


class RotaryPositions(Positions):
    """Turned queries and keys, whose product depends on the distance alone (Su et al. 2021).

    It registers no tensor, so that no cast of the model can coarsen the angles.
    """

    def __init__(self, head_dim: int, base: float) -> None:
        super().__init__()
        self.head_dim, self.base = head_dim, base
        self._known: Turns | None = None  # of places from 0 on, [C, P] each, as steps ask for them

    def tables(self, queries: Axis, keys: Axis, like: Tensor) -> Any:
        """Cosines and sines [L, P] for queries and [S, P] for keys, see `rotate`."""
        turn_queries = self._turns(queries, like)
        return turn_queries, turn_queries if keys == queries else self._turns(keys, like)

    def forward(
        self, query: Tensor, key: Tensor, tables: Any
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        turn_queries, turn_keys = tables
        return rotate(query, turn_queries), rotate(key, turn_keys), None

    @property
    def only_turns(self) -> bool:
        return True

    def incremental(self, queries: Axis, keys: Axis, like: Tensor) -> Any:
        """Cosines and sines [L, P] or [B, 1, L, P]: held keys were turned when they were new.

        They may be views of what is kept for the next step, not to be changed.
        """
        if not isinstance(queries.start, int) or queries.repeats > 1 or type(like) is not Tensor:
            return self._turns(queries, like)
        stop, known = queries.start + queries.length, self._known
        if known is None or len(known[0]) < stop or not alike(known[0], like):
            known = self._known = self._turns(Axis(max(KNOWN_PLACES, 2 * stop)), like)
        return known[0][queries.start : stop], known[1][queries.start : stop]

    def hold(self, key: Tensor, tables: Any) -> Tensor:
        return rotate(key, tables)

    def ask(self, query: Tensor, tables: Any) -> tuple[Tensor, Tensor | None]:
        return rotate(query, tables), None

    def _turns(self, axis: Axis, like: Tensor) -> tuple[Tensor, Tensor]:
        places, exact = axis.places(like.device), exact_dtype(like.device)
        if places.dim() > 1:
            places = places.unsqueeze(1)
        exponents = torch.arange(0, self.head_dim, 2, dtype=exact, device=like.device)
        frequencies = self.base ** (exponents / -self.head_dim)
        angles = places.unsqueeze(-1) * torch.cat((-frequencies, frequencies))
        return angles.cos().to(like.dtype), angles.sin().to(like.dtype)


class DistanceTables(NamedTuple):
    """Something for each distance, highest first, and the axes that it is for."""

    by_distance: Tensor
    queries: Axis
    keys: Axis


class RelativePositions(Positions):
    """A learned linear map of sinusoids of the distance (RETRO, section B.1.2; Transformer-XL).

    A logit is (q + u) k + (q + v) W s(d), with u and v learned for each head: the position counts
    for every query differently. W is the fifth matrix of the paper's parameter counts.
    """

    def __init__(self, width: int, num_heads: int, head_dim: int) -> None:
        super().__init__()
        self.width, self.num_heads, self.head_dim = width, num_heads, head_dim
        self.project = nn.Linear(width, num_heads * head_dim, bias=False)
        self.content_bias = nn.Parameter(torch.zeros(num_heads * head_dim))
        self.distance_bias = nn.Parameter(torch.zeros(num_heads * head_dim))

    def tables(self, queries: Axis, keys: Axis, like: Tensor) -> DistanceTables:
        """Sinusoids [L + R, D]."""
        device = like.device
        distances = descending_distances(queries, keys, device).to(exact_dtype(device))
        half = math.ceil(self.width / 2)
        exponents = torch.arange(half, dtype=distances.dtype, device=device) / half
        angles = distances.unsqueeze(-1) * 10_000.0**-exponents
        sinusoids = torch.cat((angles.sin(), angles.cos()), dim=-1)[:, : self.width]
        return DistanceTables(sinusoids, queries, keys)

    def forward(
        self, query: Tensor, key: Tensor, tables: DistanceTables
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        sinusoids, queries, keys = tables
        heads = (self.num_heads, 1, self.head_dim)
        distances = self.project(sinusoids.to(self.project.weight.dtype))  # [L + R, H*P]
        distances = distances.unflatten(-1, (self.num_heads, -1)).movedim(-3, -1)  # [H, P, L + R]
        asking = query + self.distance_bias.to(query.dtype).view(heads)
        bias = (asking * self.head_dim**-0.5) @ distances.to(query.dtype)  # [B, H, L, L + R]
        bias = bias.unflatten(2, (queries.repeats, queries.length))
        bias = shifted(bias, keys.length).flatten(2, 3).repeat(1, 1, 1, keys.repeats)
        return query + self.content_bias.to(query.dtype).view(heads), key, bias


class BucketPositions(Positions):
    """A learned bias for each head and bucket of distances (as in T5); no cost but its table."""

    num_buckets: int

    def __init__(self, num_heads: int) -> None:
        super().__init__()
        self.bias = nn.Embedding(self.num_buckets, num_heads)

    def buckets(self, distances: Tensor) -> Tensor:
        """Bucket of each distance, from 0 to num_buckets - 1."""
        raise NotImplementedError

    def tables(self, queries: Axis, keys: Axis, like: Tensor) -> DistanceTables:
        """Buckets [L + R]."""
        distances = descending_distances(queries, keys, like.device)
        return DistanceTables(self.buckets(distances), queries, keys)

    def forward(
        self, query: Tensor, key: Tensor, tables: DistanceTables
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        buckets, queries, keys = tables
        by_distance = self.bias(buckets).transpose(-1, -2).to(query.dtype)  # [H, L + R]
        # Each query sees a window of the distances, one step further down than the query after it.
        windows = by_distance.unfold(-1, keys.length, 1)[..., : queries.length, :]
        bias = windows.flip(-2).tile(queries.repeats, keys.repeats)
        return query, key, bias.view(-1, *bias.shape[-3:])


class LinearBuckets(BucketPositions):
    """One bucket a distance, up to `FURTHEST` either way."""

    num_buckets = 2 * FURTHEST + 1

    def buckets(self, distances: Tensor) -> Tensor:
        return distances.clamp(-FURTHEST, FURTHEST) + FURTHEST


class LogarithmicBuckets(BucketPositions):
    """One bucket a distance for near tokens, then buckets that widen up to `FURTHEST`."""

    num_buckets = LOG_BUCKETS

    def buckets(self, distances: Tensor) -> Tensor:
        one_way = LOG_BUCKETS // 2
        near = one_way // 2
        size = distances.abs()
        octaves = (size.clamp_min(near).to(torch.float32) / near).log() / math.log(FURTHEST / near)
        far = near + (octaves * (one_way - near)).to(torch.long)
        bucket = torch.where(size < near, size, far.clamp_max(one_way - 1))
        return bucket + one_way * (distances < 0)


def build_positions(
    kind: PositionKind, width: int, num_heads: int, head_dim: int, rotary_base: float
) -> Positions:
    """The positions of one attention layer whose queries come from a stream of `width`."""
    match kind:
        case "rotary":
            return RotaryPositions(head_dim, rotary_base)
        case "relative":
            return RelativePositions(width, num_heads, head_dim)
        case "bucket_linear":
            return LinearBuckets(num_heads)
        case "bucket_log":
            return LogarithmicBuckets(num_heads)
        case "none":
            return Positions()


def descending_distances(queries: Axis, keys: Axis, device: torch.device) -> Tensor:
    """[L + R] every distance between an axis of L queries and one of R keys, and one more.

    [B, L + R] for queries that start elsewhere in each row of the batch.
    """
    highest = queries.start + queries.length - 1 - keys.start
    return highest - torch.arange(queries.length + keys.length, device=device)


def shifted(by_distance: Tensor, num_keys: int) -> Tensor:
    """[.., L, L + R] -> [.., L, R]: from descending distances to keys, without a gather.

    Row i holds key j at column j + L - 1 - i: read with a stride one shorter than the row, every
    row begins one column earlier than the one before.
    """
    length, total = by_distance.shape[-2:]
    flat = by_distance.flatten(-2)[..., length - 1 : length - 1 + length * (total - 1)]
    return flat.unflatten(-1, (length, total - 1))[..., :num_keys]


def rotate(x: Tensor, turns: tuple[Tensor, Tensor]) -> Tensor:
    """Turns x [.., L, P] by cosines and sines that broadcast against it.

    Features p and p + P/2 are a pair; the sines of the first half are negative.
    """
    cos, sin = (t.to(x.dtype) for t in turns)
    if not torch.is_grad_enabled() and cos.dim() == 2 and x.dim() == 4 and fused.fits(x):
        return fused.turned(x, (cos, sin))
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin)


def alike(one: Tensor, other: Tensor) -> bool:
    """Whether they are as precise and in the same place."""
    return one.dtype == other.dtype and one.device == other.device


def exact_dtype(device: torch.device) -> torch.dtype:
    """The best precision for angles that the device has."""
    return torch.float32 if device.type == "mps" else torch.float64
