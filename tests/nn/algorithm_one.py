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


def attend(query: Tensor, keys: list[Tensor], values: list[Tensor]) -> Tensor:
    """Softmax attention of one head's query over lists of keys and values."""
    scores = torch.stack([(query @ key) / math.sqrt(len(query)) for key in keys])
    weights = scores.softmax(0)
    return sum((w * v for w, v in zip(weights, values, strict=True)), torch.zeros_like(values[0]))


class Oracle:
    """Algorithm 1 with the weights of `model`."""

    def __init__(self, model: Retro) -> None:
        self.model, self.config = model, model.config
        self.heads, self.width = self.config.num_heads, self.config.head_dim
        self.base = self.config.rotary_base

    def head(self, x: Tensor, h: int) -> Tensor:
        return x[h * self.width : (h + 1) * self.width]

    def smeared(self, smear, keys: list[Tensor], h: int) -> list[Tensor]:
        """Keys of one head, each mixed with its predecessor's."""
        if smear is None:
            return keys
        share = smear.logit[h].sigmoid()
        before = [torch.zeros_like(keys[0]), *keys[:-1]]
        return [(1 - share) * key + share * last for key, last in zip(keys, before, strict=True)]

    def self_attention(self, module, xs: list[Tensor], causal: bool) -> list[Tensor]:
        projected = [module.qkv.weight @ x for x in xs]
        size = self.heads * self.width
        mixed = [torch.empty(0, dtype=torch.float64)] * len(xs)
        for h in range(self.heads):
            keys = self.smeared(
                module.smear, [self.head(p[size : 2 * size], h) for p in projected], h
            )
            keys = [rotate(key, i, self.base) for i, key in enumerate(keys)]
            values = [self.head(p[2 * size :], h) for p in projected]
            for i, p in enumerate(projected):
                seen = i + 1 if causal else len(xs)
                query = rotate(self.head(p[:size], h), i, self.base)
                mixed[i] = torch.cat((mixed[i], attend(query, keys[:seen], values[:seen])))
        return [module.out.weight @ m for m in mixed]

    def cross_attention(self, module, x: Tensor, position: int, rows: list[list[Tensor]]) -> Tensor:
        """One query at `position` over several rows of sources, each with positions from 0."""
        size = self.heads * self.width
        mixed = []
        for h in range(self.heads):
            keys, values = [], []
            for row in rows:
                projected = [module.key_value.weight @ s for s in row]
                own = self.smeared(module.smear, [self.head(p[:size], h) for p in projected], h)
                keys += [rotate(key, i, self.base) for i, key in enumerate(own)]
                values += [self.head(p[size:], h) for p in projected]
            query = rotate(self.head(module.query.weight @ x, h), position, self.base)
            mixed.append(attend(query, keys, values))
        return module.out.weight @ torch.cat(mixed)

    def feed_forward(self, module, x: Tensor) -> Tensor:
        inner = module.up.weight @ x
        inner = torch.nn.functional.gelu(inner, approximate="tanh")
        return module.down.weight @ inner

    def encode(self, neighbour: Tensor, retrieving: list[Tensor]) -> list[Tensor]:
        """ENCODER(RET(C_u)^j, H_u): one neighbour [R], without its padding."""
        model = self.model
        table = model.encoder_embedding or model.embedding
        xs = [table.weight[token] for token in neighbour.tolist() if token != self.config.pad_id]
        for block in model.encoder.blocks:
            normed = [rms(x, block.attention_norm.weight) for x in xs]
            updates = self.self_attention(block.attention, normed, causal=False)
            xs = [x + u for x, u in zip(xs, updates, strict=True)]
            if block.conditioned:
                normed = [rms(x, block.condition_norm.weight) for x in xs]
                xs = [
                    x + self.cross_attention(block.condition, n, i, [retrieving])
                    for i, (x, n) in enumerate(zip(xs, normed, strict=True))
                ]
            xs = [x + self.feed_forward(block.ff, rms(x, block.ff_norm.weight)) for x in xs]
        return [rms(x, model.encoder.norm.weight) for x in xs]

    def hidden(self, tokens: Tensor, neighbours: Tensor | None) -> list[Tensor]:
        """Final states of one row; tokens [N], neighbours [U, K, R]."""
        model, m = self.model, self.config.chunk_size
        xs = [model.embedding.weight[token] for token in tokens.tolist()]
        complete = 0 if neighbours is None else len(tokens) // m
        encoded: list[list[list[Tensor]]] = []
        for layer, block in enumerate(model.blocks, start=1):
            normed = [rms(x, block.attention_norm.weight) for x in xs]
            updates = self.self_attention(block.attention, normed, causal=True)
            xs = [x + u for x, u in zip(xs, updates, strict=True)]
            if complete and layer == min(self.config.cca_layers):
                for u in range(1, complete + 1):
                    present = [n for n in neighbours[u - 1] if (n != self.config.pad_id).any()]
                    retrieving = xs[(u - 1) * m : u * m]
                    encoded.append([self.encode(n, retrieving) for n in present])
            if complete and layer in self.config.cca_layers:
                before = list(xs)
                for u in range(1, complete + 1):  # chunks and positions from 1, as in the paper
                    for i in range(1, m + 1):
                        t = u * m + i - 1
                        if t > len(xs) or not encoded[u - 1]:
                            continue
                        query = rms(before[t - 1], block.cca_norm.weight)
                        update = self.cross_attention(
                            block.cca.attention, query, i + m - 2, encoded[u - 1]
                        )
                        xs[t - 1] = before[t - 1] + update
            xs = [x + self.feed_forward(block.ff, rms(x, block.ff_norm.weight)) for x in xs]
        return [rms(x, model.norm.weight) for x in xs]

    def logits(self, tokens: Tensor, neighbours: Tensor | None) -> Tensor:
        """[N, V]."""
        return torch.stack(
            [self.model.embedding.weight @ x for x in self.hidden(tokens, neighbours)]
        )
