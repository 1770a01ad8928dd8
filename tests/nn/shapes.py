"""Small random models and batches, drawn over the shapes that went wrong in other code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import torch
from hypothesis import strategies as st
from torch import Tensor

from retro_lab.nn import Retro, RetroConfig
from retro_lab.nn.config import FeedForwardKind, PositionKind, ValueKind
from retro_lab.nn.cpu import accelerate
from retro_lab.nn.decode import new_cache, step
from retro_lab.nn.ngram_table import NgramTable

POSITIONS = get_args(PositionKind)
VALUES = get_args(ValueKind)
FEED_FORWARDS = get_args(FeedForwardKind)
VOCABULARY = 23
PAD = VOCABULARY - 1


@dataclass
class Case:
    """A model in evaluation mode and a batch for it; one neighbour and one chunk may be missing."""

    model: Retro
    tokens: Tensor
    neighbours: Tensor

    @property
    def chunk_size(self) -> int:
        return self.model.config.chunk_size


def make_case(
    *,
    seed: int = 0,
    chunk_size: int = 4,
    length: int = 18,
    num_neighbours: int = 2,
    batch: int = 2,
    cca_layers: tuple[int, ...] = (2, 3),
    encoder_cca_layers: tuple[int, ...] = (1, 2),
    smeared_keys: bool = True,
    pointer: bool = False,
    pointer_heads: int = 1,
    match_bias: bool = True,
    positions: PositionKind = "rotary",
    cca_positions: bool = True,
    value: ValueKind = "both",
    continuation_chunks: int = 1,
    gated_cca: bool = False,
    ff: FeedForwardKind = "gelu",
    dropout: float = 0.0,
    neighbour_noise: float = 0.0,
    share_embeddings: bool = False,
    ngram_rows: int = 0,
    head_dim: int = 8,  # as many as any processor's vector has, in double precision
    missing: bool = False,
    dtype: torch.dtype = torch.float64,
) -> Case:
    """A case; every parameter is random, position and gate parameters included."""
    config = RetroConfig(
        vocab_size=VOCABULARY,
        d_model=12,
        num_layers=3,
        num_heads=2,
        head_dim=head_dim,
        d_ff=16,
        cca_layers=cca_layers,
        encoder_d_model=12 if share_embeddings else 10,
        encoder_num_layers=2,
        encoder_cca_layers=encoder_cca_layers,
        chunk_size=chunk_size,
        neighbour_length=(1 + continuation_chunks) * chunk_size,
        pad_id=PAD,
        ngram_rows=ngram_rows,
        ngram_width=4,
        smeared_keys=smeared_keys,
        pointer=pointer,
        pointer_heads=pointer_heads,
        match_bias=match_bias,
        encoder_num_heads=3,
        encoder_head_dim=8,
        positions=positions,
        cca_positions=cca_positions,
        value=value,
        gated_cca=gated_cca,
        ff=ff,
        dropout=dropout,
        neighbour_noise=neighbour_noise,
        share_embeddings=share_embeddings,
    )
    generator = torch.Generator().manual_seed(seed)
    model = accelerate(Retro(config, NgramTable)).to(dtype).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=dtype) * 0.5)
    num_chunks = -(-length // chunk_size)
    tokens = torch.randint(0, PAD, (batch, length), generator=generator)
    shape = (batch, num_chunks, num_neighbours, config.neighbour_length)
    neighbours = torch.randint(0, PAD, shape, generator=generator)
    if missing and num_neighbours:
        neighbours[0, 0, 0] = PAD
        neighbours[-1, -1] = PAD
        neighbours[0, num_chunks // 2, -1, chunk_size:] = PAD
    return Case(model, tokens, neighbours)


def in_steps(case: Case, lengths: list[int], retrieval: bool = True) -> Tensor:
    """What `step` says [B, N, V] over pieces of given lengths, and one of the rest."""
    cache = new_cache(case.model, len(case.tokens))
    outputs, start, total = [], 0, case.tokens.shape[1]
    for length in [*lengths, total]:
        stop = min(total, start + length)
        if stop == start:
            continue
        completed = slice(start // case.chunk_size, stop // case.chunk_size)
        neighbours = case.neighbours[:, completed] if retrieval else None
        outputs.append(step(case.model, case.tokens[:, start:stop], cache, neighbours))
        start = stop
    return torch.cat(outputs, dim=1)


# What of a retrieved text is read, and how many chunks follow the neighbour in it.
EXTENTS = [
    *(("both", continuation_chunks) for continuation_chunks in (0, 1, 2)),
    ("neighbour", 1),
    ("continuation", 1),
    ("continuation", 2),
]
cases = st.builds(
    lambda extent, **rest: make_case(value=extent[0], continuation_chunks=extent[1], **rest),
    extent=st.sampled_from(EXTENTS),
    seed=st.integers(0, 1000),
    chunk_size=st.integers(2, 5),
    length=st.integers(1, 22),
    num_neighbours=st.integers(1, 3),
    batch=st.integers(1, 3),
    cca_layers=st.sampled_from([(1,), (2,), (1, 3), (2, 3), (1, 2, 3)]),
    encoder_cca_layers=st.sampled_from([(), (1,), (2,), (1, 2)]),
    smeared_keys=st.booleans(),
    pointer=st.booleans(),
    pointer_heads=st.sampled_from([1, 2]),
    match_bias=st.booleans(),
    positions=st.sampled_from(POSITIONS),
    cca_positions=st.booleans(),
    gated_cca=st.booleans(),
    ff=st.sampled_from(FEED_FORWARDS),
    share_embeddings=st.booleans(),
    missing=st.booleans(),
)
