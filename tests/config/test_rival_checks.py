"""Contract: a grid that cannot be tried is refused at once, with the key and a way to fix it."""

from __future__ import annotations

import pytest
from composed import config_of

from retro_lab.config.errors import ConfigError
from retro_lab.config.rival_rules import applicable_rivals
from retro_lab.config.rules import check
from retro_lab.config.schema import OF_ANY_MODEL, OF_RETRIEVAL, RIVALS


def problems(*overrides: str) -> list[str]:
    try:
        check(config_of("eval=rivals", *overrides))
    except ConfigError as error:
        return [str(problem) for problem in error.problems]
    return []


def test_the_option_as_it_is_and_every_chunking_pass() -> None:
    for chunking in ("m16", "m32", "m64", "m128"):
        assert problems(f"chunking={chunking}") == []
        assert problems(f"chunking={chunking}", "eval.rivals.which=[all]") == []


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("eval.rivals.which=[knn_lm,gpt]", "eval.rivals.which"),
        ("eval.rivals.which=[xz,xz]", "eval.rivals.which"),
        ("eval.rivals.which=[all,xz]", "eval.rivals.which"),
        ("eval.split=validation", "eval.split"),
        ("eval.rivals.knn_lm.neighbours=[]", "eval.rivals.knn_lm.neighbours"),
        ("eval.rivals.knn_lm.weights=[1.0]", "eval.rivals.knn_lm.weights"),
        ("eval.rivals.knn_lm.temperatures=[0.0]", "eval.rivals.knn_lm.temperatures"),
        ("eval.rivals.ralm.strides=[48]", "eval.rivals.ralm.strides"),
        ("eval.rivals.ralm.strides=[0]", "eval.rivals.ralm.strides"),
        ("eval.rivals.ralm.continuations=[7]", "eval.rivals.ralm.continuations"),
        ("eval.rivals.ngram.orders=[8]", "eval.rivals.ngram.orders"),
        ("eval.rivals.ngram.discounts=[0.5,0.5]", "eval.rivals.ngram.discounts"),
        ("eval.rivals.matched.lr_factors=[-1.0]", "eval.rivals.matched.lr_factors"),
        ("eval.rivals.dynamic.rates=[-1.0]", "eval.rivals.dynamic.rates"),
        ("eval.rivals.ensemble.weights=[1.0]", "eval.rivals.ensemble.weights"),
        ("eval.rivals.ttt.neighbours=[0]", "eval.rivals.ttt.neighbours"),
        ("eval.rivals.intermediate.weights=[]", "eval.rivals.intermediate.weights"),
        (
            "eval.rivals.memory_decoder.rate_factors=[0.0]",
            "eval.rivals.memory_decoder.rate_factors",
        ),
        ("eval.rivals.memory_decoder.weights=[1.0]", "eval.rivals.memory_decoder.weights"),
        ("eval.rivals.memory_decoder.imitation=2.0", "eval.rivals.memory_decoder.imitation"),
        ("eval.rivals.subsample_documents=0", "eval.rivals.subsample_documents"),
    ],
)
def test_what_cannot_be_tried_is_refused(override: str, said: str) -> None:
    assert any(problem.startswith(said) for problem in problems(override))


def test_all_are_those_that_apply() -> None:
    assert applicable_rivals(config_of()) == list(RIVALS)
    assert applicable_rivals(config_of("recipe.backbone=gpt2")) == list(OF_ANY_MODEL)
    alone = applicable_rivals(config_of("retriever=none"))
    assert set(alone) == set(RIVALS) - set(OF_RETRIEVAL)
    both = applicable_rivals(config_of("retriever=none", "recipe.backbone=gpt2"))
    assert both == ["ralm", "ngram", "xz", "dynamic_evaluation"]
    assert config_of("eval=all").eval.rivals.names(both) == both
    few = config_of("eval=rivals", "eval.rivals.which=[knn_lm]").eval.rivals
    assert few.names(both) == ["knn_lm"]  # refused by name


def test_a_backbone_without_retrieval_is_told_what_stands_beside_it() -> None:
    given = ("recipe.backbone=gpt2", "retriever=none")
    [said] = [said for said in problems(*given) if said.startswith("eval.rivals.which")]
    [fix] = [line for line in said.splitlines() if "eval.rivals.which=[ralm" in line]
    assert "dynamic_evaluation" in fix
    assert "ttt_neighbours" not in fix


def test_a_table_is_read_in_a_layer_that_is_there() -> None:
    given = ("model=nano", "model.ngram_table.layer=3")
    assert problems(*given) == []  # there is no table
    [said] = problems(*given, "model.ngram_table.rows=8")
    assert said.startswith("model.ngram_table.layer")
    backbone = ("recipe.backbone=gpt2", "eval.rivals.which=[]", "model.ngram_table.rows=8")
    assert any(said.startswith("model.ngram_table.rows") for said in problems(*backbone))


def test_a_segment_divides_stride_and_window() -> None:
    override = "eval.rivals.dynamic.segment=48"
    assert problems(override) == []  # nobody asked for it
    [said] = problems(override, "eval.rivals.which=[dynamic_evaluation]")
    assert said.startswith("eval.rivals.dynamic.segment")


def test_all_problems_are_told_at_once() -> None:
    found = problems("eval.rivals.ngram.orders=[8]", "eval.rivals.knn_lm.weights=[2.0]")
    assert len(found) == 2


def test_grids_of_no_rival_are_not_looked_at() -> None:
    assert problems("eval.rivals.which=[]", "eval.rivals.ngram.orders=[8]") == []
