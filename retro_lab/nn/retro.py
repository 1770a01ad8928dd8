"""RETRO: embeddings, decoder with CCA, neighbour encoder, read-out (RETRO, Algorithm 1)."""

from __future__ import annotations

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import fused
from .cache import AttentionCache, Cache, HeldNeighbours
from .chunks import RetrievedChunks
from .config import RetroConfig
from .decoder import DecoderBlock, document_mask, has_previous
from .encoder import NeighbourEncoder
from .layers import at_least_single, rms_norm, run
from .pointer import (
    MAX_MATCH,
    Copy,
    Pointer,
    mixture_log_probs,
    mixture_nats,
    step_log_probs,
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
        self.norm = rms_norm(config.d_model)
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

    def new_cache(self, batch: int) -> Cache:
        """An empty cache for `step`, for `batch` sequences of the same length."""
        weight = self.embedding.weight
        return Cache(
            layers=[AttentionCache() for _ in self.blocks],
            activations=weight.new_empty(batch, 0, self.config.d_model),
            recent=torch.full((batch, MAX_MATCH - 1), -1, device=weight.device),
        )

    @torch.no_grad()
    def step(self, new_ids: Tensor, cache: Cache, neighbour_ids: Tensor | None = None) -> Tensor:
        """What `forward` says of the new positions, at the cost of the new positions alone.

        A chunk's neighbours are read from its last token on, so they come with the step that
        brings this token.

        Args:
            new_ids: [B, L], the tokens that follow those in the cache.
            cache: of `new_cache`; takes the new tokens in.
            neighbour_ids: [B, U, K, R], neighbours of the U chunks that the new tokens complete,
                or None to read none for these chunks.

        Returns:
            [B, L, V] logits; log-probabilities where the pointer has something to read.

        Raises:
            ValueError: in training mode, or if U is another number than that.
        """
        if self.training:
            raise ValueError("step() has no dropout and no gradient: call eval() first")
        size, total = self.config.chunk_size, new_ids.shape[1]
        self._check_step(cache.completed_by(total, size), neighbour_ids)
        outputs, begun, chunk = [], 0, 0
        while begun < total:
            # A piece stays in one attending chunk: it ends before the next chunk's last token.
            stop = min(total, begun + 1 + (-(cache.length + 2)) % size)
            found = None
            if cache.completed_by(1, size):
                found = None if neighbour_ids is None else neighbour_ids[:, chunk]
                chunk += 1
            outputs.append(self._step(new_ids[:, begun:stop], cache, found))
            begun = stop
        return torch.cat(outputs, dim=1)

    def _check_step(self, num_chunks: int, neighbour_ids: Tensor | None) -> None:
        if neighbour_ids is None:
            return
        if not self.config.has_retrieval:
            raise ValueError("this model has no CCA layers; it cannot read neighbours")
        if neighbour_ids.dim() != 4 or neighbour_ids.shape[1] != num_chunks:
            raise ValueError(
                f"neighbour_ids must be [B, {num_chunks}, K, R], one row for each chunk that the "
                f"new tokens complete, got {tuple(neighbour_ids.shape)}"
            )

    def _step(self, ids: Tensor, cache: Cache, neighbours: Tensor | None) -> Tensor:
        """`step` for ids [B, L] of one attending chunk; neighbours [B, K, R] if it begins here."""
        start, length = cache.length, ids.shape[1]
        offset = (start + 1) % self.config.chunk_size
        x, blocks = self.embedding(ids), self._decoder()
        axes = Axis(length, start), Axis(start + length)
        tables = blocks[0].attention.positions.incremental(*axes, ids.device)
        for layer, (block, kept) in enumerate(zip(blocks, cache.layers, strict=True), start=1):
            x = block.attend_step(x, kept, tables)
            if layer in self.config.cca_layers[:1]:
                self._keep_activations(x, cache, neighbours, begins=offset == 0)
            held = cache.held
            if held is None:
                x = block.finish_step(x, None, None, offset)
            else:
                x = block.finish_step(x, held.cca.get(layer), held.chunks, offset)
        hidden, held = self.norm(x), cache.held
        logits = self._read_out(hidden)
        if self.pointer is not None and held is not None and held.pointer_keys is not None:
            context = torch.cat((cache.recent, ids), dim=1)
            copy = self.pointer.step(hidden, held.pointer_keys, context, held.chunks)
            logits = step_log_probs(logits, copy)
        cache.remember(ids)
        return logits

    def _keep_activations(
        self, x: Tensor, cache: Cache, neighbours: Tensor | None, begins: bool
    ) -> None:
        """Adds x [B, L, D] to the current chunk; if its last token leads x, turns to the next."""
        if not begins:
            cache.activations = torch.cat((cache.activations, x), dim=1)
            return
        complete = torch.cat((cache.activations, x[:, :1]), dim=1)  # [B, M, D]
        cache.held = None if neighbours is None else self._hold(complete, neighbours)
        cache.activations = x[:, 1:]

    def _hold(self, retrieving: Tensor, neighbours: Tensor) -> HeldNeighbours | None:
        """Encodes neighbours [B, K, R] of a chunk with activations [B, M, D] for all layers."""
        length = self.config.chunk_size
        chunks = RetrievedChunks.of(neighbours.unsqueeze(1), None, length, self.config)
        if not chunks.ids.numel():
            return None
        encoded = self._encode(retrieving, chunks)
        cca = {
            layer: block.cca.hold(encoded, chunks)
            for layer, block in enumerate(self._decoder(), start=1)
            if block.cca is not None
        }
        return HeldNeighbours(
            chunks, cca, None if self.pointer is None else self.pointer.hold(encoded)
        )

    def _decoder(self) -> list[DecoderBlock]:
        """The blocks, as what they are to a type checker."""
        return cast(list[DecoderBlock], list(self.blocks))

    def _hidden(
        self, input_ids: Tensor, neighbour_ids: Tensor | None, document_ids: Tensor | None
    ) -> tuple[Tensor, Copy | None]:
        """Final normalised states [B, N, D] and the pointer's proposal."""
        config = self.config
        chunks = self._retrieved(input_ids, neighbour_ids, document_ids)
        x = self.dropout(self.embedding(input_ids))
        row, blocks = Axis(input_ids.shape[1]), self._decoder()
        tables = blocks[0].attention.positions.tables(row, row, input_ids.device)
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

    def _retrieved(
        self, input_ids: Tensor, neighbour_ids: Tensor | None, document_ids: Tensor | None
    ) -> RetrievedChunks | None:
        """The batch's neighbours, or None when nothing can be retrieved."""
        if neighbour_ids is None:
            return None
        if not self.config.has_retrieval:
            raise ValueError("this model has no CCA layers; it cannot read neighbours")
        length = input_ids.shape[1]
        chunks = RetrievedChunks.of(neighbour_ids, document_ids, length, self.config)
        return chunks if chunks.ids.numel() else None

    def _encode(self, x: Tensor, chunks: RetrievedChunks) -> Tensor:
        """Encoded neighbours [B, U, K, R, E], conditioned on the chunks' activations."""
        assert self.encoder is not None
        size = self.config.chunk_size
        retrieving = x[:, : chunks.num_chunks * size].unflatten(1, (chunks.num_chunks, size))
        table = self.embedding if self.encoder_embedding is None else self.encoder_embedding
        embedded = table(chunks.ids)
        if self.training and self.config.neighbour_noise:
            scale = self.config.neighbour_noise * embedded.detach().abs().mean()
            embedded = embedded + scale * torch.randn_like(embedded)
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
        return F.linear(hidden, self.embedding.weight)

    def reset_parameters(self) -> None:
        """Initialises every weight.

        | weights | initialisation |
        | --- | --- |
        | embeddings | normal, 0.02 |
        | matrices | normal, 1 / sqrt(inputs) |
        | matrices that write to the residual stream | the same / sqrt(2 * layers) |
        | CCA's output matrix, or else its gate | zero: retrieval starts as the identity |
        | pointer | see `Pointer.reset_parameters` |
        | norms, smearing | one, zero |
        | biases of relative positions | zero |
        """
        residual = 1 / math.sqrt(2 * max(self.config.num_layers, 1))
        for name, module in self.named_modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
            elif isinstance(module, nn.Linear):
                scale = residual if name.endswith((".out", ".down")) else 1.0
                nn.init.normal_(module.weight, std=scale / math.sqrt(module.in_features))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for block in self._decoder():
            if block.cca is None:
                continue
            closed = block.cca.gate  # one of two zeros: both together would never move
            nn.init.zeros_(block.cca.attention.out.weight if closed is None else closed)
        if self.pointer is not None:
            self.pointer.reset_parameters()

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

    def freeze_backbone(self) -> None:
        """Leaves only the retrieval parts trainable (RETROfit; RETRO, section 4.2)."""
        trainable = self.retrieval_parameters()
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(name in trainable)
