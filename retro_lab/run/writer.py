"""Text generation by a run: continues prompts, retrieving neighbours on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

from retro_lab.config.arguments import key
from retro_lab.config.errors import UserError
from retro_lab.config.schema import MemoryConfig
from retro_lab.retrieval.new_text import Found, GivenNeighbours, NeighbourSource

from .finished import FinishedRun

if TYPE_CHECKING:
    import torch

    from retro_lab.nn import Query, Retro
    from retro_lab.text.tokenizers import Tokenizer

    from .attached_memory import AttachedMemory, Source

_CONTEXT = 16  # preceding tokens needed to decode the next ones
_CUT = "\ufffd"  # decoded from an incomplete character


@dataclass(frozen=True)
class Request:
    """The arguments of `generate`, explained by `generate --help`; None where not given."""

    run: Path = key(example="runs/..., a trained run's directory")
    prompts: tuple[str, ...] = key((), name="prompt", blank=True)
    tokens: int = key(128, least=1)
    temperature: float = key(0.8, least=0)
    top_k: int = key(0, least=0)
    top_p: float = key(1.0, above=0, most=1)
    seed: int = key(0, least=0)
    show: str | None = key(None, choices=("neighbours", "text", "memory"))
    memory: str | None = key(None, choices=("suffix", "suffix_topic"))
    retrieval: bool | None = None
    stride: int | None = key(None, least=1)
    left_pad: bool = False
    neighbours: tuple[str, ...] = key((), name="neighbours_text")
    neighbours_file: Path | None = None
    device: str = key("auto", choices=("auto", "cpu", "cuda"))

    @property
    def shows_neighbours(self) -> bool:
        """Whether the neighbours read are shown, in a line or whole."""
        return self.show in ("neighbours", "text")

    @property
    def retrieval_keys(self) -> list[str]:
        """The given keys that require retrieval."""
        given = {
            "show": self.shows_neighbours,
            "stride": self.stride is not None,
            "left_pad": self.left_pad,
            "neighbours_text": bool(self.neighbours),
        }
        return [key for key, is_given in given.items() if is_given]


class Reading(NamedTuple):
    """The neighbours that a prompt's generated text reads from here on.

    Attributes:
        row: number of the prompt, from 0.
        end: tokens so far, including the boundary token before the text.
        found: the neighbours, best first.
    """

    row: int
    end: int
    found: list[Found]


Show = Callable[[Reading], None]


class Writer:
    """Generates text with a run's model, tokenizer and source of neighbours.

    Args:
        model: in evaluation mode, on its device.
        tokenizer: the run's.
        source: of neighbours; None to generate without retrieval.
        window: tokens of a training window.
        memory: read at every token; None writes with the model alone.

    Attributes:
        leaned: of the last text written for each prompt, what each token leans on in the memory.
        counts: tokens written for each prompt so far, of the last texts.
    """

    def __init__(
        self,
        model: Retro,
        tokenizer: Tokenizer,
        source: NeighbourSource | None,
        window: int,
        memory: AttachedMemory | None = None,
    ) -> None:
        self.model, self.tokenizer, self.source, self.window = model, tokenizer, source, window
        self.memory = memory
        self.leaned: dict[int, list[Source]] = {}
        self.counts: list[int] = []

    @classmethod
    def load(cls, request: Request) -> Writer:
        """Opens the requested run.

        Raises:
            UserError: the run is missing or not trained, or doesn't support a given key.
        """
        return cls.of(FinishedRun.open(request.run), request)

    @classmethod
    def of(cls, run: FinishedRun, request: Request) -> Writer:
        """A writer with a run that is open already.

        Raises:
            UserError: the run doesn't support a given key.
        """
        check_writable(run)
        config, path = run.config, run.directory.path
        reads = config.retriever.retrieves
        asked = ["retrieval"] * bool(request.retrieval) + request.retrieval_keys
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
        memory = None
        if request.memory is not None:
            from .attached_memory import AttachedMemory

            memory = AttachedMemory(request.run, MemoryConfig.of(*request.memory.split("_")))
        elif request.show == "memory":
            raise UserError("show=memory: no memory is read", fix="add memory=suffix_topic")
        window = config.chunking.sequence_length
        return cls(model.to(device), run.tokenizer, source, window, memory)

    def write(
        self, prompts: Sequence[str], request: Request, show: Show | None = None
    ) -> Iterator[tuple[int, str]]:
        """Generates text for each prompt, in pieces of complete characters.

        Args:
            show: called with new neighbours before the first token that reads them.

        Yields:
            Number of the prompt, from 0, and the piece.
        """
        import torch

        from retro_lab.nn import Sampling, generate

        rows = [self.encode(prompt) for prompt in prompts]
        written = [list(row) for row in rows]
        self.counts = counts = [0] * len(rows)
        processors = [] if self.memory is None else [self.memory.processor() for _ in rows]

        def read_out(logits: torch.Tensor, texts: dict[int, list[int]]) -> torch.Tensor:
            mixed = logits.clone()
            for place, (row, text) in enumerate(texts.items()):
                ids = logits.new_tensor([text], dtype=torch.long)
                mixed[place] = processors[row](ids, logits[place : place + 1])[0]
            return mixed

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
            read_out=read_out if processors else None,
        )
        for step in steps:
            for row, token in step.items():
                written[row].append(token)
                counts[row] += 1
                yield row, texts[row].add(token)
        for row, processor in enumerate(processors):
            ids, count = torch.tensor(written[row]), len(written[row]) - len(rows[row])
            assert self.memory is not None
            self.leaned[row] = self.memory.sources(processor, ids, last=count)
        for row, text in enumerate(texts):
            yield row, text.rest()

    def encode(self, prompt: str) -> list[int]:
        """A prompt's tokens after a boundary token, as at the beginning of a document."""
        [encoded] = self.tokenizer.encode_batch([prompt])
        return [self.tokenizer.boundary_id, *encoded.ids.tolist()]

    def set_neighbours(self, texts: Sequence[str]) -> list[Found]:
        """Sets fixed neighbours in place of the search; returns them as the model reads them.

        Raises:
            UserError: the run has no retrieval, or a text has no tokens.
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


def check_writable(run: FinishedRun) -> None:
    """Refuses a run whose model is not one of this project's.

    Raises:
        UserError: it is a pretrained backbone, alone or with a graft.
    """
    path, backbone = run.directory.path, run.config.recipe.backbone
    if backbone is not None:
        raise UserError(
            f"{path} is a run on {backbone}; generate writes with models of this project only",
            fix=f"python -m retro_lab export run={path} out=FOLDER, then "
            "model.generate(...) as its README.md says",
        )


def device_of(name: str) -> torch.device:
    """The device for `device=auto|cpu|cuda`.

    Raises:
        UserError: cuda is not available.
    """
    import torch

    found = torch.cuda.is_available()
    if name == "cuda" and not found:
        raise UserError("device=cuda, but torch finds no CUDA device", fix="device=cpu")
    return torch.device("cuda" if found and name != "cpu" else "cpu")


class Text:
    """Incremental decoder: text of a growing list of tokens, in complete characters.

    Args:
        ids: preceding tokens, which may affect how the next ones are decoded.
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
        """The remaining text, including incomplete characters."""
        return self._pending()

    def _pending(self) -> str:
        before = self.tokenizer.decode(self.known)
        return self.tokenizer.decode(self.known + self.new)[len(before) :]
