"""Contract: the Tab key offers groups, options in folders too, keys level by level, values."""

from __future__ import annotations

import pytest

from retro_lab.commands import launch
from retro_lab.config.completion import completions


def offered(line: str) -> list[str]:
    return completions({"COMP_LINE": line, "COMP_POINT": str(len(line))})


def test_options_in_folders_are_offered() -> None:
    assert "experiment=recipe/k4" in offered("python train.py experiment=")
    found = offered("python train.py experiment=recipe/k")
    assert set(found) >= {"experiment=recipe/k1", "experiment=recipe/k4", "experiment=recipe/k8"}
    assert all(word.startswith("experiment=recipe/k") for word in found)


def test_words_are_completed_level_by_level() -> None:
    assert "corpus=" in offered("python train.py co")
    assert "model." in offered("python train.py mod")
    assert "model.d_model=" in offered("python train.py model=tiny model.d")
    assert "model.encoder." in offered("python train.py model.")
    assert offered("python train.py verbose=") == ["verbose=false", "verbose=true"]
    assert offered("python train.py -m retriever=bm25,no") == ["retriever=bm25,none"]
    assert offered("python train.py nothing=") == []


def test_the_line_counts_up_to_the_cursor(capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.setenv("COMP_LINE", "python train.py corpus=cs seed=3")
    monkeypatch.setenv("COMP_POINT", str(len("python train.py corpus=cs")))
    assert launch.run("train", lambda _: 1, ["-sc", "query=bash"]) == 0
    assert capsys.readouterr().out.split() == ["corpus=csv"]
