"""Position encodings of attention: five kinds behind one interface.

A distance is the query's position minus the key's on a common axis: the sequence in self-attention,
the retrieved text [N, F] elsewhere. On that axis the query at offset i of an attending chunk is at
M - 1 + i, and the token at offset i of the retrieving chunk at i. CCA thus has d = i - i' + M - 1
and the encoder's cross-attention d = i' - i (RETRO, sections B.1.2 and 2.4), for every neighbour.

To add a kind: a subclass of `Positions`, a case in `build_positions`, its name in `config.py`.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .config import PositionKind

FURTHEST = 256  # tokens; larger distances share the outermost bucket
LOG_BUCKETS = 32  # for both directions together

CosSin = tuple[Tensor, Tensor]
"""Cosines and sines for `rotate`: [L, P] each, or [B, 1, L, P]."""


class Axis(NamedTuple):
    """Rows at positions start, start + 1, .. start + length - 1, repeated `repeats` times.

    `start` may be a tensor [B, 1] with a start for each row of the batch.
    """

    length: int
    start: int | Tensor = 0
    repeats: int = 1

    def places(self, like: Tensor) -> Tensor:
        """Integer positions of all rows, [repeats * length], or [B, repeats * length]."""
        places = arange_like(self.length, like) + self.start
        return places if self.repeats == 1 else places.tile(self.repeats)


class Positions(nn.Module):
    """Base class of the position encodings of one attention layer; itself without positions."""

    def tables(self, queries: Axis, keys: Axis, like: Tensor) -> Any:
        """Tensors that depend on the geometry alone, shared by the layers of a stack.

        Args:
            like: activations of the stack.
        """
        return None

    def forward(
        self, query: Tensor, key: Tensor, tables: Any
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Queries and keys to multiply, and a bias to add to the scaled products.

        Args:
            query: [B, H, L, P].
            key: [B, H, S, P].
            tables: from `tables` for the same axes.

        Returns:
            Query, key, and a bias that broadcasts to [B, H, L, S], or None.
        """
        query, bias = self.project_queries(query, tables)
        return query, self.project_keys(key, tables), bias

    def project_queries(self, query: Tensor, tables: Any) -> tuple[Tensor, Tensor | None]:
        """Queries [B, H, L, P] to multiply, and the bias."""
        return query, None

    def project_keys(self, key: Tensor, tables: Any) -> Tensor:
        """Keys [B, H, S, P] to multiply."""
        return key


class RotaryPositions(Positions):
    """Rotated queries and keys, whose product depends on the distance alone (Su et al. 2021).

    Registers no tensor, so that casting the model keeps the angles exact.
    """

    def __init__(self, head_dim: int, base: float) -> None:
        super().__init__()
        self.head_dim, self.base = head_dim, base

    def tables(self, queries: Axis, keys: Axis, like: Tensor) -> tuple[CosSin, CosSin]:
        """Cosines and sines of queries and of keys."""
        of_queries = self.cos_sin(queries, like)
        return of_queries, of_queries if keys == queries else self.cos_sin(keys, like)

    def project_queries(self, query: Tensor, tables: Any) -> tuple[Tensor, Tensor | None]:
        return rotate(query, tables[0]), None

    def project_keys(self, key: Tensor, tables: Any) -> Tensor:
        return rotate(key, tables[1])

    def cos_sin(self, axis: Axis, like: Tensor) -> CosSin:
        """Cosines and sines, [L, P] each, or [B, 1, L, P] if each row has its own positions."""
        places = axis.places(like)
        if places.dim() > 1:
            places = places.unsqueeze(1)
        exponents = (2 * arange_like(self.head_dim // 2, like)).to(exact_dtype(like))
        frequencies = self.base ** (exponents / -self.head_dim)
        angles = places.unsqueeze(-1) * torch.cat((-frequencies, frequencies))
        return angles.cos().to(like.dtype), angles.sin().to(like.dtype)


class DistanceTables(NamedTuple):
    """A row (sinusoids or a bucket) for each distance between two axes, largest distance first."""

    by_distance: Tensor
    queries: Axis
    keys: Axis


class RelativePositions(Positions):
    """A learned linear map of sinusoids of the distance (RETRO, section B.1.2; Transformer-XL).

    A logit is (q + u) k + (q + v) W s(d), with u and v learned for each head: the effect of a
    position depends on the query. W is the fifth matrix of the paper's parameter counts.
    """

    def __init__(self, width: int, num_heads: int, head_dim: int) -> None:
        super().__init__()
        self.width, self.num_heads, self.head_dim = width, num_heads, head_dim
        self.project = nn.Linear(width, num_heads * head_dim, bias=False)
        self.content_bias = nn.Parameter(torch.zeros(num_heads * head_dim))
        self.distance_bias = nn.Parameter(torch.zeros(num_heads * head_dim))

    def tables(self, queries: Axis, keys: Axis, like: Tensor) -> DistanceTables:
        """Sinusoids [L + R, D], or [B, L + R, D] for queries with a start for each row."""
        distances = descending_distances(queries, keys, like).to(exact_dtype(like))
        half = math.ceil(self.width / 2)
        exponents = arange_like(half, like).to(distances.dtype) / half
        angles = distances.unsqueeze(-1) * 10_000.0**-exponents
        sinusoids = torch.cat((angles.sin(), angles.cos()), dim=-1)[..., : self.width]
        return DistanceTables(sinusoids, queries, keys)

    def project_queries(
        self, query: Tensor, tables: DistanceTables
    ) -> tuple[Tensor, Tensor | None]:
        sinusoids, queries, keys = tables
        heads = (self.num_heads, 1, self.head_dim)
        distances = self.project(sinusoids.to(self.project.weight.dtype))  # [L + R, H*P]
        distances = distances.unflatten(-1, (self.num_heads, -1)).movedim(-3, -1)  # [H, P, L + R]
        asking = query + self.distance_bias.to(query.dtype).view(heads)
        bias = (asking * self.head_dim**-0.5) @ distances.to(query.dtype)  # [B, H, L, L + R]
        bias = bias.unflatten(2, (queries.repeats, queries.length))
        bias = shifted(bias, keys.length).flatten(2, 3).repeat(1, 1, 1, keys.repeats)
        return query + self.content_bias.to(query.dtype).view(heads), bias


class BucketPositions(Positions):
    """A learned bias for each head and bucket of distances, as in T5."""

    num_buckets: int

    def __init__(self, num_heads: int) -> None:
        super().__init__()
        self.bias = nn.Embedding(self.num_buckets, num_heads)

    def buckets(self, distances: Tensor) -> Tensor:
        """Bucket of each distance, from 0 to num_buckets - 1."""
        raise NotImplementedError

    def tables(self, queries: Axis, keys: Axis, like: Tensor) -> DistanceTables:
        """Buckets [L + R]."""
        distances = descending_distances(queries, keys, like)
        return DistanceTables(self.buckets(distances), queries, keys)

    def project_queries(
        self, query: Tensor, tables: DistanceTables
    ) -> tuple[Tensor, Tensor | None]:
        buckets, queries, keys = tables
        by_distance = self.bias(buckets).transpose(-1, -2).to(query.dtype)  # [H, L + R]
        # Each query's window of distances starts one step lower than the next query's.
        windows = by_distance.unfold(-1, keys.length, 1)[..., : queries.length, :]
        bias = windows.flip(-2).tile(queries.repeats, keys.repeats)
        return query, bias.view(-1, *bias.shape[-3:])


class LinearBuckets(BucketPositions):
    """One bucket for each distance, up to `FURTHEST` in both directions."""

    num_buckets = 2 * FURTHEST + 1

    def buckets(self, distances: Tensor) -> Tensor:
        return distances.clamp(-FURTHEST, FURTHEST) + FURTHEST


class LogarithmicBuckets(BucketPositions):
    """One bucket for each near distance, then buckets that widen up to `FURTHEST`."""

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
    """The positions of an attention layer whose queries come from a stream of `width`."""
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


def descending_distances(queries: Axis, keys: Axis, like: Tensor) -> Tensor:
    """All distances between L queries and R keys, and one more: [L + R], largest first.

    [B, L + R] for queries with a start for each row of the batch.
    """
    highest = queries.start + queries.length - 1 - keys.start
    return highest - arange_like(queries.length + keys.length, like)


def shifted(by_distance: Tensor, num_keys: int) -> Tensor:
    """[.., L, L + R] -> [.., L, R]: selects each key's distance, without a gather.

    Row i has key j at column j + L - 1 - i: with a stride one shorter than the row, every row
    begins one column earlier than the previous one.
    """
    length, total = by_distance.shape[-2:]
    flat = by_distance.flatten(-2)[..., length - 1 : length - 1 + length * (total - 1)]
    return flat.unflatten(-1, (length, total - 1))[..., :num_keys]


def rotate(x: Tensor, cos_sin: CosSin) -> Tensor:
    """Rotates x [.., L, P] by cosines and sines that broadcast against it.

    Features p and p + P/2 form a pair; the sines of the first half are negative.
    """
    cos, sin = (t.to(x.dtype) for t in cos_sin)
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin)


def arange_like(length: int, like: Tensor) -> Tensor:
    """0, 1, .. length - 1, where `like` is."""
    return like.new_ones(length, dtype=torch.long).cumsum(0) - 1


def exact_dtype(like: Tensor) -> torch.dtype:
    """The best precision for angles where `like` is; Apple's GPUs lack float64."""
    return torch.float32 if like.is_mps else torch.float64
