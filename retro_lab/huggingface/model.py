"""RETRO as a Hugging Face model: `save_pretrained`, `from_pretrained`, `generate`.

A thin wrapper of `Retro` or `GraftedRetro`; importing this module registers it with `AutoConfig`
and `AutoModelForCausalLM`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GenerationMixin,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import CausalLMOutputWithPast

from retro_lab.nn import Retro, RetroConfig
from retro_lab.nn.cpu import accelerate
from retro_lab.nn.decode import Cache, new_cache, step
from retro_lab.nn.initialise import initialise
from retro_lab.nn.ngram_table import NgramTable

from .backbones import build_backbone
from .graft import GraftedRetro

Retriever = Callable[[Tensor], Tensor]
"""Maps tokens [B, M] of a finished chunk to the tokens [B, K, R] of its neighbours, which the model
reads from that chunk's last token on; missing ones are rows of `pad_id`."""


class RetroHFConfig(PretrainedConfig):
    """Configuration of `RetroForCausalLM`.

    Args:
        retro: fields of `RetroConfig`.
        backbone: configuration of the Hugging Face decoder below the graft; None for our own model.
        share_embeddings: see `GraftedRetro`.
        max_position_embeddings: tokens of a training window. Longer windows work but were never
            trained; evaluation harnesses read this as the window length.
    """

    model_type = "retro_lab"

    def __init__(
        self,
        retro: dict[str, Any] | None = None,
        backbone: dict[str, Any] | None = None,
        share_embeddings: bool = False,
        max_position_embeddings: int = 512,
        **kwargs: Any,
    ) -> None:
        self.retro = retro
        self.backbone = backbone
        self.share_embeddings = share_embeddings
        self.max_position_embeddings = max_position_embeddings
        if retro is not None:
            self.vocab_size = (backbone or retro)["vocab_size"]
            self.hidden_size = retro["d_model"]
            self.num_hidden_layers = retro["num_layers"]
            self.num_attention_heads = retro["num_heads"]
        kwargs["tie_word_embeddings"] = False  # set later from the backbone's tied weights
        super().__init__(**kwargs)

    @classmethod
    def of(cls, model: Retro | GraftedRetro, **kwargs: Any) -> RetroHFConfig:
        """The configuration that rebuilds this model."""
        if isinstance(model, Retro):
            return cls(retro=asdict(model.config), **kwargs)
        shared = model.config.has_retrieval and model.encoder_embedding is None
        backbone = cast(Any, model.backbone.config).to_dict()
        return cls(asdict(model.config), backbone, shared, **kwargs)

    @property
    def retro_config(self) -> RetroConfig:
        """The inner model's own configuration."""
        return RetroConfig(**(self.retro or {}))


class RetroCache:
    """State of `generate` between steps, passed as `cache`.

    Attributes:
        ids: [B, L] tokens so far.
        neighbours: [B, U, K, R] of the complete chunks; None without retrieval.
        state: keys, values and encoded neighbours. None if each token takes a full forward pass: on
            a graft, and in a batch with padding.
    """

    is_compileable = False

    def __init__(self, ids: Tensor, state: Cache | None) -> None:
        self.ids = ids
        self.neighbours: Tensor | None = None
        self.state = state

    def get_seq_length(self) -> int:
        """Number of tokens so far."""
        return self.ids.shape[1]

    def add(self, new_ids: Tensor, found: Tensor | None) -> None:
        """Appends tokens [B, L] and the neighbours of the chunks that they complete."""
        self.ids = torch.cat((self.ids, new_ids), dim=1)
        if found is not None:
            before = [] if self.neighbours is None else [self.neighbours]
            self.neighbours = torch.cat([*before, found], dim=1)

    def reorder_cache(self, rows: Tensor) -> None:
        """Replaces row i of the batch by row rows[i] (beam search)."""
        self.ids = self.ids.index_select(0, rows)
        if self.neighbours is not None:
            self.neighbours = self.neighbours.index_select(0, rows)
        if self.state is not None:
            self.state.reorder(rows)


class RetroForCausalLM(PreTrainedModel, GenerationMixin):
    """RETRO, with retrieval if neighbours are given or a `retriever` is attached.

    Attributes:
        retriever: called at the end of each chunk; None reads only given neighbours.
    """

    config_class = RetroHFConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    _supports_sdpa = True

    def __init__(self, config: RetroHFConfig) -> None:
        super().__init__(config)
        self.retriever: Retriever | None = None
        if config.backbone is None:
            self.model: Retro | GraftedRetro = Retro(config.retro_config, NgramTable)
        else:
            inner = AutoConfig.for_model(**config.backbone)
            backbone = build_backbone(inner, config.retro_config.dropout)
            self.model = GraftedRetro(backbone, config.retro_config, config.share_embeddings)
            self._tied_weights_keys = {
                f"model.backbone.{one}": f"model.backbone.{other}"
                for one, other in backbone.all_tied_weights_keys.items()
            }
            config.tie_word_embeddings = bool(self._tied_weights_keys)
        accelerate(self.model)
        self.post_init()

    @classmethod
    def of(cls, model: Retro | GraftedRetro, **kwargs: Any) -> RetroForCausalLM:
        """Wraps a trained model; the weights are shared, not copied.

        Args:
            kwargs: arguments of `RetroHFConfig`.
        """
        with torch.device("meta"):
            wrapped = cls(RetroHFConfig.of(model, **kwargs))
        wrapped.model = model
        return wrapped.train(model.training)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        neighbour_ids: Tensor | None = None,
        cache: RetroCache | None = None,
        use_cache: bool = False,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Logits of the next token; with the pointer, log-probabilities of the mixture.

        Args:
            input_ids: [B, N]; with `cache`, the tokens after the cached ones.
            attention_mask: [B, N] of the whole sequence, 0 at padding, on either side; with
                retrieval, padding on the left must be whole chunks.
            labels: [B, N], -100 for unscored positions; shifted here, as in all of transformers.
            neighbour_ids: [B, U, K, R] of the first U chunks of the whole sequence.
        """
        if cache is None and use_cache:
            cache = self._new_cache(input_ids, attention_mask)
        if cache is not None:
            logits = self._continue(input_ids, attention_mask, neighbour_ids, cache)
        else:
            chunks = input_ids.shape[1] // self.model.config.chunk_size
            found = self._find(input_ids, attention_mask, neighbour_ids, range(chunks))
            logits = self._whole(input_ids, attention_mask, found)
        loss = None
        if labels is not None:
            loss = self.loss_function(logits, labels, vocab_size=logits.shape[-1], **kwargs)
        return CausalLMOutputWithPast(loss=loss, logits=cast(Any, logits), cache=cast(Any, cache))

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        cache: RetroCache | None = None,
        attention_mask: Tensor | None = None,
        neighbour_ids: Tensor | None = None,
        use_cache: bool = True,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Arguments of `forward` for the next token, without cached tokens."""
        known = 0 if cache is None else cache.get_seq_length()
        return {
            "input_ids": input_ids[:, known:],
            "attention_mask": attention_mask,
            "neighbour_ids": neighbour_ids,
            "cache": cache,
            "use_cache": use_cache,
        }

    def get_input_embeddings(self) -> nn.Module:
        """The token table."""
        if isinstance(self.model, Retro):
            return self.model.embedding
        return self.model.backbone.get_input_embeddings()

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False  # `forward` creates its own cache

    def _init_weights(self, module: nn.Module) -> None:
        """Initialises weights that a checkpoint lacks; whole models initialise themselves."""
        if isinstance(self.model, GraftedRetro):
            super()._init_weights(module)
        else:
            initialise(module, self.model.config.num_layers)

    def _new_cache(self, input_ids: Tensor, attention_mask: Tensor | None) -> RetroCache:
        padded = attention_mask is not None and not bool(attention_mask.all())
        state = None
        if isinstance(self.model, Retro) and not padded and not self.training:
            state = new_cache(self.model, len(input_ids))
        return RetroCache(input_ids[:, :0], state)

    def _continue(
        self,
        new_ids: Tensor,
        attention_mask: Tensor | None,
        given: Tensor | None,
        cache: RetroCache,
    ) -> Tensor:
        """Logits [B, L, V] of new tokens, which are appended to the cache."""
        ids = torch.cat((cache.ids, new_ids), dim=1)
        size = self.model.config.chunk_size
        completed = range(cache.get_seq_length() // size, ids.shape[1] // size)
        found = self._find(ids, attention_mask, given, completed)
        cache.add(new_ids, found)
        if cache.state is not None:
            return step(cast(Retro, self.model), new_ids, cache.state, found)
        return self._whole(ids, attention_mask, cache.neighbours)[:, -new_ids.shape[1] :]

    def _whole(
        self, ids: Tensor, attention_mask: Tensor | None, neighbours: Tensor | None
    ) -> Tensor:
        """Logits [B, N, V] of a full forward pass; padding counts as another document."""
        documents = None
        if attention_mask is not None and not bool(attention_mask.all()):
            documents = attention_mask.long()
            size = self.model.config.chunk_size
            ahead = (documents.cummax(dim=1).values == 0).sum(dim=1)
            if neighbours is not None and bool((ahead % size).any()):
                raise ValueError(
                    f"with retrieval, rows must be padded on the left by whole chunks of {size} "
                    "tokens: pad_to_multiple_of cannot do that, so pass prompts one by one"
                )
        return self.model(ids, neighbours, documents)

    def _find(
        self, ids: Tensor, attention_mask: Tensor | None, given: Tensor | None, chunks: range
    ) -> Tensor | None:
        """Neighbours [B, U, K, R] of `chunks` of ids [B, N]; None without chunks or retrieval."""
        config = self.model.config
        if not len(chunks) or (given is None and self.retriever is None):
            return None
        found = []
        for chunk in chunks:
            places = slice(chunk * config.chunk_size, (chunk + 1) * config.chunk_size)
            if given is not None and chunk < given.shape[1]:
                found.append(given[:, chunk])
            elif self.retriever is not None:
                neighbours = self.retriever(ids[:, places])
                if attention_mask is not None:  # a chunk of padding reads no neighbours
                    real = attention_mask[:, places].bool().any(dim=1)
                    neighbours = neighbours.masked_fill(~real[:, None, None], config.pad_id)
                found.append(neighbours)
            else:
                assert given is not None
                found.append(torch.full_like(given[:, 0], config.pad_id))
        return torch.stack(found, dim=1)


AutoConfig.register(RetroHFConfig.model_type, RetroHFConfig)
AutoModelForCausalLM.register(RetroHFConfig, RetroForCausalLM)
