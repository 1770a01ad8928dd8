"""Requests and answers of the search service, as types from which /openapi.json is made."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from ..base import NO_CHUNK
from .served_index import Hit

_INT64_MAX = 2**63 - 1


class ErrorDetail(BaseModel):
    """What went wrong."""

    code: str = Field(description="one word for programs")
    message: str = Field(description="what is wrong")
    fix: str = Field(description="what to do about it")


class ErrorAnswer(BaseModel):
    """The body of every error answer."""

    error: ErrorDetail = Field(description="what went wrong")


def _is_text(text: str) -> str:
    """The text if UTF-8 can encode it; JSON can hold half of a surrogate pair."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            place = f"at place {error.start}"
            raise ValueError(f"half of a surrogate pair {place}, which is no character") from None
    return text


Text = Annotated[str, AfterValidator(_is_text)]
Token = Annotated[int, Field(ge=-1, le=_INT64_MAX)]
Ids = Annotated[int, Field(ge=NO_CHUNK, le=_INT64_MAX)]
Vectors = list[Annotated[list[FiniteFloat], Field(min_length=1)]]


class SearchRequest(BaseModel):
    """A batch of queries as texts, tokens or embeddings, and k, the chunks to find for each."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"texts": ["def main():"], "k": 3}]}
    )

    texts: list[Text] | None = Field(None, description="text, searched as the run's own chunks are")
    tokens: list[list[Token]] | None = Field(None, description="ids of the run's tokenizer")
    embeddings: Vectors | None = Field(
        None, description="vectors of the run's embedder, as queries"
    )
    k: int = Field(10, ge=1, description="chunks to find for each query")

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        given = [name for name in ("texts", "tokens", "embeddings") if getattr(self, name)]
        if len(given) != 1:
            raise ValueError("give exactly one of texts, tokens and embeddings, not empty")
        return self

    def size(self) -> int:
        """Number of queries."""
        return len(self.texts or self.tokens or self.embeddings or ())


class SearchAnswer(BaseModel):
    """The hits of each query, best first."""

    results: list[list[Hit]] = Field(description="a list for each query")


class CandidatesRequest(BaseModel):
    """Queries by chunk id in the shared store, or by tokens at chunk id -1."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"index": "<index of /health>", "chunk_ids": [-1], "tokens": [[5, 6]], "k": 3}
            ]
        },
    )

    index: Text = Field(description="the key that /health gave: another index is refused")
    chunk_ids: list[Ids] = Field(min_length=1, description="ids of stored chunks, or -1")
    tokens: list[list[Token]] = Field(description="the tokens of each chunk, -1 for padding")
    embeddings: Vectors | None = Field(
        None, description="vectors to use where the chunk id is -1; null embeds the tokens' text"
    )
    k: int = Field(ge=1, description="candidates of each query")

    @model_validator(mode="after")
    def _one_row_a_query(self) -> Self:
        rows = {len(part) for part in (self.tokens, self.embeddings) if part is not None}
        if rows != {len(self.chunk_ids)}:
            raise ValueError("tokens and embeddings need one row a chunk id")
        return self


class CandidatesAnswer(BaseModel):
    """Ragged ids and scores of each query's chunks, best first."""

    ids: list[list[int]] = Field(description="chunk ids")
    scores: list[list[float]] = Field(description="their scores, higher is better")


class Health(BaseModel):
    """The served index: its content keys, size and limits."""

    status: str = Field(description="ok")
    retriever: str = Field(description="its name")
    needs_embeddings: bool = Field(description="whether it compares vectors")
    index: str = Field(description="content key of the index and its search settings")
    chunks: str = Field(description="content key of the searched chunks")
    size: int = Field(description="number of searched chunks")
    limits: dict[str, int | float] = Field(description="limits of a request, by name")
