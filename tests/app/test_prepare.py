"""Contract: `prepare` says, each time, what it left out of the text and how full its tables are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import orjson
import pytest
from golden import Golden
from run_stages import stages_of

from retro_lab.commands.prepare import main
from retro_lab.store import Stage
from retro_lab.text.readers.jsonl import JsonlReader


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    rng = np.random.default_rng(0)
    words = np.array([f"word{i}" for i in range(60)])
    records = [{"text": " ".join(rng.choice(words, 40))} for _ in range(40)]
    lines = [*map(orjson.dumps, [*records, {"text": ""}]), b"{"]
    path = tmp_path / "docs.jsonl"
    path.write_bytes(b"\n".join(lines))
    return [
        "corpus=jsonl", f"corpus.path={path}", "corpus.on_error=skip",
        "corpus.split.validation=0.2", "corpus.split.test=0.2", "chunking=m16", "tokenizer=byte",
        "embedder=hashing", "retriever=faiss_ivf", "retriever.nprobe=1", "eval=ppl",
        f"runs_dir={tmp_path}",
    ]  # fmt: skip


def test_it_tells_what_was_left_out_filled_and_found(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 0
    told = capsys.readouterr().out
    assert "corpus " in told
    assert "40 documents (" in told
    assert "left out: 1 malformed, 1 empty" in told
    assert "faiss: filled of 16 a chunk: 100.0% of train, 100.0% of validation" in told
    assert "recall@10 against exact search 0." in told
    assert main(arguments) == 0
    assert capsys.readouterr().out == told  # of what was found in the store as well


def test_too_few_neighbours_are_an_error_before_anything_trains(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["neighbours.k=150", "neighbours.k_store=150"]  # than one list of the index holds
    assert main([*arguments, *more]) == 2
    assert "neighbour slots are filled at k=150" in capsys.readouterr().err


def test_the_raw_text_is_digested_once(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    digested, digest = [], JsonlReader.input_digest

    def counted(reader: JsonlReader) -> dict[str, str]:
        digested.append(reader)
        return digest(reader)

    monkeypatch.setattr(JsonlReader, "input_digest", counted)
    assert main(arguments) == 0
    assert len(digested) == 1


@pytest.mark.parametrize("more", [[], ["eval=all"], ["neighbours.max_run=8"], ["retriever=random"]])
def test_each_stage_is_listed_once_after_what_it_is_made_from(
    golden: Golden, more: list[str]
) -> None:
    stages = stages_of(golden.config(*more))
    keys = [str(stage) for stage in stages]
    assert len(set(keys)) == len(keys)
    for number, stage in enumerate(stages):
        assert isinstance(stage, Stage)
        assert {str(parent) for parent in stage.parents.values()} <= set(keys[:number])
