"""A Hugging Face model as a scorer: its own tokens, in windows that overlap by half.

A token is scored in the first window that has it, after at least half a window of text. The window
depends on the token's place alone, so that `distribution` answers as `score` does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer as Backend

from retro_lab.config.console import no_loading_bar
from retro_lab.config.errors import UserError, first_line
from retro_lab.text.tokenizers.huggingface import HuggingFaceTokenizer, load_source

from .scorer import Subject

_LONGEST = 2048
"""Tokens of a window, if the model takes as many."""


class HuggingFaceScorer:
    """Scores with a causal language model.

    Args:
        model: returns logits; in evaluation mode.
        tokenizer: its tokenizer, made lossless.
        begin: id of the token before a document.
        window: tokens that the model reads at once.
    """

    def __init__(
        self, model: Any, tokenizer: HuggingFaceTokenizer, begin: int, window: int
    ) -> None:
        self.model, self.tokenizer, self.begin = model, tokenizer, begin
        self.window, self.stride = window, max(1, window // 2)

    def score(self, text: str) -> Iterator[tuple[int, int, float, int]]:
        [(ids, num_bytes)] = self.tokenizer.encode_batch([text])
        stop = np.cumsum(num_bytes.astype(np.int64))
        nats = self._nats(ids.tolist())
        rows = zip((stop - num_bytes).tolist(), stop.tolist(), nats, ids.tolist(), strict=True)
        return iter(rows)

    @torch.inference_mode()
    def distribution(self, tokens: Sequence[int]) -> NDArray[np.float64]:
        read = [self.begin, *tokens][self._start(len(tokens)) :]
        return self._log_probs(read)[-1].numpy()

    def _start(self, place: int) -> int:
        """Where the window of the token at this place begins."""
        beyond = place - self.window
        return 0 if beyond < 0 else (beyond // self.stride + 1) * self.stride

    @torch.inference_mode()
    def _nats(self, ids: Sequence[int]) -> list[float]:
        read, nats = [self.begin, *ids], []
        while len(nats) < len(ids):
            start = self._start(len(nats))
            logs = self._log_probs(read[start : min(start + self.window, len(ids))])
            logs = logs[len(nats) - start :]
            wanted = torch.tensor(ids[len(nats) : len(nats) + len(logs)])
            nats += (-logs.gather(1, wanted[:, None])[:, 0]).tolist()
        return nats

    def _log_probs(self, read: Sequence[int]) -> torch.Tensor:
        """[N, V] in double precision: sums over a large vocabulary lose digits in single."""
        input_ids = torch.tensor([list(read)], device=self.model.device)
        return self.model(input_ids=input_ids).logits[0].double().log_softmax(-1).cpu()


def open_model(name: str) -> Subject:
    """The scorer of a model, by its folder or its name on the hub.

    Raises:
        UserError: model or tokenizer can't be loaded, or the tokenizer loses text.
    """
    from transformers import AutoModelForCausalLM

    try:
        source = load_source(name)
    except UserError as error:
        raise UserError(
            error.message.replace("tokenizer.path=", "model="), "name a model's folder"
        ) from error
    tokenizer = HuggingFaceTokenizer(Backend.from_str(source.definition), source.boundary_id)
    if tokenizer.exact.spells:
        raise UserError(
            f"model={name}: its tokenizer loses text, so bytes can't be counted",
            fix="give its scores as a file, or a scorer of your own",
        )
    folder = Path(name).expanduser()
    try:
        with no_loading_bar():
            model: Any = AutoModelForCausalLM.from_pretrained(
                str(folder) if folder.exists() else name,
                trust_remote_code=False,
                dtype=torch.float32,
            )
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise UserError(
            f"model={name} can't be loaded: {first_line(error)}",
            fix="check the name or folder, and the network",
        ) from error
    longest = getattr(model.config, "max_position_embeddings", None) or _LONGEST
    device = "cuda" if torch.cuda.is_available() else "cpu"
    begin = getattr(model.config, "bos_token_id", None)
    scorer = HuggingFaceScorer(
        model.eval().to(device),
        tokenizer,
        source.boundary_id if begin is None else begin,
        min(longest, _LONGEST),
    )
    return Subject(name, lambda: scorer)
