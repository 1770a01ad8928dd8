"""Contract: a checkpoint is read by the run that wrote it. Where the settings that its weights go
with are not the run's, every command refuses and names those that differ.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from older import without_checksums

from retro_lab.__main__ import main as retro_lab
from retro_lab.commands.evaluate import main as evaluate
from retro_lab.run.directory import RunDirectory

COMMANDS: dict[str, Callable[[Path, Path], int]] = {
    "evaluate": lambda run, out: evaluate([f"run={run}", "eval.seed=3"]),
    "generate": lambda run, out: retro_lab(["generate", f"run={run}", "prompt=a", "tokens=1"]),
    "export": lambda run, out: retro_lab(["export", f"run={run}", f"out={out}"]),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_differing_settings_are_named(
    command: str, copy: RunDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = copy.config_file.read_text()
    changed = written.replace("positions: rotary", "positions: none").replace("  lr:", "  lr: 9 #")
    assert changed != written
    copy.config_file.write_text(changed)
    assert COMMANDS[command](copy.path, tmp_path / "out") == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "written by a run of another configuration" in said
    assert "model.positions was rotary, is none" in said
    assert "recipe.lr was" in said
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_that_says_nothing_is_read(copy: RunDirectory) -> None:
    """As those written before checkpoints said what they go with."""
    import torch

    path = copy.path / "checkpoints" / "last.ckpt"
    content = torch.load(path, weights_only=True)
    assert content.pop("trained_as")["model.positions"] == "rotary"
    torch.save(content, path)
    without_checksums(path.parent)
    assert copy.weights()
