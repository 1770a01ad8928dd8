"""Arguments of `plan`, and the planned corpus and rates that they describe."""

from __future__ import annotations

import re
from dataclasses import dataclass

from retro_lab.config.arguments import key
from retro_lab.config.errors import UserError
from retro_lab.config.schema import Config
from retro_lab.retrieval.embed.embedders import known_width

from .plan import Database, planned_chunks
from .plan_rates import EMBEDDED, INDEXED, Rates, measure_embed, measure_search

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_BYTE_VOCABULARY = 258
_UNKNOWN_VOCABULARY = 2**17  # tokens stored as int32, the larger format


def _seconds(text: str) -> float:
    """Seconds in a text such as `24h`; see `Key.read`."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    if not match or float(match[1]) == 0:
        raise ValueError("a number above 0 and s, m, h or d")
    return float(match[1]) * _UNITS[match[2]]


@dataclass(frozen=True)
class PlanRequest:
    """The planner's own arguments; see the usage of `plan`.

    Attributes:
        deadline: in seconds.
    """

    tokens: float = key(name="database.tokens", above=0, example="1.75e12")
    document_tokens: float | None = key(None, name="database.document_tokens", above=0)
    train_share: float = key(1.0, name="database.train_share", above=0, most=1)
    bytes_per_token: float = key(4.0, name="database.bytes_per_token", above=0)
    distinct: float = key(0.65, name="database.distinct", above=0, most=1)
    vocab: float | None = key(None, name="database.vocab", above=0)
    dim: float | None = key(None, name="embedder.dim", above=0)
    embed: float | None = key(None, name="rates.embed", above=0)
    search: float | None = key(None, name="rates.search", above=0)
    rates: str | None = key(None, choices=("measure",))
    deadline: float | None = key(None, read=_seconds, example="24h")

    def database(self, config: Config) -> Database:
        """The planned corpus, with the configuration's chunking and tokenizer."""
        size = config.chunking.chunk_size
        chunks = planned_chunks(self.tokens, size, self.document_tokens)
        share = self.train_share * config.database.fraction
        documents = self.tokens / self.document_tokens if self.document_tokens else 1
        return Database(
            chunks=chunks,
            database=max(1, round(chunks * share)),
            documents=max(1, round(documents)),
            text_bytes=round(self.tokens * self.bytes_per_token),
            chunk_size=size,
            vocab_size=self._vocabulary(config),
            distinct=self.distinct,
        )

    def width(self, config: Config) -> int:
        """Width of an embedding; 0 for a retriever without embeddings.

        Raises:
            UserError: neither the embedder's settings nor `embedder.dim` give the width.
        """
        if not config.retriever.needs_embeddings:
            return 0
        width = known_width(config.embedder) if self.dim is None else int(self.dim)
        if width is None:
            raise UserError(
                f"embedder={config.embedder.name}: its width isn't known without loading it",
                fix="add embedder.dim=768, or whatever it is",
            )
        return width

    def measured(self, config: Config, planned: Database, width: int) -> Rates:
        """The given rates; with `rates=measure`, missing ones are measured.

        Raises:
            UserError: a deadline without the rates to compute workers from.
        """
        embed, search, note = self.embed, self.search, "rates as given"
        dense = config.retriever.needs_embeddings
        if self.rates == "measure":
            if embed is None and dense:
                embed = measure_embed(config.embedder, planned)
            if search is None:
                search = measure_search(config.retriever, planned, width, config.neighbours.k_store)
            note = f"measured here on {EMBEDDED} texts and {INDEXED[-1]:,} random chunks, "
            note += "search scaled"
        wanted = ({"rates.embed": embed} if dense else {}) | {"rates.search": search}
        missing = [key for key, rate in wanted.items() if not rate]
        if self.deadline is not None and missing:
            given = " ".join(f"{key}=<of one worker, a second>" for key in missing)
            no = " and no ".join(missing)
            raise UserError(
                f"a deadline's workers follow from rates, and there is no {no}",
                fix=f"rates=measure, or {given}",
            )
        return Rates(embed, search, note)

    def _vocabulary(self, config: Config) -> int:
        """Number of token ids; a Hugging Face tokenizer is assumed to need int32."""
        if self.vocab is not None:
            return int(self.vocab)
        if config.tokenizer.name == "byte":
            return _BYTE_VOCABULARY
        return getattr(config.tokenizer, "vocab_size", _UNKNOWN_VOCABULARY)
