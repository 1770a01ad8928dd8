"""Random encoders of a few thousand weights, saved as people save theirs: no network needed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoTokenizer, BertConfig, BertModel, PreTrainedTokenizerFast

from retro_lab.config.schema import DenseNeuralRetrieverConfig
from retro_lab.retrieval.embed.late_interaction import PAIRS, LateInteraction

WORDS = [f"w{i}" for i in range(40)]
TEXTS = ["w1 w2 w3", "", "w4 w5 " * 20, "w1", "w3 w2 w1", "unknown w9", "w1 w2 w3", " \n"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LONGEST = 64  # tokens


def word_tokenizer() -> Tokenizer:
    """One token a word; the names are those of `small_world`."""
    vocabulary = {word: i for i, word in enumerate([*SPECIAL, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def save_encoder(folder: Path, seed: int = 0, width: int = 16) -> Path:
    """A BERT and its tokenizer, without anything of sentence-transformers."""
    tokenizer = word_tokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = dict(zip(("pad", "unk", "cls", "sep", "mask"), SPECIAL, strict=True))
    special = {f"{kind}_token": token for kind, token in names.items()}
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=LONGEST, **special
    ).save_pretrained(folder)
    torch.manual_seed(seed)
    sizes = {"hidden_size": width, "intermediate_size": 2 * width}
    layers = {"num_hidden_layers": 2, "num_attention_heads": 2}
    config = BertConfig(
        vocab_size=len(SPECIAL) + len(WORDS),
        max_position_embeddings=LONGEST,
        initializer_range=0.5,  # else texts hardly differ
        **sizes,
        **layers,
    )
    BertModel(config).save_pretrained(folder)
    return folder


def save_static(folder: Path, rows: torch.Tensor) -> Path:
    """Static embeddings as model2vec saves them, without a list of modules."""
    folder.mkdir()
    word_tokenizer().save(str(folder / "tokenizer.json"))
    save_file({"embeddings": rows}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "model2vec"}))
    return folder


def hidden(folder: Path, text: str, longest: int = LONGEST) -> np.ndarray:
    """Last hidden states of a text's tokens, by transformers alone."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokens = tokenizer(text, truncation=True, max_length=longest, return_tensors="pt")
    with torch.inference_mode():
        return BertModel.from_pretrained(folder)(**tokens).last_hidden_state[0].numpy()


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def changed_config(folder: Path, **settings: object) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    return folder


def late(model: str | Path, *, at_once: int = PAIRS, **settings: object) -> LateInteraction:
    config = DenseNeuralRetrieverConfig(scorer="late_interaction", model=str(model), **settings)  # type: ignore[arg-type]
    return LateInteraction(config, at_once=at_once)
