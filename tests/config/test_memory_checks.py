"""Contract of the group `memory`: states are read of the training split alone, of own models and
of Hugging Face models, and a model is trained through a memory if it is trained, on the training
split; anything else is refused in one message that names what to use.
"""

from __future__ import annotations

import pytest
from composed import config_of

from retro_lab.config.errors import ConfigError
from retro_lab.config.rules import check

OTHER_DATABASE = ("database=corpus", "database.corpus.path=a.jsonl")
BACKBONE = ("recipe=retrofit", "recipe.backbone=gpt2", "tokenizer=hf", "tokenizer.path=gpt2")


def problems(*overrides: str) -> list[str]:
    try:
        check(config_of(*overrides))
    except ConfigError as error:
        return [str(problem) for problem in error.problems]
    return []


@pytest.mark.parametrize("memory", ["knn", "full"])
def test_states_of_another_text_are_refused(memory: str) -> None:
    for alone in ((), ("retriever=none",)):
        (problem,) = problems(f"memory={memory}", *OTHER_DATABASE, *alone)
        assert problem.startswith("memory.experts")
        assert "database=corpus" in problem
        assert "memory=suffix_topic" in problem
        assert problems(f"memory={memory}", *BACKBONE, *alone) == []
    assert problems("memory=suffix_topic", *OTHER_DATABASE) == []


def test_both_are_one_message() -> None:
    assert len(problems("memory=full", *BACKBONE, *OTHER_DATABASE)) == 1


def test_one_s_own_models_and_training_split_pass() -> None:
    for memory in ("knn", "full"):
        for retriever in ("faiss_flat", "none"):
            assert problems(f"memory={memory}", f"retriever={retriever}") == []
    assert problems("memory=full", "memory.cache=true", "memory.max_run=8") == []
    # What comes to the training split is the training split.
    assert problems("memory=full", "database=corpora", "database.splits=[train]") == []


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["memory=none"], "reads no database"),
        (["memory=none", "memory.cache=true"], "reads no database"),
        (["memory=full"], "knn searches states"),
        (["memory.gate=shipped"], "none is fitted"),
        ([*BACKBONE, "retriever=none"], "nothing of recipe.backbone=gpt2 is trained"),
        (OTHER_DATABASE, "not database=corpus"),
        (["trainer=fsdp"], "trainer.strategy=fsdp"),
    ],
)
def test_where_nothing_can_be_trained_through_a_memory(settings: list[str], said: str) -> None:
    memory = [] if settings[0].startswith("memory=") else ["memory=suffix_topic"]
    (problem,) = problems(*memory, "memory.joint=0.15", *settings)
    assert problem.startswith("memory.joint=0.15")
    assert said in problem
    assert "memory.joint=0" in problem


@pytest.mark.parametrize("share", ["-0.1", "1", "nan"])
def test_a_joint_phase_is_a_share_of_the_steps(share: str) -> None:
    (problem,) = problems(f"memory.joint={share}")
    assert "must be in [0, 1)" in problem


def test_models_that_are_trained_pass() -> None:
    further = (*BACKBONE, "retriever=none", "recipe.further_steps=9")
    for settings in (["retriever=none"], ["recipe=scratch"], [], BACKBONE, further):
        assert problems("memory=suffix_topic", "memory.joint=0.15", *settings) == []
