"""Encodes copies of a neighbour once if their encodings must be equal."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..chunks import RetrievedChunks
from ..positions import arange_like
from ..retro import EncoderBlock, NeighbourEncoder


class DistinctEncoder(NeighbourEncoder):
    """Encodes each distinct neighbour once if the encoding depends on the text alone.

    Excluded are GPUs, where counting distinct neighbours would stall every step, and compiled
    models, which need fixed shapes.
    """

    def forward(self, embedded: Tensor, retrieving: Tensor, chunks: RetrievedChunks) -> Tensor:
        if not chunks.ids.is_cpu or torch.compiler.is_compiling() or not self._by_text_alone():
            return super().forward(embedded, retrieving, chunks)
        ids = chunks.ids.flatten(0, 2)
        distinct, which = ids.unique(dim=0, return_inverse=True)
        if len(distinct) == len(ids):
            return super().forward(embedded, retrieving, chunks)
        one = which.new_empty(len(distinct)).index_copy_(0, which, arange_like(len(ids), ids))
        some = replace(
            chunks,
            ids=ids[one][None, :, None],
            token_mask=chunks.token_mask.flatten(0, 2)[one][None, :, None],
        )
        rows = super().forward(embedded.flatten(0, 2)[one][None, :, None], retrieving, some)
        return rows.flatten(0, 2)[which].view(*chunks.ids.shape, -1)

    def _by_text_alone(self) -> bool:
        """Whether encodings are independent of the retrieving chunk and of random numbers."""
        by_chance = self.training and (self.dropout.p > 0 or self.noise > 0)
        return not by_chance and not any(
            isinstance(block, EncoderBlock) and block.conditioned for block in self.blocks
        )
