"""RETRO's Algorithm 1 as slow loops over single tokens, straight from the paper: the oracle.

It reads the weights of a `Retro` and nothing of its code: no chunk reshaping, no masks, no batched
attention. One document, one row, float64, evaluation mode.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from retro_lab.nn import Retro


def rms(x: Tensor, gain: Tensor) -> Tensor:
    return x / (x.pow(2).mean() + 1e-6).sqrt() * gain


def rotate(x: Tensor, position: int, base: float) -> Tensor:
    """One head's vector [P] turned by its position."""
    half = len(x) // 2
    out = torch.empty_like(x)
    for i in range(half):
        angle = position * base ** (-2 * i / len(x))
        cos, sin = math.cos(angle), math.sin(angle)
        out[i] = x[i] * cos - x[i + half] * sin
        out[i + half] = x[i + half] * cos + x[i] * sin
    return out


def sinusoids(distance: int, width: int) -> Tensor:
    """Sines, then cosines, of a distance at falling frequencies."""
    half = (width + 1) // 2
    angles = [distance / 10_000 ** (i / half) for i in range(half)]
    waves = [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
    return torch.tensor(waves[:width], dtype=torch.float64)


def bucket(kind: str, distance: int) -> int:
    """Row of a distance in a table of biases."""
    if kind == "bucket_linear":
        return max(-256, min(256, distance)) + 256
    size, direction = abs(distance), 16 if distance < 0 else 0
    if size < 8:
        return direction + size
    return direction + min(15, 8 + int(8 * math.log(size / 8) / math.log(256 / 8)))


def weighted(logits: list[Tensor], values: list[Tensor]) -> Tensor:
    """Values averaged by the softmax of their logits."""
    weights = torch.stack(logits).softmax(0)
    return sum((w * v for w, v in zip(weights, values, strict=True)), torch.zeros_like(values[0]))


def head(x: Tensor, h: int, width: int) -> Tensor:
    """The share of head h."""
    return x[h * width : (h + 1) * width]


class Oracle:
    """Algorithm 1 with the weights of `model`."""

    def __init__(self, model: Retro) -> None:
        self.model, self.config = model, model.config
        read = {"both": (0, None), "neighbour": (0, 1), "continuation": (1, None)}
        first, last = read[self.config.value]
        m = self.config.chunk_size
        self.read = slice(first * m, last and last * m)

    def logit(
        self, kind: str, module, query: Tensor, i: int, key: Tensor, j: int, h: int
    ) -> Tensor:
        """Logit of one head's query at place i for a key at place j."""
        width = len(query)
        if kind == "rotary":
            base = self.config.rotary_base
            return rotate(query, i, base) @ rotate(key, j, base) / math.sqrt(width)
        if kind == "none":
            return query @ key / math.sqrt(width)
        if kind == "relative":
            projection = module.project.weight
            place = head(projection @ sinusoids(i - j, projection.shape[1]), h, width)
            u, v = head(module.content_bias, h, width), head(module.distance_bias, h, width)
            return ((query + u) @ key + (query + v) @ place) / math.sqrt(width)
        return query @ key / math.sqrt(width) + module.bias.weight[bucket(kind, i - j), h]

    def smeared(self, smear, keys: list[Tensor], h: int) -> list[Tensor]:
        """Keys of one head, each mixed with its predecessor's."""
        if smear is None:
            return keys
        share = smear.logit[h].sigmoid()
        before = [torch.zeros_like(keys[0]), *keys[:-1]]
        return [(1 - share) * key + share * last for key, last in zip(keys, before, strict=True)]

    def self_attention(
        self, module, xs: list[Tensor], shape: tuple[int, int], causal: bool
    ) -> list[Tensor]:
        projected = [module.qkv.weight @ x for x in xs]
        kind, (heads, width) = self.config.positions, shape
        size = heads * width
        mixed = [torch.empty(0, dtype=torch.float64)] * len(xs)
        for h in range(heads):
            keys = [head(p[size : 2 * size], h, width) for p in projected]
            keys = self.smeared(module.smear, keys, h)
            values = [head(p[2 * size :], h, width) for p in projected]
            for i, p in enumerate(projected):
                seen = i + 1 if causal else len(xs)
                query = head(p[:size], h, width)
                logits = [
                    self.logit(kind, module.positions, query, i, key, j, h)
                    for j, key in enumerate(keys[:seen])
                ]
                mixed[i] = torch.cat((mixed[i], weighted(logits, values[:seen])))
        return [module.out.weight @ m for m in mixed]

    def cross_attention(
        self, module, x: Tensor, i: int, rows: list[list[Tensor]], first: int, shape
    ) -> Tensor:
        """One query at place i over several rows of sources, each with places from `first`."""
        kind = self.config.positions if self.config.cca_positions else "none"
        heads, width = shape
        size = heads * width
        mixed = []
        for h in range(heads):
            query = head(module.query.weight @ x, h, width)
            logits, values = [], []
            for row in rows:
                projected = [module.key_value.weight @ s for s in row]
                keys = [head(p[:size], h, width) for p in projected]
                logits += [
                    self.logit(kind, module.positions, query, i, key, j, h)
                    for j, key in enumerate(self.smeared(module.smear, keys, h), start=first)
                ]
                values += [head(p[size:], h, width) for p in projected]
            mixed.append(weighted(logits, values))
        return module.out.weight @ torch.cat(mixed)

    def feed_forward(self, module, x: Tensor) -> Tensor:
        inner = module.up.weight @ x
        if self.config.ff == "swiglu":
            gate = module.gate.weight @ x
            return module.down.weight @ (gate * gate.sigmoid() * inner)
        return module.down.weight @ torch.nn.functional.gelu(inner, approximate="tanh")

    def encode(self, neighbour: Tensor, retrieving: list[Tensor]) -> list[Tensor]:
        """ENCODER(RET(C_u)^j, H_u): one neighbour [R], without its padding."""
        model = self.model
        table = model.encoder_embedding or model.embedding
        xs = [table.weight[token] for token in neighbour.tolist() if token != self.config.pad_id]
        first, shape = self.read.start, self.config.encoder_heads
        for block in model.encoder.blocks:
            normed = [rms(x, block.attention_norm.weight) for x in xs]
            updates = self.self_attention(block.attention, normed, shape, causal=False)
            xs = [x + u for x, u in zip(xs, updates, strict=True)]
            if block.conditioned:
                normed = [rms(x, block.condition_norm.weight) for x in xs]
                begin = self.config.chunk_size - len(retrieving)  # left padding is not there
                xs = [
                    x + self.cross_attention(block.condition, n, i, [retrieving], begin, shape)
                    for i, (x, n) in enumerate(zip(xs, normed, strict=True), start=first)
                ]
            xs = [x + self.feed_forward(block.ff, rms(x, block.ff_norm.weight)) for x in xs]
        return [rms(x, model.encoder.norm.weight) for x in xs]

    def hidden(
        self, tokens: Tensor, neighbours: Tensor | None, searches: list[int] | None = None
    ) -> list[Tensor]:
        """Final states of one row; tokens [N], neighbours [U, K, R].

        `searches` are the token counts after which there was a search with the latest m tokens;
        the paper's are the chunk ends.
        """
        model, m = self.model, self.config.chunk_size
        shape = (self.config.num_heads, self.config.head_dim)
        ends = list(range(m, len(tokens) + 1, m)) if searches is None else searches
        if neighbours is None:
            ends = []
        else:
            neighbours = neighbours[:, :, self.read]
        xs = [model.embedding.weight[token] for token in tokens.tolist()]
        encoded: list[list[list[Tensor]]] = []
        for layer, block in enumerate(model.blocks, start=1):
            normed = [rms(x, block.attention_norm.weight) for x in xs]
            updates = self.self_attention(block.attention, normed, shape, causal=True)
            xs = [x + u for x, u in zip(xs, updates, strict=True)]
            if neighbours is not None and layer == min(self.config.cca_layers):
                for found, end in zip(neighbours, ends, strict=False):
                    present = [n for n in found if (n != self.config.pad_id).any()]
                    retrieving = xs[max(0, end - m) : end]
                    encoded.append([self.encode(n, retrieving) for n in present])
            if layer in self.config.cca_layers:
                before = list(xs)
                for u, end in enumerate(
                    ends, start=1
                ):  # chunks and positions from 1, as in the paper
                    following = ends[u] if u < len(ends) else end + m
                    for i in range(1, following - end + 1):
                        t = end + i - 1
                        if t > len(xs) or not encoded[u - 1]:
                            continue
                        query = rms(before[t - 1], block.cca_norm.weight)
                        update = self.cross_attention(
                            block.cca.attention,
                            query,
                            i + m - 2,
                            encoded[u - 1],
                            self.read.start,
                            shape,
                        )
                        if block.cca.gate is not None:
                            update = update * torch.tanh(block.cca.gate)
                        xs[t - 1] = before[t - 1] + update
            xs = [x + self.feed_forward(block.ff, rms(x, block.ff_norm.weight)) for x in xs]
        return [rms(x, model.norm.weight) for x in xs]

    def logits(
        self, tokens: Tensor, neighbours: Tensor | None, searches: list[int] | None = None
    ) -> Tensor:
        """[N, V]; arguments as of `hidden`."""
        states = self.hidden(tokens, neighbours, searches)
        return torch.stack([self.model.embedding.weight @ x for x in states])
