"""A run that writes: from prompts in text to pieces of text, with searches between."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

from retro_lab.config.arguments import key
from retro_lab.config.errors import UserError
from retro_lab.retrieval.new_text import Found, GivenNeighbours, NeighbourSource

from .finished import FinishedRun

if TYPE_CHECKING:
    import torch

    from retro_lab.nn import Query, Retro
    from retro_lab.text.tokenizers import Tokenizer

_CONTEXT = 16  # tokens that are enough to decode what follows them
_CUT = "\ufffd"  # decoded from a character whose last bytes are still to come


@dataclass(frozen=True)
class Request:
    """What the user asks for; fields as `generate --help` has them, None where it was left open."""

    run: Path = key(example="runs/..., a trained run's directory")
    prompts: tuple[str, ...] = key((), name="prompt", blank=True)
    tokens: int = key(128, least=1)
    temperature: float = key(0.8, least=0)
    top_k: int = key(0, least=0)
    top_p: float = key(1.0, above=0, most=1)
    seed: int = key(0, least=0)
    show: str | None = key(None, choices=("neighbours", "text"))
    retrieval: bool | None = None
    stride: int | None = key(None, least=1)
    left_pad: bool = False
    neighbours: tuple[str, ...] = key((), name="neighbours_text")
    neighbours_file: Path | None = None
    device: str = key("auto", choices=("auto", "cpu", "cuda"))

    @property
    def about_neighbours(self) -> list[str]:
        """The given keys that mean nothing where no neighbours are read."""
        given = {
            "show": self.show is not None,
            "stride": self.stride is not None,
            "left_pad": self.left_pad,
            "neighbours_text": bool(self.neighbours),
        }
        return [key for key, is_given in given.items() if is_given]


class Reading(NamedTuple):
    """What a prompt's continuation reads from here on.

    Attributes:
        row: number of the prompt, from 0.
        end: tokens so far, the boundary before the text included.
        found: the neighbours, best first.
    """

    row: int
    end: int
    found: list[Found]


Show = Callable[[Reading], None]


class Writer:
    """A run's model, its tokenizer and, if it reads, where its neighbours come from.

    Args:
        model: in evaluation mode, on the device where it is to run.
        tokenizer: the run's.
        source: None to write without neighbours.
        window: tokens of the windows that the model was trained on.
    """

    def __init__(
        self, model: Retro, tokenizer: Tokenizer, source: NeighbourSource | None, window: int
    ) -> None:
        self.model, self.tokenizer, self.source, self.window = model, tokenizer, source, window

    @classmethod
    def load(cls, request: Request) -> Writer:
        """Opens the run.

        Raises:
            UserError: the run is not there or not trained, or cannot do what was asked.
        """
        run = FinishedRun.open(request.run)
        config, path = run.config, run.directory.path
        if config.recipe.backbone is not None:
            raise UserError(
                f"{path} is grafted on {config.recipe.backbone}; generate writes with models "
                "of this project only",
                fix=f"python -m retro_lab export run={path} out=FOLDER, then "
                "model.generate(...) as its README.md says",
            )
        reads = config.retriever.retrieves
        asked = ["retrieval"] * bool(request.retrieval) + request.about_neighbours
        if asked and not reads:
            raise UserError(
                f"{asked[0]}= is about neighbours, but {path} is a baseline: it reads none",
                fix=f"leave {asked[0]}= out, or give a run with a retriever",
            )
        size = config.chunking.chunk_size
        if request.stride is not None and request.stride > size:
            raise UserError(
                f"stride={request.stride}: at most {size}, the run's chunk size",
                fix=f"stride={size} searches once a chunk, which is the default",
            )
        device = device_of(request.device)
        model, source = cast("Retro", run.model()), None
        if request.neighbours:
            source = GivenNeighbours(request.neighbours, run.tokenizer, model.config)
        elif reads and request.retrieval is not False:
            source = run.search(model.config, k=config.neighbours.k)
        return cls(model.to(device), run.tokenizer, source, config.chunking.sequence_length)

    def write(
        self, prompts: Sequence[str], request: Request, show: Show | None = None
    ) -> Iterator[tuple[int, str]]:
        """Pieces of the continuations, each as soon as its characters are whole.

        Args:
            show: told what is read, before the first token that reads it.

        Yields:
            Number of the prompt, from 0, and the piece.
        """
        from retro_lab.nn import Sampling, generate

        rows = [self.encode(prompt) for prompt in prompts]
        texts = [Text(self.tokenizer, row[1:]) for row in rows]
        source = self.source
        steps = generate(
            self.model,
            rows,
            Sampling(request.temperature, request.top_k, request.top_p, request.seed),
            max_tokens=request.tokens,
            stop_id=self.tokenizer.boundary_id,
            search=None if source is None else lambda queries: _search(source, queries, show),
            stride=request.stride,
            left_pad=request.left_pad,
        )
        for step in steps:
            for row, token in step.items():
                yield row, texts[row].add(token)
        for row, text in enumerate(texts):
            yield row, text.rest()

    def encode(self, prompt: str) -> list[int]:
        """A prompt as the beginning of a document: one boundary token, then its tokens."""
        [encoded] = self.tokenizer.encode_batch([prompt])
        return [self.tokenizer.boundary_id, *encoded.ids.tolist()]

    def give(self, texts: Sequence[str]) -> list[Found]:
        """Reads these from now on, in place of what a search finds; returns them as read.

        Raises:
            UserError: the run reads no neighbours, or a text has no tokens.
        """
        if not self.model.config.has_retrieval:
            raise UserError("this run is a baseline: it reads no neighbours")
        self.source = GivenNeighbours(texts, self.tokenizer, self.model.config)
        return self.source.found


def _search(source: NeighbourSource, queries: list[Query], show: Show | None) -> torch.Tensor:
    import torch

    tokens, found = source.search([query.tokens for query in queries])
    if show is not None:
        for query, neighbours in zip(queries, found, strict=True):
            show(Reading(query.row, query.end, neighbours))
    return torch.from_numpy(tokens)


def device_of(name: str) -> torch.device:
    """The device of `device=`.

    Raises:
        UserError: cuda where torch finds none.
    """
    import torch

    found = torch.cuda.is_available()
    if name == "cuda" and not found:
        raise UserError("device=cuda, but torch finds no CUDA device", fix="device=cpu")
    return torch.device("cuda" if found and name != "cpu" else "cpu")


class Text:
    """Characters of a growing list of tokens, each given out once, when it is whole.

    Args:
        ids: tokens that were read before; a tokenizer may decode what follows differently.
    """

    def __init__(self, tokenizer: Tokenizer, ids: list[int]) -> None:
        self.tokenizer = tokenizer
        self.known, self.new = ids[-_CONTEXT:], []

    def add(self, token: int) -> str:
        """The characters that this token completes."""
        self.new.append(token)
        text = self._pending()
        if text.endswith(_CUT) and len(self.new) < _CONTEXT:
            return ""
        self.known, self.new = (self.known + self.new)[-_CONTEXT:], []
        return text

    def rest(self) -> str:
        """What is left, broken characters included."""
        return self._pending()

    def _pending(self) -> str:
        before = self.tokenizer.decode(self.known)
        return self.tokenizer.decode(self.known + self.new)[len(before) :]
