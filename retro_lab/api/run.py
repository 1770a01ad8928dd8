"""A finished run: its figures, and its model, search and evaluation on new text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, overload

import pyarrow as pa

from retro_lab.config.errors import UserError
from retro_lab.config.schema import BenchmarkConfig, Config, EvaluateConfig, MemoryConfig
from retro_lab.evaluation.measure.metrics import Score
from retro_lab.evaluation.measure.text_scoring import ScoredText
from retro_lab.evaluation.records.results import Results
from retro_lab.evaluation.report.verdict_card import verdict_sentences
from retro_lab.retrieval.service.served_index import Hit, ServedIndex
from retro_lab.run.attached_memory import AttachedMemory, Source
from retro_lab.run.compared import compared_runs
from retro_lab.run.directory import RunDirectory
from retro_lab.run.finished import FinishedRun
from retro_lab.run.tasks.conditions import Conditions
from retro_lab.run.writer import Reading, Request, Writer

from .composed import composed
from .evaluating import evaluate_fully
from .exporting import export

if TYPE_CHECKING:
    from retro_lab.run.model import LanguageModel
    from retro_lab.text.tokenizers import Tokenizer


@dataclass(frozen=True)
class Generated:
    """A text that a run wrote; `str()` of it is the text.

    Attributes:
        text: without the prompt.
        readings: the neighbours that were read, search by search.
        leaned: with a memory, what each token leans on.
    """

    text: str
    readings: list[Reading]
    leaned: list[Source]

    def __str__(self) -> str:
        return self.text


class Run:
    """A trained run, opened by `load` or returned by `train`.

    Args:
        opened: the run.

    Attributes:
        path: its directory.
        config: its configuration.
    """

    def __init__(self, opened: FinishedRun) -> None:
        self._opened = opened
        self._writers: dict[tuple[bool | None, str | None], Writer] = {}
        self.path: Path = opened.directory.path
        self.config: Config = opened.config

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """The run in a directory.

        Raises:
            UserError: the directory holds no run, or one that is not trained to its end.
        """
        return cls(FinishedRun.open(Path(path)))

    @property
    def results(self) -> Results:
        """The figures of results.json.

        Raises:
            UserError: the run is not evaluated, or the file is damaged.
        """
        return self._opened.results()

    @property
    def verdict(self) -> list[str]:
        """The sentences on the gain of retrieval and of a memory; none for a run without both."""
        return verdict_sentences(self.results)

    @property
    def chunks(self) -> pa.Table:
        """chunks.parquet, a row a scored chunk; `.to_pandas()` makes it a data frame."""
        import pyarrow.parquet as pq

        return pq.read_table(self._opened.out.chunks_file)

    @property
    def tokenizer(self) -> Tokenizer:
        """The run's tokenizer."""
        return self._opened.tokenizer

    @cached_property
    def model(self) -> LanguageModel:
        """The trained model, in evaluation mode."""
        return self._opened.model()

    @cached_property
    def _index(self) -> ServedIndex:
        return self._opened.text_search()

    @cached_property
    def _conditions(self) -> Conditions:
        return Conditions(self._opened, compared_runs(self.config))

    @overload
    def search(self, query: str, k: int = 5) -> list[Hit]: ...

    @overload
    def search(self, query: Sequence[str], k: int = 5) -> list[list[Hit]]: ...

    def search(self, query: str | Sequence[str], k: int = 5) -> list[Hit] | list[list[Hit]]:
        """The k chunks of the run's database nearest to a text; a list for a list of texts.

        Raises:
            UserError: the run has no retriever, or its data is lost.
        """
        if isinstance(query, str):
            return self._index.search_texts([query], k)[0]
        return self._index.search_texts(list(query), k)

    def score(self, text: str, condition: str | None = None) -> Score:
        """The score of a text as a document of its own: `.bpb`, `.ppl`, `.nats`.

        Nothing of the database is left out, so text that it holds scores well.

        Args:
            condition: `on`, `off`, `random`, `baseline` or `plain`, or `memory` for a run with
                one; by default `on`, or `baseline` for a run without retrieval.

        Raises:
            UserError: the run cannot search for new text, or has no such condition.
        """
        conditions = self._conditions
        name = conditions.checked(condition or conditions.own)
        [encoded] = self.tokenizer.encode_batch([text])
        ids = [self.tokenizer.boundary_id, *encoded.ids.tolist()]
        [found] = conditions.scorer(name).score([ScoredText(ids)])
        return Score(found.nats, len(ids) - 1, len(text.encode()))

    def generate(
        self,
        prompt: str,
        *,
        tokens: int = 128,
        temperature: float = 0.8,
        top_p: float = 1.0,
        seed: int = 0,
        retrieval: bool | None = None,
        memory: str | None = None,
    ) -> Generated:
        """A continuation of the prompt.

        Args:
            tokens: most new tokens; the text also ends where the model ends the document.
            temperature: 0 always takes the most likely token.
            top_p: samples from the most likely tokens that together have this probability.
            retrieval: False does not search; by default a run with a retriever searches.
            memory: also reads the database at every token: `suffix` or `suffix_topic`.

        Raises:
            UserError: the run is grafted on a pretrained backbone, or lacks what is asked for.
        """
        request = Request(
            self.path,
            tokens=tokens,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            retrieval=retrieval,
            memory=memory,
        )
        known = (retrieval, memory)
        writer = self._writers.get(known) or self._writers.setdefault(known, Writer.load(request))
        readings: list[Reading] = []
        pieces = [piece for _, piece in writer.write([prompt], request, readings.append)]
        return Generated("".join(pieces), readings, writer.leaned.get(0, []))

    def evaluate(self, *overrides: str) -> Results:
        """The figures of another evaluation, as of `python evaluate.py run=... <overrides>`.

        Args:
            overrides: of evaluate.py, such as "eval=probes" or "eval.split=validation".

        Raises:
            UserError: an override is invalid, or the run cannot be evaluated like this.
        """
        command: EvaluateConfig = composed("evaluate", [f"run={self.path}", *overrides])
        if isinstance(command.eval, BenchmarkConfig):
            raise UserError(
                f"eval={command.eval.name} measures other text, and has no such results",
                fix=f"python evaluate.py run={self.path} eval={command.eval.name}",
            )
        out, _ = evaluate_fully(RunDirectory(self.path), command)
        return Results.load(out.results_file)

    def export(
        self,
        out: str | Path,
        *,
        licence: str = "other",
        memory: str | None = None,
        database: bool = False,
    ) -> None:
        """Writes a Hugging Face model folder, as `python -m retro_lab export` does.

        Args:
            licence: of the weights, as the hub spells it.
            memory: also writes the database as a memory: `suffix` or `suffix_topic`.
            database: also writes index, tokenizer and text of the database, for `RunRetriever`.

        Raises:
            UserError: the folder has other content, or the run has no such database or memory.
        """
        export(self._opened, Path(out), licence=licence, memory=memory, database=database)

    def memory(self, *experts: str) -> AttachedMemory:
        """The memory of the run's database, for `generate` of transformers.

        Args:
            experts: `suffix`, or `suffix` and `topic`; by default the run's own memory.

        Raises:
            UserError: the run has other experts, or none.
        """
        return AttachedMemory(self.path, MemoryConfig.of(*experts) if experts else None)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"


def load(path: str | Path) -> Run:
    """A finished run, opened from its directory.

    Raises:
        UserError: the directory holds no run, or one that is not trained to its end.
    """
    return Run.open(path)
