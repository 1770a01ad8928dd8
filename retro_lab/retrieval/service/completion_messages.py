"""Requests and answers of `/v1/completions`, in OpenAI's form."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    model_validator,
)

from .messages import Text


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else [] if value is None else value


_OneOrMore = BeforeValidator(_as_list, json_schema_input_type=str | list[str])
_OneOrMoreOrNone = BeforeValidator(_as_list, json_schema_input_type=str | list[str] | None)
Prompts = Annotated[list[Text], Field(min_length=1), _OneOrMore]
Stop = Annotated[Text, Field(min_length=1, max_length=256)]
Stops = Annotated[list[Stop], Field(max_length=4), _OneOrMoreOrNone]


def _only(neutral: object, *others: object) -> AfterValidator:
    """Accepts a field of OpenAI's at the value that changes nothing."""

    def check(value: object) -> object:
        if value is not None and value not in (neutral, *others):
            raise ValueError(f"this service knows {json.dumps(neutral)} only")
        return value

    return AfterValidator(check)


class StreamOptions(BaseModel):
    """What a stream has beside the text."""

    model_config = ConfigDict(extra="forbid")

    include_usage: bool = Field(False, description="one more event at the end, with the usage")


class CompletionRequest(BaseModel):
    """Prompts to continue, and how; fields of OpenAI's that are not listed are refused."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"prompt": "def main():", "max_tokens": 64, "temperature": 0.8}]
        },
    )

    prompt: Prompts = Field(description="a text to continue, or several")
    model: Text | None = Field(None, description="the name that /v1/models shows, if any is given")
    max_tokens: int = Field(16, ge=1, description="most new tokens of each prompt")
    temperature: FiniteFloat = Field(
        1.0, ge=0, le=2, description="0 always takes the likeliest token"
    )
    top_p: FiniteFloat = Field(
        1.0, gt=0, le=1, description="draws among the likeliest tokens of this total probability"
    )
    seed: int | None = Field(
        None, ge=0, le=2**62, description="prompt i draws with seed + i; null draws a new seed"
    )
    stop: Stops = Field(
        [], description="up to four strings, before the first of which the text ends"
    )
    stream: bool = Field(False, description="the text as server-sent events, while it is written")
    stream_options: StreamOptions | None = Field(None, description="for stream=true alone")
    show_neighbours: bool = Field(
        False, description="adds what was read, as retro_lab.neighbours; not OpenAI's, not streamed"
    )
    user: Text | None = Field(None, description="not used")
    n: Annotated[int | None, _only(1)] = Field(1, description="1 only")
    best_of: Annotated[int | None, _only(1)] = Field(1, description="1 only")
    echo: Annotated[bool | None, _only(False)] = Field(False, description="false only")
    logprobs: Annotated[int | None, _only(None)] = Field(None, description="null only")
    suffix: Annotated[Text | None, _only(None, "")] = Field(None, description="null only")
    presence_penalty: Annotated[FiniteFloat | None, _only(0)] = Field(0, description="0 only")
    frequency_penalty: Annotated[FiniteFloat | None, _only(0)] = Field(0, description="0 only")
    logit_bias: Annotated[dict[str, Any] | None, _only({})] = Field(None, description="{} only")

    @model_validator(mode="after")
    def _fits_a_stream(self) -> Self:
        if self.stream and self.show_neighbours:
            raise ValueError("show_neighbours is for answers that are not streamed")
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options is for stream=true alone")
        return self

    @property
    def includes_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage


class Choice(BaseModel):
    """The continuation of a prompt."""

    text: str = Field(default="", description="without the prompt and the stop string")
    index: int = Field(description="number of the prompt, from 0")
    logprobs: None = Field(default=None, description="always null")
    finish_reason: str | None = Field(
        default=None,
        description="stop: the model ended the document, or a stop string came; or length",
    )


class Usage(BaseModel):
    """Tokens of the run's tokenizer."""

    prompt_tokens: int = Field(description="of all prompts")
    completion_tokens: int = Field(description="written for all prompts")
    total_tokens: int = Field(description="both")


class ReadNeighbour(BaseModel):
    """A neighbour that a prompt's text reads from a token on."""

    index: int = Field(description="number of the prompt, from 0")
    tokens: int = Field(description="tokens that the text had, with the one before the document")
    document: str = Field(description="its document's id in the corpus")
    score: float | None = Field(description="higher is better; on the retriever's own scale")
    text: str = Field(description="the part that the model reads")


class Extension(BaseModel):
    """What OpenAI's form has no place for."""

    neighbours: list[ReadNeighbour] = Field(description="in the order in which they were read")


class Completion(BaseModel):
    """The continuations; as events of a stream, each has the text since the last, and no usage."""

    id: str = Field(description="a new one for each answer")
    object: Literal["text_completion"] = Field(description="of OpenAI's form")
    created: int = Field(description="seconds since 1970")
    model: str = Field(description="the run's name")
    choices: list[Choice] = Field(description="one for each prompt")
    usage: Usage = Field(description="tokens read and written")
    retro_lab: Extension | None = Field(default=None, description="with show_neighbours alone")


class Model(BaseModel):
    """A model that can be asked."""

    id: str = Field(description="the run's name")
    object: Literal["model"] = Field(default="model", description="of OpenAI's form")
    created: int = Field(description="when the service began, in seconds since 1970")
    owned_by: str = Field(default="retro_lab", description="always the same")


class ModelList(BaseModel):
    """The models that can be asked: one, or none."""

    object: Literal["list"] = Field(default="list", description="of OpenAI's form")
    data: list[Model] = Field(description="empty where the service only searches")
