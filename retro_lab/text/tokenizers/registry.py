"""The stage `tokenizer`: a tokenizer from its configuration, trained or copied once."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import orjson

from retro_lab.config.errors import UserError
from retro_lab.config.schema import (
    BpeTokenizerConfig,
    ByteTokenizerConfig,
    HfTokenizerConfig,
    TokenizerConfig,
)
from retro_lab.store import Artifact, Stage, Workspace

from ..corpus import Corpus
from .base import Tokenizer

VERSION = 1
_KIND_FILE = "kind.json"

TOKENIZERS = {
    "byte": "byte:ByteTokenizer",
    "bpe": "bpe:BpeTokenizer",
    "hf": "huggingface:HuggingFaceTokenizer",
}
"""Maps an artifact's kind to `module:class` in this package."""


def tokenizer_stage(config: TokenizerConfig, corpus: Artifact | Stage) -> Stage:
    """The stage of a tokenizer; only a trained one depends on the corpus.

    Raises:
        UserError: the kind is unknown, or a Hugging Face tokenizer can't be loaded.
    """
    match config:
        case BpeTokenizerConfig():
            sizes = {"vocab_size": config.vocab_size, "max_train_bytes": config.max_train_bytes}
            return Stage("tokenizer", VERSION, {"kind": "bpe"} | sizes, {"corpus": corpus})
        case ByteTokenizerConfig():
            return Stage("tokenizer", VERSION, {"kind": "byte"}, {})
        case HfTokenizerConfig():
            from .huggingface import load_source

            source = load_source(config.path)
            fields: dict[str, Any] = {"kind": "hf", "boundary_id": source.boundary_id}
            if source.mended:
                fields["lossless"] = True  # separates these tokens from older, lossy ones
            return Stage("tokenizer", VERSION, fields, {}, {"tokenizer.json": source.digest})
    raise _unknown(config)


def build_tokenizer(
    config: TokenizerConfig, corpus: Corpus, workspace: Workspace
) -> Mapping[str, Any]:
    """Writes the tokenizer; returns its kind, vocab_size, boundary_id and pad_id.

    Raises:
        UserError: as `tokenizer_stage`.
    """
    folder = workspace.path
    match config:
        case BpeTokenizerConfig():
            from .bpe import train_bpe

            kind, tokenizer = "bpe", train_bpe(config, corpus, folder)
        case ByteTokenizerConfig():
            from .byte import ByteTokenizer

            kind, tokenizer = "byte", ByteTokenizer()
        case HfTokenizerConfig():
            from .huggingface import load_source, save_source

            kind, tokenizer = "hf", save_source(load_source(config.path), folder)
        case _:
            raise _unknown(config)
    (folder / _KIND_FILE).write_bytes(orjson.dumps(kind))
    return {
        "kind": kind,
        "vocab_size": tokenizer.vocab_size,
        "boundary_id": tokenizer.boundary_id,
        "pad_id": tokenizer.pad_id,
    }


def load_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer in an artifact's folder."""
    kind = orjson.loads((path / _KIND_FILE).read_bytes())
    module, name = TOKENIZERS[kind].split(":")
    return getattr(import_module(f"{__package__}.{module}"), name).load(path)


def _unknown(config: TokenizerConfig) -> UserError:
    return UserError(
        f"tokenizer={config.name}: no tokenizer is registered for {type(config).__name__}",
        fix="use tokenizer=bpe, byte or hf, or add a case to retro_lab/text/tokenizers/registry.py",
    )
