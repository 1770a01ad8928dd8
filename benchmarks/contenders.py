"""The models that are timed, all of one shape, each behind the same few calls.

Only a contender's own packages are imported, so that a process measures one model and nothing else.
"""

from __future__ import annotations

import sys
import types
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

VOCABULARY, HEADS, CHUNK, NEIGHBOUR = 8192, 8, 64, 128
LEARNING_RATE = 3e-4


@dataclass(frozen=True)
class Shape:
    """What may vary.

    Attributes:
        length: tokens N of a sequence.
        neighbours: K, 0 to switch retrieval off.
        width: d of decoder and encoder; heads of d / 8, feed-forward of 4 d.
        layers: decoder blocks, CCA in the middle and the last.
        batch: sequences.
    """

    length: int = 512
    neighbours: int = 2
    width: int = 256
    layers: int = 6
    batch: int = 4

    @property
    def cca_layers(self) -> tuple[int, ...]:
        """Counted from 1."""
        return self.layers // 2, self.layers


class Contender(Protocol):
    """A model under test."""

    model: nn.Module

    def compile(self) -> None:
        """Leaves the training step to torch.compile."""
        ...

    def loss(self, tokens: Tensor, neighbours: Tensor | None) -> Tensor:
        """Mean nats of tokens [B, N + 1] with neighbours [B, U, K, R]."""
        ...

    def start(self, tokens: Tensor, neighbours: Tensor) -> Any:
        """Takes in a context [1, N]; returns a state for `continue_`."""
        ...

    def continue_(self, state: Any, neighbours: Tensor) -> Any:
        """Adds one greedy token."""
        ...


class Ours:
    """The paper's model: no smeared keys, no pointer. Cached generation."""

    def __init__(self, shape: Shape) -> None:
        from retro_lab.nn import Retro, RetroConfig
        from retro_lab.nn.cpu import accelerate

        self.model = accelerate(
            Retro(
                RetroConfig(
                    vocab_size=VOCABULARY,
                    d_model=shape.width,
                    num_layers=shape.layers,
                    num_heads=HEADS,
                    head_dim=shape.width // HEADS,
                    d_ff=4 * shape.width,
                    cca_layers=shape.cca_layers,
                    encoder_d_model=shape.width,
                    encoder_num_layers=2,
                    encoder_cca_layers=(1, 2),
                    chunk_size=CHUNK,
                    neighbour_length=NEIGHBOUR,
                )
            )
        )

        self._token_nats: Any = self.model.token_nats

    def compile(self) -> None:
        self._token_nats = torch.compile(self.model.token_nats)

    def loss(self, tokens: Tensor, neighbours: Tensor | None) -> Tensor:
        return self._token_nats(tokens[:, :-1], tokens[:, 1:], neighbours).mean()

    def start(self, tokens: Tensor, neighbours: Tensor) -> Any:
        from retro_lab.nn.decode import new_cache, step

        cache = new_cache(self.model, 1)
        read = neighbours[:, : tokens.shape[1] // CHUNK]
        return step(self.model, tokens, cache, read)[:, -1:].argmax(-1), cache

    def continue_(self, state: Any, neighbours: Tensor) -> Any:
        from retro_lab.nn.decode import step

        token, cache = state
        chunk = (cache.length + 1) // CHUNK
        completes = (cache.length + 1) % CHUNK == 0
        read = neighbours[:, chunk - 1 : chunk] if completes else None
        return step(self.model, token, cache, read).argmax(-1), cache


class OursInPlainOperations(Ours):
    """The same where there is no C compiler."""

    def __init__(self, shape: Shape) -> None:
        from retro_lab.nn.cpu import plain

        super().__init__(shape)
        plain(self.model)


class Peer:
    """Generation of a model without a cache: the whole sequence again for every token."""

    model: nn.Module

    def compile(self) -> None:
        self.model.compile()

    def start(self, tokens: Tensor, neighbours: Tensor) -> Any:
        return tokens

    def continue_(self, state: Any, neighbours: Tensor) -> Any:
        logits = self.model(state, neighbours[:, : state.shape[1] // CHUNK])
        return torch.cat((state, logits[:, -1:].argmax(-1)), dim=1)


class Lucidrains(Peer):
    """retro-pytorch."""

    def __init__(self, shape: Shape) -> None:
        self.model = _lucidrains().RETRO(
            num_tokens=VOCABULARY,
            max_seq_len=shape.length,
            enc_dim=shape.width,
            enc_depth=2,
            enc_cross_attn_layers=(1, 2),
            dec_depth=shape.layers,
            dec_cross_attn_layers=shape.cca_layers,
            heads=HEADS,
            dec_dim=shape.width,
            dim_head=shape.width // HEADS,
            chunk_size=CHUNK,
        )

    def loss(self, tokens: Tensor, neighbours: Tensor | None) -> Tensor:
        return self.model(tokens, neighbours, return_loss=True)


class Labml(Peer):
    """labml-nn; it counts layers from 0."""

    def __init__(self, shape: Shape) -> None:
        from labml_nn.transformers.retro.model import (  # pyright: ignore[reportMissingImports]
            NearestNeighborEncoder,
            RetroModel,
        )

        head = shape.width // HEADS
        inner = 4 * shape.width
        encoder = NearestNeighborEncoder(CHUNK, 2, {0, 1}, shape.width, HEADS, head, inner)
        self.model = RetroModel(
            VOCABULARY,
            shape.width,
            shape.layers,
            {layer - 1 for layer in shape.cca_layers},
            CHUNK,
            HEADS,
            head,
            inner,
            encoder=encoder,
        )

    def loss(self, tokens: Tensor, neighbours: Tensor | None) -> Tensor:
        logits = self.model(tokens[:, :-1], neighbours)
        return F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


PEERS = {"retro-pytorch": Lucidrains, "labml-nn": Labml}
CONTENDERS = {"ours": Ours, "ours, no compiler": OursInPlainOperations, **PEERS}


def _lucidrains() -> Any:
    """The model's module alone: its package would import a search library that no model uses."""
    spec = find_spec("retro_pytorch")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    package = types.ModuleType("retro_pytorch")
    package.__path__ = list(spec.submodule_search_locations)
    retrieval = types.ModuleType("retro_pytorch.retrieval")
    retrieval.BERT_VOCAB_SIZE = 28996  # pyright: ignore[reportAttributeAccessIssue]
    sys.modules |= {"retro_pytorch": package, "retro_pytorch.retrieval": retrieval}
    from retro_pytorch import retro_pytorch  # pyright: ignore

    return retro_pytorch
