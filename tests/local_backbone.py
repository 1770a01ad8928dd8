"""A local folder like those on the hub: a tiny random model with a tokenizer of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch


def write_backbone(folder: Path, family: str = "llama", seed: int = 0, **changes: Any) -> Path:
    """Two layers of 32 over bytes; returns the folder."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>")
    tokenizer.save_pretrained(folder)
    if family == "gpt2":
        sizes = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 256}
    else:
        sizes = {
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "intermediate_size": 48,
            "max_position_embeddings": 256,
        }
    ids = {"vocab_size": len(tokenizer), "bos_token_id": 256, "eos_token_id": 256}
    torch.manual_seed(seed)
    config = AutoConfig.for_model(family, **{**ids, **sizes, **changes})
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder
