"""Small random models and batches, drawn over the shapes that went wrong in other code."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torch import Tensor

from retro_lab.nn import Retro, RetroConfig

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
    missing: bool = False,
    dtype: torch.dtype = torch.float64,
) -> Case:
    """A case; every parameter is random, position and gate parameters included."""
    config = RetroConfig(
        vocab_size=VOCABULARY,
        d_model=12,
        num_layers=3,
        num_heads=2,
        head_dim=4,
        d_ff=16,
        cca_layers=cca_layers,
        encoder_d_model=10,
        encoder_num_layers=2,
        encoder_cca_layers=encoder_cca_layers,
        chunk_size=chunk_size,
        neighbour_length=2 * chunk_size,
        pad_id=PAD,
        smeared_keys=smeared_keys,
        pointer=pointer,
    )
    generator = torch.Generator().manual_seed(seed)
    model = Retro(config).to(dtype).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=dtype) * 0.5)
    num_chunks = -(-length // chunk_size)
    tokens = torch.randint(0, PAD, (batch, length), generator=generator)
    shape = (batch, num_chunks, num_neighbours, 2 * chunk_size)
    neighbours = torch.randint(0, PAD, shape, generator=generator)
    if missing and num_neighbours:
        neighbours[0, 0, 0] = PAD
        neighbours[-1, -1] = PAD
        neighbours[0, num_chunks // 2, -1, chunk_size:] = PAD
    return Case(model, tokens, neighbours)


cases = st.builds(
    make_case,
    seed=st.integers(0, 1000),
    chunk_size=st.integers(2, 5),
    length=st.integers(1, 22),
    num_neighbours=st.integers(1, 3),
    batch=st.integers(1, 3),
    cca_layers=st.sampled_from([(1,), (2,), (1, 3), (2, 3), (1, 2, 3)]),
    encoder_cca_layers=st.sampled_from([(), (1,), (2,), (1, 2)]),
    smeared_keys=st.booleans(),
    pointer=st.booleans(),
    missing=st.booleans(),
)
