"""`python -m retro_lab generate run=...`: a finished run writes on, and searches as it goes.

At the end of every chunk the run's own index is searched with the text of that chunk, exactly as
the run's training data was; the model reads what was found from the next token on.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from retro_lab.config.console import paint, print_error
from retro_lab.config.errors import EXIT_USER_ERROR, UserError

from .generate_request import USAGE, Request, parse
from .neighbour_sources import Found, GivenNeighbours, NeighbourSource
from .writer import Reading, Writer

EXIT_INTERRUPTED = 130
_COMMAND = "/neighbours"
_LINE = 96  # characters of a neighbour in one line


def main(argv: Sequence[str]) -> int:
    """Exit code of `generate <argv>`."""
    if not argv or {"--help", "-h"} & set(argv):
        print(USAGE)
        return 0 if argv else EXIT_USER_ERROR
    try:
        request = parse(argv)
        writer = Writer.load(request)
        if len(request.prompts) > 1:
            _print_batch(writer, request)
        elif request.prompts:
            _stream(writer, request, request.prompts[0])
        else:
            _converse(writer, request)
    except UserError as error:
        print_error(str(error))
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        print()
        return EXIT_INTERRUPTED
    return 0


def _stream(writer: Writer, request: Request, prompt: str) -> None:
    """Prints one continuation while it is made."""
    _warn_of_length(writer, request, [prompt])

    shown = False

    def show(reading: Reading) -> None:
        nonlocal shown
        shown = True
        print("\n" + _told(writer, request, reading), flush=True)

    for _, piece in writer.write([prompt], request, show if request.show else None):
        print(piece, end="", flush=True)
    print()
    if request.show and not shown:
        every = request.stride or writer.model.config.chunk_size
        print(
            f"[nothing was read: a search comes every {every} tokens; left_pad=on begins with one]"
        )


def _print_batch(writer: Writer, request: Request) -> None:
    """Prints the continuations of all prompts, one after the other, when they are done."""
    _warn_of_length(writer, request, request.prompts)
    parts: list[list[str]] = [[] for _ in request.prompts]

    def show(reading: Reading) -> None:
        parts[reading.row].append("\n" + _told(writer, request, reading) + "\n")

    for row, piece in writer.write(request.prompts, request, show if request.show else None):
        parts[row].append(piece)
    for number, (prompt, pieces) in enumerate(zip(request.prompts, parts, strict=True), start=1):
        print(f"[prompt {number}: {_in_a_line(prompt)}]")
        print("".join(pieces))


def _converse(writer: Writer, request: Request) -> None:
    """Continues what the user types, and takes neighbours from them."""
    searched = None if isinstance(writer.source, GivenNeighbours) else writer.source
    for line in _asked():
        if line.split(" ")[0] != _COMMAND:
            _stream(writer, request, line)
            continue
        try:
            _neighbours_typed(writer, line.removeprefix(_COMMAND).strip(), searched)
        except UserError as error:
            print_error(str(error))


def _neighbours_typed(writer: Writer, text: str, searched: NeighbourSource | None) -> None:
    """Does what `/neighbours <text>` says: adds one, shows them, or goes back to searching."""
    given = writer.source if isinstance(writer.source, GivenNeighbours) else None
    if text == "off":
        writer.source = searched
        given = None
    elif text:
        writer.give([*(given.texts if given else ()), text])
        given = writer.source
    if isinstance(given, GivenNeighbours):
        print("reads, in place of what a search finds:")
        print("\n".join(_lines(given.found, whole=True)))
    elif writer.source is None:
        print("reads no neighbours")
    else:
        print("reads what a search finds")


def _asked() -> Iterator[str]:
    """Prompts typed by the user, to the end of the input."""
    import readline  # noqa: F401  (gives input() its line editing and history)

    while True:
        try:
            yield input("prompt> " if sys.stdin.isatty() else "")
        except EOFError:
            return


def _told(writer: Writer, request: Request, reading: Reading) -> str:
    """What is read from here on, for people."""
    size = writer.model.config.chunk_size
    where = f"chunk {-(-reading.end // size)}"  # left padding fills up the first
    if request.stride is not None and request.stride < size:
        where = f"token {reading.end}"
    count = len(reading.found)
    title = f"[{where} read {count} neighbour{'' if count == 1 else 's'}]"
    return "\n".join([title, *_lines(reading.found, whole=request.show == "text")])


def _lines(found: Sequence[Found], whole: bool) -> Iterator[str]:
    """A line for each neighbour, or its text in full under its document and score."""
    for one in found:
        score = "" if one.score is None else f"  {one.score:.3f}"
        if whole:
            yield f"  {one.document}{score}"
            yield from (f"    | {line}" for line in one.text.splitlines())
        else:
            yield f"  {one.document}{score}  {_in_a_line(one.text)}"


def _in_a_line(text: str) -> str:
    joined = " ".join(text.split())
    return joined if len(joined) <= _LINE else joined[: _LINE - 3] + "..."


def _warn_of_length(writer: Writer, request: Request, prompts: Sequence[str]) -> None:
    """Says so if the text grows beyond what the model was trained on; it can be written all the
    same, since every kind of position is a distance.
    """
<<<<<<< HEAD
    longest = max(len(writer.encode(prompt)) for prompt in prompts) + request.tokens
    if longest > writer.window:
        message = (
            f"{longest:,} tokens with the prompt, but the model was trained on windows of "
            f"{writer.window:,}: expect worse text beyond them"
=======

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
>>>>>>> h-database
        )
        print(paint("warning: ", "33") + message, file=sys.stderr)
