"""RETRO in the order of Algorithm 1 (Borgeaud et al. 2021): encoder, CCA, decoder, model.

Shape legend:
    B batch          N tokens of a sequence    U chunks of a sequence    M tokens a chunk
    K neighbours     R tokens a neighbour (with its continuation)
    D decoder width  E encoder width  H heads  P head width  F feed-forward width  V vocabulary
    X rows of a flattened batch of chunks or neighbours

Layers are counted from 1, as in the paper.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import CrossAttention, SelfAttention, document_mask, has_previous
from .chunks import RetrievedChunks, attending_chunks, put_back
from .config import RetroConfig
from .initialise import SelfInitialising, initialise
from .layers import RMSNorm, at_least_single, feed_forward, maybe_checkpointed, noisy
from .pointer import Copy, Pointer, mixture_log_probs, mixture_nats
from .positions import Axis
from .retrofit import Retrofitted

IGNORED = -100  # target of unscored positions


class Block(nn.Module):
    """Base of all blocks: residual parts, each with a norm before and dropout after."""

    dropout: nn.Dropout

    def residual(self, x: Tensor, norm: RMSNorm, part: nn.Module, *args: Any) -> Tensor:
        """x + dropout(part(norm(x), ..))."""
        return x + self.dropout(part(norm(x), *args))


class EncoderBlock(Block):
    """Bidirectional attention, optional cross-attention to the retrieving chunk, feed-forward."""

    def __init__(self, config: RetroConfig, layer: int) -> None:
        super().__init__()
        width, heads = config.encoder_d_model, config.encoder_heads
        self.attention_norm = RMSNorm(width)
        self.attention = SelfAttention(config, width, heads)
        self.conditioned = layer in config.encoder_cca_layers
        if self.conditioned:
            self.condition_norm = RMSNorm(width)
            self.condition = CrossAttention(config, width, config.d_model, heads, smeared=False)
        self.ff_norm = RMSNorm(width)
        self.ff = feed_forward(config.ff, width, 4 * width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        x: Tensor,
        tables: Any,
        mask: Tensor,
        retrieving: Tensor,
        start: int,
        known: Tensor | None,
    ) -> Tensor:
        """One block over neighbours.

        Args:
            x: [X, R, E] with X = B*U*K.
            tables: of the self-attention's positions.
            mask: [X, 1, 1, R], True at real tokens.
            retrieving: [B*U, M, D], activations of the retrieving chunks.
            start: offset of the first token in the retrieved text.
            known: [B*U, 1, 1, M], False at padding of `retrieving`; None without padding.
        """
        x = self.residual(x, self.attention_norm, self.attention, tables, mask)
        if self.conditioned:
            # The retrieving chunk is projected once for all of its neighbours.
            rows = x.view(len(retrieving), -1, x.shape[-1])
            neighbours = Axis(x.shape[1], start, repeats=rows.shape[1] // x.shape[1])
            across = self.condition.positions.tables(neighbours, Axis(retrieving.shape[1]), x)
            rows = self.residual(
                rows, self.condition_norm, self.condition, retrieving, across, known
            )
            x = rows.view_as(x)
        return self.residual(x, self.ff_norm, self.ff)


class NeighbourEncoder(nn.Module):
    """ENCODER(RET(C_u), H_u) of Algorithm 1; weights shared over chunks and neighbours."""

    def __init__(self, config: RetroConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            EncoderBlock(config, layer) for layer in range(1, config.encoder_num_layers + 1)
        )
        self.norm = RMSNorm(config.encoder_d_model)
        self.dropout = nn.Dropout(config.dropout)
        self.noise = config.neighbour_noise
        self.checkpointing = False

    def forward(self, embedded: Tensor, retrieving: Tensor, chunks: RetrievedChunks) -> Tensor:
        """Encodes each neighbour separately.

        Args:
            embedded: [B, U, K, R, E], token embeddings of the neighbours, before noise.
            retrieving: [B, U, M, D], activations H_u of the retrieving chunks.
            chunks: masks and geometry.

        Returns:
            [B, U, K, R, E], normalised.
        """
        row, blocks = Axis(chunks.ids.shape[-1]), cast(list[EncoderBlock], list(self.blocks))
        tables = blocks[0].attention.positions.tables(row, row, embedded)
        embedded = noisy(embedded, self.noise if self.training else 0.0)
        x = self.dropout(embedded).flatten(0, 2)  # [X, R, E]
        source = retrieving.flatten(0, 1)  # [B*U, M, D]
        # A missing neighbour may attend everywhere; its result is never used.
        missing = ~chunks.token_mask.any(-1, keepdim=True)
        mask = (chunks.token_mask | missing).flatten(0, 2)[:, None, None, :]
        known = None if chunks.known is None else chunks.known.flatten(0, 1)[:, None, None, :]
        for block in blocks:
            x = maybe_checkpointed(
                self.checkpointing, block, x, tables, mask, source, chunks.start, known
            )
        return self.norm(x).view(*chunks.ids.shape, -1)


class ChunkedCrossAttention(SelfInitialising):
    """CCA(H, E) with one softmax over neighbours and time jointly (RETRO, section 2.4, Listing 1).

    Attending position i (0 for the last token of chunk u) is at M - 1 + i on the axis on which
    neighbour token i' is at i', for every neighbour. The distance is i - i' + M - 1, so the order
    of the neighbours has no effect.
    """

    def __init__(self, config: RetroConfig) -> None:
        super().__init__()
        self.chunk_size = config.chunk_size
        width, heads = config.d_model, (config.num_heads, config.head_dim)
        smeared = config.smeared_keys
        self.attention = CrossAttention(config, width, config.encoder_d_model, heads, smeared)
        # Flamingo's gate starts closed, so the output matrix need not start at zero.
        self.gate = nn.Parameter(torch.zeros(1)) if config.gated_cca else None

    def start(self) -> None:
        """Closes CCA: zeroes the gate or else the output; with both zero, neither would learn."""
        nn.init.zeros_(self.attention.out.weight if self.gate is None else self.gate)

    def forward(self, x: Tensor, encoded: Tensor, chunks: RetrievedChunks) -> Tensor:
        """The update to the residual stream; zero where there is nothing to read.

        Args:
            x: [B, N, D] normalised activations.
            encoded: [B, U, K, R, E] encoded neighbours.
            chunks: masks and geometry.
        """
        if chunks.num_chunks == 0:
            return torch.zeros_like(x)
        query = attending_chunks(x, chunks.num_chunks, self.chunk_size).flatten(0, 1)
        source = encoded.flatten(2, 3).flatten(0, 1)  # [B*U, K*R, E]
        tables = self.attention.positions.tables(self.axis(self.chunk_size), chunks.axis, x)
        update = self.attention(query, source, tables, chunks.attendable, chunks.has_previous)
        update = self.gated(update).unflatten(0, (len(x), chunks.num_chunks))
        update = update.masked_fill(~chunks.readable.unsqueeze(-1), 0.0)
        return put_back(update, x.shape[1])

    def axis(self, length: int, offset: int | Tensor = 0) -> Axis:
        """The axis of `length` positions that start at `offset` in the attending chunk."""
        return Axis(length, self.chunk_size - 1 + offset)

    def gated(self, update: Tensor) -> Tensor:
        """The update scaled by the gate."""
        return update if self.gate is None else update * self.gate.tanh()


class DecoderBlock(Block):
    """Causal attention, optional CCA, feed-forward."""

    def __init__(self, config: RetroConfig, layer: int) -> None:
        super().__init__()
        width, heads = config.d_model, (config.num_heads, config.head_dim)
        self.attention_norm = RMSNorm(width)
        self.attention = SelfAttention(config, width, heads)
        self.ff_norm = RMSNorm(width)
        self.ff = feed_forward(config.ff, width, config.d_ff)
        self.dropout = nn.Dropout(config.dropout)
        self.cca: ChunkedCrossAttention | None = None
        if layer in config.cca_layers:
            self.cca_norm = RMSNorm(width)
            self.cca = ChunkedCrossAttention(config)

    def attend(
        self, x: Tensor, tables: Any, mask: Tensor | None, previous: Tensor | None
    ) -> Tensor:
        """x [B, N, D] after self-attention; the encoder reads this.

        Args:
            tables: of the self-attention's positions.
            mask: [B, 1, N, N], or None for plain causal attention.
            previous: [B, N], see `has_previous`.
        """
        return self.residual(x, self.attention_norm, self.attention, tables, mask, previous, True)

    def finish(self, x: Tensor, encoded: Tensor | None, chunks: RetrievedChunks | None) -> Tensor:
        """x [B, N, D] after CCA, if present and with neighbours to read, and feed-forward."""
        if self.cca is not None and encoded is not None and chunks is not None:
            x = self.residual(x, self.cca_norm, self.cca, encoded, chunks)
        return self.residual(x, self.ff_norm, self.ff)


class Retro(Retrofitted):
    """A retrieval-enhanced decoder; without `cca_layers` a plain language model.

    Without neighbours retrieval is off: CCA is the identity, encoder and pointer are skipped, and
    the result equals the plain language model's bit for bit. A table of n-grams is not part of the
    paper: its class is handed in, and a ValueError says so where `config.ngram_rows` needs it.
    """

    def __init__(self, config: RetroConfig, ngrams: type[nn.Module] | None = None) -> None:
        super().__init__()
        if config.ngram_rows and ngrams is None:
            raise ValueError("ngram_rows need Retro(config, NgramTable), from nn/ngram_table.py")
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.blocks = nn.ModuleList(
            DecoderBlock(config, layer) for layer in range(1, config.num_layers + 1)
        )
        self.norm = RMSNorm(config.d_model)
        self.checkpointing = False
        self.dropout = nn.Dropout(config.dropout)
        self.ngrams = ngrams(config) if ngrams and config.ngram_rows else None
        self.encoder: NeighbourEncoder | None = None
        self.encoder_embedding: nn.Embedding | None = None
        self.pointer: Pointer | None = None
        if config.has_retrieval:
            self.encoder = NeighbourEncoder(config)
            if not config.share_embeddings:
                self.encoder_embedding = nn.Embedding(config.vocab_size, config.encoder_d_model)
            if config.pointer:
                self.pointer = Pointer(config)
        self.reset_parameters()

    def forward(
        self,
        input_ids: Tensor,
        neighbour_ids: Tensor | None = None,
        document_ids: Tensor | None = None,
    ) -> Tensor:
        """Logits of the next token; with the pointer, log-probabilities of the mixture.

        Args:
            input_ids: [B, N].
            neighbour_ids: [B, U, K, R], neighbours of chunk u with their continuations, missing
                ones as rows of pad_id; None switches retrieval off.
            document_ids: [B, N], document of each position if several share a row; attention and
                retrieval then stay inside documents.

        Returns:
            [B, N, V].
        """
        hidden, copy = self.hidden(input_ids, neighbour_ids, document_ids)
        logits = self.logits(hidden)
        return logits if copy is None else mixture_log_probs(logits, copy)

    def token_nats(
        self,
        input_ids: Tensor,
        targets: Tensor,
        neighbour_ids: Tensor | None = None,
        document_ids: Tensor | None = None,
    ) -> Tensor:
        """Negative log-likelihood of each target, in nats; the pointer never builds [N, V].

        Args:
            targets: [B, N], -100 for unscored positions.

        Returns:
            [B, N] of at least single precision, 0 at unscored positions.
        """
        hidden, copy = self.hidden(input_ids, neighbour_ids, document_ids)
        nats = self.cross_entropy(hidden.flatten(0, 1), targets.flatten()).view_as(targets)
        if copy is not None:
            nats = mixture_nats(nats, targets, copy)
        return nats.masked_fill(targets == IGNORED, 0.0)

    def hidden(
        self,
        input_ids: Tensor,
        neighbour_ids: Tensor | None = None,
        document_ids: Tensor | None = None,
    ) -> tuple[Tensor, Copy | None]:
        """Final normalised states [B, N, D] and the pointer's copy distribution (Algorithm 1)."""
        config, row = self.config, Axis(input_ids.shape[1])
        chunks = RetrievedChunks.given(neighbour_ids, document_ids, input_ids.shape[1], config)
        x, blocks = self.dropout(self.embedding(input_ids)), self.decoder_blocks()
        tables = blocks[0].attention.positions.tables(row, row, x)
        mask = previous = encoded = None
        if document_ids is not None:
            mask, previous = document_mask(document_ids), has_previous(document_ids)
        for layer, block in enumerate(blocks, start=1):
            if self.ngrams is not None and layer == config.ngram_layer:
                x = self.ngrams(x, input_ids, document_ids)
            x = maybe_checkpointed(self.checkpointing, block.attend, x, tables, mask, previous)
            if chunks is not None and layer == config.cca_layers[0]:
                size = config.chunk_size
                retrieving = x[:, : chunks.num_chunks * size].unflatten(1, (-1, size))
                encoded = self.encode(retrieving, chunks)
            x = maybe_checkpointed(self.checkpointing, block.finish, x, encoded, chunks)
        hidden = self.norm(x)
        if self.pointer is None or chunks is None or encoded is None:
            return hidden, None
        return hidden, self.pointer(hidden, encoded, input_ids, chunks)

    def encode(self, retrieving: Tensor, chunks: RetrievedChunks) -> Tensor:
        """Encoded neighbours [B, U, K, R, E], conditioned on activations [B, U, M, D]."""
        assert self.encoder is not None
        table = self.embedding if self.encoder_embedding is None else self.encoder_embedding
        return self.encoder(table(chunks.ids), retrieving, chunks)

    def logits(self, hidden: Tensor) -> Tensor:
        """[.., V] of states [.., D], through the transposed embedding."""
        return F.linear(hidden, self.embedding.weight)

    def cross_entropy(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Nats [T] of targets [T], -100 for unscored, from states [T, D], without the pointer."""
        logits = at_least_single(F.linear(hidden, self.embedding.weight))
        return F.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="none")

    def decoder_blocks(self) -> list[DecoderBlock]:
        """The blocks, typed as `DecoderBlock`."""
        return cast(list[DecoderBlock], list(self.blocks))

    def enable_checkpointing(self, enabled: bool = True) -> None:
        """Activation checkpointing: keeps only block boundaries for the backward pass.

        Saves memory and costs time; loss and gradients stay the same, including dropout.
        """
        self.checkpointing = enabled
        if self.encoder is not None:
            self.encoder.checkpointing = enabled

    def reset_parameters(self) -> None:
        """Initialises every weight, see `initialise`."""
        initialise(self, self.config.num_layers)
