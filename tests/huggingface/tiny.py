"""Tiny random backbones of every family, built without a network, and inputs for them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from retro_lab.huggingface import GraftedRetro
from retro_lab.huggingface.backbones import build_backbone
from retro_lab.nn import RetroConfig
from retro_lab.nn.cpu import accelerate

VOCABULARY, PAD, M, R, K = 50, 50, 4, 8, 2
FAMILIES = ("gpt2", "gpt_neox", "llama", "mistral", "qwen2", "qwen3", "smollm3")


def backbone_config(family: str) -> Any:
    """A configuration of 3 layers of 16."""
    from transformers import AutoConfig

    common = {"vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    if family == "gpt2":
        sizes = {"n_embd": 16, "n_layer": 3, "n_head": 2, "n_positions": 64}
    else:
        sizes = {
            "hidden_size": 16,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "intermediate_size": 24,
            "max_position_embeddings": 64,
        }
    if family == "qwen3":
        sizes["head_dim"] = 12
    return AutoConfig.for_model(family, **common, **sizes)


def retro_config(**changes: Any) -> RetroConfig:
    """What is grafted: CCA in layers 2 and 3, an encoder of 2 layers of 12."""
    fields: dict[str, Any] = {
        "vocab_size": PAD + 1,
        "d_model": 16,
        "num_layers": 3,
        "num_heads": 2,
        "head_dim": 8,
        "d_ff": 24,
        "cca_layers": (2, 3),
        "encoder_d_model": 12,
        "encoder_num_layers": 2,
        "encoder_cca_layers": (1,),
        "chunk_size": M,
        "neighbour_length": R,
        "pad_id": PAD,
        "pointer": True,
    }
    return RetroConfig(**fields | changes)


def grafted(family: str, opened: bool = True, share: bool = True, **changes: Any) -> GraftedRetro:
    """A graft in evaluation mode; `opened` CCA writes something, as after training."""
    torch.manual_seed(3)
    backbone = build_backbone(backbone_config(family))
    model = accelerate(GraftedRetro(backbone, retro_config(**changes), share))
    if opened:
        for name, parameter in model.named_parameters():
            if name.endswith("cca.attention.out.weight"):
                torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def tokens(*shape: int, seed: int = 0) -> Tensor:
    """Random ids of the vocabulary."""
    return torch.randint(VOCABULARY, shape, generator=torch.Generator().manual_seed(seed))


def neighbours(batch: int, chunks: int, seed: int = 1) -> Tensor:
    """[B, U, K, R], one of them missing and one padded."""
    ids = tokens(batch, chunks, K, R, seed=seed)
    ids[0, 0, 1] = PAD
    ids[-1, -1, 0, R - 3 :] = PAD
    return ids
