"""RETRO: embeddings, decoder with CCA, neighbour encoder, read-out (RETRO, Algorithm 1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .chunks import RetrievedChunks
from .config import RetroConfig
from .cpu import fused
from .decode.cache import AttentionCache, Cache
from .decode.incremental import step
from .decode.schedule import Schedule
from .decoder import DecoderBlock, document_mask, has_previous
from .encoder import NeighbourEncoder, noisy
from .initialise import initialise
from .layers import RMSNorm, at_least_single, linear, run
from .pointer import (
    MAX_MATCH,
    Copy,
    Pointer,
    mixture_log_probs,
    mixture_nats,
)
from .positions import Axis

IGNORED = -100


class Retro(nn.Module):
    """A retrieval-enhanced decoder; without `cca_layers` a plain language model.

    Calling it without neighbours switches retrieval off: CCA is then the identity, the encoder
    and the pointer are not run, and the result is that of the plain language model, bit for bit.
    """

    def __init__(self, config: RetroConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.blocks = nn.ModuleList(
            DecoderBlock(config, layer) for layer in range(1, config.num_layers + 1)
        )
        self.norm = RMSNorm(config.d_model)
        self.checkpointing = False
        self.dropout = nn.Dropout(config.dropout)
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
            document_ids: [B, N], which document a position belongs to when several share a row;
                attention and retrieval then stay inside documents.

        Returns:
            [B, N, V].
        """
        hidden, copy = self._hidden(input_ids, neighbour_ids, document_ids)
        logits = self._read_out(hidden)
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
            targets: [B, N], -100 where nothing is scored.

        Returns:
            [B, N] of at least single precision, 0 where nothing is scored.
        """
        hidden, copy = self._hidden(input_ids, neighbour_ids, document_ids)
        flat, weight = hidden.flatten(0, 1), self.embedding.weight
        if fused.fits(hidden):
            nats = fused.linear_nats(flat, weight, targets.flatten(), IGNORED)
        else:
            logits = at_least_single(F.linear(flat, weight))
            nats = F.cross_entropy(
                logits, targets.flatten(), ignore_index=IGNORED, reduction="none"
            )
        nats = nats.view_as(targets)
        if copy is not None:
            nats = mixture_nats(nats, targets, copy)
        return nats.masked_fill(targets == IGNORED, 0.0)

    def new_cache(
        self,
        batch: int,
        stride: int | None = None,
        first: Sequence[int] | None = None,
        shift: Sequence[int] | None = None,
    ) -> Cache:
        """An empty cache for `step`; the arguments are those of `Schedule`.

        Args:
            batch: rows B.
            stride: tokens from one search to the next; None is the chunk size.
            first: [B] leading places of each row that hold no token, whatever ids stand there, so
                that prompts of unequal length end together; None is none.
            shift: [B] tokens of left padding that move the row's searches; None is none.
        """
        weight, heads, width = self.embedding.weight, self.config.num_heads, self.config.head_dim
        schedule = Schedule.of(batch, self.config.chunk_size, stride, first, shift)
        columns = torch.tensor([schedule.first, schedule.phases], device=weight.device)
        return Cache(
            schedule=schedule,
            layers=[AttentionCache(heads, width) for _ in self.blocks],
            activations=weight.new_empty(batch, 0, self.config.d_model),
            recent=torch.full((batch, MAX_MATCH - 1), -1, device=weight.device),
            first=columns[0].unsqueeze(1),
            phases=columns[1].unsqueeze(1),
        )

    @torch.no_grad()
    def step(self, new_ids: Tensor, cache: Cache, neighbour_ids: Tensor | None = None) -> Tensor:
        """What `forward` says of the new positions, at the cost of the new positions alone.

        A chunk's neighbours are read from its last token on, so they come with the step that
        brings this token.

        Args:
            new_ids: [B, L], the tokens that follow those in the cache.
            cache: of `new_cache`; takes the new tokens in.
            neighbour_ids: [B, U, K, R], neighbours of the searches that `cache.searches(L)` names,
                U being the most that a row has; a row with fewer has them first. None to read none
                until the next search.

        Returns:
            [B, L, V] logits; log-probabilities where the pointer has something to read. Without
            meaning before a row's first token.

        Raises:
            ValueError: in training mode, or if U is another number than that.
        """
        return step(self, new_ids, cache, neighbour_ids)

    def _decoder(self) -> list[DecoderBlock]:
        """The blocks, as what they are to a type checker."""
        return cast(list[DecoderBlock], list(self.blocks))

    def _hidden(
        self, input_ids: Tensor, neighbour_ids: Tensor | None, document_ids: Tensor | None
    ) -> tuple[Tensor, Copy | None]:
        """Final normalised states [B, N, D] and the pointer's proposal."""
        config = self.config
        chunks = RetrievedChunks.given(neighbour_ids, document_ids, input_ids.shape[1], self.config)
        x = self.dropout(self.embedding(input_ids))
        row, blocks = Axis(input_ids.shape[1]), self._decoder()
        tables = blocks[0].attention.positions.tables(row, row, x)
        mask = previous = None
        if document_ids is not None:
            mask, previous = document_mask(document_ids), has_previous(document_ids)
        encoded = None
        for layer, block in enumerate(blocks, start=1):
            x = run(self.checkpointing, block.attend, x, tables, mask, previous)
            if chunks is not None and layer == config.cca_layers[0]:
                encoded = self._encode(x, chunks)
            x = run(self.checkpointing, block.finish, x, encoded, chunks)
        hidden = self.norm(x)
        if self.pointer is None or chunks is None or encoded is None:
            return hidden, None
        return hidden, self.pointer(hidden, encoded, input_ids, chunks)

    def _encode(self, x: Tensor, chunks: RetrievedChunks) -> Tensor:
        """Encoded neighbours [B, U, K, R, E], conditioned on the chunks' activations."""
        assert self.encoder is not None
        size = self.config.chunk_size
        retrieving = x[:, : chunks.num_chunks * size].unflatten(1, (chunks.num_chunks, size))
        table = self.embedding if self.encoder_embedding is None else self.encoder_embedding
        embedded = table(chunks.ids)
        embedded = noisy(embedded, self.config.neighbour_noise if self.training else 0.0)
        return self.encoder(embedded, retrieving, chunks)

    def enable_checkpointing(self, enabled: bool = True) -> None:
        """Trades time for memory: only block boundaries are kept for the backward pass.

        The loss and its gradients stay the same, dropout included.
        """
        self.checkpointing = enabled
        if self.encoder is not None:
            self.encoder.checkpointing = enabled

    def _read_out(self, hidden: Tensor) -> Tensor:
        """Logits [B, N, V] through the transposed embedding."""
        return linear(hidden, self.embedding.weight)

    def reset_parameters(self) -> None:
        """Initialises every weight, see `initialise`."""
        initialise(self, self.config.num_layers)

    def retrieval_parameters(self) -> set[str]:
        """Names of the parameters that the plain language model does not have."""
        prefixes = ("encoder.", "encoder_embedding.", "pointer.")
        return {
            name
            for name, _ in self.named_parameters()
            if name.startswith(prefixes) or ".cca." in name or ".cca_norm." in name
        }

    def load_backbone(self, state: dict[str, Tensor]) -> None:
        """Takes over a plain language model's weights; the retrieval parts keep theirs.

        Raises:
            ValueError: if the weights do not belong to this decoder, naming the differing keys.
        """
        result = self.load_state_dict(state, strict=False)
        missing = set(result.missing_keys) - self.retrieval_parameters()
        if missing or result.unexpected_keys:
            raise ValueError(
                f"not this decoder's weights: missing {sorted(missing)}, "
                f"unexpected {sorted(result.unexpected_keys)}"
            )

    def backbone_parameters(self) -> list[nn.Parameter]:
        """The parameters that the plain language model has."""
        extra = self.retrieval_parameters()
        return [value for name, value in self.named_parameters() if name not in extra]

    def freeze_backbone(self) -> None:
        """Leaves only the retrieval parts trainable (RETROfit; RETRO, section 4.2)."""
        trainable = self.retrieval_parameters()
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(name in trainable)
