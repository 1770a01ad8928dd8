"""`python -m retro_lab generate run=...`: a finished run writes on, and searches as it goes.

At the end of every chunk the run's own index is searched with the text of that chunk, exactly as
the run's training data was; the model reads what was found from the next token on.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from retro_lab.config.console import print_error
from retro_lab.config.errors import EXIT_USER_ERROR, UserError

from .run_directory import RunDirectory

if TYPE_CHECKING:
    import numpy as np
    import torch

    from retro_lab.config.schema import Config
    from retro_lab.nn import Retro
    from retro_lab.text.tokenizers import Tokenizer

    from .stages import Prepared

USAGE = """usage: python -m retro_lab generate run=runs/... [prompt="..."] [key=value ...]

Continues a prompt with a trained run; prints the continuation while it is made. Without a prompt it
asks for one after the other; Ctrl-D ends it.
  tokens=128        at most so many new tokens; a document that ends sooner ends the text
  temperature=0.8   0 always takes the likeliest token
  top_k=0           draws among the k likeliest tokens; 0: among all
  seed=0            the same seed draws the same text
  show=neighbours   tells after each chunk what was found: document, score, first line
  retrieval=off     does not search; on is the default for a run that has a retriever"""
EXIT_INTERRUPTED = 130
_CONTEXT = 16  # tokens that are enough to decode what follows them
_CUT = "\ufffd"  # decoded from a character whose last bytes are still to come
N = TypeVar("N", int, float)
_KEYS = ("run", "prompt", "tokens", "temperature", "top_k", "seed", "show", "retrieval")


@dataclass(frozen=True)
class Request:
    """What the user asks for; fields as in `USAGE`, None where it was left open."""

    run: Path
    prompt: str | None = None
    tokens: int = 128
    temperature: float = 0.8
    top_k: int = 0
    seed: int = 0
    show: bool = False
    retrieval: bool | None = None


class Found(NamedTuple):
    """A neighbour that was read: its document, the retriever's score, its first line of text."""

    document: str
    score: float
    line: str


def main(argv: Sequence[str]) -> int:
    """Exit code of `generate <argv>`."""
    if not argv or {"--help", "-h"} & set(argv):
        print(USAGE)
        return 0 if argv else EXIT_USER_ERROR
    try:
        request = parse(argv)
        writer = Writer.load(request)
        for prompt in [request.prompt] if request.prompt is not None else _asked():
            _print_text(writer, request, prompt)
    except UserError as error:
        print_error(str(error))
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        print()
        return EXIT_INTERRUPTED
    return 0


def parse(argv: Sequence[str]) -> Request:
    """The arguments as a request.

    Raises:
        UserError: an unknown key, a value that does not fit, or no run.
    """
    given = {key: value for key, _, value in (argument.partition("=") for argument in argv)}
    for key in given:
        if key not in _KEYS:
            near = difflib.get_close_matches(key, _KEYS, n=1)
            fix = f"did you mean {near[0]}=...?" if near else f"keys: {', '.join(_KEYS)}"
            raise UserError(f"{key} is not a key of generate", fix=fix)
    if not given.get("run"):
        raise UserError("generate needs a run", fix="add run=runs/..., a trained run's directory")
    retrieval = _choice(given, "retrieval", ("on", "off"))
    return Request(
        run=Path(given["run"]),
        prompt=given.get("prompt"),
        tokens=_number(given, "tokens", int, least=1, default=128),
        temperature=_number(given, "temperature", float, least=0, default=0.8),
        top_k=_number(given, "top_k", int, least=0, default=0),
        seed=_number(given, "seed", int, least=0, default=0),
        show=_choice(given, "show", ("neighbours",)) is not None,
        retrieval=None if retrieval is None else retrieval == "on",
    )


def _number(given: dict[str, str], key: str, kind: Callable[[str], N], least: int, default: N) -> N:
    if key not in given:
        return default
    try:
        value = kind(given[key])
    except ValueError:
        value = None
    if value is None or not least <= value < 2**63:
        what = "a whole number" if kind is int else "a number"
        raise UserError(
            f"{key}={given[key]}: expected {what} of at least {least}", fix=f"{key}={default}"
        )
    return value


def _choice(given: dict[str, str], key: str, choices: Sequence[str]) -> str | None:
    if key not in given:
        return None
    if given[key] not in choices:
        options = " or ".join(f"{key}={choice}" for choice in choices)
        raise UserError(f"{key}={given[key]} is none of its values", fix=options)
    return given[key]


def _asked() -> Iterator[str]:
    """Prompts typed by the user, to the end of the input."""
    import readline  # noqa: F401  (gives input() its line editing and history)

    while True:
        try:
            yield input("prompt> " if sys.stdin.isatty() else "")
        except EOFError:
            return


def _print_text(writer: Writer, request: Request, prompt: str) -> None:
    """Streams one continuation to standard output."""

    def show(number: int, found: Sequence[Found]) -> None:
        print(f"\n[chunk {number} read {len(found)} neighbours]")
        for one in found:
            print(f"  {one.document}  {one.score:.3f}  {one.line}")

    for piece in writer.write(prompt, request, show if request.show else None):
        print(piece, end="", flush=True)
    print()


class Writer:
    """A run's model, its tokenizer and, if it searches, its database.

    Args:
        model: in evaluation mode.
        tokenizer: the run's.
        database: None to write without retrieval.
    """

    def __init__(self, model: Retro, tokenizer: Tokenizer, database: Database | None) -> None:
        self.model, self.tokenizer, self.database = model, tokenizer, database

    @classmethod
    def load(cls, request: Request) -> Writer:
        """Opens the run.

        Raises:
            UserError: if the run is not there, not trained, or cannot search and was asked to.
        """
        from retro_lab.config.fingerprints import has_retrieval

        run = RunDirectory(request.run)
        config = run.config()
        if not run.reached("trained"):
            raise UserError(
                f"{run.path} is not trained to its end: its state is {run.state!r}",
                fix="run the train.py command again; it resumes",
            )
        if request.retrieval and not has_retrieval(config):
            raise UserError(
                f"retrieval=on, but {run.path} is a baseline: it has no neighbours to read",
                fix="leave retrieval=on out, or give a run with a retriever",
            )
        from .build import build_model
        from .stages import prepare

        prepared = prepare(config)
        run.check_lineage(prepared.lineage)
        model = build_model(config, prepared.chunks.vocab_size, prepared.chunks.pad_id)
        model.load_state_dict(run.weights())
        searches = has_retrieval(config) and request.retrieval is not False
        database = Database(config, prepared) if searches else None
        return cls(model.eval(), prepared.pipeline.open_tokenizer(), database)

    def write(
        self,
        prompt: str,
        request: Request,
        show: Callable[[int, Sequence[Found]], None] | None = None,
    ) -> Iterator[str]:
        """Pieces of the continuation, as soon as their characters are whole.

        Args:
            show: told the number of each chunk, from 1, and what was found for it.
        """
        import torch

        generator = torch.Generator().manual_seed(request.seed)
        tokenizer, cache = self.tokenizer, self.model.new_cache(1)
        ids = [tokenizer.boundary_id, *tokenizer.encode_batch([prompt])[0].ids.tolist()]
        text, new = Text(tokenizer, ids[1:]), ids
        for count in range(1, request.tokens + 1):
            logits = self.model.step(torch.tensor([new]), cache, self._neighbours(ids, new, show))
            token = draw(logits[0, -1], request, generator, tokenizer.pad_id)
            if token == tokenizer.boundary_id:
                break
            yield text.add(token)
            if count == request.tokens:
                break
            ids.append(token)
            new = [token]
        yield text.rest()

    def _neighbours(
        self, ids: list[int], new: list[int], show: Callable[[int, Sequence[Found]], None] | None
    ) -> torch.Tensor | None:
        """[1, U, K, R] neighbours of the chunks that the last tokens, `new`, complete."""
        import numpy as np
        import torch

        size = self.model.config.chunk_size
        begun, done = (len(ids) - len(new)) // size, len(ids) // size
        if self.database is None or begun == done:
            return None
        chunks = np.array(ids[begun * size : done * size]).reshape(-1, size)
        texts = [self.tokenizer.decode(chunk.tolist()) for chunk in chunks]
        tokens, found = self.database.search(chunks, texts)
        if show is not None:
            for number, neighbours in enumerate(found, start=begun + 1):
                show(number, neighbours)
        return torch.from_numpy(tokens).unsqueeze(0)


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


class Database:
    """The run's search: index, embedder and the text that it finds.

    Args:
        config: of a run with retrieval.
        prepared: its data; building it has built the index.
    """

    def __init__(self, config: Config, prepared: Prepared) -> None:
        from retro_lab.retrieval.embedders import build_embedder
        from retro_lab.retrieval.registry import load_retriever

        if config.retriever.needs_texts:
            raise UserError(
                f"retriever={config.retriever.name} searches for text of the corpus only",
                fix="add retrieval=off, or use a run with another retriever",
            )
        index = prepared.pipeline.store.get(prepared.pipeline.index(config.retriever))
        assert index is not None, "prepare() builds the index before the neighbours"
        self.config, self.chunks, self.corpus = config, prepared.chunks, prepared.corpus
        self.retriever = load_retriever(config.retriever, index.path)
        needs_embeddings = config.retriever.needs_embeddings
        self.embedder = build_embedder(config.embedder) if needs_embeddings else None

    def search(self, chunks: np.ndarray, texts: list[str]) -> tuple[np.ndarray, list[list[Found]]]:
        """Neighbours of chunks [U, M] with these texts: their tokens [U, K, R], and what they are.

        Neighbours are those of training, but for the leak filter: nothing is to be predicted yet.
        """
        import numpy as np

        from retro_lab.retrieval.base import Queries, text_tokens
        from retro_lab.retrieval.exclusion import search_filled

        store, outside = self.chunks, np.full(len(chunks), -1, dtype=np.int64)
        embeddings = None
        if self.embedder is not None:  # rounded as the stored ones are
            embeddings = self.embedder.embed(texts).astype(np.float16).astype(np.float32)
        tokens = text_tokens(chunks, store.pad_id, store.boundary_id)
        queries = Queries(tokens, embeddings, document=outside, chunk_ids=outside)
        ids, scores = search_filled(
            self.retriever, queries, self.config.neighbours.k, store.identity
        )
        found = [
            [self._found(chunk, score) for chunk, score in zip(*row, strict=True) if chunk >= 0]
            for row in zip(ids, scores, strict=True)
        ]
        return store.values(ids, self.config.chunking.continuation_chunks), found

    def _found(self, chunk: int, score: float) -> Found:
        lines = self.chunks.texts([chunk], self.corpus)[0].strip().splitlines()
        document = self.corpus.ids[int(self.chunks.document[chunk])]
        return Found(document, float(score), lines[0] if lines else "")


def draw(logits: torch.Tensor, request: Request, generator: torch.Generator, pad_id: int) -> int:
    """The next token by temperature and top_k from logits [V]; never padding."""
    logits = logits.double()
    logits[pad_id] = float("-inf")
    if request.temperature == 0:
        return int(logits.argmax())
    if 0 < request.top_k < len(logits):
        logits[logits < logits.topk(request.top_k).values[-1]] = float("-inf")
    shares = (logits / request.temperature).softmax(-1)
    return int(shares.multinomial(1, generator=generator))
