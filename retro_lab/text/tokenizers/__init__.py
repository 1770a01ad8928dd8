"""Tokenizers: text to ids with the bytes that each id stands for, one module a kind."""

from .base import Encoded, Tokenizer
from .registry import build_tokenizer, load_tokenizer, tokenizer_stage

__all__ = ["Encoded", "Tokenizer", "build_tokenizer", "load_tokenizer", "tokenizer_stage"]
