"""Contract: the random control is a draw of its own, whatever the run reads and with any seeds."""

from __future__ import annotations

import numpy as np
import pytest
from composed import config_of

from retro_lab.config.errors import UserError
from retro_lab.config.rules import check
from retro_lab.config.schema import RandomRetrieverConfig
from retro_lab.retrieval.base import Queries
from retro_lab.retrieval.search.random_neighbours import RandomRetriever
from retro_lab.run.evaluating.probes import random_retriever

SEEDS = (0, 1, 2, 41, 42, 2**31, 2**62)


def drawn(config: RandomRetrieverConfig) -> np.ndarray:
    """The first four neighbours of 200 chunks of a database of 500."""
    retriever, ids = RandomRetriever(config), np.arange(200)
    retriever.build(np.arange(500), np.zeros((500, 1)), None)
    return retriever.candidates(Queries(np.zeros((200, 1)), None, ids, ids), 4).ids


def control(retriever: str, eval_seed: int) -> RandomRetrieverConfig:
    overrides = [f"retriever={retriever}", "corpus=python", f"eval.seed={eval_seed}"]
    return random_retriever(config_of(*overrides))


def test_the_control_of_a_random_run_never_reads_what_the_run_reads() -> None:
    for seed in SEEDS:
        read = drawn(RandomRetrieverConfig(seed=seed))
        for other in SEEDS:
            for run in ("random", "http"):  # a service may serve random neighbours
                beside = control(run, other)
                assert beside.seed != seed
                assert (drawn(beside) == read).mean() < 0.05


def test_two_evaluations_with_other_seeds_draw_other_controls() -> None:
    for run in ("random", "bm25"):
        assert len({control(run, seed).seed for seed in SEEDS}) == len(SEEDS)


def test_the_control_beside_any_other_search_is_the_draw_that_it_always_was() -> None:
    assert control("bm25", 0).seed == 1
    assert control("faiss_flat", 6).seed == 7


def test_negative_seeds_are_the_controls_own() -> None:
    with pytest.raises(UserError, match=r"retriever\.seed=-1: must be finite and not negative"):
        check(config_of("retriever=random", "retriever.seed=-1"))
