"""Group `eval`: the measurements after training and by `evaluate.py run=...`.

`eval=harness` and `eval=qa` measure a finished run on public benchmarks. Settings with
`identity=False` are recorded by the parts that use them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from ..errors import UserError, problem
from .corpus import SPLITS
from .own_part import MetricsConfig
from .rivals import RivalsConfig
from .setting import setting


class Reference(Enum):
    """The text that counts as leaked.

    | reference | text |
    | --- | --- |
    | own_neighbours | a chunk's own neighbours (RETRO, section 2.6) |
    | seen_neighbours | the neighbours that the model read |
    | exact_corpus | all text of the training split, independent of any retriever |
    """

    own_neighbours = "own_neighbours"
    seen_neighbours = "seen_neighbours"
    exact_corpus = "exact_corpus"


@dataclass
class InjectionConfig:
    """Leaks of known size: copies of the evaluated split's documents, planted in the database.

    Attributes:
        doses: planted shares of one half of the documents, each evaluated separately; 0 is always
            measured too. Empty, the default, runs no experiment.
    """

    doses: list[float] = field(default_factory=list)


@dataclass
class EvalConfig:
    """Scores and optional parts of an evaluation; `eval=all` turns every part on.

    Attributes:
        name: the option's name.
        split: train, validation or test.
        stride: tokens between evaluation windows; a multiple of the chunk size, at most the
            sequence length; null takes half of it, rounded down to whole chunks.
        batch_size: windows a forward pass.
        k: neighbours a scored chunk reads; null takes as many as in training (`neighbours.k`).
        random: also score with random neighbours.
        shuffled: also score with the run's own neighbours, dealt to chunks of other documents.
        oracle: also score with the neighbours of longest overlap with the text to be predicted, an
            upper bound.
        max_run: also score with filtered neighbours: the next candidate replaces each neighbour
            that shares a run of this many tokens or more with the chunk and the next one. The
            smaller of this and `neighbours.max_run` applies. Null leaves the score out.
        without_pointer: also score RETRO[ON] with its pointer read-out switched off, to show the
            pointer's share of the gain; ignored without a pointer.
        by_expert: with a memory, also score each kind of its evidence alone and left out.
        tokens: also write tokens.parquet, one row a scored token.
        words: also report word perplexity, exp(nats / words). Words are separated by white space,
            and line ends count as words, as in papers on WikiText.
        leakage: also compute r(C) and bpb(alpha).
        reference: text that counts as leaked.
        overlap_neighbours: neighbours searched for overlap (the paper takes 10).
        ngram: n-gram length in tokens for an additional overlap with the neighbours read, as in
            other papers; null leaves these columns out.
        alphas: upper bounds on r(C), each a share of the chunk.
        pages: documents of greatest and of smallest gain that inspect.html shows, this many each; 0
            writes no page. A page needs tokens.parquet, which is then written too.
        bootstrap_samples: resamples of documents behind each interval.
        confidence: coverage of the intervals.
        seed: seed of the bootstrap and of random and shuffled neighbours.
        rivals: other methods trained and scored on the same tokens; none by default.
        injection: experiment that tests whether r(C) detects a planted leak.
        metrics: functions of the user's own over chunks.parquet; none by default.
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
    by_expert: bool = setting(False, neutral=False)
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
    metrics: MetricsConfig = setting(MetricsConfig(), neutral=MetricsConfig())

    @property
    def wants_tokens(self) -> bool:
        """Whether tokens.parquet is written: on request, or because the pages need the file."""
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
    """A benchmark of a finished run on other text; its results have their own folder."""


@dataclass
class HarnessConfig(BenchmarkConfig):
    """lm-eval tasks with retrieval in the loop; metrics and prompts come from lm-eval.

    Attributes:
        tasks: names of lm-eval tasks.
        files: a local JSON lines file for each task, in place of the hub's data set.
        limit: most documents of a task; null takes all.
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
    """Open-domain questions: the model reads the retrieved passages through CCA, as in RETRO.

    Attributes:
        questions: a file of questions and answers (NQ-open's JSON lines or SQuAD's JSON); passages
            in the file replace the database.
        limit: number of questions, from the start; null takes all.
        passages: passages retrieved for each question, for recall@k; at least the neighbours read.
        in_prompt: best passages placed in the prompt itself (RETRO++ takes 1).
        left_pad: pad the prompt to end on a chunk's end, so that the answer reads neighbours.
        answer_tokens: most tokens of an answer.
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
