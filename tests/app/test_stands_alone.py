"""Contract: a run's folder stands alone for whatever reads no neighbours, and of the data that an
evaluation reads each raw file is hashed once and each stage verified once.
"""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest
from golden import Golden

from retro_lab.__main__ import main
from retro_lab.config.errors import UserError
from retro_lab.config.serialise import read_config
from retro_lab.run.directory import RunDirectory
from retro_lab.run.experiment import run_experiment
from retro_lab.run.finished import FinishedRun
from retro_lab.run.timing import Stopwatch
from retro_lab.store import Artifact, ArtifactStore, Stage
from retro_lab.text.readers.jsonl import JsonlReader


@pytest.fixture
def alone(
    golden: Golden, finished: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The golden run's folder by itself, as if on another machine."""
    folder = tmp_path / "elsewhere" / finished.path.name
    shutil.copytree(finished.path, folder)
    monkeypatch.delenv("RETRO_LAB_STORE", raising=False)
    monkeypatch.chdir(tmp_path)
    config = folder / "config.yaml"
    text, gone = config.read_text(), str(tmp_path / "gone")
    for there in (str(Path(read_config(config).store.dir).parent), str(golden.corpus)):
        text = text.replace(there, gone)
    config.write_text(text)
    return folder


def test_it_writes_and_is_exported(alone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["generate", f"run={alone}", "prompt=abcd", "tokens=3", "retrieval=off"]
    assert main(asked) == 0
    assert main(["export", f"run={alone}", f"out={alone.parent / 'out'}"]) == 0
    assert (alone.parent / "out" / "model.safetensors").is_file()
    assert not (alone.parent / ".store").exists()


def test_what_reads_neighbours_says_that_it_needs_the_store(alone: Path) -> None:
    run = FinishedRun.open(alone)
    with pytest.raises(UserError, match=r"which the store .* doesn't hold"):
        _ = run.graph.chunks


def test_a_damaged_tokenizer_is_named(alone: Path) -> None:
    [path] = (alone / "tokenizer").glob("tokenizer.json")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(UserError, match=r"tokenizer.json is damaged"):
        _ = FinishedRun.open(alone).tokenizer


def test_a_run_of_before_reads_the_stores_tokenizer(finished: RunDirectory, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(finished.path, runs / finished.path.name)
    shutil.rmtree(runs / finished.path.name / "tokenizer")
    run = FinishedRun(RunDirectory(runs / finished.path.name), finished.config())
    text, own = ["abcd"], FinishedRun.open(finished)
    [stored], [kept] = (each.tokenizer.encode_batch(text) for each in (run, own))
    assert stored.ids.tolist() == kept.ids.tolist()


def test_each_raw_file_is_hashed_once_and_each_stage_verified_once(
    golden: Golden, finished: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a whole run whose data is there: it trains, and it and both plain models are evaluated."""
    hashed, verified = Counter[str](), Counter[str]()
    digest, get = JsonlReader.input_digest, ArtifactStore.get

    def counted_digest(reader: JsonlReader) -> dict[str, str]:
        found = digest(reader)
        hashed.update(found.keys())
        return found

    def counted_get(store: ArtifactStore, stage: Stage | Artifact) -> Artifact | None:
        found = get(store, stage)
        if isinstance(stage, Stage) and found is not None:
            verified[str(stage)] += 1
        return found

    monkeypatch.setattr(JsonlReader, "input_digest", counted_digest)
    monkeypatch.setattr(ArtifactStore, "get", counted_get)
    run_experiment(golden.config(f"runs_dir={tmp_path}"), Stopwatch())
    assert set(hashed.values()) == {1}
    assert {name.partition("/")[0] for name in verified} >= {"corpus", "chunks", "neighbours"}
    assert {name: n for name, n in verified.items() if n > 1} == {}
