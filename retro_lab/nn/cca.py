"""Chunked cross-attention, the decoder's door to the neighbours."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .attention import CrossAttention
from .chunks import RetrievedChunks, attending_chunks, put_back
from .config import RetroConfig
from .decode.cache import HeldNeighbours, NewPlaces
from .positions import Axis, build_positions


class ChunkedCrossAttention(nn.Module):
    """CCA(H, E) with one softmax over neighbours and time jointly (RETRO, section 2.4, Listing 1).

    Attending position i (0 for the last token of chunk u) stands at M - 1 + i on the axis on which
    neighbour token i' stands at i', the same for every neighbour: the distance is i - i' + M - 1,
    so the order of the neighbours cannot matter.
    """

    def __init__(self, config: RetroConfig) -> None:
        super().__init__()
        self.chunk_size = config.chunk_size
        self.attention = CrossAttention(
            config.d_model,
            config.encoder_d_model,
            config.num_heads,
            config.head_dim,
            config.smeared_keys,
            build_positions(
                config.cross_positions,
                config.d_model,
                config.num_heads,
                config.head_dim,
                config.rotary_base,
            ),
        )
        # Flamingo's gate: shut at first, so the output matrix need not start at zero.
        self.gate = nn.Parameter(torch.zeros(1)) if config.gated_cca else None

    def forward(self, x: Tensor, encoded: Tensor, chunks: RetrievedChunks) -> Tensor:
        """The update to add to the residual stream; zero wherever nothing may be read.

        Args:
            x: [B, N, D] normalised activations.
            encoded: [B, U, K, R, E] encoded neighbours.
            chunks: masks and geometry.
        """
        batch, num_chunks, num_neighbours, neighbour_length = chunks.ids.shape
        if num_chunks == 0:
            return torch.zeros_like(x)
        query = attending_chunks(x, num_chunks, self.chunk_size).flatten(0, 1)
        source = encoded.flatten(2, 3).flatten(0, 1)  # [B*U, K*R, E]
        keys = torch.arange(neighbour_length, device=x.device)
        # A chunk without any neighbour may look everywhere: its update is dropped below, and a row
        # that may look nowhere would give NaN.
        allowed = chunks.token_mask.flatten(2) | ~chunks.chunk_mask.unsqueeze(-1)
        update = self.attention(
            query,
            source,
            self.attention.positions.tables(
                Axis(self.chunk_size, start=self.chunk_size - 1),
                self._source_axis(chunks),
                x,
            ),
            mask=allowed.flatten(0, 1)[:, None, None, :],
            has_previous=(keys > 0).repeat(num_neighbours).expand(batch * num_chunks, -1),
        )
        if self.gate is not None:
            update = update * self.gate.tanh()
        update = update.unflatten(0, (batch, num_chunks))
        update = update.masked_fill(~chunks.readable.unsqueeze(-1), 0.0)
        return put_back(update, x.shape[1])

    def hold(self, encoded: Tensor, chunks: RetrievedChunks) -> tuple[Tensor, Tensor]:
        """Keys and values [B, H, K * R, P] of one chunk's neighbours [B, 1, K, R, E]."""
        batch, _, num_neighbours, neighbour_length = chunks.ids.shape
        axis = self._source_axis(chunks)
        places = torch.arange(neighbour_length, device=encoded.device)
        return self.attention.hold(
            encoded.flatten(1, 3),
            self.attention.positions.incremental(axis, axis, encoded),
            has_previous=(places > 0).repeat(num_neighbours).expand(batch, -1),
        )

    def step_tables(self, x: Tensor, chunks: RetrievedChunks, offset: int | Tensor) -> Any:
        """Tables for `step`, which all layers share.

        Args:
            x: [B, L, D] activations.
            chunks: geometry of the one chunk that was retrieved for.
            offset: place of the first position in the attending chunk, from 0; [B, 1] where the
                rows differ.
        """
        queries = Axis(x.shape[1], start=self.chunk_size - 1 + offset)
        return self.attention.positions.incremental(queries, self._source_axis(chunks), x)

    def step(self, x: Tensor, held: HeldNeighbours, layer: int, places: NewPlaces) -> Tensor:
        """The update for positions x [B, L, D], normalised, of one attending chunk.

        Args:
            held: neighbours of that chunk.
            layer: this one, counted from 1.
            places: of the positions.
        """
        update = self.attention.step(x, held.cca[layer], held.mask, places)
        if self.gate is not None:
            update = update * self.gate.tanh()
        return update if held.readable is None else update.masked_fill(~held.readable, 0.0)

    @staticmethod
    def _source_axis(chunks: RetrievedChunks) -> Axis:
        num_neighbours, neighbour_length = chunks.ids.shape[2:]
        return Axis(neighbour_length, start=chunks.start, repeats=num_neighbours)
