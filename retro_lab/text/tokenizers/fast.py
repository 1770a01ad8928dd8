"""Converts tokenizers to transformers' fast ones with the same ids, to save with a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers

from .base import Tokenizer
from .bpe import BpeTokenizer
from .byte import ByteTokenizer
from .huggingface import HuggingFaceTokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

BOUNDARY, PADDING = "<|document|>", "<|padding|>"


def as_fast(tokenizer: Tokenizer, max_length: int | None = None) -> PreTrainedTokenizerFast:
    """The tokenizer for `transformers`; the boundary is its begin and end token.

    Unlike ours, this tokenizer reads the spelling of a special token as the token.

    Args:
        max_length: tokens of the model's training windows.

    Raises:
        TypeError: this class of tokenizer has no such form.
    """
    from transformers import PreTrainedTokenizerFast

    backend = _backend(tokenizer)
    boundary = backend.id_to_token(tokenizer.boundary_id) or BOUNDARY
    fast = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=boundary,
        eos_token=boundary,
        model_max_length=max_length,
        clean_up_tokenization_spaces=False,
        add_prefix_space=False,
    )
    if len(fast) == tokenizer.pad_id:  # a new token gets the next id
        fast.add_special_tokens({"pad_token": PADDING})
    else:
        fast.pad_token = boundary
    return fast


def _backend(tokenizer: Tokenizer) -> Backend:
    if isinstance(tokenizer, (BpeTokenizer, HuggingFaceTokenizer)):
        backend = Backend.from_str(tokenizer.definition)
        backend.encode_special_tokens = False
        return backend
    if isinstance(tokenizer, ByteTokenizer):
        from transformers.convert_slow_tokenizer import bytes_to_unicode

        letters = {letter: byte for byte, letter in bytes_to_unicode().items()}
        backend = Backend(models.BPE(letters, []))
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        backend.decoder = decoders.ByteLevel()
        return backend
    raise TypeError(f"{type(tokenizer).__name__} has no form for transformers")
