"""`eval=harness` and `eval=qa`: finished runs on other people's tasks and questions."""

from __future__ import annotations

from dataclasses import dataclass, field

from .evaluation import EvalConfig


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

    name: str = "harness"
    leakage: bool = False
    tasks: list[str] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    limit: int | None = None


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

    name: str = "qa"
    leakage: bool = False
    questions: str | None = None
    limit: int | None = None
    passages: int = 20
    in_prompt: int = 0
    left_pad: bool = True
    answer_tokens: int = 16
