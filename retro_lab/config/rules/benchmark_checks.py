"""Rules for `eval=harness` and `eval=qa`: what each cannot do without."""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import UserError
from ..schema import Config, HarnessConfig, QaConfig, resolve_k
from .bounds import problem


def benchmarks(config: Config) -> Iterator[UserError]:
    """Every problem of a benchmark; nothing is looked at under another `eval`."""
    if isinstance(config.eval, HarnessConfig):
        yield from _harness(config.eval)
    if isinstance(config.eval, QaConfig):
        yield from _qa(config, config.eval)


def _harness(asked: HarnessConfig) -> Iterator[UserError]:
    if not asked.tasks:
        yield UserError(
            "eval.tasks has no value and needs one",
            fix="eval.tasks=<names of lm-eval's tasks>, such as eval.tasks=[lambada_openai]",
        )
    for task in sorted(set(asked.files) - set(asked.tasks)):
        yield problem(
            f"eval.files.{task}",
            asked.files[task],
            f"{task} is none of eval.tasks={','.join(asked.tasks)}",
            "name the file by the task that it is for",
        )


def _qa(config: Config, asked: QaConfig) -> Iterator[UserError]:
    if asked.questions is None:
        yield UserError(
            "eval.questions has no value and needs one",
            fix="eval.questions=<a file of questions and answers>, NQ-open's or SQuAD's",
        )
    read = resolve_k(asked, config.neighbours) + asked.in_prompt
    if asked.passages < read:
        yield problem(
            "eval.passages",
            asked.passages,
            f"{read} passages are read: eval.k and eval.in_prompt together",
            f"eval.passages={read}",
        )
    size = config.chunking.chunk_size
    if asked.answer_tokens > size:
        yield problem(
            "eval.answer_tokens",
            asked.answer_tokens,
            f"an answer reads what its question found for one chunk of {size} tokens",
            f"eval.answer_tokens={size}",
        )
    if asked.left_pad and config.recipe.backbone is not None:
        yield problem(
            "eval.left_pad",
            True,
            "a run grafted on a pretrained model can't pad its prompts on the left",
            "eval.left_pad=false",
        )
