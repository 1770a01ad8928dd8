"""Tokenizers: text to ids with each id's number of bytes, one module each."""

from .base import Encoded, Tokenizer
from .registry import build_tokenizer, load_tokenizer, tokenizer_stage

__all__ = ["Encoded", "Tokenizer", "build_tokenizer", "load_tokenizer", "tokenizer_stage"]
