"""RETROfit on a Hugging Face decoder (RETRO, section 4.2), without changes to its code.

With h the input of a block and a the output of its self-attention, a forward hook on the attention
returns a + CCA(norm(h + a), E) instead of a. A sequential block (GPT-2, Llama) then computes h + a
+ CCA(..) followed by the feed-forward: exactly Algorithm 1. A block with the feed-forward parallel
to the attention (GPT-NeoX) adds the same update, but its own feed-forward reads h alone, so that
CCA first reaches the feed-forward of the next block.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retro_lab.nn import RetroConfig
from retro_lab.nn.attention import document_mask
from retro_lab.nn.chunks import RetrievedChunks
from retro_lab.nn.initialise import initialise
from retro_lab.nn.layers import RMSNorm, at_least_single
from retro_lab.nn.pointer import Copy, Pointer, mixture_log_probs, mixture_nats
from retro_lab.nn.retro import IGNORED, ChunkedCrossAttention, NeighbourEncoder
from retro_lab.nn.retrofit import Retrofitted

from .backbones import attention_of, blocks_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class GraftedLayer(nn.Module):
    """The modules that CCA adds to a backbone's block."""

    def __init__(self, config: RetroConfig) -> None:
        super().__init__()
        self.norm = RMSNorm(config.d_model)
        self.cca = ChunkedCrossAttention(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, encoded: Tensor, chunks: RetrievedChunks) -> Tensor:
        """The update to the residual stream x [B, N, D]."""
        return self.dropout(self.cca(self.norm(x), encoded, chunks))


@dataclass
class _Reading:
    """State that the hooks share in one forward pass with retrieval."""

    chunks: RetrievedChunks
    before: Tensor | None = None
    encoded: Tensor | None = None


class GraftedRetro(Retrofitted):
    """A Hugging Face causal language model that reads neighbours; same interface as `Retro`.

    Without neighbours the hooks leave the attention's output untouched, and the result equals the
    backbone's bit for bit. Documents in one row are masked from each other, and each begins at
    position 0 of the backbone.

    Args:
        backbone: from `build_backbone`.
        config: has the backbone's sizes; without `cca_layers` only the backbone is used. Tokens
            beyond the backbone's vocabulary (padding) are never read.
        share_embeddings: whether the encoder reads the backbone's token table, through a projection
            if the widths differ, instead of its own.
    """

    def __init__(
        self, backbone: PreTrainedModel, config: RetroConfig, share_embeddings: bool = False
    ) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbone
        self._reading: _Reading | None = None
        self.grafts = nn.ModuleDict()
        self.encoder: NeighbourEncoder | None = None
        self.encoder_embedding: nn.Embedding | None = None
        self.projection: nn.Linear | None = None
        self.pointer: Pointer | None = None
        if not config.has_retrieval:
            return
        self.encoder = NeighbourEncoder(config)
        width = config.encoder_d_model
        if not share_embeddings:
            self.encoder_embedding = nn.Embedding(config.vocab_size, width)
        elif width != config.d_model:
            self.projection = nn.Linear(config.d_model, width, bias=False)
        if config.pointer:
            self.pointer = Pointer(config)
        for layer in config.cca_layers:
            self.grafts[str(layer)] = GraftedLayer(config)
            blocks_of(backbone)[layer - 1].register_forward_pre_hook(
                self._before_block, with_kwargs=True
            )
            hook = partial(self._after_attention, layer)
            attention_of(backbone, layer).register_forward_hook(hook)
        for name, part in self.named_children():
            if name != "backbone":
                initialise(part, config.num_layers)

    def forward(
        self,
        input_ids: Tensor,
        neighbour_ids: Tensor | None = None,
        document_ids: Tensor | None = None,
    ) -> Tensor:
        """Logits of the next token; with the pointer, log-probabilities of the mixture.

        Args:
            input_ids: [B, N].
            neighbour_ids: [B, U, K, R], missing ones as rows of pad_id; None switches retrieval
                off.
            document_ids: [B, N], document of each position if several share a row.

        Returns:
            [B, N, V] over the backbone's vocabulary.
        """
        return self._log_probs(*self.hidden(input_ids, neighbour_ids, document_ids))

    def _log_probs(self, hidden: Tensor, copy: Copy | None) -> Tensor:
        """[B, N, V], logits, or log-probabilities of the mixture with the pointer."""
        logits = self.logits(hidden)
        if copy is None:
            return logits
        last = logits.shape[-1] - 1  # padding has no logit and is never copied
        return mixture_log_probs(logits, copy._replace(next_ids=copy.next_ids.clamp(max=last)))

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
        logits = at_least_single(self.logits(hidden))
        nats = F.cross_entropy(
            logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="none"
        ).view_as(targets)
        if copy is not None:
            nats = mixture_nats(nats, targets, copy)
        return nats.masked_fill(targets == IGNORED, 0.0)

    @property
    def blocks(self) -> nn.ModuleList:
        """The backbone's blocks, which FSDP shards one by one."""
        return blocks_of(self.backbone)

    def retrieval_parameters(self) -> set[str]:
        """Names of all parameters outside the backbone."""
        return {name for name, _ in self.named_parameters() if not name.startswith("backbone.")}

    def load_backbone(self, state: dict[str, Tensor]) -> None:
        """Loads the backbone's weights; the retrieval parts keep theirs.

        Raises:
            ValueError: the weights belong to another decoder; names the differing keys.
        """
        result = self.backbone.load_state_dict(state, strict=False)
        if result.missing_keys or result.unexpected_keys:
            raise ValueError(
                f"not this decoder's weights: missing {sorted(result.missing_keys)}, "
                f"unexpected {sorted(result.unexpected_keys)}"
            )

    def enable_checkpointing(self, enabled: bool = True) -> None:
        """Activation checkpointing: keeps only block boundaries for the backward pass.

        Saves memory and costs time. Blocks with CCA are excluded, since their hooks would run
        twice.
        """
        if not enabled:
            self.backbone.activation_checkpointing_disable()
        else:
            self.backbone.activation_checkpointing_enable({"use_reentrant": False})
            for layer in self.config.cca_layers:
                cast(Any, self.blocks[layer - 1]).gradient_checkpointing = False
        if self.encoder is not None:
            self.encoder.checkpointing = enabled

    def hidden(
        self,
        input_ids: Tensor,
        neighbour_ids: Tensor | None = None,
        document_ids: Tensor | None = None,
    ) -> tuple[Tensor, Copy | None]:
        """Final normalised states [B, N, D] and the pointer's copy distribution."""
        chunks = RetrievedChunks.given(neighbour_ids, document_ids, input_ids.shape[1], self.config)
        reading = self._reading = None if chunks is None else _Reading(chunks)
        apart: dict[str, Tensor] = {}
        if document_ids is not None:
            apart["attention_mask"] = document_mask(document_ids)
            apart["position_ids"] = positions_in_document(document_ids)
        try:
            output: Any = self.backbone.base_model(
                input_ids=self._known(input_ids), use_cache=False, **apart
            )
        finally:
            self._reading = None
        hidden = output.last_hidden_state
        if self.pointer is None or reading is None or reading.encoded is None:
            return hidden, None
        return hidden, self.pointer(hidden, reading.encoded, input_ids, reading.chunks)

    def _before_block(self, block: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        if self._reading is not None:
            self._reading.before = args[0] if args else kwargs["hidden_states"]

    def _after_attention(self, layer: int, attention: nn.Module, args: tuple, output: tuple) -> Any:
        reading = self._reading
        if reading is None:
            return None
        update, *others = output
        assert reading.before is not None
        x = reading.before + update
        if layer == self.config.cca_layers[0]:
            reading.encoded = self._encode(x, reading.chunks)
        graft = cast(GraftedLayer, self.grafts[str(layer)])
        return (update + graft(x, cast(Tensor, reading.encoded), reading.chunks), *others)

    def _encode(self, x: Tensor, chunks: RetrievedChunks) -> Tensor:
        """Encoded neighbours [B, U, K, R, E], conditioned on the chunks' activations."""
        assert self.encoder is not None
        size = self.config.chunk_size
        retrieving = x[:, : chunks.num_chunks * size].unflatten(1, (chunks.num_chunks, size))
        if self.encoder_embedding is not None:
            embedded = self.encoder_embedding(chunks.ids)
        else:
            embedded = self.backbone.get_input_embeddings()(self._known(chunks.ids))
            embedded = embedded if self.projection is None else self.projection(embedded)
        return self.encoder(embedded, retrieving, chunks)

    def _known(self, ids: Tensor) -> Tensor:
        """Ids with padding, outside the backbone's vocabulary, replaced by a valid id."""
        return ids.clamp(max=cast(Any, self.backbone.config).vocab_size - 1)

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits [.., V] of the backbone's output layer, from states [.., D]."""
        return cast(nn.Module, self.backbone.get_output_embeddings())(hidden)


def positions_in_document(document_ids: Tensor) -> Tensor:
    """[B, N] position of each token within its document in the row."""
    place = torch.arange(document_ids.shape[1], device=document_ids.device)
    begins = torch.ones_like(document_ids, dtype=torch.bool)
    begins[:, 1:] = document_ids[:, 1:] != document_ids[:, :-1]
    first = torch.where(begins, place, torch.zeros_like(place)).cummax(dim=1).values
    return place - first
