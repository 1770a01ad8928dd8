"""Contract: a preparation killed anywhere goes on to the same bytes; of two at once both succeed;
and what trains changes nothing of what is prepared.
"""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import bm25s  # noqa: F401  (takes seconds: once here, not in every child)
import faiss  # noqa: F401
import numpy as np
import orjson
import pytest
from composed import config_of
from dying import ended, in_a_child, on_events, started
from run_stages import built, stages_of

from retro_lab.config.schema import Config
from retro_lab.run.data.graph import DataGraph
from retro_lab.store.stage import Artifact

STAGES = {"corpus", "tokenizer", "chunks", "embeddings", "index", "neighbours", "overlap"}
KILLS = 2  # of each stage
SMALL = 150  # several blocks in stages of a few hundred chunks


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    words = np.array([f"word{i}" for i in range(200)])
    texts = [" ".join(rng.choice(words, 150)) for _ in range(60)]
    path = tmp_path / "docs.jsonl"
    path.write_bytes(
        b"\n".join(orjson.dumps({"id": str(i), "text": t}) for i, t in enumerate(texts))
    )
    return path


def config(corpus: Path, store: Path, *overrides: str) -> Config:
    common = [
        "corpus=jsonl", f"corpus.path={corpus}", "corpus.split.validation=0.2",
        "corpus.split.test=0.2", "chunking=m16", "tokenizer=byte", "retriever=hybrid",
        "embedder=hashing", "neighbours.max_run=8", f"store.dir={store}",
    ]  # fmt: skip
    return config_of(*common, *overrides)


def results(config: Config) -> dict[str, dict]:
    """Size and digest of every file of every stage, which are there."""
    store = DataGraph(config).store
    artifacts = {str(stage): store.get(stage) for stage in stages_of(config)}
    assert all(isinstance(artifact, Artifact) for artifact in artifacts.values())
    return {name: a.manifest["files"] for name, a in artifacts.items() if a is not None}


@pytest.mark.slow
def test_killed_anywhere_it_goes_on_to_the_same_bytes(corpus: Path, tmp_path: Path) -> None:
    whole, log = tmp_path / "whole", tmp_path / "events"

    def uninterrupted() -> None:
        with log.open("w") as events:
            on_events(
                whole, lambda number, path: print(path.relative_to(whole).parts[0], file=events)
            )
            built(config(corpus, whole), largest_block=SMALL)

    assert in_a_child(uninterrupted) == 0
    expected, stages = results(config(corpus, whole)), log.read_text().split()
    assert {name.partition("/")[0] for name in expected} == STAGES

    rng = random.Random(0)
    events = {stage: [n for n, of in enumerate(stages, 1) if of == stage] for stage in STAGES}
    kills = [(stage, last) for stage in sorted(STAGES) for last in rng.sample(events[stage], KILLS)]
    for stage, last in kills:
        store = tmp_path / f"killed-{last}"

        def killed(store: Path = store, last: int = last) -> None:
            def kill(number: int, path: Path) -> None:
                if number == last:
                    os.kill(os.getpid(), signal.SIGKILL)

            on_events(store, kill)
            built(config(corpus, store), largest_block=SMALL)

        assert in_a_child(killed) == -signal.SIGKILL

        def again(store: Path = store) -> None:
            built(config(corpus, store), largest_block=SMALL)

        assert in_a_child(again) == 0
        found = results(config(corpus, store))
        assert found == expected, f"killed at event {last} of {len(stages)}, in {stage}"


@pytest.mark.slow
def test_of_two_at_once_both_succeed_and_one_builds(corpus: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"

    def build(log: Path) -> None:
        import logging

        logging.basicConfig(filename=log, level=logging.INFO, force=True)
        built(config(corpus, store))

    children = [started(lambda log=tmp_path / f"{name}.log": build(log)) for name in ("one", "two")]
    assert [ended(child) for child in children] == [0, 0]
    said = "".join((tmp_path / f"{name}.log").read_text() for name in ("one", "two"))
    for name in results(config(corpus, store)):
        assert said.count(f"building {name}\n") + said.count(f"waiting for {name}\n") >= 1
        assert said.count(f"built {name} in") == 1


def test_what_trains_changes_nothing_of_what_is_prepared(corpus: Path, tmp_path: Path) -> None:
    keys = {stage.key for stage in stages_of(config(corpus, tmp_path))}
    trained_otherwise = [
        "neighbours.k=4", "model=nano", "cca=all", "optim=muon", "schedule.steps=9",
        "trainer=gpu", "recipe=scratch", "seed=7", "neighbours.min_coverage=0.1",
    ]  # fmt: skip
    assert {stage.key for stage in stages_of(config(corpus, tmp_path, *trained_otherwise))} == keys
    changed = stages_of(config(corpus, tmp_path, "retriever.depth=100"))
    assert {stage.name for stage in changed if stage.key not in keys} == {"neighbours", "overlap"}
