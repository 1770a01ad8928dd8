"""Contract of `export memory=`: the folder beside the model is the run's memory, read without the
run and without the store, and typing the command again finds it.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from golden import Golden

from retro_lab.commands.export import main
from retro_lab.config.errors import UserError
from retro_lab.config.schema import MemoryConfig
from retro_lab.memory.folder import MemoryFolder
from retro_lab.memory.logits_processor import MemoryLogitsProcessor
from retro_lab.run.attached_memory import AttachedMemory
from retro_lab.run.directory import RunDirectory


@pytest.fixture(scope="module")
def run(golden: Golden, finished: RunDirectory) -> RunDirectory:
    """The golden run's baseline."""
    return golden.baseline()


@pytest.mark.parametrize("kind", ["suffix", "suffix_topic"])
def test_the_folder_is_the_run_s_memory(run: RunDirectory, kind: str, tmp_path: Path) -> None:
    out = tmp_path / "model"
    arguments = [f"run={run.path}", f"out={out}", f"memory={kind}"]
    assert main(arguments) == 0
    written = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    assert main(arguments) == 0  # it is there already
    assert {path: path.stat().st_mtime_ns for path in written} == written
    attached = AttachedMemory(run.path, MemoryConfig.of(*kind.split("_")))
    here = MemoryLogitsProcessor.from_pretrained(out / "memory")
    chunks = attached.run.graph.own.chunks.data
    ids = torch.from_numpy(chunks.tokens[chunks.chunks_of("test")[:3]].astype("int64"))[:, :12]
    scores = torch.randn(3, chunks.vocab_size, generator=torch.Generator().manual_seed(0))
    assert torch.equal(here(ids, scores), attached.processor()(ids, scores))
    assert not torch.allclose(here(ids, scores), scores.log_softmax(-1), atol=0.1)
    assert MemoryFolder.open(out / "memory").documents == attached.run.graph.own.corpus.data.ids


def test_a_changed_memory_is_not_overwritten(
    run: RunDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [f"run={run.path}", f"out={tmp_path / 'model'}", "memory=suffix"]
    assert main(arguments) == 0
    (tmp_path / "model" / "memory" / "documents.json").write_text("[]")
    assert main(arguments) == 2
    assert "its memory is not of this export" in " ".join(capsys.readouterr().err.split())


def test_a_folder_without_a_memory_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no memory") as caught:
        MemoryLogitsProcessor.from_pretrained(tmp_path)
    assert "memory=suffix_topic" in str(caught.value.fix)
