"""Tokenizers in the Hugging Face format that lose text by themselves, one a way to lose it."""

from __future__ import annotations

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

from retro_lab.text.tokenizers.huggingface import HuggingFaceTokenizer

SPECIAL = ["<pad>", "</s>", "<unk>"]
END, UNKNOWN = 1, 2


def _made(backend: Tokenizer) -> HuggingFaceTokenizer:
    backend.add_special_tokens([AddedToken(name, special=True) for name in SPECIAL])
    return HuggingFaceTokenizer(backend, END)


def unigram(letters: str = "abcdefghijklmnopqrstuvwxyz</>,.") -> HuggingFaceTokenizer:
    """As T5's: special tokens stand in the vocabulary, white space and all else is lost."""
    pieces = [(name, 0.0) for name in (*SPECIAL, "\u2581")] + [(a, -4.0) for a in letters]
    backend = Tokenizer(models.Unigram([*pieces, ("\u2581the", -3.0)], unk_id=UNKNOWN))
    metaspace = pre_tokenizers.Metaspace(prepend_scheme="always")
    steps = [pre_tokenizers.WhitespaceSplit(), metaspace]
    backend.pre_tokenizer = pre_tokenizers.Sequence(steps)
    backend.decoder = decoders.Metaspace(prepend_scheme="always")
    return _made(backend)


def word_piece() -> HuggingFaceTokenizer:
    """As BERT's: lower case, without accents, white space and control characters."""
    names = [*SPECIAL, "the", "cat", "##s", "cafe", ",", "(", ")", "don", "t", "'"]
    vocabulary = {name: i for i, name in enumerate(names)}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="<unk>"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    return _made(backend)


def word_level() -> HuggingFaceTokenizer:
    """Whole words; it has no decoder, so that its words come back with blanks between them."""
    names = {name: i for i, name in enumerate([*SPECIAL, "the", "cat"])}
    backend = Tokenizer(models.WordLevel(names, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return _made(backend)


def byte_level(prefix_space: bool = False) -> HuggingFaceTokenizer:
    """As Pythia's and Qwen's: bytes, of text in Unicode's normal form C."""
    letters = {name: i + 3 for i, name in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    vocabulary = {name: i for i, name in enumerate(SPECIAL)} | letters
    backend = Tokenizer(models.BPE(vocabulary, []))
    backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    backend.decoder = decoders.ByteLevel()
    return _made(backend)


def byte_fallback() -> HuggingFaceTokenizer:
    """As Llama's: characters, and bytes for those that it does not know."""
    names = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581", *"abcdethx"]
    vocabulary = {name: i for i, name in enumerate(names)}
    backend = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
    steps = [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    backend.normalizer = normalizers.Sequence(steps)
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace("\u2581", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return _made(backend)
