"""Group `eval`: what is measured after training, and by `evaluate.py run=...`.

`eval=harness` and `eval=qa` measure a finished run on other people's tasks and questions.
Settings without a part in an evaluation's identity are recorded with figures of their own.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from ..errors import UserError, problem
from .corpus import SPLITS
from .rivals import RivalsConfig
from .setting import setting


class Reference(Enum):
    """Whose text counts as leaked: a chunk's own neighbours (RETRO, section 2.6), the neighbours
    that the model read, or all text of the training split, with no retriever between.
    """

    own_neighbours = "own_neighbours"
    seen_neighbours = "seen_neighbours"
    exact_corpus = "exact_corpus"


@dataclass
class InjectionConfig:
    """A leak of known size: copies of the evaluated split's documents, planted in what is searched.

    Attributes:
        doses: shares of one half of the documents, each an evaluation of its own; 0, nothing
            planted, is always measured with them. No experiment by default.
    """

    doses: list[float] = field(default_factory=list)


@dataclass
class EvalConfig:
    """What is measured: scores, and one switch a part; `eval=all` turns every part on.

    Attributes:
        name: the option's name.
        split: train, validation or test.
        stride: tokens between evaluation windows; a multiple of the chunk size, at most the
            sequence length; null takes half of it, rounded down to whole chunks.
        batch_size: windows a forward pass.
        k: neighbours a scored chunk reads; null takes as many as in training (`neighbours.k`).
        random: also score with random neighbours.
        shuffled: also score with the run's own neighbours, dealt to chunks of other documents.
        oracle: also score with the longest overlap with the text to be predicted: an upper bound.
        max_run: also score with the next candidate in place of each neighbour that shares a run of
            this many tokens or more with the chunk and the next one, as `neighbours.max_run` has it
            in training too; if both are set the smaller counts. Null leaves the score out.
        without_pointer: also score RETRO[ON] with its pointer read-out switched off, which shows
            how much of a gain is the pointer's; a run without one has no such score.
        tokens: also write tokens.parquet, a row a scored token.
        words: also give perplexity a word, exp(nats / words), words being what white space
            parts and line ends, as papers on WikiText count them.
        leakage: also compute r(C) and bpb(alpha).
        reference: whose text counts as leaked.
        overlap_neighbours: neighbours searched for overlap (the paper takes 10).
        ngram: tokens of the n-grams by which chunks are also compared with the neighbours read,
            for comparison with other papers; null leaves these columns out.
        alphas: upper bounds on r(C), each a share of the chunk.
        pages: documents at each end, of greatest and smallest gain, that inspect.html shows;
            0 writes no page; the page is made from tokens.parquet, which is written with it.
        bootstrap_samples: resamples of documents behind each interval.
        confidence: coverage of the intervals.
        seed: of the bootstrap and of random and shuffled neighbours.
        rivals: what else is trained and scored on the same tokens; none by default.
        injection: whether the figures see a leak that was planted, and how they do.
    """

    name: str = setting("leakage", identity=False)
    split: str = setting("test", choices=SPLITS)
    stride: int | None = None
    batch_size: int = setting(16, at_least=1, at_most=2**20, identity=False)
    k: int | None = setting(None, at_least=1)
    random: bool = True
    shuffled: bool = False
    oracle: bool = False
    max_run: int | None = setting(None, at_least=1, neutral=None)
    without_pointer: bool = setting(False, neutral=False)
    tokens: bool = False
    words: bool = setting(False, neutral=False)
    leakage: bool = True
    reference: Reference = Reference.own_neighbours
    overlap_neighbours: int = setting(10, at_least=1)
    ngram: int | None = setting(None, at_least=1)
    pages: int = setting(0, at_least=0, at_most=2**16, identity=False)
    alphas: list[float] = setting([0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0])
    bootstrap_samples: int = setting(2000, at_least=1, at_most=10**6)
    confidence: float = setting(0.95, above=0, below=1)
    seed: int = setting(0, at_least=0)
    rivals: RivalsConfig = setting(RivalsConfig(), identity=False)
    injection: InjectionConfig = setting(InjectionConfig(), identity=False)

    @property
    def wants_tokens(self) -> bool:
        """Whether tokens.parquet is written: on request, and for the pages that are made of it."""
        return self.tokens or self.pages > 0

    def problems(self, prefix: str) -> Iterator[UserError]:
        alphas = self.alphas
        ascending = all(a < b for a, b in itertools.pairwise(alphas))
        if not alphas or not ascending or not all(0 < alpha <= 1 for alpha in alphas):
            yield problem(
                f"{prefix}alphas",
                alphas,
                "must be shares of a chunk in (0, 1], ascending",
                f"{prefix}alphas=[0.125,0.25,0.5,1.0]",
            )
        if self.reference is Reference.exact_corpus and self.split == "train":
            yield problem(
                f"{prefix}split",
                "train",
                "every chunk of the training split stands in the training text (eval.reference)",
                f"{prefix}split=test, or {prefix}reference=own_neighbours",
            )


@dataclass
class BenchmarkConfig(EvalConfig):
    """What measures a finished run on text that is not its own; its results lie apart."""


@dataclass
class HarnessConfig(BenchmarkConfig):
    """Tasks of lm-eval, with retrieval in the loop; metrics and prompts are lm-eval's.

    Attributes:
        tasks: their names in lm-eval.
        files: a local JSON lines file by task, in place of the hub's data set.
        limit: at most so many documents a task; null takes all.
    """

    name: str = setting("harness", identity=False)
    leakage: bool = False
    tasks: list[str] = setting([], identity=False)
    files: dict[str, str] = setting({}, identity=False)
    limit: int | None = setting(None, at_least=1, identity=False)

    def problems(self, prefix: str) -> Iterator[UserError]:
        yield from super().problems(prefix)
        if not self.tasks:
            yield UserError(
                f"{prefix}tasks has no value and needs one",
                fix=f"{prefix}tasks=<names of lm-eval's tasks>, such as "
                f"{prefix}tasks=[lambada_openai]",
            )
        for task in sorted(set(self.files) - set(self.tasks)):
            yield problem(
                f"{prefix}files.{task}",
                self.files[task],
                f"{task} is none of {prefix}tasks={','.join(self.tasks)}",
                "name the file by the task that it is for",
            )


@dataclass
class QaConfig(BenchmarkConfig):
    """Open-domain questions, answered as RETRO does: what is found is read, not prompted.

    Attributes:
        questions: a file of questions and answers (NQ-open's JSON lines or SQuAD's JSON); a file
            with passages of its own is answered from these.
        limit: the first so many questions; null takes all.
        passages: found for each question, for recall@k; at least the neighbours that are read.
        in_prompt: best passages that stand in the prompt itself (RETRO++ takes 1).
        left_pad: the prompt ends on a chunk's end, so that the answer reads neighbours.
        answer_tokens: at most so many tokens an answer.
    """

    name: str = setting("qa", identity=False)
    leakage: bool = False
    questions: str | None = setting(None, path=True, identity=False)
    limit: int | None = setting(None, at_least=1, identity=False)
    passages: int = setting(20, at_least=1, at_most=2**12, identity=False)
    in_prompt: int = setting(0, at_least=0, at_most=2**12, identity=False)
    left_pad: bool = setting(True, identity=False)
    answer_tokens: int = setting(16, at_least=1, at_most=2**20, identity=False)

    def problems(self, prefix: str) -> Iterator[UserError]:
        yield from super().problems(prefix)
        if self.questions is None:
            yield UserError(
                f"{prefix}questions has no value and needs one",
                fix=f"{prefix}questions=<a file of questions and answers>, NQ-open's or SQuAD's",
            )
